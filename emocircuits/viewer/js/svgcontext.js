// A drawing context that writes SVG: the functions that paint the canvas paint a vector picture with it.

const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;
const escaped = text => String(text).replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`).replace(FORBIDDEN, "\ufffd");
const round = value => Math.round(value * 100) / 100;
const joined = (...numbers) => numbers.map(round).join(" ");

/** The part of a canvas context that the viewer uses; `text()` gives the SVG document. */
export class SvgContext {
  /** `measure(font, text)` gives the metrics of a text. */
  constructor(width, height, measure) {
    Object.assign(this, { width, height, measure, parts: [], clips: 0, depth: 0, stack: [], d: "", dash: [] });
    Object.assign(this, { fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, globalAlpha: 1, lineJoin: "round" });
    Object.assign(this, { font: "12px sans-serif", textAlign: "left", textBaseline: "middle" });
  }
  save() { this.stack.push(this.depth); }
  restore() {
    const before = this.stack.pop() ?? 0;
    for (; this.depth > before; this.depth--) this.parts.push("</g>");
  }
  open(attributes) {
    this.parts.push(`<g ${attributes}>`);
    this.depth++;
  }
  translate(x, y) { this.open(`transform="translate(${joined(x, y)})"`); }
  rotate(angle) { this.open(`transform="rotate(${round(angle * 180 / Math.PI)})"`); }
  clip() {
    this.parts.push(`<clipPath id="clip${++this.clips}"><path d="${this.d}"/></clipPath>`);
    this.open(`clip-path="url(#clip${this.clips})"`);
  }
  setLineDash(dash) { this.dash = dash; }
  measureText(text) { return this.measure(this.font, text); }
  beginPath() { this.d = ""; }
  closePath() { this.d += "Z"; }
  moveTo(x, y) { this.d += `M${joined(x, y)}`; }
  lineTo(x, y) { this.d += `L${joined(x, y)}`; }
  bezierCurveTo(...points) { this.d += `C${joined(...points)}`; }
  rect(x, y, w, h) { this.d += `M${joined(x, y)}h${round(w)}v${round(h)}h${round(-w)}Z`; }
  arc(x, y, r) {
    const half = way => `a${joined(r, r)} 0 1 1 ${joined(way * 2 * r, 0)}`;
    this.d += `M${joined(x + r, y)}${half(-1)}${half(1)}Z`;
  }
  roundRect(x, y, w, h, r) {
    const q = Math.min(r, w / 2, h / 2), corner = (a, b) => `a${joined(q, q)} 0 0 1 ${joined(a, b)}`;
    const wide = round(w - 2 * q), tall = round(h - 2 * q);
    this.d += `M${joined(x + q, y)}h${wide}${corner(q, q)}v${tall}${corner(-q, q)}h${-wide}${corner(-q, -q)}v${-tall}${corner(q, -q)}Z`;
  }
  look() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    return `fill="none" stroke="${escaped(this.strokeStyle)}" stroke-width="${round(this.lineWidth)}"${dash}`;
  }
  alpha() { return this.globalAlpha < 1 ? ` opacity="${round(this.globalAlpha)}"` : ""; }
  fill() { this.parts.push(`<path d="${this.d}" fill="${escaped(this.fillStyle)}"${this.alpha()}/>`); }
  stroke() { this.parts.push(`<path d="${this.d}" ${this.look()}${this.alpha()}/>`); }
  fillRect(x, y, w, h) {
    this.d = "";
    this.rect(x, y, w, h);
    this.fill();
  }
  fillText(text, x, y) { this.letters(text, x, y, `fill="${escaped(this.fillStyle)}"`); }
  strokeText(text, x, y) { this.letters(text, x, y, `${this.look()} stroke-linejoin="round"`); }
  letters(text, x, y, paint) {
    const [, weight, size, family] = /^(?:(\d+) )?([\d.]+)px (.*)$/.exec(this.font) ?? [, 400, 12, "sans-serif"];
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    const font = `font-family="${escaped(family.replaceAll('"', "'"))}" font-size="${size}" font-weight="${weight ?? 400}"`;
    const where = `x="${round(x)}" y="${round(y + size * 0.35)}" text-anchor="${anchor}"`;
    this.parts.push(`<text ${where} ${font} ${paint}${this.alpha()}>${escaped(text)}</text>`);
  }
  text() {
    const size = `width="${this.width}" height="${this.height}" viewBox="0 0 ${this.width} ${this.height}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${this.parts.join("")}${"</g>".repeat(this.depth)}</svg>`;
  }
}
