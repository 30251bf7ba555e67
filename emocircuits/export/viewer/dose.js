import { bracket, facts } from "./plots.js";
import { choice, counted, h, percent, s, show } from "./words.js";

// The steering slider: it steps through strengths that were really run, and shows what was measured there.

const WIDTH = 400, HEIGHT = 190, LEFT = 44, BOTTOM = 26, TOP = 10, RIGHT = 12;

/** The panel; `act` gets changes of the state's `dose`. Hidden where the run measured no steering. */
export function dosePanel(data, act) {
  const dose = data.dose, curves = dose?.curves ?? [], main = curves.filter(curve => curve.kind === "emotion");
  const offered = main.length ? main : curves;
  if (!dose || !offered.length || dose.strengths.length < 2) return { element: h("section", { hidden: true }), render() {} };
  const which = choice("along", offered.map(curve => [curve.direction, curve.direction]), value => act({ dose: { ...current(), direction: value } }));
  const slider = h("input", { type: "range", min: 0, max: dose.strengths.length - 1, step: 1, "aria-label": "Steering strength",
    oninput: () => act({ dose: { ...current(), step: Number(slider.value) } }) });
  const readout = h("output", {}), plot = h("div", {}), table = h("div", {});
  const element = h("section", { class: "ec-box", "aria-label": "Steering" },
    h("div", { class: "ec-boxhead" }, h("h3", {}, "Steering, as measured"), which.element),
    h("label", { class: "ec-field ec-slide" }, h("span", {}, "strength"), slider, readout), plot, table,
    h("p", { class: "ec-note" }, "Strength is a fraction of the mean residual norm, added at every position. The slider stops only where the model was run."));
  const zero = dose.strengths.indexOf(0), start = { direction: (offered.find(curve => curve.direction === data.emotion) ?? offered[0]).direction, step: zero < 0 ? 0 : zero };
  let now = start;
  const current = () => now;

  function render(state) {
    now = { ...start, ...(state.dose ?? {}) };
    const curve = offered.find(one => one.direction === now.direction) ?? offered[0], step = Math.min(dose.strengths.length - 1, Math.max(0, now.step));
    which.list.value = curve.direction;
    slider.value = step;
    const strength = dose.strengths[step];
    slider.setAttribute("aria-valuetext", `${show(strength, true)}: rate ${percent(curve.rate[step])}`);
    readout.textContent = show(strength, true);
    plot.replaceChildren(picture(dose, curve, step));
    const rows = [[curve.direction, [h("b", {}, percent(curve.rate[step])), " ", h("small", {}, bracket(curve.ci_low?.[step], curve.ci_high?.[step]))]]];
    for (const kind of ["random", "content", "shuffled"]) {
      const values = curves.filter(one => one.kind === kind).map(one => one.rate[step]);
      if (values.length) rows.push([`${values.length} ${kind}`, `${percent(Math.min(...values))} … ${percent(Math.max(...values))}`]);
    }
    if (curve.slope != null) rows.push(["slope, log-odds per unit", `${show(curve.slope, true)}${curve.p_value == null ? "" : `, p = ${show(curve.p_value)} against random directions`}`]);
    if (curve.n) rows.push(["prompts", counted(curve.n, "prompt")]);
    table.replaceChildren(facts(rows));
  }
  return { element, render };
}

function picture(dose, curve, step) {
  const { strengths, curves } = dose, all = curves.flatMap(one => one.rate);
  const least = Math.min(...all, ...(curve.ci_low ?? [])), most = Math.max(...all, ...(curve.ci_high ?? []));
  const pad = (most - least || 0.1) * 0.08, low = Math.max(0, least - pad), high = Math.min(1, most + pad), first = strengths[0], last = strengths.at(-1);
  const x = value => LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT), y = rate => HEIGHT - BOTTOM - (rate - low) / (high - low) * (HEIGHT - BOTTOM - TOP);
  const line = values => values.map((rate, i) => `${i ? "L" : "M"}${x(strengths[i]).toFixed(1)} ${y(rate).toFixed(1)}`).join("");
  const random = curves.filter(one => one.kind === "random");
  const edge = pick => strengths.map((_, i) => pick(...random.map(one => one.rate[i])));
  const band = random.length ? `${line(edge(Math.max))}${strengths.map((_, i) => i).reverse().map(i => `L${x(strengths[i]).toFixed(1)} ${y(edge(Math.min)[i]).toFixed(1)}`).join("")}Z` : null;
  const title = `Rate against strength along ${curve.direction}${random.length ? `; grey: range of ${random.length} random directions` : ""}`;
  const shown = curves.find(one => one.kind === "emotion" && one !== curve && one.direction === "calm");
  return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "ec-dose", role: "img", "aria-label": title },
    [low, (low + high) / 2, high].map(rate => [s("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(rate), y2: y(rate), class: "ec-axis" }),
      s("text", { x: LEFT - 6, y: y(rate) + 4, "text-anchor": "end" }, percent(rate))]),
    strengths.map(value => s("text", { x: x(value), y: HEIGHT - 8, "text-anchor": "middle" }, tick(strengths, value))),
    band && s("path", { d: band, class: "ec-band" }),
    curves.filter(one => one.kind === "content").map(one => s("path", { d: line(one.rate), class: "ec-thin" })),
    shown && [s("path", { d: line(shown.rate), class: "ec-curve ec-neg" }), s("text", { x: x(first) + 4, y: y(shown.rate[0]) - 6, class: "ec-neg" }, shown.direction)],
    curve.ci_low?.length > 0 && strengths.map((value, i) => s("path", { d: `M${x(value)} ${y(curve.ci_low[i])}V${y(curve.ci_high[i])}M${x(value) - 3} ${y(curve.ci_low[i])}h6M${x(value) - 3} ${y(curve.ci_high[i])}h6`, class: "ec-whisker ec-pos" })),
    s("path", { d: line(curve.rate), class: "ec-curve ec-pos" }),
    s("text", { x: x(last) - 4, y: y(curve.rate.at(-1)) + (curve.rate.at(-1) < curve.rate[0] ? 16 : -8), "text-anchor": "end", class: "ec-pos" }, curve.direction),
    random.length > 0 && s("text", { x: x(last) - 4, y: y(edge(Math.min).at(-1)) - 5, "text-anchor": "end", class: "ec-bandname" }, `${random.length} random`),
    s("line", { x1: x(strengths[step]), x2: x(strengths[step]), y1: TOP, y2: HEIGHT - BOTTOM, class: "ec-cursor" }),
    s("circle", { cx: x(strengths[step]), cy: y(curve.rate[step]), r: 5, class: "ec-dot ec-pos" }));
}

/** Strengths closer together than their numbers are wide stay without one, the ends and zero excepted. */
function tick(strengths, value) {
  const at = strengths.indexOf(value), span = strengths.at(-1) - strengths[0];
  const crowded = at > 0 && at < strengths.length - 1 && value !== 0 && strengths.some(other => other !== value && (other === 0 || other === strengths[0] || other === strengths.at(-1)) && Math.abs(other - value) < span * 0.12);
  return crowded ? "" : show(value, true);
}
