import { FILTERS, PINS, RANKS } from "./choose.js";

// What a reader has chosen, as plain values: in the page's address, in a saved file, in the state of a widget.

export const SUBGRAPH = "emocircuits.subgraph", SUBGRAPH_VERSION = 1;

/** The state in which a page opens. */
export function freshState(view) {
  return { view, selected: null, pinned: new Set(), groups: [], labels: new Map(), places: {}, filter: "strongest",
    rank: "influence", threshold: 1,
    search: "", control: null, from: null, to: null, path: null, dose: null };
}

/** The state as plain values. */
export function plainState(state) {
  return { ...state, pinned: [...state.pinned], labels: Object.fromEntries(state.labels) };
}

const NAMES = { view: "view", selected: "node", pinned: "pins", groups: "groups", labels: "labels", places: "places",
  filter: "links", rank: "rank",
  threshold: "keep", search: "find", control: "along", from: "from", to: "to", path: "path", dose: "dose" };

/** The part of the address after "#": only what differs from a fresh page. */
export function toAddress(state) {
  const plain = plainState(state), fresh = plainState(freshState(null)), query = new URLSearchParams();
  for (const [key, name] of Object.entries(NAMES)) {
    const text = JSON.stringify(plain[key]);
    if (text !== JSON.stringify(fresh[key])) query.set(name,
      typeof plain[key] === "string" && key !== "from" ? plain[key] : text);
  }
  return query.toString();
}

/** Changes of the state from an address; what cannot be read is left out. */
export function fromAddress(text) {
  const query = new URLSearchParams(text.replace(/^#/, "")), changes = {};
  for (const [key, name] of Object.entries(NAMES)) {
    if (!query.has(name)) continue;
    const value = query.get(name);
    if (["view", "selected", "filter", "rank", "search", "control", "to"].includes(key)) changes[key] = value;
    else try { changes[key] = JSON.parse(value); } catch { /* not ours: a foreign or cut address */ }
  }
  return changes;
}

/** Only what this circuit can show, and how many nodes of the changes it does not have. Nothing in a saved state is trusted. */
export function checkedState(changes, views, data) {
  const known = new Set(views.flatMap(view => view.nodes.map(node => node.id))),
    bases = new Set(views.flatMap(view => view.nodes.map(node => node.base)));
  const good = {}, list = value => (Array.isArray(value) ? value : []), asText = value => String(value).slice(0, 80);
  let lost = 0;
  const ids = value => list(value).filter(id => known.has(id) || (lost += 1, false));
  const record = value => (value && typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : []);
  const number = (value, low, high) => (Number.isFinite(value) ? Math.max(low, Math.min(high, value)) : null);
  const has = key => changes[key] !== undefined;
  if (has("view") && views.some(view => view.name === changes.view)) good.view = changes.view;
  if (has("selected")) good.selected = changes.selected == null || known.has(changes.selected)
    ? changes.selected : (lost += 1, null);
  if (has("pinned")) good.pinned = new Set(ids([...(changes.pinned ?? [])]).slice(0, PINS));
  if (has("groups")) good.groups = list(changes.groups).map(group =>
    ({ name: asText(group?.name ?? "group"), ids: ids(group?.ids) })).filter(group => group.ids.length);
  if (has("labels")) good.labels = new Map((changes.labels instanceof Map
    ? [...changes.labels] : record(changes.labels)).filter(([base]) => bases.has(base)).map(([base, text]) =>
      [base, asText(text)]));
  if (has("places")) good.places = Object.fromEntries(record(changes.places).filter(([, at]) => Array.isArray(at)
    && at.length === 2 && at.every(Number.isFinite)).map(([key, at]) => [key, at.map(v => number(v, 0, 5000))]));
  if (has("filter") && Object.hasOwn(FILTERS, changes.filter)) good.filter = changes.filter;
  if (has("rank") && Object.hasOwn(RANKS, changes.rank)) good.rank = changes.rank;
  if (has("threshold")) good.threshold = number(changes.threshold, 0.02, 1) ?? 1;
  if (has("search")) good.search = asText(changes.search ?? "");
  if (has("control")) good.control = views.some(view => view.controls?.some(control => control.name === changes.control))
    ? changes.control : null;
  if (has("from")) good.from = typeof changes.from === "string" ? changes.from : null;
  if (has("to")) good.to = known.has(changes.to) ? changes.to : null;
  if (has("path")) good.path = Number.isInteger(changes.path) && changes.path >= 0 ? changes.path : null;
  if (has("dose")) good.dose = changes.dose && data.dose
    ? { direction: asText(changes.dose.direction ?? ""),
      step: number(Math.round(changes.dose.step), 0, data.dose.strengths.length - 1) ?? 0 } : null;
  return { changes: good, lost };
}
