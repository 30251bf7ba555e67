import { linkAt } from "./graph.js";
import { plainState, SUBGRAPH, SUBGRAPH_VERSION } from "./state.js";

// Files that the reader takes along: pictures, what is shown as JSON, and the subgraph with its names and places.

/** Offers a file for download; nothing leaves the machine. */
export function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type })),
    link = document.createElement("a");
  link.href = url;
  link.download = name.replace(/[^A-Za-z0-9_.-]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What is shown, as plain values with the ids of the package. */
export function shownJson(data, view, mask, links, name) {
  const nodes = view.nodes.filter(node => mask[node.i]).map(node =>
    ({ id: node.id, label: name(node), effect: node.effect, ci_low: node.low, ci_high: node.high,
    verified: node.verified, activation: node.activation, influence: node.influence }));
  const edges = links.map(i => linkAt(view, i)).map(link =>
    ({ source: link.source.id, target: link.target.id, weight: link.weight, ci_low: link.low, ci_high: link.high,
      verified: link.verified }));
  return JSON.stringify({ behaviour: data.behaviour, view: view.name, along: view.control?.name ?? null, tokens: view.tokens,
    nodes, edges }, null, 1);
}

/** The subgraph and everything else that the reader chose. */
export function savedState(data, state) {
  return JSON.stringify({ schema: SUBGRAPH, schema_version: SUBGRAPH_VERSION, behaviour: data.behaviour,
    ...plainState(state) }, null, 1);
}

/** The changes in a saved file, or the reason why it is none. */
export function readSaved(text) {
  let value;
  try { value = JSON.parse(text); } catch { return { fault: "This file is not JSON." }; }
  if (value?.schema !== SUBGRAPH) return { fault: "This file is no saved subgraph of this viewer." };
  if (!(value.schema_version <= SUBGRAPH_VERSION)) {
    return { fault: `This file has version ${value.schema_version}; this page reads version ${SUBGRAPH_VERSION}.` };
  }
  return { changes: value };
}

const LOOKS = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity",
  "font-family", "font-size", "font-weight", "text-anchor"];

/** An SVG of the page as a file of its own: what style sheets say becomes attributes. */
export function standaloneSvg(svg) {
  const copy = svg.cloneNode(true), from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((element, i) => {
    const style = getComputedStyle(element);
    for (const look of LOOKS) if (style.getPropertyValue(look)) to[i].setAttribute(look,
      style.getPropertyValue(look).replaceAll('"', "'"));
    for (const name of ["class", "tabindex", "role", "data-key"]) to[i].removeAttribute(name);
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(copy);
}
