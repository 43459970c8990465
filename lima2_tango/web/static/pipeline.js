// The graph of the pipeline, with what flows through it and where it waits.
import { get } from "./api.js";
import { $, svg, text } from "./dom.js";
import { bytes, count, rate } from "./format.js";

const BOX = { width: 118, height: 40, across: 26, down: 12 };
const QUEUE = { width: 92, height: 40 };
const BAR = 5;
const BLOCKS = 8; // a queue that is drawn full has so many for each receiver, or more

export class Pipeline {
  constructor() {
    this.name = "";
    this.before = null;
  }

  async show(status) {
    if (status.pipeline && status.pipeline !== this.name) {
      this.name = status.pipeline;
      try {
        this.draw(await get(`api/graph?pipeline=${encodeURIComponent(this.name)}`));
      } catch (refusal) {
        $("pipeline").replaceChildren(refusal.what);
        this.parts = null;
      }
      text($("pipeline-name"), this.name.replace("LimaProcessing", ""));
    }
    if (!this.name) { text($("pipeline-name"), "none before the first run"); return; }
    const pressure = $("pressure");
    text(pressure, status.pressure.told);
    pressure.className = `pressure ${status.pressure.where}`;
    if (this.parts) this.live(status);
  }

  draw({ nodes, outputs }) {
    const boxes = [{ name: "camera", reads: null, kind: "camera", title: "camera", note: "" }];
    for (const node of nodes) boxes.push({ name: node.name, reads: node.reads, kind: "node", title: node.name, note: "", does: node.does });
    for (const node of nodes) if (node.command) boxes.push({ name: `rows ${node.name}`, reads: node.name, kind: "out", title: node.command.replace("pop", ""), note: "rows", does: `rows for ${node.command}` });
    for (const output of outputs) boxes.push({ name: `out ${output.label}`, reads: output.keeps, kind: "out", title: output.label, note: "frames", does: output.saving ? `kept for readers; saved as ${output.saving}` : "kept for readers", counters: output.counters });
    place(boxes, "camera", 0, 0);
    const columns = Math.max(...boxes.map((box) => box.column ?? 0)) + 1, rows = Math.max(...boxes.map((box) => box.line ?? 0)) + 1;
    const shift = QUEUE.width + BOX.across;
    for (const box of boxes) {
      box.x = 2 + box.column * (BOX.width + BOX.across) + (box.column ? shift : 0);
      box.y = 2 + box.line * (BOX.height + BOX.down);
    }
    const width = columns * (BOX.width + BOX.across) + shift, height = rows * (BOX.height + BOX.down);
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Graph of ${this.name}` });
    const queue = { x: 2 + BOX.width + BOX.across, y: 2, width: QUEUE.width, height: QUEUE.height };
    this.parts = { boxes: new Map(boxes.map((box) => [box.name, box])), queue };
    picture.append(edge(2 + BOX.width, 2 + BOX.height / 2, queue.x, 2 + BOX.height / 2));
    for (const box of boxes.filter((each) => each.reads)) {
      const from = this.parts.boxes.get(box.reads), first = box.reads === "camera";
      if (from) picture.append(edge(first ? queue.x + queue.width : from.x + BOX.width, from.y + BOX.height / 2, box.x, box.y + BOX.height / 2));
    }
    this.gauge(picture, queue);
    for (const box of boxes) picture.append(this.box(box));
    $("pipeline").replaceChildren(picture);
  }

  gauge(picture, queue) {
    this.parts.level = svg("rect", { class: "level", x: queue.x, y: queue.y + queue.height - BAR, width: 0, height: BAR, rx: 2 });
    this.parts.queued = svg("text", { x: queue.x + queue.width / 2, y: queue.y + 15, "text-anchor": "middle" }, "queue");
    this.parts.waits = svg("text", { class: "small", x: queue.x + queue.width / 2, y: queue.y + 29, "text-anchor": "middle" }, "");
    picture.append(svg("rect", { class: "gauge", ...queue, rx: 3 }), this.parts.level, this.parts.queued, this.parts.waits);
  }

  box(box) {
    box.shape = svg("rect", { class: box.kind, x: box.x, y: box.y, width: BOX.width, height: BOX.height, rx: box.kind === "node" ? 5 : 14 });
    box.label = svg("text", { class: "small", x: box.x + BOX.width / 2, y: box.y + 32, "text-anchor": "middle" }, box.note);
    const title = svg("text", { x: box.x + BOX.width / 2, y: box.y + (box.kind === "node" ? 24 : 17), "text-anchor": "middle" }, short(box.title));
    return svg("g", {}, svg("title", {}, box.does ?? box.title), box.shape, title, box.label);
  }

  live(status) {
    const { boxes, queue } = this.parts, queued = total(status, "queued"), full = BLOCKS * Math.max(1, status.processing.length);
    this.parts.level.setAttribute("width", Math.min(1, queued / full) * queue.width);
    this.parts.level.setAttribute("class", `level ${status.pressure.where === "camera" ? "full" : status.pressure.where === "queue" ? "high" : ""}`);
    text(this.parts.queued, `${count(queued)} queued`);
    text(this.parts.waits, `most ${count(total(status, "most_queued"))}`);
    boxes.get("camera").shape.setAttribute("class", status.pressure.where === "camera" ? "camera held" : "camera");
    text(boxes.get("camera").label, rate(status.frame_rate) === "–" ? "quiet" : rate(status.frame_rate));
    for (const box of boxes.values()) if (box.counters) text(box.label, this.flow(box, status));
    this.before = { at: performance.now(), status };
  }

  flow(box, status) {
    const sum = (each) => (box.counters ?? []).slice(0, 1).reduce((all, name) => all + each.processing.reduce((part, rank) => part + (rank.counters[name] ?? 0), 0), 0);
    return box.does.includes("saved") && status.saving_rate > 0 ? `${count(sum(status))}, ${bytes(status.saving_rate)}` : count(sum(status));
  }
}

const total = (status, name) => status.processing.reduce((sum, rank) => sum + rank[name], 0);
const short = (name) => (name.length > 16 ? `${name.slice(0, 15)}…` : name);

// Children in the column after: the first on the line of its parent, the others on the next where there is room.
function place(boxes, name, column, line) {
  const box = boxes.find((each) => each.name === name);
  Object.assign(box, { column, line });
  let below = line;
  boxes.filter((each) => each.reads === name).forEach((child, index) => {
    if (index) below = room(boxes, column + 1, below + 1, straight(boxes, child));
    place(boxes, child.name, column + 1, below);
  });
}

// Boxes on one line from this one on.
function straight(boxes, box) {
  const child = boxes.find((each) => each.reads === box.name);
  return child ? 1 + straight(boxes, child) : 1;
}

function room(boxes, column, line, length) {
  const taken = boxes.some((each) => each.line === line && each.column >= column && each.column < column + length);
  return taken ? room(boxes, column, line + 1, length) : line;
}

function edge(x1, y1, x2, y2) {
  const middle = (x1 + x2) / 2;
  return svg("path", { class: "edge", d: `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}
