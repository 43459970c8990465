// Regions of interest: drawn on the image, edited in a list, written back to the control.
import { LINES } from "./colour.js";
import { $, make, text } from "./dom.js";
import { value } from "./format.js";

const SHADE = "rgb(0 0 0 / 0.7)";
const INNER = 0.7; // of the outer radius, for a ring that is drawn
const NUMBERS = { rectangle: ["x", "y", "w", "h"], arc: ["x", "y", "r1", "r2", "a1", "a2"] };

export class Regions {
  constructor({ send, redraw }) {
    this.all = []; // {kind, numbers}, rectangles first: the order of their rows
    this.on = { send, redraw };
    this.may = false;
  }

  // As the control has them.
  take({ rect, arc }) {
    const found = [
      ...rect.map(({ topleft: t, dimensions: d }) => ({ kind: "rectangle", numbers: [t.x, t.y, d.x, d.y] })),
      ...arc.map(({ center: c, r1, r2, a1, a2 }) => ({ kind: "arc", numbers: [c.x, c.y, r1, r2, a1, a2] })),
    ];
    if (JSON.stringify(found) === JSON.stringify(this.all) && this.listed) return;
    this.all = found;
    this.list();
    this.on.redraw();
  }

  allow(may) {
    if (may === this.may) return;
    this.may = may;
    this.list();
  }

  // A new one out of a drag over the image.
  drawn(tool, { from, to }, frame) {
    const region = tool === "arc" ? ring(from, to) : rectangle(from, to, frame);
    if (region) this.change([...this.all, region]);
  }

  change(all) {
    const of = (kind) => all.filter((each) => each.kind === kind).map((each) => each.numbers);
    this.on.send({ rectangles: of("rectangle"), arcs: of("arc") });
  }

  edit(index, place, number) {
    if (!Number.isFinite(number)) return;
    const all = structuredClone(this.all);
    all[index].numbers[place] = number;
    this.change(all);
  }

  list() {
    this.listed = true;
    $("rois").replaceChildren(...this.all.map((region, index) => this.row(region, index)));
    if (!this.all.length) $("rois").append(make("p", { class: "none" }, "None: choose Rectangle or Arc above the image and drag over it."));
  }

  row(region, index) {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = line(index);
    const inputs = NUMBERS[region.kind].map((name, place) => make("label", {}, name, make("input", {
      type: "number", step: "any", value: Number(region.numbers[place].toFixed(2)), disabled: !this.may,
      "aria-label": `${name} of region ${index + 1}`, onchange: (event) => this.edit(index, place, event.target.valueAsNumber),
    })));
    const remove = make("button", { title: "Remove", "aria-label": `Remove region ${index + 1}`, disabled: !this.may,
      onclick: () => this.change(this.all.filter((_, i) => i !== index)) }, "×");
    return make("div", { class: "roi" }, swatch, make("span", { class: "kind" }, `${index + 1} ${region.kind}`),
      make("span", { class: "last", id: `roi-${index}` }, ""), remove, make("div", { class: "numbers" }, ...inputs));
  }

  latest(values, quantity) {
    this.all.forEach((_, index) => {
      const place = $(`roi-${index}`);
      if (place) text(place, values?.[index] ? value(values[index][quantity]) : "");
    });
  }

  draw(context, picture) {
    const ratio = devicePixelRatio || 1;
    this.all.forEach((region, index) => outline(context, picture, region, line(index), 2.4 * ratio, `${index + 1}`));
    const { drawing, tool } = picture;
    if (!drawing?.to) return;
    const region = tool === "arc" ? ring(drawing.from, drawing.to) : rectangle(drawing.from, drawing.to, picture.frame);
    if (region) outline(context, picture, region, line(this.all.length), ratio, "");
  }
}

export const line = (index) => LINES[index % LINES.length];

function rectangle(from, to, { columns, rows }) {
  const edges = (a, b, most) => [Math.max(0, Math.floor(Math.min(a, b))), Math.min(most, Math.ceil(Math.max(a, b)))];
  const [left, right] = edges(from.x, to.x, columns), [top, bottom] = edges(from.y, to.y, rows);
  return right > left && bottom > top ? { kind: "rectangle", numbers: [left, top, right - left, bottom - top] } : null;
}

function ring(from, to) {
  const radius = Math.hypot(to.x - from.x, to.y - from.y), round = (number) => Math.round(number * 10) / 10;
  // The centre of a pixel has whole coordinates; the canvas counts from its corner.
  return radius < 1 ? null : { kind: "arc", numbers: [round(from.x - 0.5), round(from.y - 0.5), round(radius * INNER), round(radius), 0, 360] };
}

function outline(context, picture, { kind, numbers }, colour, width, label) {
  context.save();
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  let corner;
  if (kind === "rectangle") {
    const [x, y, w, h] = numbers;
    corner = picture.toScreen(x, y);
    context.rect(...corner, w * picture.zoom, h * picture.zoom);
  } else {
    const [x, y, r1, r2, a1, a2] = numbers, centre = picture.toScreen(x + 0.5, y + 0.5);
    const turn = Math.min(a2 - a1, 360), begin = (a1 * Math.PI) / 180, end = begin + (turn * Math.PI) / 180;
    context.arc(...centre, r2 * picture.zoom, begin, end);
    if (turn >= 360) context.moveTo(centre[0] + r1 * picture.zoom * Math.cos(end), centre[1] + r1 * picture.zoom * Math.sin(end));
    context.arc(...centre, r1 * picture.zoom, end, begin, true);
    context.closePath();
    corner = picture.toScreen(x + 0.5 - r2 * 0.7, y + 0.5 - r2 * 0.7);
  }
  context.font = `700 ${13 * (devicePixelRatio || 1)}px sans-serif`;
  context.lineJoin = "round";
  halo(context, width, () => context.stroke());
  context.lineWidth = 1.6 * width;
  context.strokeStyle = SHADE;
  context.strokeText(label, ...at(corner, width));
  context.fillText(label, ...at(corner, width));
  context.restore();
}

const at = ([x, y], width) => [x + 2 * width, y - 4 * width];

// Seen on bright and on dark pixels alike.
function halo(context, width, draw) {
  const colour = context.strokeStyle;
  context.strokeStyle = SHADE;
  context.lineWidth = width * 1.9;
  draw();
  context.strokeStyle = colour;
  context.lineWidth = width;
  draw();
}
