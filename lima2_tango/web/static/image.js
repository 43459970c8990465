// The newest frame: what part of it is shown, its colours, and what dragging and the wheel do.
import { table } from "./colour.js";
import { $ } from "./dom.js";

const CLOSEST = 64; // screen pixels for one of the frame
const STEP = 1.25;
const PAUSE = 60; // between two wishes of the same browser, in ms

export class Picture {
  constructor(canvas, { wish, hover, draw, drawn }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.on = { wish, hover, draw, drawn };
    this.off = document.createElement("canvas");
    this.options = { scale: "linear", pool: "max", low: 1, high: 99.9, channel: 0, mask: true, playing: true };
    this.colours = table("inferno");
    this.frame = null; // {columns, rows} of the whole
    this.last = null;
    this.zoom = 1;
    this.left = this.top = 0; // of the canvas, in pixels of the frame
    this.fitted = true;
    this.tool = "pan";
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  show(picture) {
    const changed = this.frame?.columns !== picture.columns || this.frame?.rows !== picture.rows;
    this.frame = { columns: picture.columns, rows: picture.rows };
    this.last = picture;
    this.paint();
    if (changed) this.fit(); else this.render();
    this.on.drawn(picture);
  }

  colour(name) {
    this.colours = table(name);
    this.paint();
    this.render();
  }

  set(options) {
    Object.assign(this.options, options);
    this.wish();
  }

  paint() {
    if (!this.last) return;
    const [rows, columns] = this.last.shape, { indices } = this.last;
    if (this.off.width !== columns || this.off.height !== rows) Object.assign(this.off, { width: columns, height: rows });
    const context = this.off.getContext("2d"), image = context.createImageData(columns, rows);
    const words = new Uint32Array(image.data.buffer);
    for (let i = 0; i < words.length; i++) words[i] = this.colours[indices[i]];
    context.putImageData(image, 0, 0);
  }

  render() {
    const { context, canvas, last, zoom } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (last) {
      const [rows, columns] = last.shape;
      context.save();
      context.beginPath();
      context.rect(-this.left * zoom, -this.top * zoom, last.columns * zoom, last.rows * zoom);
      context.clip();
      context.imageSmoothingEnabled = zoom * last.factor < 1;
      const x = (last.x - this.left) * zoom, y = (last.y - this.top) * zoom;
      context.drawImage(this.off, x, y, columns * last.factor * zoom, rows * last.factor * zoom);
      context.restore();
    }
    this.on.draw(context, this);
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height || (width === this.canvas.width && height === this.canvas.height)) return;
    Object.assign(this.canvas, { width, height });
    if (this.fitted) this.fit(); else { this.render(); this.wish(); }
  }

  fit() {
    if (!this.frame) { this.wish(); return; }
    const { columns, rows } = this.frame, { width, height } = this.canvas;
    this.zoom = Math.min(width / columns, height / rows);
    this.left = (columns - width / this.zoom) / 2;
    this.top = (rows - height / this.zoom) / 2;
    this.fitted = true;
    this.render();
    this.wish();
  }

  scale(factor, at = { x: this.canvas.width / 2, y: this.canvas.height / 2 }) {
    if (!this.frame) return;
    const least = Math.min(this.canvas.width / this.frame.columns, this.canvas.height / this.frame.rows) / 2;
    const zoom = Math.min(CLOSEST, Math.max(least, this.zoom * factor));
    this.left += at.x / this.zoom - at.x / zoom;
    this.top += at.y / this.zoom - at.y / zoom;
    this.zoom = zoom;
    this.moved();
  }

  larger() { this.scale(STEP); }

  smaller() { this.scale(1 / STEP); }

  move(columns, rows) { // parts of the canvas
    this.left += (columns * this.canvas.width) / this.zoom;
    this.top += (rows * this.canvas.height) / this.zoom;
    this.moved();
  }

  moved() {
    const { columns, rows } = this.frame ?? { columns: 1, rows: 1 };
    const across = this.canvas.width / this.zoom, down = this.canvas.height / this.zoom;
    this.left = Math.min(Math.max(this.left, -across * 0.9), columns - across * 0.1);
    this.top = Math.min(Math.max(this.top, -down * 0.9), rows - down * 0.1);
    this.fitted = false;
    this.render();
    this.wish();
  }

  wish() {
    if (this.pending) return;
    this.pending = setTimeout(() => { this.pending = null; this.on.wish(this.view()); }, PAUSE);
  }

  view() {
    const { width, height } = this.canvas, screen = (size) => Math.min(2048, Math.max(16, Math.round(size)));
    if (!this.frame || this.fitted) return { ...this.options, columns: screen(width), rows: screen(height) };
    const { columns, rows } = this.frame;
    const clip = (value, most) => Math.min(Math.max(Math.floor(value), 0), most);
    const x = clip(this.left, columns - 1), y = clip(this.top, rows - 1);
    const right = clip(this.left + width / this.zoom + 1, columns), bottom = clip(this.top + height / this.zoom + 1, rows);
    return { ...this.options, x, y, width: Math.max(1, right - x), height: Math.max(1, bottom - y), columns: screen(width), rows: screen(height) };
  }

  place(event) { // of the pointer, on the canvas
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  }

  inFrame(at) {
    return { x: this.left + at.x / this.zoom, y: this.top + at.y / this.zoom };
  }

  toScreen(x, y) {
    return [(x - this.left) * this.zoom, (y - this.top) * this.zoom];
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.scale(event.deltaY < 0 ? STEP : 1 / STEP, this.place(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.on.hover(null));
    canvas.addEventListener("dblclick", () => this.fit());
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    if (this.tool !== "pan" && this.frame && this.pointers.size === 1) this.drawing = { from: this.inFrame(this.place(event)) };
    else { this.drawing = null; this.canvas.classList.add("grabbing"); }
  }

  drag(event) {
    const at = this.place(event), before = this.pointers.get(event.pointerId);
    if (this.frame) this.on.hover(this.inFrame(at));
    if (!before) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, at);
    if (this.drawing) {
      this.drawing.to = this.inFrame(at);
      this.render();
    } else if (others.length) { // two fingers
      const far = (place) => Math.hypot(place.x - others[0].x, place.y - others[0].y);
      this.scale(far(at) / Math.max(1, far(before)), { x: (at.x + others[0].x) / 2, y: (at.y + others[0].y) / 2 });
    } else {
      this.left -= (at.x - before.x) / this.zoom;
      this.top -= (at.y - before.y) / this.zoom;
      this.moved();
    }
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove("grabbing");
    const { drawing } = this;
    this.drawing = null;
    if (drawing?.to && event.type === "pointerup") this.canvas.dispatchEvent(new CustomEvent("region", { detail: drawing }));
    this.render();
  }

  // A region for who has no pointer: an eighth of what is shown to each side, for its numbers to be changed.
  middle() {
    if (this.tool === "pan" || !this.frame) return;
    const { width, height } = this.canvas, at = (x, y) => this.inFrame({ x: width / 2 + x, y: height / 2 + y }), size = Math.min(width, height) / 8;
    const [from, to] = this.tool === "arc" ? [at(0, 0), at(size, 0)] : [at(-size, -size), at(size, size)];
    this.canvas.dispatchEvent(new CustomEvent("region", { detail: { from, to } }));
  }

  choose(tool) {
    this.tool = tool;
    this.drawing = null;
    this.canvas.classList.toggle("drawing", tool !== "pan");
    for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    this.render();
  }
}

export function ramp(name) {
  const canvas = $("ramp"), context = canvas.getContext("2d"), image = context.createImageData(256, 1);
  const words = table(name), shown = new Uint32Array(image.data.buffer);
  for (let i = 0; i < 256; i++) shown[i] = words[Math.min(i, 254)];
  context.putImageData(image, 0, 0);
}
