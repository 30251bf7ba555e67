import { linkAt, neighbours } from "./graph.js";
import { facts, section } from "./plots.js";
import { counted, h, percent, show } from "./words.js";

// What the panel says while nothing is selected: the circuit in a few sentences, how far to trust it, the legend, the keys.

const words = name => String(name).replace(/_/g, " ");

/** The circuit in sentences; every number in them is in the page's data. */
export function inShort(data, view, name) {
  const lines = [], { scores } = data, target = view.nodes.find(node => node.kind === "target");
  if (target) {
    const ends = scores.metric_clean != null && scores.metric_corrupt != null
      ? `: ${show(scores.metric_clean, true)} on the clean prompts${data.emotion ? ` (${data.emotion} circumstances)` : ""}, ${show(scores.metric_corrupt, true)} on the corrupt ones` : "";
    lines.push(["The metric on top is ", h("b", {}, name(target)), `, in log-odds${ends}.`]);
  }
  const strongest = view.nodes.filter(node => node.kind === "feature" && node.effect).sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect)).slice(0, 3);
  if (strongest.length) {
    lines.push(["Strongest features: ", strongest.flatMap((node, i) => [i ? ", " : "", h("b", {}, name(node)), ` (${show(node.effect, true)})`]), "."]);
  }
  const asked = view.paths.find(item => item.from === data.emotion && data.emotion);
  if (asked?.total != null) {
    lines.push([`${counted(asked.count, "feature")} here match${asked.count === 1 ? "es" : ""} `, h("b", {}, data.emotion), `; ${percent(asked.total)} of what reaches the metric along the links passes through ${asked.count === 1 ? "it" : "them"}.`]);
  }
  const errors = target ? errorShare(view, target) : null;
  if (errors > 0.05) lines.push([`${percent(errors)} of the metric's input comes from SAE errors: what no feature explains.`]);
  if (scores.faithfulness != null) {
    const random = scores["faithfulness, random circuits"] ?? scores.random_circuit_faithfulness;
    lines.push([`With everything outside the circuit cut off, ${percent(scores.faithfulness)} of the effect is left`,
      random == null ? "." : `; with random circuits of the same size ${percent(random)}.`]);
  }
  const curve = data.dose?.curves.find(one => one.direction === data.emotion) ?? null;
  if (curve) lines.push(steered(curve, data.dose));
  return lines;
}

function errorShare(view, target) {
  const { ins, inTotal } = neighbours(view, target);
  const sum = ins.map(i => linkAt(view, i)).filter(link => link.source.kind === "error").reduce((all, link) => all + Math.abs(link.weight), 0);
  return inTotal ? sum / inTotal : null;
}

function steered(curve, dose) {
  const last = dose.strengths.length - 1, random = dose.curves.filter(one => one.kind === "random").length;
  const line = [`Pushing the model along `, h("b", {}, curve.direction), ` moves the rate of the behaviour from ${percent(curve.rate[0])} (strength ${show(dose.strengths[0], true)}) to ${percent(curve.rate[last])} (${show(dose.strengths[last], true)})`];
  if (curve.p_value == null) return [...line, "."];
  return [...line, `; p = ${show(curve.p_value)} against ${counted(random, "random direction")}, ${curve.p_value <= 0.05 ? "significant" : "not significant"} at 0.05.`];
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

const KEYS = [["↑ ↓ ← →", "next node"], ["Enter", "its card"], ["P", "pin"], ["G", "group the pins; hold it and click to gather"], ["/", "search"],
  ["+ − 0", "zoom"], ["Esc", "clear"]];

/** The overview of a view. */
export function overview(data, view, name) {
  const scores = Object.entries(data.scores ?? {}).filter(([, value]) => typeof value === "number");
  const kinds = view.columns.length ? "Each column is a word of the prompt, each row a layer of the model" : "Each row is a layer of the model, its strongest nodes in the middle";
  return h("div", { class: "ec-card" },
    h("header", {}, h("p", { class: "ec-kicker" }, data.model ? `Circuit in the model ${words(data.model)}` : "Circuit"), h("h2", {}, words(data.behaviour)),
      h("p", { class: "ec-note" }, `Read it from bottom to top. ${kinds}; the metric is on top. ${counted(view.nodes.length, "node")}, ${counted(view.count, "link")}.`)),
    section("In short", h("ul", { class: "ec-short" }, inShort(data, view, name).map(line => h("li", {}, line)))),
    legend(view),
    scores.length > 0 && section("How far to trust it", facts(scores.slice(0, 12).map(([key, value]) => [words(key), show(value)]))),
    section("Use", h("p", { class: "ec-note" }, "Point at a node for its name, click it for its card, ctrl- or ⌘-click to pin it. Drag moves the picture, ctrl-wheel zooms."),
      facts(KEYS.map(([key, what]) => [h("kbd", {}, key), what]))));
}
