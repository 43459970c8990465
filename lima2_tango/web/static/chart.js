// Curves of the regions: one line each, by number of the frame.
import { line } from "./regions.js";
import { value } from "./format.js";

const KEPT = 2000;
const MARGIN = { left: 62, right: 10, top: 24, bottom: 38 };
const QUANTITIES = ["min", "max", "mean", "standard deviation", "sum"];

export class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = []; // [frame, [min, max, avg, std, sum], ...]; null for no number
    this.generation = -1;
    this.quantity = 4;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  add(generation, points) {
    if (generation !== this.generation) {
      this.points = [];
      this.generation = generation;
    }
    if (!points.length) { this.draw(); return; }
    this.points.push(...points);
    if (this.points.length > KEPT) this.points.splice(0, this.points.length - KEPT);
    this.draw();
  }

  get latest() {
    return this.points.at(-1)?.slice(1);
  }

  show(quantity) {
    this.quantity = quantity;
    this.draw();
  }

  draw() {
    const { canvas, points } = this, ratio = devicePixelRatio || 1, style = getComputedStyle(canvas);
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "11px sans-serif";
    const ink = style.getPropertyValue("--quiet"), rule = style.getPropertyValue("--line");
    if (!points.length) {
      context.fillStyle = ink;
      context.textAlign = "center";
      context.fillText("Draw a region, and start: its values come here.", width / 2, height / 2);
      return;
    }
    const values = points.flatMap((point) => point.slice(1).map((region) => region[this.quantity])).filter((number) => number !== null);
    if (!values.length) values.push(0);
    let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
    const room = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
    low -= room;
    high += room;
    const first = points[0][0], last = Math.max(points.at(-1)[0], first + 1);
    const x = (frame) => MARGIN.left + ((frame - first) / (last - first)) * (width - MARGIN.left - MARGIN.right);
    const y = (number) => height - MARGIN.bottom - ((number - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
    this.axes(context, { width, height, low, high, first, last, x, y, ink, rule });
    for (let region = 0; region < points[0].length - 1; region++) {
      context.strokeStyle = line(region);
      context.lineWidth = 1.8;
      context.beginPath();
      let gap = true;
      for (const point of points) {
        const number = point[region + 1][this.quantity];
        if (number !== null) context[gap ? "moveTo" : "lineTo"](x(point[0]), y(number));
        gap = number === null;
      }
      context.stroke();
    }
  }

  axes(context, { width, height, low, high, first, last, x, y, ink, rule }) {
    context.strokeStyle = rule;
    context.fillStyle = ink;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const number of ticks(low, high, 4)) {
      context.beginPath();
      context.moveTo(MARGIN.left, y(number));
      context.lineTo(width - MARGIN.right, y(number));
      context.stroke();
      context.fillText(value(number), MARGIN.left - 6, y(number));
    }
    context.textAlign = "center";
    for (const frame of ticks(first, last, 6).filter(Number.isInteger)) context.fillText(value(frame), x(frame), height - MARGIN.bottom + 12);
    context.fillText("frame", (MARGIN.left + width - MARGIN.right) / 2, height - 8);
    context.textAlign = "left";
    context.fillText(`${QUANTITIES[this.quantity]} [counts]`, 2, 8);
  }
}

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}
