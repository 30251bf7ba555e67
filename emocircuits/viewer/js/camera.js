// Where the world is on the screen. World units are node pitches and y grows upwards.

export const GUTTER = 76, HEAD = 12, REACH = 30;
const FOOT = 92;

/** Room below the grid for the words of the prompt. */
export const footer = view => (view.columns.length ? FOOT : 8);

/** Screen position of a world point. */
export function screen(camera, x, y) {
  return { x: GUTTER + (x - camera.x) * camera.sx, y: HEAD + (camera.height - y) * camera.sy + camera.dy };
}

/** The camera that shows the whole grid, or its right end (where the metric is) when nodes would become too small. */
export function fitted(view, size) {
  const room = size.width - GUTTER - 12, tall = size.height - footer(view) - HEAD;
  const sx = Math.max(11, Math.min(room / (view.width || 1), 132)), sy = Math.min(tall / (view.height || 1), 96);
  const wide = view.width * sx > room;
  return { sx, sy, height: view.height, dy: Math.max(0, (tall - view.height * sy) / 2),
    x: wide ? Math.max(0, view.width - room / sx) : Math.min(0, (view.width - room / sx) / 2) };
}

/** The camera zoomed by a factor around a point of the screen. */
export function zoomed(camera, factor, at) {
  const x = camera.x + (at.x - GUTTER) / camera.sx, y = (at.y - HEAD - camera.dy) / camera.sy;
  const sx = Math.max(3, Math.min(240, camera.sx * factor)), sy = Math.max(6, Math.min(240, camera.sy * factor));
  return { ...camera, sx, sy, x: x - (at.x - GUTTER) / sx, dy: at.y - HEAD - y * sy };
}

/** The camera moved so that a node lies inside the canvas. */
export function revealing(camera, view, node, size) {
  const p = screen(camera, node.x, node.y), left = GUTTER + 24, right = size.width - 24;
  const top = HEAD + 12, bottom = size.height - footer(view) - 12;
  const dx = p.x < left ? p.x - left : p.x > right ? p.x - right : 0,
    dy = p.y < top ? p.y - top : p.y > bottom ? p.y - bottom : 0;
  return dx || dy ? { ...camera, x: camera.x + dx / camera.sx, dy: camera.dy - dy } : camera;
}

/** Radius of a node in pixels: its area grows with |effect|. */
export function radius(view, node, camera, value = node.effect) {
  const room = Math.max(3.5, Math.min(camera.sx, camera.sy, 46) * 0.42);
  if (node.kind === "target") return Math.min(15, Math.max(9, room));
  if (node.kind === "token") return Math.min(6, room * 0.55);
  return Math.max(2.5, room * (0.34 + 0.66 * Math.sqrt(Math.min(1, Math.abs(value ?? 0) / view.scale))));
}

/** The shown node nearest to a point, within reach. */
export function nearest(view, camera, mask, x, y) {
  let best = null, least = REACH;
  for (const node of view.nodes) {
    if (!mask[node.i]) continue;
    const p = screen(camera, node.x, node.y), far = Math.hypot(p.x - x, p.y - y) - radius(view, node, camera) * 0.5;
    if (far < least) { least = far; best = node; }
  }
  return best;
}

/** The token column under a point, or null. */
export function columnAt(view, camera, x) {
  if (x <= GUTTER) return null;
  const at = camera.x + (x - GUTTER) / camera.sx,
    index = view.columns.findIndex(column => at >= column.low && at < column.high);
  return index < 0 ? null : index;
}
