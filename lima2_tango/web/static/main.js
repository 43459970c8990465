// The page: what comes goes to its part, what is asked for goes to the server.
import { get, post } from "./api.js";
import { Chart } from "./chart.js";
import { NAMES } from "./colour.js";
import { $, make, text } from "./dom.js";
import { Form } from "./form.js";
import { DASH, count, rate, seconds, value } from "./format.js";
import { Picture, ramp } from "./image.js";
import { keys } from "./keys.js";
import { Link } from "./link.js";
import { Pipeline } from "./pipeline.js";
import { Regions } from "./regions.js";
import { receivers, runs } from "./tables.js";
import { setTheme, toggleTheme } from "./theme.js";

const TOLD_FOR = 4000;
const page = { role: "nobody", state: "", status: null, runs: [], refusal: null, dismissed: "", params: null };
let link, pipeline, picture, chart, regions, form;

const operator = () => page.role === "operator";

async function order(command, pipelineName = "") {
  if (!operator()) return;
  const changes = command === "start" || command === "" ? form.changes() : {};
  await obeyed("api/order", { command, pipeline: pipelineName, changes }, () => {
    if (command === "start" || command === "") form.clean();
  });
  if (command === "" || command === "start") await form.load();
}

async function obeyed(address, what, then = () => {}) {
  document.body.setAttribute("aria-busy", "true");
  if (what.command === "start") {
    page.state = "preparing"; // until the next look says what it is
    allow();
  }
  try {
    const { told } = await post(address, what);
    then();
    page.refusal = null;
    tell(told);
  } catch (refusal) {
    page.refusal = refusal;
    page.dismissed = "";
    form.wrong(refusal.path);
    if (address === "api/regions") regions.list(); // as they are
  } finally {
    document.body.removeAttribute("aria-busy");
  }
  alert();
}

function tell(sentence) {
  text($("told"), sentence);
  $("told").hidden = false;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { $("told").hidden = true; }, TOLD_FOR);
}

// A refusal of what was just asked for comes before what is wrong with the run.
function alert() {
  const error = page.refusal ?? page.status?.error;
  const shown = Boolean(error) && error.what !== page.dismissed;
  $("alert").hidden = !shown;
  if (!shown) return;
  text($("what"), error.what);
  text($("remedy"), error.remedy);
  $("alert-reset").hidden = page.state !== "fault" || !operator();
}

function onStatus(status) {
  page.status = status;
  page.state = status.silence ? "lost" : status.starting && status.state !== "running" ? "preparing" : status.state;
  const pill = $("state"), by = status.driver === "conductor" && page.state === "running" ? ", by a conductor" : "";
  text(pill, status.silence ? "no answer" : `${page.state}${by}`);
  pill.className = `pill ${page.state}`;
  text($("frames"), `${count(status.acquired)}${status.nb_frames ? ` of ${count(status.nb_frames)}` : ""}`);
  text($("rate"), page.state === "running" ? rate(status.frame_rate) : DASH);
  text($("saved"), status.saved ? count(status.saved) : DASH);
  text($("left"), page.state === "running" ? seconds(status.time_left) : DASH);
  $("progress").value = status.nb_frames && page.state === "running" ? status.acquired / status.nb_frames : 0;
  text($("nothing"), status.no_picture);
  $("nothing").hidden = !status.no_picture || Boolean(picture.last);
  allow();
  receivers(status);
  pipeline.show(status);
  alert();
  if (page.params === null) page.params = status.params;
  if (page.params !== status.params && !$("form").contains(document.activeElement)) { // else once it is left
    page.params = status.params;
    form.load();
  }
}

function allow() {
  const running = page.state === "running", may = operator() && page.state !== "lost";
  const enabled = { start: may && !running && page.state !== "fault" && page.state !== "preparing", stop: may && (running || ["prepared", "preparing"].includes(page.state)), trigger: may && running, reset: may && page.state === "fault" };
  for (const [command, can] of Object.entries(enabled)) $(command).disabled = !can;
  form.allow(operator(), enabled.start);
  regions.allow(operator());
}

function onPicture(shown) {
  chart.add(shown.generation, shown.points);
  picture.show(shown);
  $("nothing").hidden = true;
  text($("value-low"), value(shown.low));
  text($("value-high"), value(shown.high));
  text($("value-middle"), value(middle(shown, $("scale").value)));
  text($("frame-about"), `frame ${count(shown.frame)} · ${shown.columns} × ${shown.rows} ${shown.type}${shown.factor > 1 ? ` · 1 : ${shown.factor}` : ""}`);
  regions.latest(chart.latest, chart.quantity);
  channels(shown);
  if (hovered) link.say({ pixel: hovered });
}

// The value whose colour is half way along the bar, as the server scales it.
function middle({ low, high }, scale) {
  const span = high - low;
  const part = { linear: span / 2, sqrt: span / 4, log: Math.expm1(Math.log1p(span) / 2) }[scale];
  return Number((low + part).toPrecision(3));
}

function channels({ channels: number }) {
  const label = $("channel-label"), select = $("channel");
  label.hidden = number < 2;
  if (select.options.length !== number) select.replaceChildren(...Array.from({ length: number }, (_, index) => make("option", { value: index }, index)));
}

let hovered = null;
let asked = 0;
function hover(at) {
  hovered = at && at.x >= 0 && at.y >= 0 && at.x < 65536 && at.y < 65536 ? [Math.floor(at.x), Math.floor(at.y)] : null;
  if (!hovered) { text($("pixel"), DASH); return; }
  if (performance.now() - asked < 40) return;
  asked = performance.now();
  link.say({ pixel: hovered });
}

function onPixel({ x, y, value: number }) {
  if (hovered) text($("pixel"), number === null ? DASH : `x ${x}  y ${y}  ${typeof number === "number" ? value(number) : number}`);
}

function build() {
  chart = new Chart($("chart"));
  pipeline = new Pipeline();
  regions = new Regions({
    send: (wanted) => obeyed("api/regions", wanted),
    redraw: () => picture?.render(),
  });
  form = new Form({ order, failed: (refusal) => { page.refusal = refusal; alert(); } });
  picture = new Picture($("image"), {
    wish: (view) => link?.say({ view }),
    hover,
    draw: (context, shown) => regions.draw(context, shown),
    drawn: () => requestAnimationFrame(() => link.say({ drawn: true })), // once it is on the screen
  });
  $("image").addEventListener("region", ({ detail }) => {
    regions.drawn(picture.tool, detail, picture.frame);
    picture.choose("pan");
  });
  $("colours").append(...NAMES.map((name) => make("option", { value: name }, name)));
  ramp(NAMES[0]);
  wire();
}

function wire() {
  for (const button of document.querySelectorAll("[data-command]")) button.addEventListener("click", () => order(button.dataset.command));
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => tool(button.dataset.tool));
  for (const id of ["scale", "pool"]) $(id).addEventListener("change", () => picture.set({ [id]: $(id).value }));
  for (const id of ["low", "high"]) $(id).addEventListener("change", () => { if ($(id).validity.valid && $(id).value !== "") picture.set({ [id]: $(id).valueAsNumber }); });
  $("channel").addEventListener("change", () => picture.set({ channel: Number($("channel").value) }));
  $("mask").addEventListener("change", () => { picture.set({ mask: $("mask").checked }); $("masked-key").hidden = !$("mask").checked; });
  $("colours").addEventListener("change", () => { picture.colour($("colours").value); ramp($("colours").value); });
  $("quantity").addEventListener("change", () => { chart.show(Number($("quantity").value)); regions.latest(chart.latest, chart.quantity); });
  $("zoom-in").addEventListener("click", () => picture.larger());
  $("zoom-out").addEventListener("click", () => picture.smaller());
  $("fit").addEventListener("click", () => picture.fit());
  $("pause").addEventListener("click", hold);
  $("theme").addEventListener("click", () => { toggleTheme(); chart.draw(); });
  $("help").addEventListener("click", () => $("keys").showModal());
  $("dismiss").addEventListener("click", () => { page.dismissed = (page.refusal ?? page.status?.error)?.what ?? ""; page.refusal = null; alert(); });
  document.addEventListener("visibilitychange", playing);
  keys({ start: () => $("start").click(), stop: () => $("stop").click(), trigger: () => $("trigger").click(), next, hold, tool, picture,
    theme: () => $("theme").click(), help: () => $("keys").showModal(), mask: () => $("mask").click() });
}

function tool(name) {
  picture.choose(operator() ? name : "pan");
}

function next(id) {
  const select = $(id);
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

function hold() {
  const button = $("pause"), held = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(held));
  playing();
}

function playing() {
  picture.set({ playing: !document.hidden && $("pause").getAttribute("aria-pressed") !== "true" });
}

function connect() {
  link = new Link({
    open: () => { chart.add(-1, []); link.say({ view: picture.view() }); form.load(); },
    lost: () => { page.state = "lost"; text($("state"), "page not connected"); $("state").className = "pill lost"; allow(); },
    picture: onPicture,
    status: onStatus,
    pixel: onPixel,
    runs: (message) => { page.runs = message.runs; runs(message.runs, operator() && page.files, (refusal) => { page.refusal = refusal; page.dismissed = ""; alert(); }); regions.take(message.regions); },
    refusal: ({ error }) => { page.refusal = error; alert(); },
  });
}

async function begin() {
  setTheme();
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname);
    await post("api/login", { token }).catch((refusal) => { page.refusal = refusal; });
  }
  const about = await get("api/about");
  page.role = about.role;
  page.files = about.files;
  document.title = `${about.title} · lima2`;
  text($("title"), about.title);
  text($("device"), about.control + (about.role === "reader" ? " · you may look" : ""));
  $("door").hidden = about.role !== "nobody";
  $("panel").hidden = about.role === "nobody";
  if (about.role === "nobody") {
    text($("state"), "closed");
    alert();
    return;
  }
  build();
  connect();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("api/login", { token: $("token").value.trim() });
    location.reload();
  } catch (refusal) {
    page.refusal = refusal;
    page.dismissed = "";
    alert();
  }
});

begin().catch((refusal) => { page.refusal = refusal; alert(); });
