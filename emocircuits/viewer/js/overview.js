import { linkAt, neighbours } from "./graph.js";
import { facts, section } from "./plots.js";
import { counted, h, percent, show } from "./words.js";

// What the panel says while nothing is selected: the circuit in a few sentences, how far to trust it, the legend, the keys.

const spaced = name => String(name).replace(/_/g, " ");
const bold = text => h("b", {}, text);

/** The circuit in sentences; every number in them is in the page's data. */
export function inShort(data, view, name) {
  const target = view.nodes.find(node => node.kind === "target");
  return [target && metricLine(data, name(target)), strongestLine(view, name), emotionLine(data, view),
    target && errorLine(view, target), trustLine(data.scores), steeredLine(data)].filter(Boolean);
}

function metricLine({ scores, emotion }, label) {
  const line = ["The metric on top is ", bold(label), ", in log-odds"];
  if (scores.metric_clean == null || scores.metric_corrupt == null) return [...line, "."];
  const clean = `${show(scores.metric_clean, true)} on the clean prompts${emotion ? ` (${emotion} circumstances)` : ""}`;
  return [...line, `: ${clean}, ${show(scores.metric_corrupt, true)} on the corrupt ones.`];
}

function strongestLine(view, name) {
  const strength = node => Math.abs(node.measured ?? 0);
  const nodes = view.nodes.filter(node => node.kind === "feature" && node.measured);
  const three = nodes.sort((a, b) => strength(b) - strength(a)).slice(0, 3);
  if (!three.length) return null;
  return ["Strongest features: ", three.flatMap((node, i) => [i ? ", " : "", bold(name(node)), ` (${show(node.measured, true)})`]), "."];
}

function emotionLine(data, view) {
  const asked = data.emotion ? view.paths.find(item => item.from === data.emotion) : null;
  if (asked?.total == null) return null;
  const single = asked.count === 1, verb = single ? "matches" : "match";
  return [`${counted(asked.count, "feature")} here ${verb} `, bold(data.emotion),
    `; ${percent(asked.total)} of what reaches the metric along the links passes through ${single ? "it" : "them"}.`];
}

function errorLine(view, target) {
  const { ins, inTotal } = neighbours(view, target), links = ins.map(i => linkAt(view, i));
  const sum = links.filter(link => link.source.kind === "error").reduce((all, link) => all + Math.abs(link.weight), 0);
  if (!inTotal || sum / inTotal < 0.05) return null;
  return [`${percent(sum / inTotal)} of the metric's input comes from SAE errors: what no feature explains.`];
}

function trustLine(scores) {
  if (scores.faithfulness == null) return null;
  const random = scores["faithfulness, random circuits"] ?? scores.random_circuit_faithfulness;
  const compared = random == null ? "" : `; with random circuits of the same size ${percent(random)}`;
  return [`With everything outside the circuit cut off, ${percent(scores.faithfulness)} of the effect is left${compared}.`];
}

function steeredLine({ dose, emotion }) {
  const curve = dose?.curves.find(other => other.direction === emotion);
  if (!curve) return null;
  const end = i => `${percent(curve.rate.at(i))} (strength ${show(dose.strengths.at(i), true)})`;
  const line = ["Pushing the model along ", bold(emotion), ` moves the rate of the behaviour from ${end(0)} to ${end(-1)}`];
  if (curve.p_value == null) return [...line, "."];
  const count = dose.curves.filter(curve => curve.kind === "random").length;
  const random = count ? counted(count, "random direction") : "the random ones";
  const verdict = curve.p_value <= 0.05 ? "significant" : "not significant";
  return [...line, `; p = ${show(curve.p_value)} against ${random}, ${verdict} at 0.05.`];
}

function legend(view) {
  const row = (key, text) => h("li", {}, h("i", { class: `ec-key ${key}` }), h("span", {}, text));
  const has = test => view.nodes.some(test);
  return section("Legend", h("ul", { class: "ec-legend" },
    row("ec-key-dot ec-pos", "raises the metric when its clean value is patched in; the larger, the more"),
    row("ec-key-dot ec-neg ec-key-dashed", "lowers it; its links are dashed"),
    has(node => node.low != null) && [row("ec-key-faint", "pale: the 95 % interval includes zero"),
      row("ec-key-whisker", "whisker: the interval, as radii")],
    has(node => node.verified != null && node.kind !== "target") && row("ec-key-check", "light centre: verified by a real intervention"),
    has(node => node.kind === "error") && row("ec-key-diamondopen", "SAE error: not explained by features"),
    has(node => node.kind === "token") && row("ec-key-square", "word of the prompt")));
}

function controlNote({ control, borrowed }) {
  if (!control) return null;
  const links = borrowed ? " Links were not measured; those of the prompts are drawn in grey." : "";
  const scale = "Sizes are on one scale for all directions, another than that of the prompts.";
  return section(`Effects along ${spaced(control.name)}`,
    h("p", { class: "ec-note" }, `${control.note ? `${control.note}. ` : ""}${scale}${links}`));
}

const KEYS = [["↑ ↓ ← →", "next node"], ["Enter", "its card"], ["P", "pin"], ["G", "group the pins; hold it and click to gather"],
  ["/", "search"], ["+ − 0", "zoom"], ["Esc", "clear"]];

/** The overview of a view. */
export function overview(data, view, name) {
  const scores = Object.entries(data.scores ?? {}).filter(([, value]) => typeof value === "number");
  const grid = view.columns.length ? "Each column is a word of the prompt, each row a layer of the model"
    : "Each row is a layer of the model, its strongest nodes in the middle";
  const sizes = `${counted(view.nodes.length, "node")}, ${counted(view.count, "link")}`;
  return h("div", { class: "ec-card" },
    h("header", {}, h("p", { class: "ec-kicker" }, data.model ? `Circuit in the model ${spaced(data.model)}` : "Circuit"),
      h("h2", {}, spaced(data.behaviour)),
      h("p", { class: "ec-note" }, `Read it from bottom to top. ${grid}; the metric is on top. ${sizes}.`)),
    controlNote(view),
    section("In short", h("ul", { class: "ec-short" }, inShort(data, view, name).map(line => h("li", {}, line)))),
    legend(view),
    scores.length > 0 && section("How far to trust it", facts(scores.slice(0, 12).map(([key, value]) => [spaced(key), show(value)]))),
    section("Use", h("p", { class: "ec-note" }, "Point at a node for its name, click it for its card, ctrl- or ⌘-click to pin it. "
      + "Drag moves the picture, ctrl-wheel zooms."), facts(KEYS.map(([key, what]) => [h("kbd", {}, key), what]))));
}
