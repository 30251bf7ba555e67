import { chosenPaths } from "./choose.js";
import { choice, clip, counted, h, percent } from "./words.js";

// The path panel: from the features of an emotion (or the words of the prompt) to the metric, with shares.

export const startName = from => (from === "" ? "the words of the prompt" : from);

/** The panel; `act` gets changes of the state. */
export function pathPanel(act) {
  const from = choice("from", "Paths from", [], value => act({ from: value.slice(1), path: null }));
  const to = choice("to", "Paths to", [], value => act({ to: value, path: null }));
  const toggle = h("button", { type: "button", class: "ec-button" }, "Show on the grid");
  const say = h("p", { class: "ec-note" }), list = h("ol", { class: "ec-paths" });
  const element = h("section", { class: "ec-box", "aria-label": "Paths" },
    h("div", { class: "ec-boxhead" }, h("h3", {}, "Paths"), from.element, to.element, toggle), say, list);
  let drawn = null;

  function render(data, view, state, name) {
    const starts = [...new Set(view.paths.map(item => item.from))], targets = [...new Set(view.paths.map(item => item.to))];
    element.hidden = !starts.length;
    if (element.hidden) return;
    const shown = state.from ?? (starts.includes(data.emotion) && data.emotion ? data.emotion : starts[0]);
    const chosen = chosenPaths(view, { ...state, from: shown });
    const key = JSON.stringify([view.name, shown, state.to, state.from != null, state.path, [...state.labels]]);
    if (key === drawn) return;
    drawn = key;
    // a leading mark keeps the empty name apart from "no choice"
    from.list.replaceChildren(...starts.map(start => h("option", { value: `=${start}` }, startName(start))));
    from.list.value = `=${shown}`;
    to.list.replaceChildren(...targets.map(i => h("option", { value: view.nodes[i].id }, name(view.nodes[i]))));
    to.element.hidden = targets.length < 2;
    toggle.hidden = !chosen;
    toggle.setAttribute("aria-pressed", String(state.from != null));
    toggle.textContent = state.from == null ? "Show on the grid" : "Hide on the grid";
    toggle.onclick = () => act(state.from == null ? { from: shown, path: null } : { from: null, path: null });
    if (!chosen) {
      say.textContent = `No path from ${startName(shown)} reaches the metric along the links of this view.`;
      return list.replaceChildren();
    }
    const goal = name(view.nodes[chosen.to]);
    say.replaceChildren(chosen.measure ? `Shares: ${chosen.measure}` : sentence(chosen, goal));
    const top = Math.max(...chosen.list.map(([share]) => share)) || 1;
    list.replaceChildren(...chosen.list.map(([share, sign, ...path], i) =>
      h("li", {}, h("button", { type: "button", "aria-pressed": String(state.from != null && state.path === i),
      onclick: () => act({ from: shown, path: state.from != null && state.path === i ? null : i }) },
      h("span", { class: "ec-share" }, percent(share)),
      h("span", { class: `ec-bar ${sign < 0 ? "ec-neg" : "ec-pos"}`,
        style: { "--share": `${Math.max(2, 100 * share / top)}%` } }),
      h("span", { class: "ec-chain" }, path.flatMap((node, k) =>
        [k ? h("span", { class: "ec-arrow" }, " → ") : null,
          h("span", { class: "ec-step" }, shortName(view.nodes[node], name))]))))));
  }
  return { element, render };
}

const shortName = (node, name) => (node.kind === "target" ? "the metric" : clip(name(node), 40));

function sentence(chosen, goal) {
  const matches = `${counted(chosen.count, "feature")} that match${chosen.count === 1 ? "es" : ""} ${chosen.from}`;
  const through = `${percent(chosen.total)} of the input of “${goal}” passes through`;
  const total = chosen.total == null ? "" : `${chosen.from === "" ? "The words of the prompt" : matches}: ${through}. `;
  return `${total}Share of a path: the product over its links of |weight| in all |weight| into the link's end. `
    + "Orange raises the metric, blue lowers it.";
}
