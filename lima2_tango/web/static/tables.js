// Receivers as they are, runs as they were.
import { look } from "./api.js";
import { $, make } from "./dom.js";
import { bytes, count, moment, rate } from "./format.js";

const SHOWN = 3; // files of a run that are named at once
const FULL = 8; // blocks that draw a full meter
let drawn = "";

export function receivers(status) {
  const rows = status.receivers.flatMap((receiver, index) => {
    const processing = status.processing[index] ?? {}, error = receiver.error || processing.error;
    const cells = make("tr", { class: error ? "explained" : "" },
      make("td", {}, receiver.device), make("td", {}, word(receiver.answers ? receiver.state : "no answer", receiver.answers ? receiver.state : "fault")),
      make("td", { class: "n" }, count(receiver.frames)), make("td", { class: "n" }, rate(receiver.rate)),
      make("td", {}, meter(processing.queued ?? 0), `${count(processing.queued ?? 0)} (most ${count(processing.most_queued ?? 0)})`),
      make("td", { class: "n" }, count(processing.waits ?? 0)), make("td", { class: "n" }, bytes(processing.saving_rate)),
      make("td", { class: "n" }, count(receiver.lost + receiver.incomplete)));
    return error ? [cells, make("tr", {}, make("td", { class: "error", colspan: "8" }, error))] : [cells];
  });
  $("receivers").tBodies[0].replaceChildren(...rows);
}

// `may`: files are handed out here, to this person.
export function runs(list, may, refused) {
  const text = JSON.stringify([list, may]);
  if (text === drawn) return; // who selects a path keeps it
  drawn = text;
  const body = $("runs").tBodies[0];
  body.replaceChildren(...list.flatMap((run) => row(run, may, refused)));
  if (!list.length) body.append(make("tr", {}, make("td", { class: "none", colspan: "6" }, "None yet. Runs that a conductor drives are in its own log.")));
}

function row(run, may, refused) {
  const asked = run.nb_frames ? ` of ${count(run.nb_frames)}` : "";
  const cells = make("tr", { class: run.error ? "explained" : "" }, make("td", { title: run.uuid }, moment(run.begin)), make("td", {}, word(run.state, run.state)),
    make("td", { class: "n" }, `${count(run.nb_frames_acquired)}${asked}`), make("td", { class: "n" }, count(run.nb_frames_saved)),
    make("td", {}, run.pipeline.replace("LimaProcessing", "")), make("td", { class: "files" }, ...files(run, may, refused)));
  return run.error ? [cells, make("tr", {}, make("td", { class: "error", colspan: "6" }, run.error))] : [cells];
}

function files(run, may, refused) {
  if (!run.files.length) return [make("span", { class: "quiet" }, run.nb_frames_saved ? "not complete yet" : "none")];
  const link = (path) => (may ? make("a", { href: address(path), download: path.split("/").at(-1), title: "Download", onclick: (event) => asked(event, path, refused) }, path) : make("span", { class: "path" }, path));
  const rest = run.files.slice(SHOWN), more = run.nb_files - SHOWN;
  const folded = rest.length ? [make("details", {}, make("summary", { class: "quiet" }, `and ${count(more)} more`), ...rest.map(link))] : [];
  return [...run.files.slice(0, SHOWN).map(link), ...folded];
}

const address = (path) => `api/file?path=${encodeURIComponent(path)}`;

// A browser tells of a refused download nothing but that it failed: the page asks first.
async function asked(event, path, refused) {
  if (!event.isTrusted) return;
  event.preventDefault();
  const link = event.currentTarget;
  try {
    await look(address(path));
    link.click();
  } catch (refusal) {
    refused(refusal);
  }
}

const word = (text, kind) => make("span", { class: `word ${kind}` }, text);

function meter(blocks) {
  const level = make("i", { class: blocks > FULL / 2 ? "high" : "" });
  level.style.width = `${Math.min(1, blocks / FULL) * 100}%`;
  return make("span", { class: "meter", "aria-hidden": "true" }, level);
}
