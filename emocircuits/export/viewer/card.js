import { place, show, showToken } from "./graph.js";

// The panel beside the canvas: an overview, or the card of one node. All text goes through textContent.

/** An element with attributes and children (text becomes a text node, never markup). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child != null && child !== false));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const sign = value => value == null || value === 0 ? "" : value < 0 ? "ec-neg" : "ec-pos";

/** Attributed effect with its interval, and the verified effect on the same axis. */
function effectPlot(node, width = 300) {
  const values = [0, node.effect, node.low, node.high, node.verified].filter(value => value != null);
  const low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
  const x = value => 10 + (value - low) / span * (width - 20);
  const plot = svg("svg", { viewBox: `0 0 ${width} 34`, class: "ec-plot", "aria-hidden": "true" },
    svg("line", { x1: 6, x2: width - 6, y1: 17, y2: 17, class: "ec-axis" }), svg("line", { x1: x(0), x2: x(0), y1: 4, y2: 30, class: "ec-zero" }));
  if (node.low != null && node.high != null) plot.append(svg("line", { x1: x(node.low), x2: x(node.high), y1: 17, y2: 17, class: `ec-whisker ${sign(node.effect)}` }));
  if (node.effect != null) plot.append(svg("circle", { cx: x(node.effect), cy: 17, r: 5, class: `ec-dot ${sign(node.effect)}` }));
  if (node.verified != null) {
    const v = x(node.verified);
    plot.append(svg("path", { d: `M${v} 10 l6 7 l-6 7 l-6 -7z`, class: "ec-verified" }));
  }
  return plot;
}

function section(title, ...children) {
  const body = children.flat().filter(Boolean);
  return body.length ? h("section", {}, h("h4", {}, title), ...body) : null;
}

function facts(rows) {
  return h("dl", { class: "ec-facts" }, rows.filter(([, value]) => value != null).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function effectSection(node) {
  if (node.effect == null && node.verified == null) return null;
  const interval = node.low == null ? "" : `  [${show(node.low)}, ${show(node.high)}]`;
  return section("Effect on the metric", effectPlot(node), facts([
    [h("span", {}, h("i", { class: `ec-key ec-key-dot ${sign(node.effect)}` }), "attributed"), node.effect == null ? null : h("span", {}, h("b", { class: sign(node.effect) }, show(node.effect, true)), h("small", {}, interval))],
    [h("span", {}, h("i", { class: "ec-key ec-key-diamond" }), "verified"), node.verified == null ? h("small", {}, "no intervention was run on this node") : h("b", {}, show(node.verified, true))],
    ["activation", node.activation == null ? null : show(node.activation)]]));
}

function emotions(list) {
  if (!list?.length) return null;
  const head = ["emotion", "Δf", "cosine", "AUROC", "q"];
  return section("Matched emotions", h("table", { class: "ec-mini" },
    h("thead", {}, h("tr", {}, head.map(name => h("th", { scope: "col" }, name)))),
    h("tbody", {}, list.slice(0, 8).map(match => h("tr", { class: match.q_value != null && match.q_value >= 0.05 ? "ec-faint" : null },
      h("th", { scope: "row" }, String(match.emotion)), ["delta", "cosine", "auroc", "q_value"].map(key => h("td", {}, show(match[key]))))))));
}

function chips(title, tokens, kind) {
  if (!tokens?.length) return null;
  return section(title, h("div", { class: "ec-chips" }, tokens.slice(0, 10).map(item =>
    h("span", { class: `ec-chip ${kind}` }, showToken(String(Array.isArray(item) ? item[0] : item?.token ?? item))))));
}

/** Tokens shaded by value. */
export function shaded(tokens, values, limit, negative = false) {
  const bare = tokens.length > 2 && !tokens.some(text => /\s/.test(String(text)));
  return tokens.map((text, i) => {
    const value = values?.[i] ?? 0, part = limit ? Math.min(1, Math.abs(value) / limit) : 0;
    const span = h("span", { class: bare ? "ec-token ec-bare" : "ec-token", title: show(value, negative) }, String(text).replace(/\n/g, "↵\n"));
    if (part > 0.02) span.style.background = `color-mix(in srgb, var(--ec-${value < 0 ? "negative" : "positive"}) ${Math.round(8 + 62 * part)}%, transparent)`;
    return span;
  });
}

function examples(list) {
  if (!list?.length) return null;
  const limit = Math.max(...list.flatMap(example => (example.values ?? []).map(Math.abs)), 0);
  return section("Where it is most active", list.slice(0, 5).map(example => h("p", { class: "ec-example" }, shaded(example.tokens ?? [], example.values, limit))));
}

function linkList(title, links, total, end, view, actions) {
  if (!links.length) return null;
  return section(`${title} (${links.length})`, h("ul", { class: "ec-links" }, links.slice(0, 8).map(link => {
    const other = link[end], share = total ? Math.abs(link.weight) / total : 0;
    return h("li", {}, h("button", { type: "button", onclick: () => actions.select(other.id), title: place(view, other) },
      h("span", { class: "ec-name" }, other.label), h("span", { class: `ec-bar ${sign(link.weight)}`, style: { "--share": `${Math.max(2, 100 * share)}%` } }),
      h("span", { class: "ec-share" }, `${show(100 * share)} %`), h("span", { class: `ec-weight ${sign(link.weight)}` }, show(link.weight, true))));
  })), links.length > 8 && h("p", { class: "ec-more" }, `and ${links.length - 8} weaker`));
}

const KIND = { feature: "SAE feature", error: "SAE error", token: "token", target: "metric", component: "component" };

/** The card of one node. */
export function card(data, view, node, pinned, actions) {
  const details = data.details[node.base] ?? {};
  const name = { input: "share of its input", output: "share of its output" };
  return h("div", { class: "ec-card" },
    h("header", {}, h("p", { class: "ec-kicker" }, `${KIND[node.kind]}${place(view, node) ? " · " + place(view, node) : ""}`), h("h3", {}, node.label),
      h("code", { class: "ec-id" }, node.id), h("div", { class: "ec-actions" },
        h("button", { type: "button", "aria-pressed": String(pinned), onclick: () => actions.pin(node.id) }, pinned ? "Unpin" : "Pin"),
        h("button", { type: "button", onclick: () => actions.select(null) }, "Close"))),
    node.kind === "error" && h("p", { class: "ec-note" }, "What the SAE of this site does not explain; no emotion can be read from it."),
    details.note && h("p", { class: "ec-note" }, String(details.note)),
    effectSection(node), emotions(details.emotions),
    linkList(`Inputs — ${name.input}`, node.ins, node.inTotal, "source", view, actions),
    linkList(`Outputs — ${name.output}`, node.outs, node.outTotal, "target", view, actions),
    chips("Raises these tokens", details.top_tokens, "ec-pos"), chips("Lowers these tokens", details.bottom_tokens, "ec-neg"), examples(details.examples));
}

/** What the panel says while nothing is selected. */
export function overview(data, view) {
  const scores = Object.entries(data.scores ?? {}).filter(([, value]) => typeof value === "number");
  const row = (kind, text) => h("li", {}, h("i", { class: `ec-key ${kind}` }), h("span", {}, text));
  return h("div", { class: "ec-card" },
    h("header", {}, h("p", { class: "ec-kicker" }, "Circuit"), h("h3", {}, String(data.behaviour).replace(/_/g, " ")),
      h("p", { class: "ec-note" }, `${view.nodes.length} nodes and ${view.links.length} links. Each row is a layer${view.columns.length ? ", each column a token of the prompt" : ""}; the metric is on top.`)),
    scores.length > 0 && section("How far to trust it", facts(scores.slice(0, 10).map(([name, value]) => [name.replace(/_/g, " "), show(value)]))),
    section("Legend", h("ul", { class: "ec-legend" },
      row("ec-key-dot ec-pos", "raises the metric (patching the clean value in)"), row("ec-key-dot ec-neg", "lowers it; its links are dashed"),
      row("ec-key-dot ec-faintkey", "faint: the 95 % interval includes zero"), row("ec-key-check", "light centre: effect verified by a real intervention"),
      row("ec-key-diamondopen", "SAE error: not explained by features"))),
    section("Use", h("ul", { class: "ec-help" }, h("li", {}, "Point at a node for its name, click it for its card."), h("li", {}, "Ctrl- or ⌘-click pins. Drag moves, Ctrl-wheel zooms."),
      h("li", {}, h("kbd", {}, "↑↓←→"), " next node, ", h("kbd", {}, "P"), " pin, ", h("kbd", {}, "/"), " search, ", h("kbd", {}, "Esc"), " clear."))));
}
