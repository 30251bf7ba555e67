import { boxesOf, clusterGroups, mergedLinks, strongestNodes } from "./groups.js";
import { clip, counted, h, percent, s, show, signClass } from "./words.js";

// The subgraph as SVG: pinned nodes and supernodes in rows by layer, draggable; a summary while nothing is pinned.

const BOX = 42, GAP = 14, ROWGAP = 66, PAD = 14, LABEL = 30, STEP = 12;
const SUMMARY = "The strongest nodes of every layer, grouped by the emotion cluster of their surest match. "
  + "Pin nodes to build your own subgraph.";
const OWN = "Drag boxes to arrange them. Hold G and click nodes to gather them into a supernode.";

/** The panel; `tools` pins, groups, renames, places and selects. */
export function subgraphPanel(tools) {
  const picture = h("div", { class: "ec-subgraph" }), title = h("h3", {}), say = h("p", { class: "ec-note" });
  const names = h("div", { class: "ec-groups" });
  const button = (text, act) => h("button", { type: "button", class: "ec-button", onclick: act }, text);
  const strongest = button("Pin the strongest", tools.pinStrongest);
  const cluster = button("Group by emotion cluster", tools.groupByCluster);
  const ungroup = button("Ungroup all", tools.ungroupAll), clear = button("Clear", tools.clear);
  const element = h("section", { class: "ec-box ec-wide", "aria-label": "Subgraph" },
    h("div", { class: "ec-boxhead" }, title, strongest, cluster, ungroup, clear), say, picture, names);
  let layout = null, drag = null;

  function render(data, view, state, width) {
    const own = [...state.pinned].filter(id => view.byId.has(id)), summary = !own.length;
    const ids = summary ? strongestNodes(view) : own;
    element.hidden = view.nodes.length < 2 || (summary && ids.length < 2);
    if (element.hidden) return;
    const groups = summary ? clusterGroups(data, view, ids, true) : state.groups;
    title.textContent = summary ? "Summary by emotion cluster" : `Subgraph of ${counted(own.length, "pinned node")}`;
    say.textContent = summary ? SUMMARY : OWN;
    cluster.hidden = ungroup.hidden = clear.hidden = summary;
    ungroup.disabled = !state.groups.length;
    const boxes = boxesOf(data, view, ids, groups, tools.name);
    layout = arranged(boxes, Math.max(300, width - 2 * PAD), state.places);
    layout.links = mergedLinks(view, boxes);
    draw(view, state);
    names.replaceChildren(...(summary ? [] : state.groups.map(groupField)));
  }

  function groupField(group, i) {
    return h("label", { class: "ec-field" }, h("span", {}, counted(group.ids.length, "node")),
      h("input", { type: "text", value: group.name, maxlength: 60, "aria-label": "Name of this group",
        onchange: event => tools.renameGroup(i, event.target.value) }),
      h("button", { type: "button", class: "ec-button", "aria-label": `Ungroup ${group.name}`, onclick: () => tools.ungroup(i) }, "×"));
  }

  function draw(view, state) {
    const { boxes, links, bands, width, height } = layout, rows = view.rows.map(row => row.label);
    const widest = Math.max(...links.map(link => Math.abs(link.weight)), 1e-12);
    const ground = bands.map(band => [
      s("rect", { x: 0, y: band.top, width, height: band.height, class: band.odd ? "ec-bandb" : "ec-banda" }),
      s("text", { x: 8, y: band.top + 16, class: "ec-rowname" }, rows[band.row])]);
    const sizes = `${boxes.length} ${boxes.length === 1 ? "box" : "boxes"}, ${counted(links.length, "link")}`;
    const drawn = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `Subgraph: ${sizes}` },
      ground, links.map(link => linkShape(view, link, widest)), boxes.map(box => boxShape(box, state, rows[box.row] ?? "")));
    const focused = picture.querySelector("g:focus")?.dataset.key;
    picture.replaceChildren(drawn);
    if (focused) [...drawn.querySelectorAll("g[data-key]")].find(group => group.dataset.key === focused)?.focus();
  }

  function boxShape(box, state, row) {
    const many = box.members.length > 1, chosen = box.members.some(node => node.id === state.selected);
    const effect = box.kind === "target" || box.effect == null ? "" : show(box.effect, true);
    const sub = [box.sub, effect].filter(Boolean).join(" · "), label = [box.title, box.sub, row, effect && `effect ${effect}`];
    const looks = ["ec-node", `ec-${box.kind}`, box.kind === "target" ? "" : signClass(box.effect), many && "ec-super",
      chosen && "ec-chosen", box.faint && "ec-pale", box.members.some(node => tools.gathered(node.id)) && "ec-gathered"];
    const group = s("g", { class: looks.filter(Boolean).join(" "), transform: shifted(box), tabindex: 0, role: "button",
      "data-key": box.key, "aria-label": label.filter(Boolean).join(", ") },
    s("title", {}, many ? box.strongest.slice(0, 12).join(", ") : box.members[0].id),
    many && s("rect", { x: 4, y: -4, width: box.w, height: BOX, rx: 9, class: "ec-behind" }),
    s("rect", { x: 0, y: 0, width: box.w, height: BOX, rx: 9 }),
    s("text", { x: box.w / 2, y: sub ? 17 : 25, "text-anchor": "middle" }, box.shown),
    sub && s("text", { x: box.w / 2, y: 33, "text-anchor": "middle", class: "ec-sub" }, sub));
    group.addEventListener("pointerdown", event => {
      drag = { box, x: event.clientX, y: event.clientY, cx: box.cx, cy: box.cy, moved: false };
      group.setPointerCapture?.(event.pointerId);
    });
    group.addEventListener("pointermove", event => move(event, group));
    group.addEventListener("pointerup", event => drop(event, box));
    group.addEventListener("keydown", event => press(event, box));
    return group;
  }

  function move(event, group) {
    if (!drag || !event.buttons) return;
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag.moved = true;
    put(drag.box, drag.cx + dx, drag.cy + dy);
    group.setAttribute("transform", shifted(drag.box));
    picture.querySelectorAll("path.ec-link").forEach((path, i) => path.setAttribute("d", curve(layout.links[i])));
  }
  function put(box, x, y) {
    box.cx = Math.round(Math.max(box.w / 2 + 2, Math.min(layout.width - box.w / 2 - 6, x)));
    box.cy = Math.round(Math.max(BOX / 2 + 6, Math.min(layout.height - BOX / 2 - 2, y)));
  }
  function drop(event, box) {
    const moved = drag?.moved, ids = box.members.map(node => node.id);
    drag = null;
    if (moved) tools.place(box.key, [box.cx, box.cy]);
    else if (event.ctrlKey || event.metaKey) tools.unpin(ids);
    else tools.click(ids);
  }
  function press(event, box) {
    const step = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    const ids = box.members.map(node => node.id);
    if (step) {
      put(box, box.cx + step[0], box.cy + step[1]);
      tools.place(box.key, [box.cx, box.cy]);
    } else if (event.key === "Enter" || event.key === " ") tools.click(ids);
    else if (event.key === "Delete" || event.key === "Backspace") tools.unpin(ids);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  return { element, render, svg: () => picture.firstElementChild };
}

const shifted = box => `translate(${box.cx - box.w / 2} ${box.cy - BOX / 2})`;

/** From the upper edge of the lower box to the lower edge of the upper one (the other way round for links that go down). */
function curve({ source: a, target: b }) {
  const way = b.cy <= a.cy ? -1 : 1, y1 = a.cy + way * BOX / 2, y2 = b.cy - way * BOX / 2;
  const bend = way * Math.max(14, Math.abs(y1 - y2) * 0.45);
  return `M${a.cx} ${y1}C${a.cx} ${y1 + bend} ${b.cx} ${y2 - bend} ${b.cx} ${y2}`;
}

function linkShape(view, link, widest) {
  const part = Math.sqrt(Math.abs(link.weight) / widest), says = `${show(link.weight, true)}, ${percent(link.share)} of its input`;
  return s("path", { d: curve(link), class: `ec-link ${signClass(view.borrowed ? 0 : link.weight)}`,
    "stroke-width": (0.8 + 5 * part).toFixed(2), "stroke-opacity": (0.25 + 0.55 * part).toFixed(2) },
  s("title", {}, `${link.source.title} → ${link.target.title}: ${says}`));
}

/** Boxes in rows by layer, each row from left to right as on the grid, broken where it gets too wide; moved ones stay put. */
function arranged(boxes, width, places) {
  const rows = [...new Set(boxes.map(box => box.row))].sort((a, b) => b - a), bands = [];
  let top = 0;
  rows.forEach((row, n) => {
    const lines = brokenRow(boxes.filter(box => box.row === row), width - 8), last = n === rows.length - 1;
    lines.forEach((line, k) => {
      let x = (width - line.reduce((sum, box) => sum + box.w + GAP, -GAP)) / 2;
      for (const box of line) {
        box.cx = Math.round(x + box.w / 2);
        box.cy = top + LABEL + k * (BOX + GAP) + BOX / 2;
        x += box.w + GAP;
      }
    });
    const height = LABEL + lines.length * (BOX + GAP) - GAP + (last ? 14 : ROWGAP - LABEL + 6);
    bands.push({ row, top, height, odd: n % 2 === 1 });
    top += height;
  });
  for (const box of boxes) {
    if (places[box.key]) [box.cx, box.cy] = [Math.min(places[box.key][0], width), Math.min(places[box.key][1], top)];
  }
  return { boxes, width, height: Math.max(top, BOX), bands };
}

function brokenRow(boxes, width) {
  const lines = [[]];
  let used = 0;
  for (const box of boxes.sort((a, b) => a.x - b.x || a.key.localeCompare(b.key))) {
    box.shown = clip(box.title, 34);
    const letters = Math.max(Array.from(box.shown).length, (box.sub.length + 11) * 0.9);
    box.w = Math.round(Math.max(86, Math.min(width, 26 + 7.1 * letters)));
    if (used + box.w > width && lines.at(-1).length) {
      lines.push([]);
      used = 0;
    }
    lines.at(-1).push(box);
    used += box.w + GAP;
  }
  return lines;
}
