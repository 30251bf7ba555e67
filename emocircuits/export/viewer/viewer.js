import { card, h, overview, shaded } from "./card.js";
import { chosenLinks, kept, place, prepare, show } from "./graph.js";
import { GUTTER, HEAD, paint, palette, radius, screen } from "./paint.js";
import { linkTable } from "./table.js";

// Circuit viewer: layer × token grid on a canvas, a card, a table. No dependencies, no network, no storage.

const REACH = 30, PINS = 200;
let count = 0;

/** Mounts the viewer in `el`; `graph` is what `emocircuits.export.viewer_data` makes. Returns {state, setState, pos, destroy}. */
export function mount(el, graph, options = {}) {
  const name = `ec${count++}`, views = graph.views.map(prepare);
  let view = views[0], camera = {}, size = { width: 0, height: 0 }, frame = 0, drag = null, hovered = null, focus = null, colours = {};
  let shown = new Set(), links = [], found = null, table, moved = false;
  const state = { view: view.name, selected: null, pinned: new Set(), filter: "strongest", rank: "influence", threshold: 1, search: "" };

  const canvas = h("canvas", { tabindex: 0, role: "img" }), tip = h("div", { class: "ec-tip", role: "tooltip", hidden: true });
  const live = h("p", { class: "ec-live", "aria-live": "polite" }), panel = h("aside", { class: "ec-panel", "aria-label": "Details", tabindex: 0 });
  const prompt = h("p", { class: "ec-prompt", "aria-label": "Prompt, shaded by the effect of the nodes at each token" });
  const search = h("input", { type: "search", placeholder: "Search labels, emotions, ids", "aria-label": "Search nodes", id: `${name}-search` });
  const slider = h("input", { type: "range", min: 0.02, max: 1, step: 0.01, value: 1, id: `${name}-prune` }), readout = h("output", { for: `${name}-prune` });
  const rank = select("Rank nodes by", [["influence", "influence"], ["share", "|effect|"]], value => update({ rank: value }));
  const filter = select("Links", [["strongest", "strongest links"], ["either", "of selection"], ["input", "inputs only"], ["output", "outputs only"], ["both", "between pins"]], value => update({ filter: value }));
  const tabs = h("div", { class: "ec-tabs", role: "group", "aria-label": "View" }, views.map(v => h("button", { type: "button", "data-view": v.name, onclick: () => setView(v.name) }, v.title)));
  const tool = (label, text, act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const tools = h("div", { class: "ec-tools" }, tool("Zoom in", "+", () => zoom(1.25)), tool("Zoom out", "−", () => zoom(0.8)), tool("Show everything", "⤢", () => { fit(); draw(); }));
  const tableBox = h("div", { class: "ec-tablebox", tabindex: 0, role: "region", "aria-label": "Links as a table" });
  const stage = h("div", { class: "ec-stage" }, canvas, tip, tools);
  const root = h("div", { class: "ec-viewer" },
    h("div", { class: "ec-bar-top" }, views.length > 1 && tabs, search, h("label", { class: "ec-field ec-slide" }, h("span", {}, "Keep"), slider, readout), rank, filter),
    prompt, h("div", { class: "ec-main" }, stage, panel), tableBox, live);
  el.replaceChildren(root);
  const ctx = canvas.getContext("2d");

  function select(label, choices, act) {
    return h("label", { class: "ec-field" }, h("span", {}, label), h("select", { onchange: event => act(event.target.value) }, choices.map(([value, text]) => h("option", { value }, text))));
  }
  function setView(next) {
    const to = views.find(v => v.name === next);
    if (!to) return;
    view = to; state.view = next; hovered = null; focus = null; fitted = false;
    if (state.selected && !view.byId.has(state.selected)) {
      const old = views.flatMap(v => v.nodes).find(node => node.id === state.selected);
      state.selected = view.nodes.find(node => node.base === old?.base)?.id ?? null;
    }
    table = linkTable(view, actions); tableBox.replaceChildren(table.element);
    resize(); update({});
  }
  let fitted = false;
  const footer = () => view.columns.length ? 92 : 8;
  function fit() {
    const room = size.width - GUTTER - 12, tall = size.height - footer() - HEAD;
    const sx = Math.max(13, Math.min(room / (view.width || 1), 132)), sy = Math.min(tall / (view.height || 1), 96);
    camera = { sx, sy, height: view.height, x: Math.min(0, (view.width - room / sx) / 2), dy: Math.max(0, (tall - view.height * sy) / 2) };
    if (view.width * sx > room) camera.x = Math.max(0, view.width - room / sx);
    fitted = true;
  }
  function resize() {
    const width = Math.max(240, stage.clientWidth), rows = view.height;
    const height = Math.round(Math.max(330, Math.min(options.height ?? 620, rows * 54 + footer() + HEAD)));
    if (width === size.width && height === size.height && fitted) return;
    const ratio = window.devicePixelRatio || 1;
    size = { width, height, ratio };
    canvas.width = width * ratio; canvas.height = height * ratio; canvas.style.height = `${height}px`;
    fit(); draw();
  }
  function zoom(factor, at = { x: (size.width + GUTTER) / 2, y: size.height / 2 }) {
    const x = camera.x + (at.x - GUTTER) / camera.sx, y = (at.y - HEAD - camera.dy) / camera.sy;
    const sx = Math.max(3, Math.min(240, camera.sx * factor)), sy = Math.max(6, Math.min(240, camera.sy * factor));
    camera = { ...camera, sx, sy, x: x - (at.x - GUTTER) / sx, dy: at.y - HEAD - y * sy };
    draw();
  }
  function draw() {
    if (frame) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      paint(ctx, { view, camera, colours, links, shown, hovered, focus, found, selected: view.byId.get(state.selected), pinned: state.pinned, foot: footer(), font: getComputedStyle(root).fontFamily, ...size });
      root.dataset.ready = "true";
    });
  }
  function update(changes) {
    Object.assign(state, changes);
    shown = kept(view, state.rank, state.threshold, state.pinned);
    const chosen = view.byId.get(state.selected);
    if (chosen) shown.add(chosen.i);
    links = chosenLinks(view, shown, state);
    const words = state.search.trim().toLowerCase();
    found = words ? new Set(view.nodes.filter(node => matches(node, words)).map(node => node.i)) : null;
    const every = view.nodes.filter(node => node.kind !== "token" && node.kind !== "target"), left = every.filter(node => shown.has(node.i)).length;
    slider.value = state.threshold; readout.textContent = `${left} of ${every.length}`; slider.setAttribute("aria-label", `Keep the most important nodes; ${left} of ${every.length} shown`);
    rank.querySelector("select").value = state.rank; filter.querySelector("select").value = state.filter;
    for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.view === view.name));
    panel.replaceChildren(chosen ? card(graph, view, chosen, state.pinned.has(chosen.id), actions) : overview(graph, view));
    panel.scrollTop = 0;
    table.fill(state.filter === "strongest" ? view.ranked.filter(link => shown.has(link.source.i) && shown.has(link.target.i)) : links);
    readPrompt(chosen);
    canvas.setAttribute("aria-label", `Circuit of ${graph.behaviour}: ${left} nodes in ${view.rows.length} rows, ${links.length} links drawn. The same links are in the table below. Arrow keys move between nodes.`);
    draw();
  }
  function readPrompt(chosen) {
    prompt.hidden = !view.tokens.length;
    const sums = view.tokens.map(() => 0);
    for (const node of view.nodes) if (node.position != null && node.kind !== "token" && (!chosen || node.base === chosen.base)) sums[node.position] += node.effect ?? 0;
    const spans = shaded(view.tokens, sums, Math.max(...sums.map(Math.abs), 0), true);
    spans.forEach((span, i) => { span.dataset.i = i; });
    prompt.replaceChildren(...spans);
  }
  function matches(node, words) {
    const emotions = (graph.details[node.base]?.emotions ?? []).map(match => match.emotion).join(" ");
    return `${node.label} ${node.id} ${emotions}`.toLowerCase().includes(words);
  }
  const actions = {
    select(id) { const node = view.byId.get(id); update({ selected: node ? id : null }); if (node) live.textContent = `${node.label}, ${place(view, node)}, effect ${show(node.effect, true)}`; },
    pin(id) { if (state.pinned.has(id)) state.pinned.delete(id); else if (state.pinned.size < PINS) state.pinned.add(id); update({}); },
  };
  function nearest(x, y) {
    let best = null, least = REACH;
    for (const node of view.nodes) {
      if (!shown.has(node.i)) continue;
      const p = screen(camera, node.x, node.y), far = Math.hypot(p.x - x, p.y - y) - radius(view, node, camera) * 0.5;
      if (far < least) { least = far; best = node; }
    }
    return best;
  }
  const point = event => { const box = canvas.getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };
  function hover(node, at) {
    const column = at && at.x > GUTTER ? view.columns.findIndex(c => { const x = camera.x + (at.x - GUTTER) / camera.sx; return x >= c.low && x < c.high; }) : -1;
    const next = column < 0 ? node?.position ?? null : column;
    if (next !== focus) { prompt.querySelector(".ec-here")?.classList.remove("ec-here"); if (next != null) prompt.children[next]?.classList.add("ec-here"); }
    if (node === hovered && next === focus) return;
    hovered = node; focus = next; tip.hidden = !node;
    if (node) {
      tip.replaceChildren(h("b", {}, node.label), h("span", {}, place(view, node)), node.effect != null && h("span", {}, `effect ${show(node.effect, true)}${node.low == null ? "" : ` [${show(node.low)}, ${show(node.high)}]`}${node.verified == null ? "" : ` · verified ${show(node.verified, true)}`}`));
      const p = screen(camera, node.x, node.y), w = tip.offsetWidth, tall = tip.offsetHeight;
      tip.style.left = `${Math.max(4, Math.min(size.width - w - 4, p.x - w / 2))}px`;
      tip.style.top = `${p.y - tall - 18 < 2 ? p.y + 20 : p.y - tall - 18}px`;
    }
    canvas.style.cursor = node ? "pointer" : "default";
    draw();
  }
  canvas.addEventListener("pointerdown", event => { drag = { ...point(event), cx: camera.x, dy: camera.dy }; moved = false; });
  const onMove = event => {
    const at = point(event);
    if (drag && event.buttons) {
      if (Math.hypot(at.x - drag.x, at.y - drag.y) > 4 && !moved) { moved = true; hover(null); canvas.setPointerCapture?.(event.pointerId); }
      if (moved) { camera = { ...camera, x: drag.cx - (at.x - drag.x) / camera.sx, dy: event.pointerType === "touch" ? drag.dy : drag.dy + at.y - drag.y }; canvas.style.cursor = "grabbing"; draw(); }
    } else hover(nearest(at.x, at.y), at);
  };
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerleave", () => { if (!drag || !moved) hover(null); });
  canvas.addEventListener("pointerup", event => {
    const at = point(event), was = moved;
    drag = null; moved = false;
    if (was) return;
    const node = nearest(at.x, at.y);
    if (event.ctrlKey || event.metaKey) { if (node) actions.pin(node.id); } else actions.select(node?.id === state.selected ? null : node?.id ?? null);
  });
  canvas.addEventListener("wheel", event => { if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(Math.exp(-event.deltaY / 300), point(event)); } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { event.preventDefault(); camera.x += event.deltaX / camera.sx; draw(); } }, { passive: false });
  function step(dx, dy) {
    const nodes = view.nodes.filter(node => shown.has(node.i)), from = view.byId.get(state.selected);
    if (!from) return actions.select((nodes.find(node => node.kind === "target") ?? nodes[0])?.id ?? null);
    let best = null, least = Infinity;
    for (const node of nodes) {
      const x = node.x - from.x, y = node.y - from.y, along = dx * x + dy * y, across = Math.abs(dx * y) + Math.abs(dy * x);
      if (along > 0.05 && along + 2.5 * across < least) { least = along + 2.5 * across; best = node; }
    }
    if (best) actions.select(best.id);
  }
  const keys = { ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, 1), ArrowDown: () => step(0, -1), Enter: () => { if (!state.selected) step(0, 0); else panel.focus(); }, Escape: () => { hover(null); search.value = ""; update({ selected: null, search: "" }); }, "/": () => search.focus(), p: () => state.selected && actions.pin(state.selected), P: () => state.selected && actions.pin(state.selected), "+": () => zoom(1.25), "-": () => zoom(0.8), 0: () => { fit(); draw(); } };
  canvas.addEventListener("keydown", event => { const act = !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key]; if (act) { event.preventDefault(); act(); } });
  search.addEventListener("input", () => update({ search: search.value }));
  search.addEventListener("keydown", event => { if (event.key === "Enter" && found?.size) { actions.select(view.nodes[[...found][0]].id); canvas.focus(); } if (event.key === "Escape") { search.value = ""; update({ search: "" }); canvas.focus(); } });
  slider.addEventListener("input", () => update({ threshold: Number(slider.value) }));
  const theme = matchMedia("(prefers-color-scheme: dark)"), retheme = () => { colours = palette(root); draw(); };
  theme.addEventListener("change", retheme);
  const watcher = new ResizeObserver(() => resize());
  retheme(); setView(view.name); watcher.observe(stage);

  return {
    /** What is shown, as plain values. */
    state: () => ({ ...state, pinned: [...state.pinned], hovered: hovered?.id ?? null, nodes: shown.size, links: links.length }),
    /** Changes view, selected, pinned, filter, rank, threshold or search. */
    setState(changes) {
      if (changes.view && changes.view !== view.name) setView(changes.view);
      const { view: _, ...rest } = changes;
      if (rest.pinned) rest.pinned = new Set(rest.pinned);
      if (rest.search != null) search.value = rest.search;
      update(rest);
    },
    /** Position of a node in the window, or null. */
    pos(id) { const node = view.byId.get(id); if (!node) return null; const box = canvas.getBoundingClientRect(), p = screen(camera, node.x, node.y); return { x: box.left + p.x, y: box.top + p.y }; },
    destroy() { watcher.disconnect(); theme.removeEventListener("change", retheme); cancelAnimationFrame(frame); el.replaceChildren(); },
  };
}

export default {
  /** The anywidget contract. */
  render({ model, el }) {
    const shownGraph = mount(el, model.get("graph"), model.get("options") ?? {});
    return () => shownGraph.destroy();
  },
};
