// The acquisition form, out of the schema that the devices publish.
import { get } from "./api.js";
import { $, make } from "./dom.js";

export class Form {
  constructor({ order, failed }) {
    this.on = { order, failed };
    this.fields = new Map(); // path -> {field, input, row}
    this.may = this.idle = false;
    this.refused = null; // address of the field that the last order was refused for
    $("form").addEventListener("submit", (event) => { event.preventDefault(); this.on.order("start"); });
  }

  async load() {
    try {
      this.show(await get("api/form"));
    } catch (refusal) {
      this.on.failed(refusal);
    }
  }

  show({ pipeline, pipelines, fields }) {
    const kept = this.changes(), open = $("more")?.open, focused = $("form").contains(document.activeElement) ? document.activeElement.id : "";
    this.fields.clear();
    const choice = this.row({ path: "class_name", label: "Pipeline", kind: "choice", value: pipeline, choices: pipelines, unit: "", help: "What processes the frames.", limits: {} }, () => this.choose());
    const common = fields.filter((field) => field.common).map((field) => this.row(field));
    const more = make("details", { id: "more", open: Boolean(open) }, make("summary", {}, "More settings"),
      make("input", { type: "search", placeholder: "Find a parameter", "aria-label": "Find a parameter", oninput: (event) => this.find(event.target.value) }),
      make("div", { class: "more" }, ...this.groups(fields.filter((field) => !field.common))));
    const actions = make("div", { class: "actions" }, make("button", { type: "button", id: "apply", onclick: () => this.on.order("") }, "Set"),
      make("button", { class: "go", id: "form-start" }, "Set and start"));
    $("form").replaceChildren(choice, ...common, actions, more);
    for (const [path, value] of Object.entries(kept)) this.restore(path, value);
    this.allow(this.may, this.idle);
    this.refusedField()?.row.classList.add("wrong");
    if (focused) $(focused)?.focus({ preventScroll: true });
  }

  groups(fields) {
    const groups = Map.groupBy ? Map.groupBy(fields, (field) => field.group) : grouped(fields);
    return [...groups].map(([name, members]) => make("section", { "data-group": name }, make("h3", {}, name), ...members.map((field) => this.row(field))));
  }

  row(field, changed) {
    const id = `f-${field.path}`, input = control(field, id);
    const unit = make("span", { class: "unit" }, field.unit);
    const row = make("div", { class: "field", title: field.help, "data-path": field.path }, make("label", { for: id }, field.label), make("div", { class: "entry" }, input, unit));
    input.addEventListener("input", () => this.mark(field.path)); // each key: the form may be loaded anew before the next
    input.addEventListener("change", () => { this.mark(field.path); changed?.(); });
    this.fields.set(field.path, { field, input, row });
    return row;
  }

  // Somebody typed: what was refused there is history.
  mark(path) {
    const entry = this.fields.get(path);
    if (this.refusedField() === entry) this.refused = null;
    entry.row.classList.remove("wrong");
    this.compare(entry);
  }

  compare({ field, input, row }) {
    row.classList.toggle("changed", JSON.stringify(read(field, input)) !== JSON.stringify(field.value));
  }

  restore(path, value) {
    const entry = this.fields.get(path);
    if (!entry || path === "class_name") return;
    write(entry.field, entry.input, value);
    this.compare(entry);
  }

  // What is not as the control has it, by path.
  changes() {
    const found = {};
    for (const [path, { field, input, row }] of this.fields) {
      if (path !== "class_name" && row.classList.contains("changed")) found[path] = read(field, input);
    }
    return found;
  }

  // Another pipeline has other parameters: they are asked for at once.
  async choose() {
    const { input } = this.fields.get("class_name");
    await this.on.order("", input.value);
  }

  wrong(path) {
    this.refusedField()?.row.classList.remove("wrong");
    this.refused = path;
    const entry = this.refusedField();
    if (!entry) return;
    const { row, input } = entry;
    row.classList.add("wrong");
    row.closest("details")?.setAttribute("open", "");
    row.scrollIntoView({ block: "nearest" });
    input.focus();
  }

  refusedField() {
    const path = this.refused;
    return path && [...this.fields].find(([known]) => path === `$.${known}` || path.startsWith(`$.${known}.`) || path.startsWith(`$.${known}[`))?.[1];
  }

  clean() {
    this.refused = null;
    for (const { row } of this.fields.values()) row.classList.remove("changed", "wrong");
  }

  find(text) {
    const wanted = text.toLowerCase();
    for (const { field, row } of this.fields.values()) row.hidden = !field.common && field.path !== "class_name" && !`${field.path} ${field.help}`.toLowerCase().includes(wanted);
    for (const group of document.querySelectorAll("[data-group]")) group.hidden = !group.querySelector(".field:not([hidden])");
  }

  // `idle`: a run may begin.
  allow(may, idle) {
    [this.may, this.idle] = [may, idle];
    for (const { input } of this.fields.values()) input.disabled = !may;
    if ($("apply")) $("apply").disabled = !may;
    if ($("form-start")) $("form-start").disabled = !idle;
  }
}

function control(field, id) {
  if (field.kind === "choice") {
    return make("select", { id }, ...field.choices.map((choice) => make("option", { value: choice, selected: choice === field.value }, choice)));
  }
  if (field.kind === "switch") return make("input", { id, type: "checkbox", checked: field.value });
  const number = field.kind === "number" || field.kind === "integer";
  const input = make("input", { id, type: number ? "number" : "text", step: "any", min: field.limits.least, max: field.limits.most, spellcheck: "false" });
  write(field, input, field.value);
  return input;
}

function write(field, input, value) {
  if (field.kind === "switch") input.checked = value;
  else if (field.kind === "json") input.value = typeof value === "string" ? value : JSON.stringify(value);
  else if (field.seconds) input.value = Number(Number(value).toPrecision(12));
  else input.value = value;
}

function read(field, input) {
  switch (field.kind) {
    case "switch": return input.checked;
    case "integer": case "number": return Number.isNaN(input.valueAsNumber) ? input.value : input.valueAsNumber;
    case "json": try { return JSON.parse(input.value); } catch { return input.value; }
    default: return input.value;
  }
}

function grouped(fields) {
  const found = new Map();
  for (const field of fields) found.set(field.group, [...(found.get(field.group) ?? []), field]);
  return found;
}
