import { h, shaded } from "./words.js";

// The prompt above the grid, shaded by effect; the corrupt prompt next to it where the run kept it.

/** The strip; `point` is called with the token under the pointer, or null. */
export function promptStrip(point) {
  const clean = h("p", { class: "ec-prompt", dir: "auto" }), corrupt = h("p", { class: "ec-prompt", dir: "auto" });
  const cell = (title, text) => h("div", {}, h("p", { class: "ec-kicker" }, title), text);
  const cells = [cell("Clean prompt, shaded by effect", clean), cell("Corrupt prompt", corrupt)];
  const element = h("div", { class: "ec-prompts" }, cells);
  let shownPair = null;
  for (const text of [clean, corrupt]) {
    text.addEventListener("pointerover", event =>
      point(event.target.dataset?.i == null ? null : Number(event.target.dataset.i)));
    text.addEventListener("pointerleave", () => point(null));
  }

  function render(view, chosen) {
    element.hidden = !view.tokens.length;
    const other = view.corrupt?.tokens ?? null;
    cells[1].hidden = !other;
    cells[0].firstChild.hidden = !other;
    element.classList.toggle("ec-pair", Boolean(other));
    const sums = view.tokens.map(() => 0);
    for (const node of view.nodes) {
      if (node.position != null && node.kind !== "token"
        && (!chosen || node.base === chosen.base)) sums[node.position] += node.effect ?? 0;
    }
    const whose = chosen ? "the selected node" : "the nodes";
    clean.setAttribute("aria-label", `Prompt, shaded by the effect of ${whose} at each token`);
    shownPair = null;
    fill(clean, shaded(view.tokens, sums, Math.max(...sums.map(Math.abs), 0), true),
      other ? view.tokens.map((text, i) => text !== other[i]) : []);
    if (!other) return;
    const kept = chosen ? view.corrupt.activations?.[chosen.base] : null,
      top = kept ? Math.max(...kept[0], ...kept[1], 0) : 0;
    cells[1].firstChild.textContent = kept
      ? "Corrupt prompt, shaded by the activation of the selected node" : "Corrupt prompt; what differs is underlined";
    if (kept) cells[0].firstChild.textContent = "Clean prompt, shaded by the activation of the selected node";
    else cells[0].firstChild.textContent = "Clean prompt, shaded by effect; what differs is underlined";
    const differs = view.tokens.map((text, i) => text !== other[i]);
    if (kept) fill(clean, shaded(view.tokens, kept[0], top), differs);
    fill(corrupt, shaded(other, kept?.[1] ?? [], top), differs);
  }

  function fill(text, tokens, differs) {
    tokens.forEach((token, i) => { token.dataset.i = i; if (differs[i]) token.classList.add("ec-differs"); });
    text.replaceChildren(...tokens);
  }

  function focus(i) {
    if (i === shownPair) return;
    for (const text of [clean, corrupt]) {
      text.querySelector(".ec-here")?.classList.remove("ec-here");
      if (i != null) text.children[i]?.classList.add("ec-here");
    }
    shownPair = i;
  }
  return { element, render, focus };
}
