import { bracket, facts } from "./plots.js";
import { choice, counted, h, percent, s, show } from "./words.js";

// The steering slider: it steps through strengths that were really run, and shows what was measured there.

const WIDTH = 460, HEIGHT = 200, LEFT = 46, BOTTOM = 26, TOP = 10, RIGHT = 14;

/** The panel; `act` gets changes of the state's `dose`. Hidden where the run measured no steering. */
export function dosePanel(data, act) {
  const dose = data.dose, curves = dose?.curves ?? [], main = curves.filter(curve => curve.kind === "emotion");
  const offered = main.length ? main : curves;
  if (!offered.length || dose.strengths.length < 2) return { element: h("section", { hidden: true }), render() {} };
  const start = { direction: (offered.find(curve => curve.direction === data.emotion) ?? offered[0]).direction,
    step: dose.strengths.length - 1 };
  let now = start;
  const which = choice("along", "Steering along", offered.map(curve => [curve.direction, curve.direction]),
    direction => act({ dose: { ...now, direction } }));
  const slider = h("input", { type: "range", min: 0, max: dose.strengths.length - 1, step: 1,
    "aria-label": "Steering strength",
    oninput: () => act({ dose: { ...now, step: Number(slider.value) } }) });
  const readout = h("output", {}), plot = h("div", {}), key = h("p", { class: "ec-note" }), table = h("div", {});
  const element = h("section", { class: "ec-box", "aria-label": "Steering" },
    h("div", { class: "ec-boxhead" }, h("h3", {}, "Steering, as measured"), which.element),
    h("label", { class: "ec-field ec-slide" }, h("span", {}, "strength"), slider, readout), plot, key, table,
    h("p", { class: "ec-note" }, "Strength is a fraction of the mean residual norm, added at every position. "
      + "The slider stops only where the model was run."));

  function render(state) {
    now = { ...start, ...(state.dose ?? {}) };
    const curve = offered.find(other => other.direction === now.direction) ?? offered[0];
    const step = Math.min(dose.strengths.length - 1, Math.max(0, now.step)), strength = show(dose.strengths[step], true);
    which.list.value = curve.direction;
    slider.value = step;
    slider.setAttribute("aria-valuetext", `${strength}: rate ${percent(curve.rate[step])}`);
    readout.textContent = strength;
    const against = curves.find(other => other.kind === "emotion" && other !== curve && other.direction === "calm") ?? null;
    plot.replaceChildren(dosePicture(dose, curve, against, step));
    key.replaceChildren(...doseLegend(curves, curve, against));
    table.replaceChildren(facts(measured(curves, curve, step)));
  }
  return { element, render };
}

function measured(curves, curve, step) {
  const own = [h("b", {}, percent(curve.rate[step])), " ",
    h("small", {}, bracket(curve.ci_low?.[step], curve.ci_high?.[step]))];
  const rows = [[`rate along ${curve.direction}`, own]];
  for (const kind of ["random", "content", "shuffled"]) {
    const values = curves.filter(other => other.kind === kind).map(other => other.rate[step]);
    const range = `${percent(Math.min(...values))} … ${percent(Math.max(...values))}`;
    if (values.length) rows.push([`along ${counted(values.length, `${kind} direction`)}`, range]);
  }
  const against = curve.p_value == null ? "" : `, p = ${show(curve.p_value)} against the random ones`;
  if (curve.slope != null) rows.push(["slope of the log-odds per unit", `${show(curve.slope, true)}${against}`]);
  if (curve.n) rows.push(["prompts of each point", String(curve.n)]);
  return rows;
}

function doseLegend(curves, curve, against) {
  const has = kind => curves.filter(other => other.kind === kind).length;
  const entry = (look, text) => h("span", { class: "ec-entry" }, h("i", { class: look }), text);
  return [entry("ec-line ec-pos", curve.direction), against && entry("ec-line ec-neg", against.direction),
    has("random") > 0 && entry("ec-swatch", `range of ${counted(has("random"), "random direction")}`),
    has("content") > 0 && entry("ec-line ec-dots", counted(has("content"), "content direction"))].filter(Boolean);
}

function dosePicture(dose, curve, against, step) {
  const { strengths, curves } = dose, [first, last] = [strengths[0], strengths.at(-1)];
  const all = [...curves.flatMap(other => other.rate), ...(curve.ci_low ?? []), ...(curve.ci_high ?? [])];
  const ticks = niceTicks(Math.min(...all), Math.max(...all)), low = ticks[0], high = ticks.at(-1);
  const x = value => LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT);
  const y = rate => HEIGHT - BOTTOM - (rate - low) / (high - low) * (HEIGHT - BOTTOM - TOP);
  const at = (rates, i, letter) => `${letter}${x(strengths[i]).toFixed(1)} ${y(rates[i]).toFixed(1)}`;
  const line = rates => rates.map((_, i) => at(rates, i, i ? "L" : "M")).join("");
  const random = curves.filter(other => other.kind === "random"),
    edge = pick => strengths.map((_, i) => pick(...random.map(other => other.rate[i])));
  const lower = random.length ? edge(Math.min) : [], band = random.length > 0
    && s("path", { d: `${line(edge(Math.max))}${lower.map((_, i) => at(lower, lower.length - 1 - i, "L")).join("")}Z`,
      class: "ec-band" });
  const whisker = (value, i) => s("path", { class: "ec-whisker ec-pos",
    d: `M${x(value)} ${y(curve.ci_low[i])}V${y(curve.ci_high[i])}m-3 0h6M${x(value) - 3} ${y(curve.ci_low[i])}h6` });
  return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "ec-dose", role: "img",
    "aria-label": `Rate against strength along ${curve.direction}` },
    ticks.map(rate => [s("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(rate), y2: y(rate), class: "ec-axis" }),
      s("text", { x: LEFT - 6, y: y(rate) + 4, "text-anchor": "end" }, percent(rate))]),
    strengths.map(value => s("text", { x: x(value), y: HEIGHT - 8, "text-anchor": "middle" },
      crowded(strengths, value) ? "" : show(value, true))),
    band, curves.filter(other => other.kind === "content").map(other => s("path", { d: line(other.rate), class: "ec-thin" })),
    against && s("path", { d: line(against.rate), class: "ec-curve ec-neg" }),
    curve.ci_low?.length > 0 && strengths.map(whisker),
    s("path", { d: line(curve.rate), class: "ec-curve ec-pos" }),
    s("line", { x1: x(strengths[step]), x2: x(strengths[step]), y1: TOP, y2: HEIGHT - BOTTOM, class: "ec-cursor" }),
    s("circle", { cx: x(strengths[step]), cy: y(curve.rate[step]), r: 5, class: "ec-dot ec-pos" }));
}

/** Three to seven round rates that hold the range. */
function niceTicks(low, high) {
  const span = Math.max(high - low, 0.01), step = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2,
    0.5].find(size => span / size <= 5) ?? 0.5;
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, i) => (first + i) * step);
}

/** Strengths closer to an end or to zero than their numbers are wide stay without one. */
function crowded(strengths, value) {
  const fixed = [strengths[0], strengths.at(-1), 0], span = strengths.at(-1) - strengths[0];
  return !fixed.includes(value) && fixed.some(other => strengths.includes(other) && Math.abs(other - value) < span * 0.12);
}
