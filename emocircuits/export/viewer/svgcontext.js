// A drawing context that writes SVG: the functions that paint the canvas paint a vector picture with it.

const escaped = text => String(text).replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd");
const round = value => Math.round(value * 100) / 100;

/** The part of a canvas context that the viewer uses; `text()` gives the SVG document. */
export class SvgContext {
  constructor(width, height, measure) {
    Object.assign(this, { width, height, measure, parts: [], clips: 0, depth: 0, stack: [], d: "", fillStyle: "#000", strokeStyle: "#000", lineWidth: 1,
      globalAlpha: 1, font: "12px sans-serif", textAlign: "left", textBaseline: "middle", lineJoin: "round", dash: [] });
  }
  save() { this.stack.push(this.depth); }
  restore() { for (const before = this.stack.pop() ?? 0; this.depth > before; this.depth--) this.parts.push("</g>"); }
  open(attributes) { this.parts.push(`<g ${attributes}>`); this.depth++; }
  translate(x, y) { this.open(`transform="translate(${round(x)} ${round(y)})"`); }
  rotate(angle) { this.open(`transform="rotate(${round(angle * 180 / Math.PI)})"`); }
  clip() { this.parts.push(`<clipPath id="clip${++this.clips}"><path d="${this.d}"/></clipPath>`); this.open(`clip-path="url(#clip${this.clips})"`); }
  setLineDash(dash) { this.dash = dash; }
  measureText(text) { return this.measure(this.font, text); }
  beginPath() { this.d = ""; }
  closePath() { this.d += "Z"; }
  moveTo(x, y) { this.d += `M${round(x)} ${round(y)}`; }
  lineTo(x, y) { this.d += `L${round(x)} ${round(y)}`; }
  bezierCurveTo(...p) { this.d += `C${p.map(round).join(" ")}`; }
  rect(x, y, w, h) { this.d += `M${round(x)} ${round(y)}h${round(w)}v${round(h)}h${round(-w)}Z`; }
  arc(x, y, r) { this.d += `M${round(x + r)} ${round(y)}a${round(r)} ${round(r)} 0 1 1 ${round(-2 * r)} 0a${round(r)} ${round(r)} 0 1 1 ${round(2 * r)} 0Z`; }
  roundRect(x, y, w, h, r) {
    const q = Math.min(r, w / 2, h / 2), c = (a, b) => `a${round(q)} ${round(q)} 0 0 1 ${round(a)} ${round(b)}`;
    this.d += `M${round(x + q)} ${round(y)}h${round(w - 2 * q)}${c(q, q)}v${round(h - 2 * q)}${c(-q, q)}h${round(2 * q - w)}${c(-q, -q)}v${round(2 * q - h)}${c(q, -q)}Z`;
  }
  fill() { this.parts.push(`<path d="${this.d}" fill="${escaped(this.fillStyle)}"${this.alpha()}/>`); }
  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.parts.push(`<path d="${this.d}" fill="none" stroke="${escaped(this.strokeStyle)}" stroke-width="${round(this.lineWidth)}"${dash}${this.alpha()}/>`);
  }
  fillRect(x, y, w, h) { this.d = ""; this.rect(x, y, w, h); this.fill(); }
  alpha() { return this.globalAlpha < 1 ? ` opacity="${round(this.globalAlpha)}"` : ""; }
  letters(text, x, y, paint) {
    const [, weight, size, family] = /^(?:(\d+) )?([\d.]+)px (.*)$/.exec(this.font) ?? [, 400, 12, "sans-serif"];
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    this.parts.push(`<text x="${round(x)}" y="${round(y + size * 0.35)}" font-family="${escaped(family.replaceAll('"', "'"))}" font-size="${size}" font-weight="${weight ?? 400}" text-anchor="${anchor}" ${paint}${this.alpha()}>${escaped(text)}</text>`);
  }
  fillText(text, x, y) { this.letters(text, x, y, `fill="${escaped(this.fillStyle)}"`); }
  strokeText(text, x, y) { this.letters(text, x, y, `fill="none" stroke="${escaped(this.strokeStyle)}" stroke-width="${round(this.lineWidth)}" stroke-linejoin="round"`); }
  text() {
    this.restore();
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${this.width}" height="${this.height}" viewBox="0 0 ${this.width} ${this.height}">${this.parts.join("")}${"</g>".repeat(this.depth)}</svg>`;
  }
}
