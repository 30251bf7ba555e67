import { FILTERS, RANKS } from "./choose.js";
import { choice, h } from "./words.js";

// The bar on top: view, search, pruning, links, the direction whose effects are shown, and the files to take along.

/** The bar; `act` gets changes of the state, `files` what the menu does by name of its entry. */
export function topBar(data, views, name, act, files) {
  const tab = (label, value, key) => h("button",
    { type: "button", "data-value": value ?? "", onclick: () => act({ [key]: value }) }, label);
  const tabs = h("div", { class: "ec-tabs", role: "group", "aria-label": "View" },
    views.map(view => tab(view.title, view.name, "view")));
  tabs.hidden = views.length < 2;
  const search = h("input", { type: "search", placeholder: "Search labels, emotions, ids", "aria-label": "Search nodes" });
  const slider = h("input", { type: "range", min: 0.02, max: 1, step: 0.01, id: `${name}-keep` }),
    readout = h("output", { for: `${name}-keep` });
  slider.addEventListener("input", () => act({ threshold: Number(slider.value) }));
  search.addEventListener("input", () => act({ search: search.value }));
  const rank = choice("by", "Rank nodes by", Object.entries(RANKS), value => act({ rank: value })),
    filter = choice("Links", "Links to draw", Object.entries(FILTERS), value => act({ filter: value }));
  const along = h("div", { class: "ec-tabs", role: "group", "aria-label": "Direction whose effects are shown" });
  const directions = h("div", { class: "ec-field ec-along" }, h("span", {}, "Effects along"), along);
  const menu = h("details", { class: "ec-menu" }, h("summary", {}, "Save"),
    h("div", {}, Object.entries(files).map(([label, run]) =>
    h("button", { type: "button", onclick: () => { menu.open = false; run(); } }, label))));
  menu.addEventListener("keydown", event => { if (event.key === "Escape") { menu.open = false; menu.firstChild.focus(); } });
  const element = h("div", { class: "ec-bar-top" }, tabs, search,
    h("label", { class: "ec-field ec-slide" }, h("span", {}, "Keep"), slider, readout), rank.element, filter.element,
      directions, menu);

  function render(view, state, left, all) {
    for (const button of tabs.children) button.setAttribute("aria-pressed", String(button.dataset.value === view.name));
    slider.value = state.threshold;
    readout.textContent = `${left} of ${all}`;
    slider.setAttribute("aria-label", `Keep the most important nodes; ${left} of ${all} shown`);
    rank.list.value = state.rank;
    filter.list.value = state.filter;
    if (search.value !== state.search) search.value = state.search;
    const controls = view.controls ?? [];
    directions.hidden = !controls.length;
    if (controls.length && along.childElementCount !== controls.length + 1) {
      along.replaceChildren(tab("the prompts", null, "control"),
        ...controls.map(control => tab(control.name.replace(/_/g, " "), control.name, "control")));
    }
    for (const button of along.children) button.setAttribute("aria-pressed",
      String((button.dataset.value || null) === state.control));
  }
  return { element, search, render };
}
