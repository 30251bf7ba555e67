import { showToken, significant } from "./graph.js";

// Everything that goes onto the canvas. World units are node pitches; y grows upwards.

export const GUTTER = 72, HEAD = 14;

/** Screen position of a world point. */
export function screen(camera, x, y) {
  return { x: GUTTER + (x - camera.x) * camera.sx, y: HEAD + (camera.height - y) * camera.sy + camera.dy };
}

/** Radius of a node in pixels: area grows with |effect|. */
export function radius(view, node, camera) {
  const room = Math.max(3.5, Math.min(camera.sx, camera.sy, 46) * 0.42);
  if (node.kind === "target") return Math.min(15, Math.max(9, room));
  if (node.kind === "token") return Math.min(6, room * 0.55);
  return Math.max(2.5, room * (0.34 + 0.66 * Math.sqrt(Math.abs(node.effect ?? 0) / view.maxEffect)));
}

/** Colours of the page's theme. */
export function palette(element) {
  const style = getComputedStyle(element);
  const read = name => style.getPropertyValue(`--ec-${name}`).trim();
  return Object.fromEntries(["surface", "band", "ink", "muted", "line", "positive", "negative", "accent", "neutral"].map(name => [name, read(name)]));
}

function outline(ctx, node, x, y, r) {
  ctx.beginPath();
  if (node.kind === "error") { ctx.moveTo(x, y - r); ctx.lineTo(x + r, y); ctx.lineTo(x, y + r); ctx.lineTo(x - r, y); ctx.closePath(); }
  else if (node.kind === "token" || node.kind === "component") ctx.roundRect(x - r, y - r, 2 * r, 2 * r, r * 0.4);
  else if (node.kind === "target") ctx.roundRect(x - r * 1.5, y - r, 3 * r, 2 * r, r);
  else ctx.arc(x, y, r, 0, 2 * Math.PI);
}

function drawBands(ctx, scene) {
  const { view, camera, colours, width, height, foot, focus } = scene;
  const bottom = height - foot;
  view.rows.forEach((row, i) => {
    const top = screen(camera, 0, row.high).y, base = screen(camera, 0, row.low).y;
    ctx.fillStyle = i % 2 ? colours.surface : colours.band;
    ctx.fillRect(0, top, width, base - top);
  });
  ctx.save();
  ctx.beginPath(); ctx.rect(GUTTER, 0, width - GUTTER, bottom); ctx.clip();
  for (const column of view.columns) {
    if (!column.used) continue;
    const left = screen(camera, column.low, 0).x, right = screen(camera, column.high, 0).x;
    if (right < GUTTER || left > width) continue;
    ctx.strokeStyle = colours.line; ctx.lineWidth = 1; ctx.globalAlpha = 0.8;
    ctx.beginPath(); ctx.moveTo(Math.round(left) + 0.5, 0); ctx.lineTo(Math.round(left) + 0.5, bottom);
    ctx.moveTo(Math.round(right) + 0.5, 0); ctx.lineTo(Math.round(right) + 0.5, bottom); ctx.stroke();
    ctx.globalAlpha = 1;
  }
  if (focus != null && view.columns[focus]) {
    const column = view.columns[focus], left = screen(camera, column.low, 0).x;
    ctx.globalAlpha = 0.09; ctx.fillStyle = colours.accent;
    ctx.fillRect(left, 0, (column.high - column.low) * camera.sx, bottom); ctx.globalAlpha = 1;
  }
  ctx.restore();
}

function drawLink(ctx, scene, link, strength) {
  const { view, camera, colours } = scene;
  const a = screen(camera, link.source.x, link.source.y), b = screen(camera, link.target.x, link.target.y);
  const share = Math.abs(link.weight) / view.maxWeight, negative = link.weight < 0;
  ctx.strokeStyle = negative ? colours.negative : colours.positive;
  ctx.lineWidth = 0.6 + 5 * Math.sqrt(share) * (strength > 0.9 ? 1 : 0.75);
  ctx.globalAlpha = strength * (0.16 + 0.62 * Math.sqrt(share)) * (significant(link) ? 1 : 0.4);
  ctx.setLineDash(negative ? [6, 4] : []);
  const bend = Math.max(14, Math.abs(a.y - b.y) * 0.45);
  ctx.beginPath(); ctx.moveTo(a.x, a.y); ctx.bezierCurveTo(a.x, a.y - bend, b.x, b.y + bend, b.x, b.y); ctx.stroke();
}

function drawNode(ctx, scene, node, dim) {
  const { view, camera, colours, selected, hovered, pinned, found } = scene;
  const { x, y } = screen(camera, node.x, node.y), r = radius(view, node, camera);
  const solid = significant(node) && node.kind !== "error";
  const colour = node.kind === "target" ? colours.ink : !node.effect ? colours.neutral : node.effect > 0 ? colours.positive : colours.negative;
  outline(ctx, node, x, y, r);
  ctx.globalAlpha = 1; ctx.fillStyle = colours.surface; ctx.setLineDash([]); ctx.fill();
  ctx.globalAlpha = dim ? 0.22 : 1;
  ctx.fillStyle = colour; ctx.strokeStyle = colour;
  if (solid) { ctx.globalAlpha *= 0.9; ctx.fill(); } else { ctx.globalAlpha *= 0.14; ctx.fill(); ctx.globalAlpha = dim ? 0.22 : 1; }
  ctx.lineWidth = 1.6; ctx.setLineDash(node.effect < 0 && node.kind !== "target" ? [3, 2] : []); ctx.stroke(); ctx.setLineDash([]);
  if (node.verified != null && r > 4.5 && solid && node.kind !== "target") {
    ctx.globalAlpha = dim ? 0.3 : 1; ctx.fillStyle = colours.surface;
    ctx.beginPath(); ctx.arc(x, y, Math.min(2.6, r * 0.3), 0, 2 * Math.PI); ctx.fill();
  }
  const base = (hovered ?? selected)?.base;
  if (base && node.base === base || pinned.has(node.id) || found?.has(node.i)) {
    ctx.globalAlpha = 1; ctx.lineWidth = node === selected || node === hovered ? 2.4 : 1.5;
    ctx.strokeStyle = pinned.has(node.id) && node.base !== base ? colours.ink : colours.accent;
    outline(ctx, node, x, y, r + 4); ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

function drawLabels(ctx, scene, nodes, near) {
  const { view, camera, colours, selected, hovered, pinned, width, height, foot } = scene;
  const taken = nodes.map(node => { const p = screen(camera, node.x, node.y), r = radius(view, node, camera) + 1; return [p.x - r, p.y - r, p.x + r, p.y + r, node]; });
  const wanted = node => (node === hovered ? 8 : 0) + (node === selected ? 4 : 0) + (node.kind === "target" ? 3 : 0) + (near?.has(node.i) ? 2 : 0) + (pinned.has(node.id) ? 2 : 0);
  const order = nodes.filter(node => node.kind !== "token" && (node.kind !== "error" || wanted(node))).sort((a, b) => wanted(b) - wanted(a) || Math.abs(b.effect ?? 0) - Math.abs(a.effect ?? 0)).slice(0, 80);
  ctx.lineJoin = "round"; ctx.textBaseline = "middle";
  for (const node of order) {
    const ringed = pinned.has(node.id) || node.base === (hovered ?? selected)?.base;
    const { x, y } = screen(camera, node.x, node.y), r = radius(view, node, camera) * (node.kind === "target" ? 1.5 : 1) + (ringed ? 4 : 0);
    ctx.font = `${node === selected || node.kind === "target" ? 600 : 500} 11.5px ${scene.font}`;
    const text = node.label.length > 26 ? node.label.slice(0, 25) + "…" : node.label, w = ctx.measureText(text).width;
    const spots = [[x + r + 6, y, "left"], [x, y - r - 10, "center"], [x - r - 6, y, "right"], [x, y + r + 10, "center"]];
    for (const [tx, ty, align] of spots) {
      const left = align === "left" ? tx : align === "right" ? tx - w : tx - w / 2, box = [left - 2, ty - 7, left + w + 2, ty + 7];
      if (box[0] < GUTTER + 2 || box[2] > width - 3 || box[1] < 1 || box[3] > height - foot) continue;
      if (taken.some(t => t[4] !== node && t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1])) continue;
      taken.push([...box, null]);
      ctx.textAlign = align; ctx.strokeStyle = colours.surface; ctx.lineWidth = 4; ctx.globalAlpha = 0.85; ctx.strokeText(text, tx, ty);
      ctx.globalAlpha = near && !near.has(node.i) && !wanted(node) ? 0.35 : 1; ctx.fillStyle = colours.ink; ctx.fillText(text, tx, ty); ctx.globalAlpha = 1;
      break;
    }
  }
}

function drawFrame(ctx, scene) {
  const { view, camera, colours, width, height, foot, focus, font } = scene;
  const bottom = height - foot;
  ctx.fillStyle = colours.surface; ctx.fillRect(0, bottom, width, foot);
  view.rows.forEach((row, i) => {
    const top = Math.max(0, screen(camera, 0, row.high).y), base = Math.min(bottom, screen(camera, 0, row.low).y);
    if (base <= top) return;
    ctx.fillStyle = i % 2 ? colours.surface : colours.band; ctx.fillRect(0, top, GUTTER, base - top);
    if (base - top < 11) return;
    ctx.fillStyle = colours.muted; ctx.font = `500 11px ${font}`; ctx.textAlign = "right"; ctx.textBaseline = "middle";
    ctx.fillText(row.label, GUTTER - 12, (top + base) / 2);
  });
  ctx.strokeStyle = colours.line; ctx.lineWidth = 1; ctx.globalAlpha = 1; ctx.setLineDash([]);
  ctx.beginPath(); ctx.moveTo(GUTTER + 0.5, 0); ctx.lineTo(GUTTER + 0.5, height); ctx.moveTo(0, bottom + 0.5); ctx.lineTo(width, bottom + 0.5); ctx.stroke();
  if (!foot || !view.columns.length) return;
  ctx.fillStyle = colours.muted; ctx.font = `500 11px ${font}`; ctx.textAlign = "right"; ctx.textBaseline = "middle"; ctx.fillText("prompt", GUTTER - 12, bottom + foot / 2);
  ctx.save(); ctx.beginPath(); ctx.rect(GUTTER + 1, bottom, width - GUTTER, foot); ctx.clip();
  view.columns.forEach((column, i) => {
    const left = screen(camera, column.low, 0).x, room = (column.high - column.low) * camera.sx, x = left + room / 2;
    if (x < GUTTER || x > width + 20 || (room < 9 && i !== focus)) return;
    ctx.font = `${column.used ? 600 : 400} 11px ${font}`;
    ctx.fillStyle = i === focus ? colours.accent : column.used ? colours.ink : colours.muted;
    let text = showToken(column.label);
    if (text.length > 14) text = text.slice(0, 13) + "…";
    if (ctx.measureText(text).width < room - 4) { ctx.textAlign = "center"; ctx.fillText(text, x, bottom + 14); return; }
    ctx.save(); ctx.translate(x, bottom + 8); ctx.rotate(-Math.PI / 2); ctx.textAlign = "right"; ctx.fillText(text, 0, 0); ctx.restore();
  });
  ctx.restore();
}

/** Paints one frame. `scene` holds view, camera, colours, sizes, what is shown, selected, hovered, pinned, found. */
export function paint(ctx, scene) {
  const { view, links, shown, selected, hovered, width, height, foot, ratio } = scene;
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  drawBands(ctx, scene);
  const centre = hovered ?? selected;
  const near = centre ? new Set([centre.i, ...centre.ins.map(l => l.source.i), ...centre.outs.map(l => l.target.i)]) : null;
  ctx.save();
  ctx.beginPath(); ctx.rect(GUTTER, 0, width - GUTTER, height - foot); ctx.clip();
  for (let i = links.length - 1; i >= 0; i--) {
    const own = centre && (links[i].source === centre || links[i].target === centre);
    drawLink(ctx, scene, links[i], !centre ? 0.75 : own ? 1 : 0.1);
  }
  const nodes = view.nodes.filter(node => shown.has(node.i));
  for (const node of [...nodes].sort((a, b) => Math.abs(a.effect ?? 0) - Math.abs(b.effect ?? 0)))
    drawNode(ctx, scene, node, (near && !near.has(node.i)) || (scene.found && !scene.found.has(node.i)));
  drawLabels(ctx, scene, nodes, near);
  ctx.restore();
  drawFrame(ctx, scene);
}
