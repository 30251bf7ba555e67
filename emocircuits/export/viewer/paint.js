import { GUTTER, radius, screen } from "./camera.js";
import { interval, linkAt, neighbours, significant } from "./graph.js";

// Bands, links and nodes on the canvas. Colour is the sign; besides it: dashes are negative, diamonds SAE errors.

const MANY = 400; // from here on weaker links are hairlines: wide curves are what a frame without a GPU spends its time on

/** Colours of the page's theme. */
export function palette(element) {
  const style = getComputedStyle(element), names = ["surface", "band", "ink", "muted", "line", "positive", "negative", "accent", "path", "neutral"];
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
    const left = Math.round(screen(camera, column.low, 0).x) + 0.5, right = Math.round(screen(camera, column.high, 0).x) + 0.5;
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

/** The chosen links, the strongest on top. */
export function drawLinks(ctx, scene) {
  const { view, camera, colours, links, marks, centre, width } = scene, at = view.nodes.map(() => null);
  const place = i => (at[i] ??= screen(camera, view.nodes[i].x, view.nodes[i].y));
  const { source, target } = view.links, many = links.length > MANY;
  for (let k = links.length - 1; k >= 0; k--) {
    const i = links[k], a = place(source[i]), b = place(target[i]), weight = view.weights[i] ?? 0;
    if ((a.x < GUTTER && b.x < GUTTER) || (a.x > width && b.x > width)) continue;
    const own = centre && (source[i] === centre.i || target[i] === centre.i);
    const onPath = marks?.shares.get(source[i] * view.nodes.length + target[i]);
    const dim = marks ? (onPath == null && !own ? 0.12 : 1) : centre ? (own ? 1 : 0.12) : 0.8;
    const part = Math.sqrt(Math.abs(weight) / view.widest), thin = many && k >= MANY && !own && onPath == null;
    ctx.strokeStyle = tint(colours, weight);
    ctx.lineWidth = thin ? 1 : onPath != null ? 1.6 + 5 * Math.sqrt(onPath / marks.top) : 0.7 + 4.6 * part;
    ctx.globalAlpha = dim * (0.18 + 0.6 * part) * (faintLink(view, i) ? 0.4 : 1) * (thin ? 0.7 : 1);
    if (onPath != null) ctx.globalAlpha = 0.95;
    ctx.setLineDash(weight < 0 && !thin ? [6, 4] : []);
    const bend = Math.max(12, Math.abs(a.y - b.y) * 0.45);
    ctx.beginPath();
    ctx.moveTo(a.x, a.y);
    ctx.bezierCurveTo(a.x, a.y - bend, b.x, b.y + bend, b.x, b.y);
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
  ctx.setLineDash([]);
}

const faintLink = (view, i) => view.links.low && !significant(linkAt(view, i));

/** Whether a node is drawn pale: beside the chosen paths, away from the chosen node, or not found by the search. */
export function isDim(scene, node) {
  const { near, marks, found } = scene;
  return Boolean((near && !near.has(node.i)) || (marks && !near && !marks.nodes.has(node.i)) || (found && !found.has(node.i)));
}

/** Nodes in batches of one look, then what single nodes carry: whiskers, verification marks, rings. */
export function drawNodes(ctx, scene) {
  const { view, camera, colours, mask, width, height, foot } = scene, looks = new Map(), inside = [];
  for (const node of view.nodes) {
    if (!mask[node.i]) continue;
    const { x, y } = screen(camera, node.x, node.y), r = radius(view, node, camera);
    if (x < GUTTER - r || x > width + r || y < -r || y > height - foot + r) continue;
    inside.push({ node, x, y, r });
    const colour = node.kind === "target" ? colours.ink : tint(colours, node.effect);
    const solid = node.kind !== "error" && (view.control || significant(node));
    const key = `${colour}|${solid}|${isDim(scene, node)}|${node.effect < 0 && node.kind !== "target"}`;
    if (!looks.has(key)) looks.set(key, { colour, solid, dim: isDim(scene, node), dashed: node.effect < 0 && node.kind !== "target", items: [] });
    looks.get(key).items.push({ node, x, y, r });
  }
  for (const look of looks.values()) {
    for (let start = 0; start < look.items.length; start += 64) {
      const items = look.items.slice(start, start + 64);
      ctx.beginPath();
      for (const { node, x, y, r } of items) trace(ctx, node, x, y, r);
      ctx.globalAlpha = 1;
      ctx.fillStyle = colours.surface;
      ctx.fill();
      ctx.globalAlpha = (look.dim ? 0.25 : 1) * (look.solid ? 0.92 : 0.14);
      ctx.fillStyle = look.colour;
      ctx.fill();
      ctx.globalAlpha = look.dim ? 0.25 : 1;
      ctx.strokeStyle = look.colour;
      ctx.lineWidth = look.items.length > 1500 ? 1 : 1.5;
      ctx.setLineDash(look.dashed && look.items.length <= 1500 ? [3, 2] : []);
      ctx.stroke();
    }
  }
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
  for (const item of inside) drawMarks(ctx, scene, item);
  return inside;
}

function drawMarks(ctx, scene, { node, x, y, r }) {
  const { view, camera, colours, selected, hovered, pinned, found, gathered } = scene, dim = isDim(scene, node);
  const bounds = interval(view, node);
  if (bounds && r > 7 && node.kind !== "target" && !dim) whisker(ctx, x, y, bounds.map(value => signedRadius(view, node, camera, value)), tint(colours, node.effect), colours.surface);
  if (node.verified != null && !view.control && node.kind !== "target" && r > 4.5) {
    ctx.globalAlpha = dim ? 0.3 : 1;
    ctx.fillStyle = significant(node) && node.kind !== "error" ? colours.surface : tint(colours, node.effect);
    ctx.beginPath();
    ctx.arc(x, y, Math.min(2.6, r * 0.3), 0, 2 * Math.PI);
    ctx.fill();
    ctx.globalAlpha = 1;
  }
  const base = (hovered ?? selected)?.base, same = base && node.base === base;
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

function whisker(ctx, x, y, [one, other], colour, halo) {
  const low = Math.min(one, other), high = Math.max(one, other), cos = Math.SQRT1_2, cap = 3;
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
