// Elements and words. Every text becomes a text node; nothing is ever read as markup.

/** An HTML element with attributes, listeners (`onclick`) and children; children that are null or false are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, setting] of Object.entries(value)) element.style.setProperty(key, setting);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter(child => child != null && child !== false));
  return element;
}

/** A number with three significant digits and a real minus sign. */
export function show(value, sign = false) {
  if (value == null) return "–";
  const size = Math.abs(value);
  let text = "0";
  if (size >= 1000 || (size > 0 && size < 0.001)) text = size.toExponential(1);
  else if (size) text = size.toPrecision(size < 0.01 ? 2 : 3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return (value < 0 ? "−" : sign && value > 0 ? "+" : "") + text;
}

/** A share as whole per cent, one digit below ten. */
export function percent(share) {
  if (share == null) return "–";
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  const size = Math.abs(value), digits = size < 9.95 ? size.toFixed(1).replace(/\.0$/, "") : String(Math.round(size));
  return `${value < 0 && digits !== "0" ? "−" : ""}${digits} %`;
}

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Text whose control characters, those that turn the writing direction included, have become visible. */
export function visible(text) {
  return String(text).replace(/\r?\n/g, "↵").replace(/\t/g, "⇥").replace(HIDDEN, "␦");
}

/** A token as people read it: no outer spaces, and a sign where nothing else would be seen. */
export function showToken(text) {
  if (text === "") return "∅";
  return visible(text).trim() || "␣";
}

/** At most `most` characters as people count them: no emoji is cut in two. */
export function clip(text, most) {
  if (text.length <= most) return text;
  const parts = Array.from(text);
  return parts.length <= most ? text : parts.slice(0, most - 1).join("") + "…";
}

/** The class that colours a signed value. */
export const signClass = value => (!value ? "" : value < 0 ? "ec-neg" : "ec-pos");

/** "1 link", "2 links". */
export const counted = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** A labelled select; `spoken` is its name for those who do not see where it stands. `act` gets the chosen value. */
export function choice(label, spoken, options, act) {
  const list = h("select", { "aria-label": spoken, onchange: event => act(event.target.value) },
    options.map(([value, text]) => h("option", { value }, text)));
  return { element: h("label", { class: "ec-field" }, h("span", {}, label), list), list };
}

/** Tokens shaded by value: orange above zero, blue with an underline below. */
export function shaded(tokens, values, limit, signed = false) {
  const bare = tokens.length > 2 && !tokens.some(text => /\s/.test(text));
  return tokens.map((text, i) => {
    const value = values?.[i] ?? 0, part = limit ? Math.min(1, Math.abs(value) / limit) : 0;
    const shown = visible(text).replace(/↵/g, "↵\n");
    const token = h("span", { class: bare ? "ec-token ec-bare" : "ec-token", title: `token ${i}: ${show(value, signed)}` },
      shown);
    if (part > 0.02) {
      const colour = `var(--ec-${value < 0 ? "negative" : "positive"})`;
      token.style.background = `color-mix(in srgb, ${colour} ${Math.round(8 + 36 * part)}%, transparent)`;
      if (value < 0) token.style.borderBottom = `2px dotted ${colour}`;
    }
    return token;
  });
}
