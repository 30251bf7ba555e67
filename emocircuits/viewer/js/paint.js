import { GUTTER, radius, screen } from "./camera.js";
import { interval, linkAt, neighbours, significant } from "./graph.js";

// Bands, links and nodes on the canvas. Colour is the sign; besides it: dashes are negative, diamonds SAE errors.

const BATCH = 64, SOLID = [], DASH = [6, 4];
const MANY = 400; // from here on weaker links are hairlines: wide curves are what a frame without a GPU spends its time on

/** Colours of the page's theme. */
export function palette(element) {
  const style = getComputedStyle(element), names = ["surface", "band", "ink", "muted", "line", "positive", "negative",
    "accent", "path", "neutral"];
  return Object.fromEntries(names.map(name => [name, style.getPropertyValue(`--ec-${name}`).trim()]));
}

export const tint = (colours, value) => (!value ? colours.neutral : value < 0 ? colours.negative : colours.positive);

/** The outline of a node's shape. */
export function outline(ctx, node, x, y, r) {
  ctx.beginPath();
  trace(ctx, node, x, y, r);
}

function trace(ctx, node, x, y, r) {
  if (node.kind === "error") {
    ctx.moveTo(x, y - r); ctx.lineTo(x + r, y); ctx.lineTo(x, y + r); ctx.lineTo(x - r, y); ctx.closePath();
  } else if (node.kind === "token" || node.kind === "component") ctx.roundRect(x - r, y - r, 2 * r, 2 * r, r * 0.4);
  else if (node.kind === "target") ctx.roundRect(x - r * 1.5, y - r, 3 * r, 2 * r, r);
  else { ctx.moveTo(x + r, y); ctx.arc(x, y, r, 0, 2 * Math.PI); }
}

/** Rows in turn light and lighter, the edges of used columns, the column in focus. */
export function drawBands(ctx, scene) {
  const { view, camera, colours, width, height, foot, focus } = scene, bottom = height - foot;
  view.rows.forEach((row, i) => {
    const top = screen(camera, 0, row.high).y, base = screen(camera, 0, row.low).y;
    ctx.fillStyle = i % 2 ? colours.surface : colours.band;
    ctx.fillRect(0, top, width, base - top);
  });
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  for (const column of view.columns) {
    const left = Math.round(screen(camera, column.low, 0).x) + 0.5,
      right = Math.round(screen(camera, column.high, 0).x) + 0.5;
    if (!column.used || right < GUTTER || left > width) continue;
    ctx.beginPath();
    ctx.moveTo(left, 0); ctx.lineTo(left, bottom); ctx.moveTo(right, 0); ctx.lineTo(right, bottom);
    ctx.stroke();
  }
  const column = view.columns[focus];
  if (column) {
    ctx.globalAlpha = 0.09;
    ctx.fillStyle = colours.accent;
    ctx.fillRect(screen(camera, column.low, 0).x, 0, (column.high - column.low) * camera.sx, bottom);
    ctx.globalAlpha = 1;
  }
}

/** Where the nodes are on the screen, once per frame. */
export function placed(view, camera) {
  const x = new Float32Array(view.nodes.length), y = new Float32Array(view.nodes.length);
  for (const node of view.nodes) {
    const p = screen(camera, node.x, node.y);
    x[node.i] = p.x;
    y[node.i] = p.y;
  }
  return { x, y };
}

/** The chosen links, the strongest on top. */
export function drawLinks(ctx, scene) {
  const { view, colours, links, marks, centre, width, at } = scene, { source, target, low } = view.links,
    many = links.length > MANY;
  for (let k = links.length - 1; k >= 0; k--) {
    const i = links[k], from = source[i], to = target[i], weight = view.weights[i] ?? 0;
    const ax = at.x[from], ay = at.y[from], bx = at.x[to], by = at.y[to];
    if ((ax < GUTTER && bx < GUTTER) || (ax > width && bx > width)) continue;
    const own = centre && (from === centre.i || to === centre.i), onPath = marks?.shares.get(from * view.nodes.length + to);
    const dim = marks ? (onPath == null && !own ? 0.12 : 1) : centre ? (own ? 1 : 0.12) : 0.8;
    const part = Math.sqrt(Math.abs(weight) / view.widest), thin = many && k >= MANY && !own && onPath == null;
    ctx.strokeStyle = tint(colours, view.borrowed ? 0 : weight);
    ctx.lineWidth = thin ? 1 : onPath != null ? 1.6 + 5 * Math.sqrt(onPath / marks.top) : 0.7 + 4.6 * part;
    ctx.globalAlpha = onPath != null ? 0.95 : dim * (0.18 + 0.6 * part) * (low && !significant(linkAt(view, i))
      ? 0.4 : 1) * (thin ? 0.7 : 1);
    ctx.setLineDash(weight < 0 && !thin && !view.borrowed ? DASH : SOLID);
    const bend = Math.max(12, Math.abs(ay - by) * 0.45);
    ctx.beginPath();
    ctx.moveTo(ax, ay);
    ctx.bezierCurveTo(ax, ay - bend, bx, by + bend, bx, by);
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
  ctx.setLineDash(SOLID);
}

/** Whether a node is drawn pale: off the chosen paths, away from the chosen node, or not found by the search. */
export function isDim({ near, marks, found }, node) {
  return Boolean((near && !near.has(node.i)) || (marks && !near && !marks.nodes.has(node.i))
    || (found && !found.has(node.i)));
}

/** Nodes in batches of one look, then what single nodes carry: whiskers, verification marks, rings. Returns those inside. */
export function drawNodes(ctx, scene) {
  const { view, camera, colours, mask, width, height, foot, at } = scene, looks = new Map(), inside = [];
  for (const node of view.nodes) {
    if (!mask[node.i]) continue;
    const x = at.x[node.i], y = at.y[node.i], r = radius(view, node, camera);
    if (x < GUTTER - r || x > width + r || y < -r || y > height - foot + r) continue;
    const sign = node.kind === "target" ? 2 : Math.sign(node.effect ?? 0), dim = isDim(scene, node);
    const solid = node.kind !== "error" && (view.control != null || significant(node)),
      key = sign * 4 + (solid ? 2 : 0) + (dim ? 1 : 0);
    const item = { node, x, y, r, dim };
    inside.push(item);
    if (looks.has(key)) looks.get(key).items.push(item);
    else looks.set(key, { sign, solid, dim, items: [item] });
  }
  for (const { sign, solid, dim, items } of looks.values()) {
    const colour = sign === 2 ? colours.ink : tint(colours, sign),
      outlined = !solid || dim || (sign < 0 && items.length < MANY);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.5;
    ctx.setLineDash(sign < 0 && items.length < MANY ? [3, 2] : SOLID);
    for (let start = 0; start < items.length; start += BATCH) {
      const end = Math.min(items.length, start + BATCH);
      ctx.beginPath();
      for (let k = start; k < end; k++) trace(ctx, items[k].node, items[k].x, items[k].y, items[k].r);
      if (!solid || dim) {
        ctx.fillStyle = colours.surface;
        ctx.fill();
      }
      ctx.globalAlpha = (dim ? 0.25 : 1) * (solid ? 1 : 0.14);
      ctx.fillStyle = colour;
      ctx.fill();
      ctx.globalAlpha = dim ? 0.25 : 1;
      if (outlined) ctx.stroke();
      ctx.globalAlpha = 1;
    }
  }
  ctx.setLineDash(SOLID);
  for (const item of inside) drawMarks(ctx, scene, item);
  return inside;
}

function drawMarks(ctx, scene, { node, x, y, r, dim }) {
  const { view, camera, colours, selected, hovered, pinned, found, gathered } = scene;
  const bounds = interval(view, node);
  if (bounds && r > 7 && node.kind !== "target" && !dim) whisker(ctx, x, y,
    bounds.map(value => signedRadius(view, node, camera, value)), tint(colours, node.effect), colours.surface);
  if (node.verified != null && !view.control && node.kind !== "target" && r > 4.5) {
    ctx.globalAlpha = dim ? 0.3 : 1;
    ctx.fillStyle = significant(node) && node.kind !== "error" ? colours.surface : tint(colours, node.effect);
    ctx.beginPath();
    ctx.arc(x, y, Math.min(2.6, r * 0.3), 0, 2 * Math.PI);
    ctx.fill();
    ctx.globalAlpha = 1;
  }
  const chosen = hovered ?? selected;
  if (!chosen && !pinned.size && !found && !gathered) return;
  const same = chosen != null && node.base === chosen.base;
  if (!same && !pinned.has(node.id) && !found?.has(node.i) && !gathered?.has(node.id)) return;
  ctx.lineWidth = node === selected || node === hovered ? 2.6 : 1.6;
  ctx.strokeStyle = gathered?.has(node.id) ? colours.path : pinned.has(node.id) && !same ? colours.ink : colours.accent;
  outline(ctx, node, x, y, r + 4);
  ctx.stroke();
}

/** The radius that stands for a bound of the interval; a bound beyond zero ends at the centre. */
function signedRadius(view, node, camera, value) {
  return value * (node.effect ?? 0) <= 0 ? 0 : radius(view, node, camera, value);
}

function whisker(ctx, x, y, [from, to], colour, halo) {
  const low = Math.min(from, to), high = Math.max(from, to), cos = Math.SQRT1_2, cap = 3;
  for (const [style, wide] of [[halo, 3.4], [colour, 1.4]]) {
    ctx.strokeStyle = style;
    ctx.lineWidth = wide;
    ctx.beginPath();
    ctx.moveTo(x + low * cos, y - low * cos);
    ctx.lineTo(x + high * cos, y - high * cos);
    for (const end of [low, high]) {
      ctx.moveTo(x + end * cos - cap * cos, y - end * cos - cap * cos);
      ctx.lineTo(x + end * cos + cap * cos, y - end * cos + cap * cos);
    }
    ctx.stroke();
  }
}

/** The chosen node with everything it is joined to. */
export function nearSet(view, centre) {
  if (!centre) return null;
  const { ins, outs } = neighbours(view, centre), { source, target } = view.links;
  return new Set([centre.i, ...ins.map(i => source[i]), ...outs.map(i => target[i])]);
}
