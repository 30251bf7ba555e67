import { h } from "./card.js";
import { place, show, significant } from "./graph.js";

// The plain table of links: the same facts for readers who cannot or will not use the canvas.

const COLUMNS = [
  ["from", link => link.source.label, "text"], ["to", link => link.target.label, "text"], ["effect", link => link.weight, "size"],
  ["95 % interval", link => link.low, "number"], ["verified", link => link.verified, "size"],
];

/** A sortable table; `actions.select(id)` is called with the source of the row that was clicked. */
export function linkTable(view, actions, rows = 100) {
  let sorted = { column: 2, down: true };
  const body = h("tbody"), heads = COLUMNS.map(([name], i) => h("th", { scope: "col", class: i > 1 ? "ec-num" : null }, h("button", { type: "button", onclick: () => { sorted = { column: i, down: sorted.column === i ? !sorted.down : i > 1 }; fill(current); } }, name)));
  const caption = h("caption", {});
  const element = h("table", { class: "ec-table" }, caption, h("thead", {}, h("tr", {}, heads)), body);
  let current = [];
  const end = node => h("td", {}, h("button", { type: "button", class: "ec-plain", onclick: () => actions.select(node.id) }, h("span", {}, node.label), h("small", {}, place(view, node))));
  function fill(links) {
    current = links;
    const [, value, kind] = COLUMNS[sorted.column], way = sorted.down ? -1 : 1;
    const key = link => { const found = value(link); return found == null ? null : kind === "size" ? Math.abs(found) : found; };
    const ordered = [...links].sort((a, b) => { const x = key(a), y = key(b); return x == null ? (y == null ? 0 : 1) : y == null ? -1 : way * (kind === "text" ? x.localeCompare(y) : x - y); });
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== sorted.column ? "none" : sorted.down ? "descending" : "ascending"));
    caption.textContent = `${links.length} links between the nodes shown${links.length > rows ? `; the first ${rows} are listed` : ""}`;
    body.replaceChildren(...ordered.slice(0, rows).map(link => h("tr", { class: significant(link) ? null : "ec-faint" }, end(link.source), end(link.target),
      h("td", { class: `ec-num ${link.weight < 0 ? "ec-neg" : "ec-pos"}` }, show(link.weight, true)),
      h("td", { class: "ec-num" }, link.low == null ? "–" : `${show(link.low)} … ${show(link.high)}`), h("td", { class: "ec-num" }, show(link.verified, true)))));
    if (!links.length) body.replaceChildren(h("tr", {}, h("td", { colspan: 5, class: "ec-empty" }, "No links between the nodes shown.")));
  }
  return { element, fill };
}
