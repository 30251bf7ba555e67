import { showToken } from "./words.js";

// The graph of one view: the compact columns of the page become nodes, links and neighbours.

export const FORMAT = 2;
const KINDS = ["feature", "error", "token", "target", "component"];

/** The id that the package writes for a node (`emocircuits.artifacts.node_id.format_node`). */
export function nodeId(kind, site, feature, position, name) {
  const head = { feature: `feature/${site}/${feature}`, error: `error/${site}`, token: "token", target: `target/${name}`,
    component: name }[kind];
  return position == null ? head : `${head}/p${position}`;
}

/** One node of a view. Its id is written out when first asked for: a large page does not need most of them. */
class GraphNode {
  constructor(view, i) {
    const { kind, site, feature, position, name, x, y, label, effect, low, high, verified, activation, influence,
      share } = view.raw;
    Object.assign(this, { i, kind: KINDS[kind[i]], siteOf: view.sites[site?.[i] ?? -1] ?? null,
      feature: feature?.[i] ?? null });
    this.position = position?.[i] ?? null;
    this.name = name?.[i] >= 0 ? view.strings[name[i]] : null;
    this.x = x[i] / 100;
    this.y = y[i] / 100;
    this.effect = this.measured = effect?.[i] ?? null;
    this.low = low?.[i] ?? null;
    this.high = high?.[i] ?? null;
    this.verified = verified?.[i] ?? null;
    this.activation = activation?.[i] ?? null;
    this.influence = influence?.[i] ?? null;
    this.share = share?.[i] ?? null;
    this.label = label?.[i] >= 0 ? view.strings[label[i]] : plainName(this);
  }
  get id() { return (this.longId ??= nodeId(this.kind, this.siteOf?.name, this.feature, this.position, this.name)); }
  get base() { return this.kind === "token" ? this.id : (this.shortId ??= nodeId(this.kind, this.siteOf?.name, this.feature,
    null, this.name)); }
  get layer() { return this.siteOf?.layer ?? layerOf(this.name); }
}

/** One view of the page's data, ready to draw. Links come strongest first; what only some readers ask for is found then. */
export function openView(data, raw) {
  const view = { ...raw, raw: raw.nodes, sites: data.sites, strings: data.strings, count: raw.links.weight.length,
    dropped: raw.dropped ?? null };
  view.nodes = raw.nodes.kind.map((_, i) => new GraphNode(view, i));
  let byId = null, rowOf = null;
  Object.defineProperties(view, {
    byId: { get: () => (byId ??= new Map(view.nodes.map(node => [node.id, node]))) },
    rowOf: { get: () => (rowOf ??= view.nodes.map(node =>
      raw.rows.findIndex(row => node.y >= row.low && node.y < row.high))) },
  });
  view.scales = [raw.controls ?? [], [{ effect: raw.nodes.effect ?? [], weight: raw.links.weight }]].map(list =>
    [largest(list.map(control => control.effect)) || 1, largest(list.map(control => control.weight ?? raw.links.weight)) || 1]);
  useControl(view, null);
  return view;
}

function layerOf(name) {
  const match = /^(?:m(\d+)|a(\d+)\.)/.exec(name ?? "");
  return match ? Number(match[1] ?? match[2]) : null;
}

function plainName(node) {
  if (node.kind === "feature") return `feature ${node.feature}`;
  if (node.kind === "error") return "SAE error";
  if (node.kind === "token") return `token ${node.position}`;
  return (node.name ?? "").replace(/_/g, " ");
}

/** Puts the effects and weights of a control (or, with null, of the circuit itself) on the same grid. */
export function useControl(view, name) {
  const control = view.controls?.find(other => other.name === name) ?? null, before = view.control ?? null;
  view.control = control;
  view.weights = control?.weight ?? view.links.weight;
  view.borrowed = control != null && !control.weight; // the links are those of the prompts, drawn without their signs
  [view.scale, view.widest] = view.scales[control ? 0 : 1]; // one scale for all controls, so that they can be compared
  view.around = null;
  view.order = control?.weight ? Int32Array.from(control.weight.keys()).sort((a, b) =>
    size(view.weights, b) - size(view.weights, a)) : null;
  if (control !== before) for (const node of view.nodes) node.effect = control ? control.effect[node.i] : node.measured;
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
    view.around = { ins: fresh(), outs: fresh(), inTotal: new Float64Array(view.nodes.length),
      outTotal: new Float64Array(view.nodes.length) };
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
export const interval = (view, node) => (view.control || node.low == null || node.high == null
  ? null : [node.low, node.high]);

/** Where a node stands, in words. */
export function place(view, node) {
  const parts = [];
  if (node.layer != null) parts.push(`layer ${node.layer}`);
  const token = node.position == null ? null : view.tokens[node.position];
  if (node.position != null) parts.push(token == null
    ? `token ${node.position}` : `“${showToken(token)}” (token ${node.position})`);
  return parts.join(" · ") || (node.kind === "target" ? "the metric" : "all positions");
}
