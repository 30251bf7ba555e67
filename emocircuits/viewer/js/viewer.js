import { topBar } from "./bar.js";
import { nodeCard } from "./card.js";
import { chosenLinks, foundNodes, keptNodes, pathMarks, PINS } from "./choose.js";
import { dosePanel } from "./dose.js";
import { FORMAT, openView, place, useControl } from "./graph.js";
import { clusterGroups, regrouped, strongestNodes } from "./groups.js";
import { overview } from "./overview.js";
import { pathPanel } from "./paths.js";
import { promptStrip } from "./prompt.js";
import { download, readSaved, savedState, shownJson, standaloneSvg } from "./save.js";
import { canvasStage } from "./stage.js";
import { checkedState, freshState, fromAddress, plainState, toAddress } from "./state.js";
import { subgraphPanel } from "./subgraph.js";
import { linkTable } from "./table.js";
import { counted, h, show } from "./words.js";

// Circuit viewer: layer × token grid on a canvas, a card, paths, steering, a subgraph, a table. No dependencies, no network.

let mounted = 0;

/**
 * Mounts the viewer in `el`; `data` is what `emocircuits.viewer.data` makes. Options: `height` (most pixels of the
 * canvas), `address` (keep the state in the page's address),
   `onchange` (gets the plain state). Returns {state, setState, pos,
 * pan, svg, destroy}.
 */
export function mount(el, data, options = {}) {
  if (data?.format !== FORMAT) {
    const versions = `This page's data have format ${data?.format}; its viewer reads format ${FORMAT}.`;
    return refusal(el, `${versions} Export the circuit again.`);
  }
  if (!data.views.some(raw => raw.nodes.kind.length)) {
    return refusal(el, `The circuit of ${data.behaviour} is empty: no node passed its thresholds.`);
  }
  const opened = new Map(), viewOf = raw => opened.get(raw.name) ?? opened.set(raw.name, openView(data, raw)).get(raw.name);
  const state = freshState(data.views[0].name);
  let view = viewOf(data.views[0]), shown = {}, gathered = null, listed = null, begun = false;
  const name = node => state.labels.get(node.base) ?? node.label, file = end => `${data.behaviour}.${end}`;

  const tools = {
    name, select, pin, click, rename,
    pinned: id => state.pinned.has(id),
    gathered: id => gathered?.has(id) ?? false,
    column: i => prompt.focus(i),
    card: () => panel.focus(),
    search: () => bar.search.focus(),
    escape: () => act({ selected: null, search: "", path: null, from: null }),
    unpin: ids => {
      const gone = new Set(ids), left = ids => ids.filter(id => !gone.has(id));
      act({ pinned: new Set(left([...state.pinned])),
        groups: regrouped(state.groups.map(group => ({ ...group, ids: left(group.ids) })), [], "") });
    },
    place: (key, at) => act({ places: { ...state.places, [key]: at } }),
    pinStrongest: () => act({ pinned: new Set([...state.pinned, ...strongestNodes(view)].slice(0, PINS)) }),
    groupByCluster: () => act({ groups: clusterGroups(data, view, [...state.pinned]), places: {} }),
    ungroup: i => act({ groups: state.groups.filter((_, k) => k !== i) }),
    ungroupAll: () => act({ groups: [] }),
    clear: () => act({ pinned: new Set(), groups: [], places: {} }),
    renameGroup: (i, text) => {
      const named = group => ({ ...group, name: text.trim() || group.name });
      act({ groups: state.groups.map((group, k) => (k === i ? named(group) : group)) });
    },
  };
  const files = {
    "Grid as PNG": () => stage.picture().toBlob(blob => download(file("png"), blob)),
    "Grid as SVG": () => download(file("svg"), stage.svg(), "image/svg+xml"),
    "Subgraph as SVG": () => subgraph.svg() && download(file("subgraph.svg"), standaloneSvg(subgraph.svg()), "image/svg+xml"),
    "What is shown, as JSON": () =>
      download(file("shown.json"), shownJson(data, view, shown.mask, shown.links, name), "application/json"),
    "My subgraph and settings": () => download(file("subgraph.json"), savedState(data, state), "application/json"),
    "Load a saved subgraph…": () => loader.click(),
  };
  const loader = h("input", { type: "file", accept: ".json,application/json", hidden: true,
    onchange: () => { loader.files[0]?.text().then(load); loader.value = ""; } });
  const bar = topBar(data, data.views, `ec${mounted++}`, act, files), prompt = promptStrip(i => stage.point(null, i));
  const notice = h("p", { class: "ec-notice", role: "status", hidden: true }),
    live = h("p", { class: "ec-live", "aria-live": "polite" });
  const panel = h("aside", { class: "ec-panel", "aria-label": "Details", tabindex: 0 });
  const stage = canvasStage(() => ({ ...shown, view, name, gathered, pinned: state.pinned,
    selected: state.selected == null ? null : view.byId.get(state.selected) ?? null }), tools, options.height);
  const paths = pathPanel(act), dose = dosePanel(data, act), subgraph = subgraphPanel(tools), table = linkTable(tools);
  const lower = h("div", { class: "ec-lower" }, subgraph.element, paths.element, dose.element);
  const root = h("div", { class: "ec-viewer" }, bar.element, notice, prompt.element,
    h("div", { class: "ec-main" }, stage.element, panel), lower, table.element, live, loader);

  /** Takes changes of the state and shows them. */
  function act(changes) {
    Object.assign(state, changes);
    if (changes.view && changes.view !== view.name) open(changes.view);
    if ((view.control?.name ?? null) !== state.control) useControl(view, state.control);
    const mask = keptNodes(view, state);
    shown = { mask, links: chosenLinks(view, mask, state), found: foundNodes(view, state.search, data.details, name),
      marks: pathMarks(view, state) };
    const every = view.nodes.filter(node => node.kind !== "token" && node.kind !== "target");
    const left = every.filter(node => mask[node.i]).length;
    bar.render(view, state, left, every.length);
    prompt.render(view, state.selected == null ? null : view.byId.get(state.selected));
    stage.canvas.setAttribute("aria-label",
      `Circuit of ${data.behaviour}: ${counted(left, "node")} in ${counted(view.rows.length, "row")}, `
      + `${counted(shown.links.length, "link")} drawn. Arrow keys move between nodes. The links are also in the table below.`);
    if (!begun) return;
    stage.draw();
    rest();
    if (options.address) keepAddress();
    options.onchange?.(plainState(state));
  }

  /** Everything next to and below the canvas; on opening it comes after the canvas has been painted. */
  function rest() {
    const chosen = view.byId.get(state.selected);
    panel.replaceChildren(chosen ? nodeCard(data, view, chosen, tools) : overview(data, view, name));
    if (listed?.card !== state.selected) panel.scrollTop = 0;
    paths.render(data, view, state, name);
    dose.render(state);
    subgraph.render(data, view, state, lower.clientWidth);
    lower.hidden = [...lower.children].every(box => box.hidden);
    const numbers = state.filter === "strongest" ? null : shown.links;
    const key = JSON.stringify([view.name, state.control, state.threshold, state.rank, numbers, [...state.labels]]);
    if (listed?.key !== key || state.threshold < 1) table.render(view, numbers, shown.mask);
    listed = { key, card: state.selected };
  }

  function open(next) {
    const old = state.selected == null ? null : view.byId.get(state.selected);
    view = viewOf(data.views.find(raw => raw.name === next) ?? view);
    state.view = view.name;
    state.path = null;
    if (old && !view.byId.has(old.id)) state.selected = view.nodes.find(node => node.base === old.base)?.id ?? null;
    say(view.dropped ? cutNotice(view.dropped) : "");
    if (begun) stage.reopen();
  }

  function say(text) {
    notice.textContent = text;
    notice.hidden = !text;
  }

  function select(id) {
    const node = view.byId.get(id) ?? null;
    if (node) stage.reveal(node);
    act({ selected: node?.id ?? null });
    if (node) live.textContent = `${name(node)}, ${place(view, node)}, effect ${show(node.effect, true)}`;
  }
  function pin(id) {
    if (!view.byId.has(id)) return;
    if (state.pinned.has(id)) return tools.unpin([id]);
    if (state.pinned.size >= PINS) return say(`At most ${PINS} nodes can be pinned.`);
    act({ pinned: new Set([...state.pinned, id]) });
  }
  function click(id) {
    const ids = [id].flat().filter(Boolean);
    if (gathered) { ids.forEach(id => gathered.add(id)); stage.draw(); return rest(); }
    select(ids.length && !ids.includes(state.selected) ? ids[0] : null);
  }
  function rename(base, text) {
    const labels = new Map(state.labels);
    if (text?.trim()) labels.set(base, text.trim());
    else if (text != null) labels.delete(base);
    act({ labels });
  }
  /** Puts nodes into one supernode; they are pinned by it. */
  function group(ids) {
    const clusters = clusterGroups(data, view, ids),
      title = clusters.length === 1 && clusters[0].ids.length === ids.length
        ? clusters[0].name : `group ${state.groups.length + 1}`;
    act({ pinned: new Set([...state.pinned, ...ids].slice(0, PINS)), groups: regrouped(state.groups, ids, title) });
  }

  const typing = event => event.target.closest?.("input, select, textarea");
  root.addEventListener("keydown", event => { if (event.key.toLowerCase() === "g" && !typing(event) && !event.ctrlKey
    && !event.metaKey) gathered ??= new Set(); });
  root.addEventListener("keyup", event => {
    if (event.key.toLowerCase() !== "g" || !gathered) return;
    const grouped = new Set(state.groups.flatMap(group => group.ids)),
      ids = gathered.size ? [...gathered] : [...state.pinned].filter(id => !grouped.has(id));
    gathered = null;
    if (ids.length > 1) group(ids); else act({});
  });
  bar.search.addEventListener("keydown", event => {
    if (event.key === "Enter" && shown.found?.size) { select(view.nodes[[...shown.found][0]].id); stage.canvas.focus(); }
    if (event.key === "Escape") { act({ search: "" }); stage.canvas.focus(); }
  });

  function load(text) {
    const { changes, fault } = readSaved(text);
    if (fault) return say(fault);
    setState(changes);
    const origin = String(changes.behaviour).slice(0, 60);
    if (origin !== data.behaviour) say(`Saved from the circuit of ${origin}; nodes that are not in this one were left out.`);
  }
  function setState(wanted) {
    const { changes, lost } = checkedState(wanted, data.views.map(viewOf), data);
    act(changes);
    if (lost) say(`${counted(lost, "node")} of the saved state ${lost === 1 ? "is" : "are"} not in this circuit.`);
  }

  let address = "";
  function keepAddress() {
    address = toAddress(state);
    try {
      history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
    } catch { /* an embedded page has no address */ }
  }
  const readAddress = () => {
    const text = location.hash.replace(/^#/, "");
    if (text && text !== address) setState(fromAddress(text));
  };
  if (options.address) window.addEventListener("hashchange", readAddress);

  el.replaceChildren(root);
  open(view.name);
  act({});
  if (options.address) readAddress();
  stage.begin(() => {
    performance.mark("emocircuits-painted");
    // everything else waits until the picture has been presented
    requestAnimationFrame(() => setTimeout(() => {
      begun = true;
      rest();
      root.dataset.ready = "true";
    }));
  });
  const wide = new ResizeObserver(() => { if (begun) subgraph.render(data, view, state, lower.clientWidth); });
  wide.observe(lower);

  return {
    /** What is shown, as plain values. */
    state: () => ({ ...plainState(state), hovered: stage.hovered()?.id ?? null,
      nodes: shown.mask.reduce((sum, kept) => sum + kept, 0), links: shown.links.length }),
    /** Changes any part of the state; what this circuit does not have is left out and said. */
    setState,
    /** Position of a node in the window, or null. */
    pos: id => (view.byId.has(id) ? stage.pos(view.byId.get(id)) : null),
    ids: () => view.nodes.map(node => node.id),
    pan: stage.pan,
    svg: stage.svg,
    subgraphSvg: () => (subgraph.svg() ? standaloneSvg(subgraph.svg()) : null),
    load,
    destroy() {
      stage.destroy();
      wide.disconnect();
      window.removeEventListener("hashchange", readAddress);
      el.replaceChildren();
    },
  };
}

function cutNotice({ links, nodes }) {
  const kept = ([some, all], word) => `${counted(some, word)} of ${all.toLocaleString("en")}`;
  return `Too large for a page: shown are the strongest ${kept(links, "link")} and ${kept(nodes, "node")}. `
    + "Shares refer to all of them; the JSON and GraphML exports hold the rest.";
}

/** A page that says why it shows nothing. */
function refusal(el, text) {
  const root = h("div", { class: "ec-viewer" }, h("p", { class: "ec-refusal", role: "alert" }, text));
  root.dataset.ready = "true";
  el.replaceChildren(root);
  return { state: () => ({ refused: text }), setState() {}, pos: () => null, ids: () => [], pan() {}, svg: () => null,
    subgraphSvg: () => null, load() {}, destroy: () => el.replaceChildren() };
}
