import { columnAt, fitted, footer, GUTTER, HEAD, nearest, radius, revealing, screen, zoomed } from "./camera.js";
import { nextNode } from "./choose.js";
import { interval, place } from "./graph.js";
import { paint } from "./labels.js";
import { palette } from "./paint.js";
import { bracket } from "./plots.js";
import { SvgContext } from "./svgcontext.js";
import { h, show } from "./words.js";

// The canvas with its pointer, keys and tooltip. `get()` says what is shown; `tools` act on what the reader does.

/** The stage of one viewer. */
export function canvasStage(get, tools, most) {
  const canvas = h("canvas", { tabindex: 0, role: "application", "aria-roledescription": "circuit diagram" });
  const tip = h("div", { class: "ec-tip", role: "tooltip", hidden: true });
  const button = (label, text, act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act },
    text);
  const element = h("div", { class: "ec-stage" }, canvas, tip,
    h("div", { class: "ec-tools" }, button("Zoom in", "+", () => zoom(1.25)),
    button("Zoom out", "−", () => zoom(0.8)), button("Show everything", "⤢", () => { fit(); draw(); })));
  const ctx = canvas.getContext("2d", { alpha: false });
  let camera = {}, size = { width: 0, height: 0 }, frame = 0, drag = null, moved = false, hovered = null, focus = null,
    colours = {}, fits = false;
  let painted = () => {};

  function fit() {
    camera = fitted(get().view, size);
    fits = true;
  }

  /** Takes the room there is; the height follows the rows of the view. */
  function resize() {
    const { view } = get(), width = Math.max(240, element.clientWidth);
    const height = Math.round(Math.max(Math.min(400, most ?? 400),
      Math.min(most ?? 620, view.height * 54 + footer(view) + HEAD)));
    if (width === size.width && height === size.height && fits) return;
    size = { width, height };
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    fit();
    draw();
  }

  function scene() {
    const shown = get();
    return { ...shown, ...size, camera, colours, hovered, focus, foot: footer(shown.view),
      font: getComputedStyle(element).fontFamily };
  }

  function draw() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      const ratio = window.devicePixelRatio || 1;
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      paint(ctx, scene());
      painted();
    });
  }

  function zoom(factor, at = { x: (size.width + GUTTER) / 2, y: size.height / 2 }) {
    camera = zoomed(camera, factor, at);
    draw();
  }

  /** Shows the tooltip of a node and marks a token column; nulls clear both. */
  function point(node, column) {
    if (node === hovered && column === focus) return;
    hovered = node;
    focus = column;
    tip.hidden = !node;
    canvas.style.cursor = node ? "pointer" : "default";
    tools.column(column);
    if (node) describe(node);
    draw();
  }

  function describe(node) {
    const { view, name } = get(), bounds = interval(view, node), verified = view.control ? null : node.verified;
    tip.replaceChildren(h("b", {}, name(node)), h("span", {}, place(view, node)),
      node.effect != null && h("span", {}, `effect ${show(node.effect, true)} ${bounds ? bracket(...bounds) : ""}`),
      verified != null && h("span", {}, `verified ${show(verified, true)}`));
    const p = screen(camera, node.x, node.y), wide = tip.offsetWidth, tall = tip.offsetHeight;
    tip.style.left = `${Math.max(4, Math.min(size.width - wide - 4, p.x - wide / 2))}px`;
    tip.style.top = `${p.y - tall - 18 < 2 ? p.y + 20 : p.y - tall - 18}px`;
  }

  const at = event => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const under = p => nearest(get().view, camera, get().mask, p.x, p.y);

  canvas.addEventListener("pointerdown", event => {
    drag = { ...at(event), cx: camera.x, dy: camera.dy };
    moved = false;
  });
  canvas.addEventListener("pointermove", event => {
    const p = at(event);
    if (!drag || !event.buttons) {
      const node = under(p);
      return point(node, columnAt(get().view, camera, p.x) ?? node?.position ?? null);
    }
    if (!moved && Math.hypot(p.x - drag.x, p.y - drag.y) > 4) {
      moved = true;
      point(null, null);
      canvas.setPointerCapture?.(event.pointerId);
    }
    if (!moved) return;
    const dy = event.pointerType === "touch" ? drag.dy : drag.dy + p.y - drag.y; // a finger's up and down scrolls the page
    camera = { ...camera, x: drag.cx - (p.x - drag.x) / camera.sx, dy };
    canvas.style.cursor = "grabbing";
    draw();
  });
  canvas.addEventListener("pointerleave", () => { if (!drag || !moved) point(null, null); });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerup", event => {
    const node = under(at(event)), was = moved;
    drag = null;
    moved = false;
    if (was) return;
    if (event.ctrlKey || event.metaKey) { if (node) tools.pin(node.id); } else tools.click(node?.id ?? null);
  });
  canvas.addEventListener("wheel", event => {
    if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY / 300), at(event));
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { camera = { ...camera,
      x: camera.x + event.deltaX / camera.sx }; draw(); } else return;
    event.preventDefault();
  }, { passive: false });

  function step(dx, dy) {
    const { view, mask, selected } = get();
    const first = () => view.nodes.find(node => node.kind === "target") ?? view.nodes.find(node => mask[node.i]);
    const next = selected ? nextNode(view, mask, selected, dx, dy) : first();
    if (!next) return;
    camera = revealing(camera, view, next, size);
    tools.select(next.id);
  }
  const keys = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, 1), ArrowDown: () => step(0, -1),
    Enter: () => (get().selected ? tools.card() : step(0, 0)), Escape: () => { point(null, null); tools.escape(); },
      "/": tools.search,
    p: () => tools.pin(get().selected?.id), "+": () => zoom(1.25), "-": () => zoom(0.8), 0: () => { fit(); draw(); },
  };
  canvas.addEventListener("keydown", event => {
    const run = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!run) return;
    event.preventDefault();
    run();
  });

  const theme = matchMedia("(prefers-color-scheme: dark)"), watcher = new ResizeObserver(resize);
  const retheme = () => { colours = palette(element); draw(); };
  theme.addEventListener("change", retheme);

  return {
    element, canvas, draw, point,
    hovered: () => hovered,
    /** Starts drawing once the stage is in the page; `done` is called after the first frame. */
    begin(done) {
      painted = () => { painted = () => {}; done(); };
      colours = palette(element);
      resize();
      watcher.observe(element);
    },
    /** Goes to another view: its own camera, nothing under the pointer. */
    reopen() { hovered = focus = null; tip.hidden = true; fits = false; resize(); },
    reveal(node) { camera = revealing(camera, get().view, node, size); },
    /** Position of a node in the window. */
    pos(node) {
      const box = canvas.getBoundingClientRect(), p = screen(camera, node.x, node.y);
      return { x: box.left + p.x, y: box.top + p.y, r: radius(get().view, node, camera) };
    },
    /** Moves the picture by pixels. */
    pan(dx, dy) { camera = { ...camera, x: camera.x - dx / camera.sx, dy: camera.dy + dy }; draw(); },
    /** The picture at twice the screen's resolution, as a canvas. */
    picture() {
      const large = h("canvas", { width: size.width * 2, height: size.height * 2 }), pen = large.getContext("2d");
      pen.scale(2, 2);
      paint(pen, { ...scene(), hovered: null, focus: null });
      return large;
    },
    /** The picture as SVG text. */
    svg() {
      const pen = new SvgContext(size.width, size.height,
        (font, text) => { ctx.font = font; return ctx.measureText(text); });
      paint(pen, { ...scene(), hovered: null, focus: null });
      return pen.text();
    },
    destroy() { watcher.disconnect(); theme.removeEventListener("change", retheme); cancelAnimationFrame(frame); },
  };
}
