// The graph of one view: neighbours with shares, what the slider and the filter keep, and words for numbers.

/** Adds to a view what drawing needs: links as objects, in- and out-links per node, totals, maxima. */
export function prepare(view) {
  const nodes = view.nodes.map((node, i) => ({ ...node, i, ins: [], outs: [], inTotal: 0, outTotal: 0 }));
  const links = view.links.map(([s, t, weight, low, high, verified], i) =>
    ({ i, source: nodes[s], target: nodes[t], weight, low, high, verified }));
  for (const link of links) {
    link.source.outs.push(link);
    link.source.outTotal += Math.abs(link.weight);
    link.target.ins.push(link);
    link.target.inTotal += Math.abs(link.weight);
  }
  const strongest = (a, b) => Math.abs(b.weight) - Math.abs(a.weight);
  for (const node of nodes) { node.ins.sort(strongest); node.outs.sort(strongest); }
  return {
    ...view, nodes, links, ranked: [...links].sort(strongest), byId: new Map(nodes.map(node => [node.id, node])),
    maxEffect: nodes.reduce((top, node) => Math.max(top, Math.abs(node.effect ?? 0)), 0) || 1,
    maxWeight: links.reduce((top, link) => Math.max(top, Math.abs(link.weight)), 0) || 1,
  };
}

/** Whether an interval excludes zero; true where none was measured. */
export function significant(item) {
  return item.low == null || item.high == null || item.low > 0 || item.high < 0;
}

/** Nodes the slider keeps: `rank` is "influence" or "share" (of |effect|), both cumulative: small is important. */
export function kept(view, rank, threshold, pinned) {
  return new Set(view.nodes.filter(node => node.kind === "token" || node.kind === "target" || pinned.has(node.id)
    || (node[rank] ?? 1) <= threshold + 1e-9 || threshold >= 1).map(node => node.i));
}

/** Links to draw, strongest first, within the budget. */
export function chosenLinks(view, shown, { filter, selected, pinned }, budget = 2000) {
  const anchors = new Set(pinned);
  if (selected) anchors.add(selected);
  const test = {
    strongest: () => true,
    input: link => anchors.has(link.target.id),
    output: link => anchors.has(link.source.id),
    either: link => anchors.has(link.target.id) || anchors.has(link.source.id),
    both: link => anchors.has(link.target.id) && anchors.has(link.source.id),
  }[filter];
  const chosen = [];
  for (const link of view.ranked) {
    if (!shown.has(link.source.i) || !shown.has(link.target.i)) continue;
    const own = selected && (link.source.id === selected || link.target.id === selected);
    if ((chosen.length < budget && test(link)) || (own && filter === "strongest")) chosen.push(link);
  }
  return chosen;
}

/** A number with three significant digits and a real minus sign. */
export function show(value, sign = false) {
  if (value == null) return "–";
  const size = Math.abs(value);
  const text = size === 0 ? "0" : size >= 1000 || size < 0.001 ? size.toExponential(1) : size.toPrecision(size < 0.01 ? 2 : 3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return (value < 0 ? "−" : sign && value > 0 ? "+" : "") + text;
}

/** A token as people read it. */
export function showToken(text) {
  if (text === "") return "∅";
  const visible = text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/[\u0000-\u001f\u007f]/g, "␦");
  return visible.trim() === "" ? "␣" : visible.trim();
}

/** Where a node stands, in words. */
export function place(view, node) {
  const parts = [];
  if (node.layer != null) parts.push(`layer ${node.layer}`);
  if (node.position != null) parts.push(`token ${node.position}${view.tokens[node.position] != null ? ` “${showToken(view.tokens[node.position])}”` : ""}`);
  return parts.join(" · ") || (node.kind === "target" ? "the metric" : "");
}
