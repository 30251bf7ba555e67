import { boxesOf, clusterGroups, mergedLinks, strongestNodes } from "./groups.js";
import { clip, counted, h, percent, s, show, signClass } from "./words.js";

// The subgraph as SVG: pinned nodes and supernodes in rows by layer, draggable; a summary while nothing is pinned.

const BOX = 42, GAP = 14, ROWGAP = 66, PAD = 14, LABEL = 30;

/** The panel; `tools` pins, groups, renames, places and selects. */
export function subgraphPanel(tools) {
  const picture = h("div", { class: "ec-subgraph" }), title = h("h3", {}), say = h("p", { class: "ec-note" }), names = h("div", { class: "ec-groups" });
  const button = (text, act) => h("button", { type: "button", class: "ec-button", onclick: act }, text);
  const strongest = button("Pin the strongest", tools.pinStrongest), cluster = button("Group by emotion cluster", tools.groupByCluster);
  const ungroup = button("Ungroup all", tools.ungroupAll), clear = button("Clear", tools.clear);
  const element = h("section", { class: "ec-box ec-wide", "aria-label": "Subgraph" }, h("div", { class: "ec-boxhead" }, title, strongest, cluster, ungroup, clear), say, picture, names);
  let layout = null, drag = null;

  function render(data, view, state, width) {
    const own = [...state.pinned].filter(id => view.byId.has(id)), summary = !own.length;
    const ids = summary ? strongestNodes(view) : own;
    const groups = summary ? clusterGroups(data, view, ids, true) : state.groups;
    element.hidden = view.nodes.length < 2 || ids.length < 2 && summary;
    if (element.hidden) return;
    title.textContent = summary ? "Summary by emotion cluster" : `Subgraph of ${counted(own.length, "pinned node")}`;
    say.textContent = summary ? "The strongest nodes of every layer, grouped by the emotion cluster of their surest match. Pin nodes to build your own subgraph."
      : "Drag boxes to arrange them. Hold G and click nodes to gather them into a supernode.";
    cluster.hidden = ungroup.hidden = clear.hidden = summary;
    ungroup.disabled = !state.groups.length;
    const boxes = boxesOf(data, view, ids, groups, tools.name), links = mergedLinks(view, boxes);
    layout = arranged(view, boxes, Math.max(300, width - 2 * PAD), state.places);
    layout.links = links;
    draw(view, state);
    names.replaceChildren(...(summary ? [] : state.groups.map((group, i) => h("label", { class: "ec-field" }, h("span", {}, counted(group.ids.length, "node")),
      h("input", { type: "text", value: group.name, maxlength: 60, "aria-label": "Name of this group", onchange: event => tools.renameGroup(i, event.target.value) }),
      h("button", { type: "button", class: "ec-button", "aria-label": `Ungroup ${group.name}`, onclick: () => tools.ungroup(i) }, "×")))));
  }

  function draw(view, state) {
    const { boxes, links, width, height, rows } = layout, widest = Math.max(...links.map(link => Math.abs(link.weight)), 1e-12);
    const paths = links.map(link => {
      const a = link.source, b = link.target, part = Math.sqrt(Math.abs(link.weight) / widest), up = b.cy <= a.cy;
      const y1 = a.cy + (up ? -BOX / 2 : BOX / 2), y2 = b.cy + (up ? BOX / 2 : -BOX / 2), bend = (up ? -1 : 1) * Math.max(14, Math.abs(y1 - y2) * 0.45);
      return s("path", { d: `M${a.cx} ${y1}C${a.cx} ${y1 + bend} ${b.cx} ${y2 - bend} ${b.cx} ${y2}`, class: `ec-link ${signClass(link.weight)}`,
        "stroke-width": (0.8 + 5 * part).toFixed(2), "stroke-opacity": (0.25 + 0.55 * part).toFixed(2) },
      s("title", {}, `${a.title} → ${b.title}: ${show(link.weight, true)}, ${percent(link.share)} of its input`));
    });
    const shapes = boxes.map(one => {
      const chosen = one.members.some(node => node.id === state.selected), gathered = one.members.some(node => tools.gathered(node.id));
      const sub = [one.sub, one.kind === "target" || one.effect == null ? null : show(one.effect, true)].filter(Boolean).join(" · ");
      const group = s("g", { class: `ec-node ec-${one.kind} ${one.kind === "target" ? "" : signClass(one.effect)}${one.members.length > 1 ? " ec-super" : ""}${chosen ? " ec-chosen" : ""}${one.faint ? " ec-pale" : ""}${gathered ? " ec-gathered" : ""}`,
        transform: `translate(${one.cx - one.w / 2} ${one.cy - BOX / 2})`, tabindex: 0, role: "button", "data-key": one.key,
        "aria-label": `${one.title}${one.sub ? `, ${one.sub}: ${one.strongest.slice(0, 5).join(", ")}` : ""}, ${rows[one.row] ?? ""}, effect ${show(one.effect, true)}` },
      s("title", {}, one.members.length > 1 ? one.strongest.slice(0, 12).join(", ") : one.members[0].id),
      one.members.length > 1 && s("rect", { x: 4, y: -4, width: one.w, height: BOX, rx: 9, class: "ec-behind" }),
      s("rect", { x: 0, y: 0, width: one.w, height: BOX, rx: 9 }),
      s("text", { x: one.w / 2, y: sub ? 17 : 25, "text-anchor": "middle" }, one.shown),
      sub && s("text", { x: one.w / 2, y: 33, "text-anchor": "middle", class: "ec-sub" }, sub));
      group.addEventListener("pointerdown", event => { drag = { one, x: event.clientX, y: event.clientY, cx: one.cx, cy: one.cy, moved: false }; group.setPointerCapture?.(event.pointerId); });
      group.addEventListener("pointermove", event => move(event, view, state, group));
      group.addEventListener("pointerup", event => drop(event, one));
      group.addEventListener("keydown", event => key(event, one));
      return group;
    });
    const bands = layout.bands.map(band => [s("rect", { x: 0, y: band.top, width, height: band.height, class: band.odd ? "ec-bandb" : "ec-banda" }),
      s("text", { x: 8, y: band.top + 16, class: "ec-rowname" }, rows[band.row])]);
    const drawn = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `Subgraph: ${counted(boxes.length, "box")}, ${counted(links.length, "link")}`.replace("boxs", "boxes") }, bands, paths, shapes);
    const focused = picture.querySelector("g:focus")?.dataset.key;
    picture.replaceChildren(drawn);
    if (focused) [...drawn.querySelectorAll("g[data-key]")].find(group => group.dataset.key === focused)?.focus();
  }

  function move(event, view, state, group) {
    if (!drag || !event.buttons) return;
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag.moved = true;
    put(drag.one, drag.cx + dx, drag.cy + dy);
    group.setAttribute("transform", `translate(${drag.one.cx - drag.one.w / 2} ${drag.one.cy - BOX / 2})`);
    redrawLinks();
  }
  function put(one, x, y) {
    one.cx = Math.round(Math.max(one.w / 2 + 2, Math.min(layout.width - one.w / 2 - 6, x)));
    one.cy = Math.round(Math.max(BOX / 2 + 6, Math.min(layout.height - BOX / 2 - 2, y)));
  }
  function redrawLinks() {
    const paths = picture.querySelectorAll("path.ec-link");
    layout.links.forEach((link, i) => {
      const a = link.source, b = link.target, up = b.cy <= a.cy, y1 = a.cy + (up ? -BOX / 2 : BOX / 2), y2 = b.cy + (up ? BOX / 2 : -BOX / 2);
      const bend = (up ? -1 : 1) * Math.max(14, Math.abs(y1 - y2) * 0.45);
      paths[i].setAttribute("d", `M${a.cx} ${y1}C${a.cx} ${y1 + bend} ${b.cx} ${y2 - bend} ${b.cx} ${y2}`);
    });
  }
  function drop(event, one) {
    const moved = drag?.moved;
    drag = null;
    if (moved) tools.place(one.key, [one.cx, one.cy]);
    else if (event.ctrlKey || event.metaKey) tools.unpin(one.members.map(node => node.id));
    else tools.click(one.members.map(node => node.id));
  }
  function key(event, one) {
    const step = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] }[event.key];
    if (step) { put(one, one.cx + step[0], one.cy + step[1]); tools.place(one.key, [one.cx, one.cy]); }
    else if (event.key === "Enter" || event.key === " ") tools.click(one.members.map(node => node.id));
    else if (event.key === "Delete" || event.key === "Backspace") tools.unpin(one.members.map(node => node.id));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  return { element, render, svg: () => picture.firstElementChild };
}

/** Boxes in rows by layer, each row from left to right as on the grid, broken where it gets too wide; moved ones stay put. */
function arranged(view, boxes, width, places) {
  const rows = [...new Set(boxes.map(one => one.row))].sort((a, b) => b - a), bands = [];
  let y = 0;
  rows.forEach((row, n) => {
    const lines = [[]], here = boxes.filter(one => one.row === row).sort((a, b) => a.x - b.x || a.key.localeCompare(b.key));
    let used = 0;
    for (const one of here) {
      one.shown = clip(one.title, 34);
      one.w = Math.round(Math.max(86, Math.min(width - 8, 26 + 7.1 * Math.max(Array.from(one.shown).length, (one.sub.length + 8) * 0.86))));
      if (used + one.w > width - 8 && lines.at(-1).length) { lines.push([]); used = 0; }
      lines.at(-1).push(one);
      used += one.w + GAP;
    }
    const top = y, height = LABEL + lines.length * BOX + (lines.length - 1) * GAP + (n === rows.length - 1 ? 8 : ROWGAP - LABEL);
    lines.forEach((line, k) => {
      const all = line.reduce((sum, one) => sum + one.w, 0) + GAP * (line.length - 1);
      let x = (width - all) / 2;
      for (const one of line) { one.cx = Math.round(x + one.w / 2); one.cy = top + LABEL + k * (BOX + GAP) + BOX / 2; x += one.w + GAP; }
    });
    bands.push({ row, top, height: height + 6, odd: n % 2 === 1 });
    y += height + 6;
  });
  for (const one of boxes) if (places[one.key]) [one.cx, one.cy] = [Math.min(places[one.key][0], width), Math.min(places[one.key][1], y)];
  return { boxes, width, height: Math.max(y, BOX), bands, rows: view.rows.map(row => row.label) };
}
