import { showToken } from "./words.js";

// The graph of one view: the compact columns of the page become nodes, links and neighbours.

export const FORMAT = 2;
const KINDS = ["feature", "error", "token", "target", "component"];
const OPTIONAL = ["effect", "low", "high", "verified", "activation", "influence", "share"];

/** The id that the package writes for a node (`emocircuits.artifacts.node_id.format_node`). */
export function nodeId(kind, site, feature, position, name) {
  const head = { feature: `feature/${site}/${feature}`, error: `error/${site}`, token: "token", target: `target/${name}`,
    component: name }[kind];
  return position == null ? head : `${head}/p${position}`;
}

/** One view of the page's data, ready to draw. Links come strongest first; neighbours are found when first asked for. */
export function openView(data, raw) {
  const column = name => raw.nodes[name] ?? [];
  const text = i => (i == null || i < 0 ? null : data.strings[i]);
  const nodes = raw.nodes.kind.map((code, i) => {
    const kind = KINDS[code], site = data.sites[column("site")[i] ?? -1], position = column("position")[i] ?? null;
    const feature = column("feature")[i] ?? null, name = text(column("name")[i]);
    const id = nodeId(kind, site?.name, feature, position, name);
    const node = { i, id, kind, feature, position, base: kind === "token" ? id : nodeId(kind, site?.name, feature, null, name),
      layer: site?.layer ?? layerOf(name), site: site?.name ?? null, x: raw.nodes.x[i] / 100, y: raw.nodes.y[i] / 100 };
    for (const key of OPTIONAL) node[key] = column(key)[i] ?? null;
    node.label = text(column("label")[i]) ?? plainName(node, name);
    node.measured = node.effect;
    return node;
  });
  const links = raw.links, count = links.weight.length;
  const view = { ...raw, nodes, links, count, byId: new Map(nodes.map(node => [node.id, node])),
    weights: links.weight, order: null, scale: 1, widest: 1, dropped: raw.dropped ?? null };
  view.rowOf = nodes.map(node => raw.rows.findIndex(row => node.y >= row.low && node.y < row.high));
  useControl(view, null);
  return view;
}

function layerOf(name) {
  const found = /^(?:m(\d+)|a(\d+)\.)/.exec(name ?? "");
  return found ? Number(found[1] ?? found[2]) : null;
}

function plainName(node, name) {
  if (node.kind === "feature") return `feature ${node.feature}`;
  if (node.kind === "error") return "SAE error";
  if (node.kind === "token") return `token ${node.position}`;
  return (name ?? "").replace(/_/g, " ");
}

/** Puts the effects and weights of a control (or, with null, of the circuit itself) on the same grid. */
export function useControl(view, name) {
  const control = view.controls?.find(one => one.name === name) ?? null;
  view.weights = control ? control.weight : view.links.weight;
  view.order = control ? Int32Array.from(control.weight.keys()).sort((a, b) => size(control.weight, b) - size(control.weight, a)) : null;
  for (const node of view.nodes) node.effect = control ? control.effect[node.i] : node.measured;
  // one scale for all controls, so that they can be compared
  const effects = [view.nodes.map(node => node.measured), ...(view.controls ?? []).map(one => one.effect)];
  view.scale = largest(effects) || 1;
  view.widest = largest([view.links.weight, ...(view.controls ?? []).map(one => one.weight)]) || 1;
  view.control = control;
  view.around = null;
}

const size = (weights, i) => Math.abs(weights[i] ?? 0);

function largest(lists) {
  let top = 0;
  for (const list of lists) for (const value of list) if (value != null && Math.abs(value) > top) top = Math.abs(value);
  return top;
}

/** The k-th strongest link's number. */
export const ranked = (view, k) => (view.order ? view.order[k] : k);

/** A link as an object: its ends are nodes. Intervals and verification belong to the circuit, not to a control. */
export function linkAt(view, i) {
  const { source, target, low, high, verified } = view.links, own = !view.control;
  return { i, source: view.nodes[source[i]], target: view.nodes[target[i]], weight: view.weights[i] ?? 0,
    low: own ? low?.[i] ?? null : null, high: own ? high?.[i] ?? null : null, verified: own ? verified?.[i] ?? null : null };
}

/** Links into and out of a node, strongest first, and the sums of |weight| that shares refer to. */
export function neighbours(view, node) {
  if (!view.around) {
    const { source, target } = view.links;
    const fresh = () => view.nodes.map(() => []);
    view.around = { ins: fresh(), outs: fresh(), inTotal: new Float64Array(view.nodes.length), outTotal: new Float64Array(view.nodes.length) };
    for (let k = 0; k < view.count; k++) {
      const i = ranked(view, k), weight = size(view.weights, i);
      view.around.ins[target[i]].push(i);
      view.around.outs[source[i]].push(i);
      view.around.inTotal[target[i]] += weight;
      view.around.outTotal[source[i]] += weight;
    }
  }
  const { ins, outs, inTotal, outTotal } = view.around, whole = view.control ? null : view.dropped;
  return { ins: ins[node.i], outs: outs[node.i], inTotal: whole?.in_total?.[node.i] ?? inTotal[node.i],
    outTotal: whole?.out_total?.[node.i] ?? outTotal[node.i] };
}

/** Whether an interval excludes zero; true where none was measured. */
export function significant(item) {
  return item.low == null || item.high == null || item.low > 0 || item.high < 0;
}

/** The node's interval, which the circuit has and a control has not. */
export const interval = (view, node) => (view.control || node.low == null || node.high == null ? null : [node.low, node.high]);

/** Where a node stands, in words. */
export function place(view, node) {
  const parts = [];
  if (node.layer != null) parts.push(`layer ${node.layer}`);
  const token = node.position == null ? null : view.tokens[node.position];
  if (node.position != null) parts.push(token == null ? `token ${node.position}` : `“${showToken(token)}” (token ${node.position})`);
  return parts.join(" · ") || (node.kind === "target" ? "the metric" : "all positions");
}
