import { interval, linkAt, neighbours, place, significant } from "./graph.js";
import { activationPlot, bracket, effectPlot, facts, section } from "./plots.js";
import { h, percent, shaded, show, showToken, signClass } from "./words.js";

// The card of one node: what it is, what it does, what was measured, what it reads and writes.

const KIND = { feature: "SAE feature", error: "SAE error", token: "word of the prompt", target: "metric",
  component: "component" };
const SHOWN = 8;

function effectSection(view, node) {
  if (node.effect == null && (node.verified == null || view.control)) return null;
  const bounds = interval(view, node), verified = view.control ? null : node.verified;
  const item = { value: node.effect, low: bounds?.[0], high: bounds?.[1], verified };
  const number = value => h("b", { class: signClass(value) }, show(value, true));
  const title = view.control ? `Effect on the metric along ${view.control.name}` : "Effect on the metric";
  const predicted = h("span", {}, h("i", { class: `ec-key ec-key-dot ${signClass(node.effect)}` }),
    "predicted by attribution");
  const checked = h("span", {}, h("i", { class: "ec-key ec-key-diamond" }), "verified by intervention");
  return section(title, effectPlot(item, 304), facts([
    [predicted, node.effect == null ? null : h("span", {}, number(node.effect), " ",
      h("small", {}, bracket(item.low, item.high)))],
    !view.control && [checked, verified == null ? h("small", {}, "not run on this node") : number(verified)],
  ]), bounds && !significant(node) && h("p", { class: "ec-note" }, "The interval includes zero: not significant."));
}

function activation(data, view, node) {
  const kept = view.corrupt?.activations?.[node.base];
  let clean = kept?.[0];
  if (!clean && view.tokens.length > 1 && node.position != null) {
    const own = view.nodes.filter(other => other.base === node.base && other.activation != null && other.activation > 0);
    if (own.length) clean = view.tokens.map((_, i) => own.find(other => other.position === i)?.activation ?? 0);
  }
  const rows = facts([["here", node.activation == null ? null : show(node.activation)],
    kept && node.position != null && ["in the corrupt prompt", show(kept[1][node.position])]]);
  if (!clean) return node.activation == null ? null : section("Activation", rows);
  const note = kept ? "Up: clean prompt. Down: corrupt prompt." : "At the positions where it is in the circuit.";
  return section("Activation over the prompt", activationPlot(clean, kept?.[1], node.position, 304),
    h("p", { class: "ec-note" }, note), rows);
}

function emotions(card) {
  const list = card.emotions ?? [];
  if (!list.length) return null;
  const head = ["emotion", "Δf", "cosine", "AUROC", "q"];
  return section("Matched emotions", h("table", { class: "ec-mini" },
    h("thead", {}, h("tr", {}, head.map(name => h("th", { scope: "col" }, name)))),
    h("tbody", {}, list.slice(0, SHOWN).map(match =>
      h("tr", { class: match.q_value == null || match.q_value > 0.05 ? "ec-weak" : null },
      h("th", { scope: "row" }, String(match.emotion)),
        ["delta", "cosine", "auroc", "q_value"].map(key => h("td", {}, show(match[key]))))))),
    h("p", { class: "ec-note" }, "q: false discovery rate; italic: above 0.05 or not tested, no match."));
}

function chips(title, strings, numbers, kind) {
  if (!numbers?.length) return null;
  return section(title, h("div", { class: "ec-chips" },
    numbers.slice(0, 10).map(i => h("span", { class: `ec-chip ${kind}` }, showToken(strings[i])))));
}

function examples(strings, list) {
  if (!list?.length) return null;
  const limit = Math.max(...list.flatMap(example => example.values.map(Math.abs)), 0);
  return section("Where it is most active", list.slice(0, 5).map(example =>
    h("p", { class: "ec-example", dir: "auto" }, shaded(example.tokens.map(i => strings[i]), example.values, limit))));
}

function linkList(title, view, numbers, total, end, tools) {
  if (!numbers.length) return null;
  const rows = numbers.slice(0, SHOWN).map(i => {
    const link = linkAt(view, i), other = link[end], share = total ? Math.abs(link.weight) / total : 0;
    return h("li", {}, h("button", { type: "button", onclick: () => tools.select(other.id), title: place(view, other) },
      h("span", { class: "ec-name" }, tools.name(other)),
      h("span", { class: `ec-bar ${signClass(link.weight)}`, style: { "--share": `${Math.max(2, 100 * share)}%` } }),
      h("span", { class: "ec-share" }, percent(share)),
      h("span", { class: `ec-weight ${signClass(link.weight)}` }, show(link.weight, true))));
  });
  const more = numbers.length - SHOWN;
  return section(`${title} (${numbers.length})`, h("ul", { class: "ec-links" }, rows),
    more > 0 && h("p", { class: "ec-note" }, `and ${more} weaker`));
}

function heading(view, node, tools) {
  const title = h("h2", {}, tools.name(node));
  const rename = () => {
    const field = h("input", { type: "text", value: tools.name(node), maxlength: 80, "aria-label": "Name of this node",
      class: "ec-rename" });
    const done = keep => { field.onblur = null; tools.rename(node.base, keep ? field.value : null); };
    field.addEventListener("keydown", event => {
      event.stopPropagation();
      if (event.key === "Enter" || event.key === "Escape") done(event.key === "Enter");
    });
    field.onblur = () => done(true);
    title.replaceWith(field);
    field.select();
  };
  const pinned = tools.pinned(node.id), where = place(view, node);
  return h("header", {}, h("p", { class: "ec-kicker" },
    `${KIND[node.kind]}${where === KIND[node.kind] ? "" : ` · ${where}`}`), title,
    h("code", { class: "ec-id" }, node.id), h("div", { class: "ec-actions" },
      h("button", { type: "button", "aria-pressed": String(pinned), onclick: () => tools.pin(node.id) },
        pinned ? "Unpin" : "Pin"),
      node.kind !== "target" && h("button", { type: "button", onclick: rename }, "Rename"),
      h("button", { type: "button", onclick: () => tools.select(null) }, "Close")));
}

const PAGE = /^https:\/\/www\.neuronpedia\.org\/[A-Za-z0-9][A-Za-z0-9._-]*\/[A-Za-z0-9][A-Za-z0-9._-]*\/[0-9]+$/;

/** A link to the feature's page; nothing for an address of any other form. */
function elsewhere(address) {
  if (typeof address !== "string" || !PAGE.test(address)) return null;
  return h("p", { class: "ec-note" }, h("a", { href: address, target: "_blank", rel: "noopener noreferrer" },
    "This feature on Neuronpedia"));
}

/** The card of one node. `tools` selects, pins, renames and names nodes. */
export function nodeCard(data, view, node, tools) {
  const card = data.details[node.base] ?? {}, { ins, outs, inTotal, outTotal } = neighbours(view, node);
  const borrowed = view.borrowed ? " (of the prompts)" : "";
  return h("div", { class: "ec-card" }, heading(view, node, tools),
    node.kind === "error" && h("p", { class: "ec-note" },
      "What the SAE of this site does not explain. No emotion can be read from it."),
    card.note && h("p", { class: "ec-note" }, String(card.note)),
    elsewhere(card.neuronpedia), effectSection(view, node), emotions(card),
    linkList(`Inputs${borrowed}, share of its input`, view, ins, inTotal, "source", tools),
    linkList(`Outputs${borrowed}, share of its output`, view, outs, outTotal, "target", tools),
    activation(data, view, node),
    chips("Raises these tokens", data.strings, card.top_tokens, "ec-pos"),
      chips("Lowers these tokens", data.strings, card.bottom_tokens, "ec-neg"),
    examples(data.strings, card.examples));
}
