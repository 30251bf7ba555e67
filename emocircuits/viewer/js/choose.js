import { ranked } from "./graph.js";

// What is shown: nodes by the slider, links by the filter, both by the chosen paths and the search.

export const LINKS = 2000, PINS = 200;
export const FILTERS = { strongest: "strongest", either: "of selection", input: "inputs only", output: "outputs only",
  both: "between pins" };
export const RANKS = { influence: "influence", share: "|effect|" };

/** A mask over nodes: what the slider keeps. Ranks are cumulative shares: small is important. Pins and ends always stay. */
export function keptNodes(view, { rank, threshold, pinned, selected }) {
  const mask = new Uint8Array(view.nodes.length).fill(1);
  if (threshold >= 1) return mask;
  for (const node of view.nodes) {
    const fixed = node.kind === "token" || node.kind === "target" || node.id === selected || pinned.has(node.id);
    if (!fixed && (node[rank] ?? 1) > threshold + 1e-9) mask[node.i] = 0;
  }
  return mask;
}

/** Numbers of the links to draw, strongest first, within the budget. */
export function chosenLinks(view, mask, { filter, selected, pinned }, budget = LINKS) {
  const { source, target } = view.links, anchors = new Uint8Array(view.nodes.length);
  const chosen = selected == null ? -1 : view.byId.get(selected)?.i ?? -1;
  for (const id of pinned) if (view.byId.has(id)) anchors[view.byId.get(id).i] = 1;
  if (chosen >= 0) anchors[chosen] = 1;
  const test = {
    strongest: () => true,
    input: i => anchors[target[i]],
    output: i => anchors[source[i]],
    either: i => anchors[target[i]] || anchors[source[i]],
    both: i => anchors[target[i]] && anchors[source[i]],
  }[filter];
  const links = [];
  for (let k = 0; k < view.count; k++) {
    const i = ranked(view, k);
    if (!mask[source[i]] || !mask[target[i]]) continue;
    const own = source[i] === chosen || target[i] === chosen;
    if ((links.length < budget && test(i)) || (own && filter === "strongest")) links.push(i);
    else if (links.length >= budget && chosen < 0) break;
  }
  return links;
}

/** The starting point and target that the path panel shows, with its list; null where the view has no such paths. */
export function chosenPaths(view, { from, to }) {
  const fits = view.paths.filter(item => item.from === from);
  return fits.find(item => view.nodes[item.to].id === to) ?? fits[0] ?? null;
}

/** Nodes and links of the highlighted paths (one of them, or all in the list), with the largest share through each link. */
export function pathMarks(view, state) {
  const chosen = state.from == null ? null : chosenPaths(view, state);
  if (!chosen) return null;
  const list = state.path == null ? chosen.list : chosen.list.slice(state.path, state.path + 1);
  const nodes = new Set(), shares = new Map();
  for (const [share, , ...path] of list) {
    path.forEach(node => nodes.add(node));
    for (let k = 1; k < path.length; k++) {
      const key = path[k - 1] * view.nodes.length + path[k];
      shares.set(key, Math.max(shares.get(key) ?? 0, share));
    }
  }
  return { nodes, shares, top: Math.max(...list.map(([share]) => share), 0) || 1 };
}

/** Nodes whose label, id or emotions contain the words; null without words. */
export function foundNodes(view, words, details, name) {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return null;
  const texts = node => [name(node), node.label, node.id,
    ...(details[node.base]?.emotions ?? []).map(match => match.emotion)];
  return new Set(view.nodes.filter(node => texts(node).join(" ").toLowerCase().includes(wanted)).map(node => node.i));
}

/** The next node in a direction: near along it, and not far to its side. */
export function nextNode(view, mask, from, dx, dy) {
  let best = null, least = Infinity;
  for (const node of view.nodes) {
    if (!mask[node.i]) continue;
    const x = node.x - from.x, y = node.y - from.y, along = dx * x + dy * y, across = Math.abs(dx * y) + Math.abs(dy * x);
    if (along > 0.05 && along + 2.5 * across < least) { least = along + 2.5 * across; best = node; }
  }
  return best;
}
