import { h, s, show, signClass } from "./words.js";

// Small vector plots: an effect with its interval, activations over the prompt. Numbers always stand next to them as text.

/** Attributed effect with its interval, and the verified effect as a diamond on the same axis. */
export function effectPlot(item, width, height = 34, limits = null) {
  const values = limits ?? [0, item.value, item.low, item.high, item.verified].filter(value => value != null);
  const low = Math.min(0, ...values), high = Math.max(0, ...values), span = high - low || 1, middle = height / 2;
  const x = value => 8 + (value - low) / span * (width - 16), sign = signClass(item.value);
  const plot = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "ec-plot", "aria-hidden": "true" },
    s("line", { x1: 4, x2: width - 4, y1: middle, y2: middle, class: "ec-axis" }),
    s("line", { x1: x(0), x2: x(0), y1: 3, y2: height - 3, class: "ec-zero" }));
  if (item.low != null && item.high != null) {
    const cap = Math.min(5, middle - 3),
      ends = `M${x(item.low)} ${middle - cap}v${2 * cap}M${x(item.high)} ${middle - cap}v${2 * cap}`;
    plot.append(s("path", { d: `M${x(item.low)} ${middle}H${x(item.high)}${ends}`, class: `ec-whisker ${sign}` }));
  }
  if (item.value != null) plot.append(s("circle",
    { cx: x(item.value), cy: middle, r: Math.min(5, middle - 4), class: `ec-dot ${sign}` }));
  if (item.verified != null) {
    const v = x(item.verified), d = Math.min(7, middle - 1);
    plot.append(s("path", { d: `M${v} ${middle - d}l${d * 0.85} ${d}l${-d * 0.85} ${d}l${-d * 0.85} ${-d}z`,
      class: "ec-verified" }));
  }
  return plot;
}

/** Activation at every token of the clean prompt (bars up) and, where it is known, of the corrupt one (bars down). */
export function activationPlot(clean, corrupt, at, width) {
  const top = Math.max(...clean, ...(corrupt ?? [0]), 0) || 1, half = corrupt ? 26 : 34, height = corrupt ? 56 : 38;
  const step = width / clean.length, bar = Math.max(1, step - Math.min(1, step * 0.2));
  const bars = (values, side, sign) => values.map((value, i) => value > 0
    && s("rect", { x: (i * step).toFixed(2), width: bar.toFixed(2),
    y: (sign > 0 ? half - value / top * half : half + 2).toFixed(2), height: (value / top * half).toFixed(2),
      class: side }));
  return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "ec-plot", "aria-hidden": "true" },
    at != null && s("rect", { x: (at * step - 1).toFixed(2), width: (bar + 2).toFixed(2), y: 0, height, class: "ec-at" }),
    bars(clean, "ec-clean", 1), corrupt && bars(corrupt, "ec-corrupt", -1),
    s("line", { x1: 0, x2: width, y1: half + 1, y2: half + 1, class: "ec-axis" }));
}

/** Name and value pairs; pairs without a value are left out. */
export function facts(rows) {
  return h("dl", { class: "ec-facts" }, rows.filter(row => row
    && row[1] != null).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** A titled part of the panel, or nothing where it would be empty. */
export function section(title, ...children) {
  const body = children.flat(2).filter(Boolean);
  return body.length ? h("section", {}, h("h3", {}, title), body) : null;
}

/** "[0.1, 0.3]" or "". */
export const bracket = (low, high) => (low == null || high == null ? "" : `[${show(low)}, ${show(high)}]`);
