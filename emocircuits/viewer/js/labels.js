import { GUTTER, radius, screen } from "./camera.js";
import { drawBands, drawLinks, drawNodes, nearSet, placed } from "./paint.js";
import { clip, showToken } from "./words.js";

// Text on the canvas: names next to nodes where there is room, rows at the left, words of the prompt below; and one frame.

const LABELS = 80;

function drawLabels(ctx, scene, inside) {
  const { colours, selected, hovered, pinned, marks, near, width, height, foot, name } = scene;
  const taken = inside.map(({ node, x, y, r }) => [x - r - 1, y - r - 1, x + r + 1, y + r + 1, node]);
  const wanted = node => (node === hovered ? 16 : 0) + (node === selected ? 8 : 0) + (node.kind === "target" ? 6 : 0)
    + (marks?.nodes.has(node.i) ? 4 : 0) + (near?.has(node.i) ? 2 : 0) + (pinned.size && pinned.has(node.id) ? 2 : 0);
  const order = [];
  for (const item of inside) {
    if (item.node.kind === "token") continue;
    const wish = wanted(item.node);
    if (wish || item.node.kind !== "error") order.push({ ...item,
      worth: wish + Math.abs(item.node.effect ?? 0) / scene.view.scale });
  }
  order.sort((a, b) => b.worth - a.worth);
  ctx.lineJoin = "round";
  ctx.textBaseline = "middle";
  for (const { node, x, y, r: bare } of order.slice(0, LABELS)) {
    const chosen = hovered ?? selected, ringed = (pinned.size && pinned.has(node.id))
      || (chosen && node.base === chosen.base);
    const r = bare * (node.kind === "target" ? 1.5 : 1) + (ringed ? 4 : 0);
    ctx.font = `${node === selected || node.kind === "target" ? 600 : 500} 11.5px ${scene.font}`;
    const text = clip(name(node), width < 560 ? 18 : node.kind === "target" ? 44 : 26), wide = ctx.measureText(text).width;
    const spots = [[x + r + 6, y, "left"], [x, y - r - 10, "center"], [x - r - 6, y, "right"], [x, y + r + 10, "center"]];
    for (const [tx, ty, align] of spots) {
      const left = align === "left" ? tx : align === "right" ? tx - wide : tx - wide / 2,
        box = [left - 3, ty - 8, left + wide + 3, ty + 8];
      if (box[0] < GUTTER + 2 || box[2] > width - 3 || box[1] < 1 || box[3] > height - foot) continue;
      if (taken.some(t => t[4] !== node && t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1])) continue;
      taken.push([...box, null]);
      ctx.textAlign = align;
      ctx.strokeStyle = colours.surface;
      ctx.lineWidth = 4;
      ctx.globalAlpha = 0.85;
      ctx.strokeText(text, tx, ty);
      ctx.globalAlpha = (near && !near.has(node.i)) || (marks && !near && !marks.nodes.has(node.i) && !wanted(node))
        ? 0.4 : 1;
      ctx.fillStyle = colours.ink;
      ctx.fillText(text, tx, ty);
      ctx.globalAlpha = 1;
      break;
    }
  }
}

function drawFrame(ctx, scene) {
  const { view, camera, colours, width, height, foot, focus, font } = scene, bottom = height - foot;
  ctx.globalAlpha = 1;
  ctx.fillStyle = colours.surface;
  ctx.fillRect(0, bottom, width, foot);
  ctx.textBaseline = "middle";
  ctx.font = `500 11px ${font}`;
  view.rows.forEach((row, i) => {
    const top = Math.max(0, screen(camera, 0, row.high).y), base = Math.min(bottom, screen(camera, 0, row.low).y);
    if (base <= top) return;
    ctx.fillStyle = i % 2 ? colours.surface : colours.band;
    ctx.fillRect(0, top, GUTTER, base - top);
    if (base - top < 11) return;
    ctx.fillStyle = colours.muted;
    ctx.textAlign = "right";
    ctx.fillText(row.label, GUTTER - 10, (top + base) / 2);
  });
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  ctx.setLineDash([]);
  ctx.beginPath();
  ctx.moveTo(GUTTER + 0.5, 0); ctx.lineTo(GUTTER + 0.5, height); ctx.moveTo(0, bottom + 0.5);
    ctx.lineTo(width, bottom + 0.5);
  ctx.stroke();
  if (!view.columns.length) return;
  ctx.fillStyle = colours.muted;
  ctx.textAlign = "right";
  ctx.fillText("prompt", GUTTER - 10, bottom + foot / 2);
  ctx.save();
  ctx.beginPath();
  ctx.rect(GUTTER + 1, bottom, width - GUTTER, foot);
  ctx.clip();
  let free = GUTTER;
  view.columns.forEach((column, i) => {
    const left = screen(camera, column.low, 0).x, room = (column.high - column.low) * camera.sx, x = left + room / 2;
    if (x < GUTTER || x > width + 20 || (room < 9 && i !== focus && !column.used)) return;
    ctx.font = `${column.used ? 600 : 400} 11px ${font}`;
    ctx.fillStyle = i === focus ? colours.accent : column.used ? colours.ink : colours.muted;
    const text = clip(showToken(column.label), 14);
    if (ctx.measureText(text).width < room - 4) {
      ctx.textAlign = "center";
      ctx.fillText(text, x, bottom + 14);
      return;
    }
    if (x - free < 11 && i !== focus) return; // turned words closer than a line are left out, not printed over each other
    free = x;
    ctx.save();
    ctx.translate(x, bottom + 8);
    ctx.rotate(-Math.PI / 2);
    ctx.textAlign = "right";
    ctx.fillText(text, 0, 0);
    ctx.restore();
  });
  ctx.restore();
}

/** Paints one frame of a scene: view, camera, colours, sizes, and what is shown, chosen, hovered, pinned, found, marked. */
export function paint(ctx, scene) {
  const { view, selected, hovered, width, height, foot } = scene;
  ctx.fillStyle = scene.colours.surface;
  ctx.fillRect(0, 0, width, height);
  scene.centre = hovered ?? selected;
  scene.near = nearSet(view, scene.centre);
  scene.at = placed(view, scene.camera);
  ctx.save();
  ctx.beginPath();
  ctx.rect(GUTTER, 0, width - GUTTER, height - foot);
  ctx.clip();
  drawBands(ctx, scene);
  drawLinks(ctx, scene);
  drawLabels(ctx, scene, drawNodes(ctx, scene));
  ctx.restore();
  drawFrame(ctx, scene);
}
