import { significant } from "./graph.js";
import { counted } from "./words.js";

// Supernodes: which nodes stand in one box, and the links between boxes.

const PER_ROW = 8, COVERED = 0.8;

/** The emotion cluster of a feature's surest match (or that emotion, where no cluster names it); null without a match. */
export function clusterOf(data, node) {
  const best = data.details[node.base]?.best;
  return best == null ? null : data.clusters[best] ?? best;
}

/** Ids of the nodes that carry most of every row's effect, with the words that feed them and the metric. */
export function strongestNodes(view, perRow = PER_ROW) {
  const chosen = new Set();
  view.rows.forEach((_, row) => {
    const here = view.nodes.filter(node => view.rowOf[node.i] === row
      && (node.kind === "feature" || node.kind === "error" || node.kind === "component"));
    here.sort((a, b) => Math.abs(b.effect ?? 0) - Math.abs(a.effect ?? 0));
    const all = here.reduce((sum, node) => sum + Math.abs(node.effect ?? 0), 0);
    let sum = 0;
    for (const node of here.slice(0, perRow)) {
      if (sum >= COVERED * all && sum > 0) break;
      sum += Math.abs(node.effect ?? 0);
      chosen.add(node.i);
    }
  });
  const { source, target } = view.links;
  for (let i = 0; i < view.count; i++) if (view.nodes[source[i]].kind === "token"
    && chosen.has(target[i])) chosen.add(source[i]);
  return view.nodes.filter(node => chosen.has(node.i) || node.kind === "target").map(node => node.id);
}

/** Groups of two and more by emotion cluster within a row; with `all` also the words, errors and features without a match. */
export function clusterGroups(data, view, ids, all = false) {
  const clusters = new Map();
  for (const node of ids.map(id => view.byId.get(id)).filter(Boolean)) {
    const rest = { token: "words of the prompt", error: "SAE errors", feature: "features without a match" }[node.kind];
    const cluster = node.kind === "feature" ? clusterOf(data, node) : null, name = cluster ?? (all ? rest : null);
    if (!name) continue;
    const key = `${view.rowOf[node.i]} ${name}`;
    if (!clusters.has(key)) clusters.set(key, { name, ids: [] });
    clusters.get(key).ids.push(node.id);
  }
  return [...clusters.values()].filter(group => group.ids.length > 1);
}

/** What is drawn in the subgraph: one box per group, and one per node outside of groups. */
export function boxesOf(data, view, ids, groups, name) {
  const free = new Set(ids), boxes = [];
  for (const [number, group] of groups.entries()) {
    const members = group.ids.map(id => view.byId.get(id)).filter(node => node && free.has(node.id));
    members.forEach(node => free.delete(node.id));
    if (members.length) boxes.push(box(data, view, members, group.name, number, name));
  }
  for (const node of view.nodes) if (free.has(node.id)) boxes.push(box(data, view, [node], name(node), null, name));
  return boxes;
}

function box(data, view, members, title, group, name) {
  const weight = node => Math.abs(node.effect ?? 0) + 1e-9, all = members.reduce((sum, node) => sum + weight(node), 0);
  const mean = of => members.reduce((sum, node) => sum + weight(node) * of(node), 0) / all;
  const row = Math.round(mean(node => view.rowOf[node.i])), measured = members.some(node => node.effect != null);
  const effect = measured ? members.reduce((sum, node) => sum + (node.effect ?? 0), 0) : null, first = members[0];
  const kind = members.every(node => node.kind === first.kind) ? first.kind : "feature";
  const strongest = [...members].sort((a, b) => weight(b) - weight(a)).map(name);
  return { key: `${group == null ? "" : "+"}${members.map(node => node.id).sort()[0]}`, title: title || "group", members,
    group, row, kind, effect,
    x: mean(node => node.x), faint: members.length === 1 && !view.control && !significant(first), strongest,
    sub: members.length > 1 ? counted(members.length, { token: "word", error: "error" }[kind] ?? "feature") : clusterOf(data,
      first) ?? "" };
}

/** Links between boxes: weights added up; a share is the part of what the end's members get from outside their box. */
export function mergedLinks(view, boxes) {
  const boxOf = new Map(), outside = new Float64Array(boxes.length), merged = new Map(), { source, target } = view.links;
  boxes.forEach((box, b) => box.members.forEach(node => boxOf.set(node.i, b)));
  for (let i = 0; i < view.count; i++) {
    const from = boxOf.get(source[i]), to = boxOf.get(target[i]);
    if (to == null || from === to) continue;
    const weight = view.weights[i] ?? 0;
    outside[to] += Math.abs(weight);
    if (from == null) continue;
    const key = from * boxes.length + to;
    if (!merged.has(key)) merged.set(key, { source: boxes[from], target: boxes[to], to, weight: 0, size: 0, count: 0 });
    const link = merged.get(key);
    link.weight += weight;
    link.size += Math.abs(weight);
    link.count += 1;
  }
  return [...merged.values()].map(link => ({ ...link, share: outside[link.to] ? link.size / outside[link.to] : 0 }))
    .sort((a, b) => Math.abs(a.weight) - Math.abs(b.weight));
}

/** The groups after some ids have gone into a new one: every node is in one group at most, empty groups go. */
export function regrouped(groups, ids, name) {
  const taken = new Set(ids), left = groups.map(group => ({ ...group, ids: group.ids.filter(id => !taken.has(id)) }));
  return [...left.filter(group => group.ids.length), ...(ids.length ? [{ name, ids: [...ids] }] : [])];
}
