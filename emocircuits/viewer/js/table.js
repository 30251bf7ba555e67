import { linkAt, place, ranked, significant } from "./graph.js";
import { bracket, effectPlot } from "./plots.js";
import { h, show, signClass } from "./words.js";

// The strongest links as a plain table that sorts: the same facts for those who cannot or will not use the canvas.

const ROWS = 100, SORTED = 5000;
const COLUMNS = [
  ["from", link => link.source, "text"], ["to", link => link.target, "text"], ["effect", link => link.weight, "size"],
  ["95 % interval", link => link.low, "number"], ["verified", link => link.verified, "size"],
];

/** The table; `tools.select(id)` is called with an end that was clicked. */
export function linkTable(tools) {
  let sorted = { column: 2, down: true }, view = null, links = [];
  const body = h("tbody"), caption = h("caption", {});
  const heads = COLUMNS.map(([name, , kind], i) => h("th", { scope: "col", class: kind === "text" ? null : "ec-num" },
    h("button", { type: "button", onclick: () => { sorted = { column: i,
      down: sorted.column === i ? !sorted.down : kind !== "text" }; draw(); } }, name)));
  const element = h("div", { class: "ec-tablebox", tabindex: 0, role: "region", "aria-label": "Links as a table" },
    h("table", { class: "ec-table" }, caption, h("thead", {}, h("tr", {}, heads)), body));

  function end(node) {
    return h("td", {}, h("button", { type: "button", class: "ec-plain", onclick: () => tools.select(node.id) },
      h("span", {}, tools.name(node)), h("small", {}, place(view, node))));
  }
  function row(link, range) {
    const measured = { value: link.weight, low: link.low, high: link.high, verified: link.verified };
    const plot = range && h("span", { class: "ec-cell" }, effectPlot(measured, 120, 18, range), h("span", {}, bracket(link.low, link.high) || "–"));
    return h("tr", { class: significant(link) ? null : "ec-weak" }, end(link.source), end(link.target),
      h("td", { class: `ec-num ${signClass(link.weight)}` }, show(link.weight, true)),
      h("td", { class: "ec-num" }, plot), h("td", { class: "ec-num" }, show(link.verified, true)));
  }
  function draw() {
    const [, value, kind] = COLUMNS[sorted.column], way = sorted.down ? -1 : 1;
    const key = link => {
      const cell = value(link);
      return cell == null ? null : kind === "size" ? Math.abs(cell) : kind === "text" ? tools.name(cell) : cell;
    };
    const rows = links.slice(0, SORTED).map(i => linkAt(view, i)).map(link => [key(link), link]);
    rows.sort(([x], [y]) => (x == null ? (y == null ? 0 : 1) : y == null
      ? -1 : way * (kind === "text" ? x.localeCompare(y) : x - y)));
    heads.forEach((head, i) => head.setAttribute("aria-sort",
      i !== sorted.column ? "none" : sorted.down ? "descending" : "ascending"));
    const some = rows.slice(0, ROWS).map(([, link]) => link),
      limits = some.flatMap(link => [link.weight, link.low, link.high, link.verified]).filter(v => v != null);
    const range = limits.length ? [Math.min(...limits), Math.max(...limits)] : null,
      intervals = some.some(link => link.low != null || link.verified != null);
    element.classList.toggle("ec-nointerval", !intervals);
    const whose = view.borrowed ? " (weights of the prompts)" : "", cut = links.length > ROWS ? `; the first ${ROWS} are listed` : "";
    caption.textContent = `${links.length.toLocaleString("en")} links between the nodes shown${whose}${cut}`;
    body.replaceChildren(...some.map(link => row(link, intervals ? range : null)));
    if (!links.length) body.replaceChildren(h("tr", {},
      h("td", { colspan: 5, class: "ec-empty" }, "No links between the nodes shown.")));
  }
  return {
    element,
    /** Lists links by number; null lists all links between the nodes of a mask. */
    render(next, numbers, mask) {
      view = next;
      links = numbers ?? all(view, mask);
      draw();
    },
  };
}

function all(view, mask) {
  const links = [];
  for (let k = 0; k < view.count; k++) {
    const i = ranked(view, k);
    if (mask[view.links.source[i]] && mask[view.links.target[i]]) links.push(i);
  }
  return links;
}
