"use strict";

// Addresses are relative: a proxy may show the page below a path.

const POLL_MS = 1000;
const PAGE_JOBS = 30;
const FRAMES_AT_ONCE = 300;
const COLOURS = ["#4cc38a", "#f0b254", "#5b9bff", "#ff7b80", "#c792ea", "#2bd4d9", "#e5e510", "#ff9e64"];

const NO_OBJECTS = "No objects were looked for, as there are no object weights; the detections are regions of text.";

const NARROW = matchMedia("(max-width: 60rem)");

const at = (id) => document.getElementById(id);
const chosen = { id: null, stop: () => {}, from: 0 };
let shown = PAGE_JOBS;

// Text from videos and names of files go in as text, never as markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

async function ask(path, options) {
  const response = await fetch(path, options);
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail || response.statusText);
  return body;
}

const percent = (job) => (job.frames_total ? Math.min(100, (100 * job.frames_processed) / job.frames_total) : 0);
const bytes = (n) => (n >= 1e9 ? (n / 1e9).toFixed(1) + " GB" : n >= 1e6 ? (n / 1e6).toFixed(1) + " MB" : Math.ceil(n / 1e3) + " kB");
const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const about = (s) => (s < 90 ? `about ${Math.ceil(s)} s` : s < 5400 ? `about ${Math.round(s / 60)} min` : `about ${(s / 3600).toFixed(1)} h`);
const span = (s) => (s < 59.5 ? `${Math.round(s)} s` : `${Math.floor(Math.round(s) / 60)}:${String(Math.round(s) % 60).padStart(2, "0")} min`);
// To programs a cancelled job is a failed one; people read what it is.
const state = (job) => (job.status === "failed" && job.error_kind === "cancelled" ? "cancelled" : job.status);
const warnings = (job) => (job.summary && job.summary.warnings) || [];
const moment = (text) => new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

// Submitting.

let uploading = Promise.resolve();

function submit(files) {
  for (const file of files) queue(file.name, async () => file, { pipeline_id: at("pipeline").value, frame_stride: at("stride").value });
}

// A result is never changed, so a video that is run again is a job of its own.
function submitAgain(job) {
  const get = async () => {
    const response = await fetch(`v1/jobs/${job.job_id}/video`);
    if (!response.ok) throw new Error((await response.json()).detail);
    return new File([await response.blob()], (job.source_name || job.job_id).split("/").pop());
  };
  queue(job.source_name || job.job_id, get, { pipeline_id: job.pipeline_id, ...job.options });
}

function queue(name, get, options) {
  const bar = make("progress", { max: 1, value: 0 });
  const note = make("span", { class: "small soft" }, "waiting");
  const line = make("div", {}, make("div", { class: "row" }, make("span", { class: "name" }, name), note), bar);
  at("uploads").append(line);
  uploading = uploading.then(get).then((file) => send(file, options, bar, note, line)).catch((error) => {
    note.className = "small failed";
    note.textContent = String(error.message || error);
  });
}

function send(file, options, bar, note, line) {
  return new Promise((done) => {
    const form = new FormData();
    for (const [option, value] of Object.entries(options)) if (value !== null) form.append(option, value);
    form.append("file", file);
    const request = new XMLHttpRequest(); // fetch reports no progress of what it sends
    request.open("POST", "v1/video/submit");
    request.upload.onprogress = (event) => {
      bar.value = event.loaded / event.total;
      note.textContent = `${bytes(event.loaded)} of ${bytes(event.total)}`;
    };
    request.onerror = () => { note.className = "small failed"; note.textContent = "the connection broke; drop the file again"; done(); };
    request.onload = () => {
      if (request.status === 201) {
        line.remove();
        choose(JSON.parse(request.responseText).job_id);
        refresh();
      } else {
        let why = request.statusText;
        try { why = JSON.parse(request.responseText).detail; } catch (error) { /* a proxy's page */ }
        bar.remove();
        line.append(make("p", { class: "notice small" }, why));
        note.textContent = "refused";
      }
      done();
    };
    request.send(form);
  });
}

const drop = at("drop");
drop.addEventListener("click", () => at("files").click());
drop.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") at("files").click(); });
at("files").addEventListener("change", (event) => { submit(event.target.files); event.target.value = ""; });
for (const name of ["dragover", "dragenter"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); submitDropped(event.dataTransfer); });

// The list.

function jobLine(job) {
  const doing = job.status === "running" && job.frames_total
    ? `${Math.floor(percent(job))} %${job.frames_per_second ? `, ${job.frames_per_second.toFixed(1)} frames/s` : ""}`
    : job.status === "pending" ? (job.queue_position ? `${job.queue_position} ahead of it` : "next")
    : job.status === "failed" ? job.error_message || "" : job.summary ? `${job.summary.frame_count} frames` : "";
  const warned = warnings(job).join(" ");
  const thumbnail = job.source_removed_at ? null : thumbnailOf(job.job_id);
  const button = make("button", { class: "job" + (job.job_id === chosen.id ? " chosen" : ""), onclick: () => { choose(job.job_id); if (NARROW.matches) at("detail").scrollIntoView({ behavior: "smooth" }); } },
    thumbnail,
    make("span", { class: "row" },
      make("span", { class: "name" }, job.source_name || job.job_id),
      warned ? make("span", { class: "mark", role: "img", title: warned, "aria-label": warned }, "!") : null,
      make("span", { class: `pill ${state(job)}` }, state(job))),
    make("span", { class: "small soft" }, `${moment(job.created_at)} · ${bytes(job.size_bytes)}${doing ? " · " + doing : ""}`));
  if (job.status === "running" && job.frames_total) button.append(make("progress", { max: 100, value: percent(job) }));
  return button;
}

// Kept, as the list is made anew each second. They come two at a time: a browser has few connections, and whoever waits
// for a picture holds one. One that cannot be had is asked for again after a while.
const thumbnails = new Map();
const comingThumbnails = [];
let loadingThumbnails = 0;

function thumbnailOf(id) {
  if (!thumbnails.has(id)) {
    const image = make("img", { class: "thumb", alt: "" });
    const settled = (hidden) => { image.hidden = hidden; loadingThumbnails -= 1; loadThumbnails(); };
    image.addEventListener("load", () => settled(false));
    image.addEventListener("error", () => { settled(true); setTimeout(() => thumbnails.delete(id), 60 * POLL_MS); });
    thumbnails.set(id, image);
    comingThumbnails.push(() => { image.src = `v1/jobs/${id}/frame?width=160`; });
    loadThumbnails();
  }
  return thumbnails.get(id);
}

function loadThumbnails() {
  while (loadingThumbnails < 2 && comingThumbnails.length) {
    loadingThumbnails += 1;
    comingThumbnails.shift()();
  }
}

async function refresh() {
  const query = new URLSearchParams({ limit: Math.min(500, shown) });
  if (at("status").value) query.set("status", at("status").value);
  if (at("name").value) query.set("name", at("name").value);
  try {
    const page = await ask("v1/jobs?" + query);
    at("jobs").replaceChildren(...page.jobs.map(jobLine));
    const filtered = at("status").value || at("name").value;
    if (!page.jobs.length) at("jobs").append(make("p", { class: "soft" }, filtered ? "No job matches." : "No videos yet."));
    at("waiting").replaceChildren(...page.waiting.map((file) =>
      make("p", { class: "small" }, `${file.name} waits in the inbox. `, make("span", { class: "soft" }, file.why))));
    at("more").hidden = page.next_cursor === null || shown >= 500;
    at("counts").textContent = Object.entries(page.counts).filter(([, n]) => n).map(([s, n]) => `${n} ${s}`).join(" · ");
    at("problem").hidden = true;
    if (!chosen.id && /^#[0-9a-f-]{36}$/.test(location.hash)) choose(location.hash.slice(1));
  } catch (error) {
    at("problem").textContent = String(error.message || error);
    at("problem").hidden = false;
  }
}

async function checkHealth() {
  const body = await fetch("readyz").then((response) => response.json()).catch(() => null);
  const wrong = body && body.parts ? Object.values(body.parts).filter((part) => !part.ok).map((part) => part.detail) : ["Dropframe does not answer."];
  at("health").textContent = wrong.length ? "not ready" : "ready";
  at("health").className = `pill ${wrong.length ? "failed" : "completed"}`;
  at("wrong").textContent = wrong.join(" ");
  at("wrong").hidden = !wrong.length;
  await listPipelines();
}

// Asked for again and again, as weights come while the page is open; drawn anew only if something changed.
let pipelines = [];

async function listPipelines() {
  const body = await ask("v1/pipelines").catch(() => null);
  if (!body || JSON.stringify(body.pipelines) === JSON.stringify(pipelines)) return;
  const lacked = lackObjects();
  pipelines = body.pipelines;
  at("lacking").textContent = (pipelines.find((one) => one.note) || { note: "" }).note;
  if (lacked && !lackObjects() && chosen.id) chooseAgain(chosen.id); // it can be run again now
  const chosenBefore = at("pipeline").value;
  at("pipeline").replaceChildren(...body.pipelines.map((one) => {
    const option = make("option", { value: one.pipeline_id, title: one.description, "data-problem": one.problem }, one.pipeline_id);
    option.selected = chosenBefore ? one.pipeline_id === chosenBefore : one.default;
    return option;
  }));
  sayWhetherItFits();
}

const lackObjects = () => pipelines.some((one) => one.note);

function sayWhetherItFits() {
  const [option] = at("pipeline").selectedOptions;
  at("unfit").textContent = (option && option.dataset.problem) || "";
}

at("pipeline").addEventListener("change", sayWhetherItFits);

at("more").addEventListener("click", () => { shown += PAGE_JOBS; refresh(); });
at("status").addEventListener("change", refresh);
at("name").addEventListener("input", refresh);

// One job.

function choose(id) {
  if (chosen.id === id) return;
  chosen.stop();
  let going = true;
  chosen.id = id;
  chosen.stop = () => { going = false; };
  history.replaceState(null, "", "#" + id);
  follow(id, () => going);
  refresh();
}

function chooseAgain(id) {
  chosen.id = null;
  choose(id);
}

async function follow(id, going) {
  let tag = "";
  while (going()) {
    let pause = 2 * POLL_MS;
    try {
      const response = await fetch(`v1/video/status/${id}?wait=20`, { headers: tag ? { "If-None-Match": tag } : {} });
      if (!going()) return;
      if (response.ok) {
        const job = await response.json();
        tag = response.headers.get("ETag");
        show(job, going);
        if (job.status === "completed") return;
        if (job.status !== "failed") pause = 0; // a failed job is answered at once, however often it is asked for
      } else if (response.status === 304) {
        pause = at("detail").dataset.status === "failed" ? pause : 0;
      } else if (response.status < 500) {
        at("detail").replaceChildren(make("p", { class: "notice" }, (await response.json()).detail));
        return;
      }
    } catch (error) {
      // It does not answer at the moment; the health line says so.
    }
    await new Promise((wake) => setTimeout(wake, pause));
  }
}

async function want(job, what) {
  try {
    await ask(`v1/jobs/${job.job_id}/${what}`, { method: "POST" });
  } catch (error) {
    at("detail").append(make("p", { class: "notice" }, String(error.message)));
  }
}

async function remove(job) {
  const name = job.source_name || job.job_id;
  if (!window.confirm(`Delete “${name}” with its video and result? This cannot be undone.`)) return;
  try {
    await ask(`v1/jobs/${job.job_id}`, { method: "DELETE" });
  } catch (error) {
    at("detail").append(make("p", { class: "notice" }, String(error.message)));
    return;
  }
  if (chosen.id === job.job_id) {
    chosen.stop();
    chosen.id = null;
    history.replaceState(null, "", location.pathname + location.search);
    at("detail").dataset.status = "";
    at("detail").replaceChildren(make("p", { class: "soft" }, `“${name}” is being deleted.`));
  }
  refresh();
}

function show(job, going) {
  const rows = [["Pipeline", job.pipeline_id], ["Submitted", moment(job.created_at)]];
  if (job.frames_total) rows.push(["Frames", `${job.frames_processed} of ${job.frames_total}`]);
  if (job.frames_per_second) rows.push(["Speed", `${job.frames_per_second.toFixed(1)} frames/s`]);
  if (job.eta_s !== null) rows.push(["Left", about(job.eta_s)]);
  if (job.device) rows.push(["Device", job.device]);
  if (job.summary) rows.push(["Detections", String(job.summary.detection_count)]);
  const buttons = make("div", { class: "row" });
  if (job.status === "pending" || job.status === "running") buttons.append(make("button", { onclick: () => want(job, "cancel") }, "Cancel"));
  if (job.status === "failed" && !job.source_removed_at) buttons.append(make("button", { onclick: () => want(job, "retry") }, "Retry"));
  if (warnings(job).includes(NO_OBJECTS) && !job.source_removed_at && pipelines.length && !lackObjects()) {
    buttons.append(make("button", { onclick: () => submitAgain(job) }, "Run again with objects"));
  }
  if (job.status === "completed") buttons.append(make("a", { class: "button", href: `v1/video/results/${job.job_id}`, target: "_blank" }, "Result as JSON"), exportMenu(job, going));
  if (job.status !== "running") buttons.append(make("button", { class: "delete", onclick: () => remove(job) }, "Delete"));
  const list = make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const classes = job.summary ? Object.entries(job.summary.classes || {}).sort((a, b) => b[1] - a[1]) : [];
  at("detail").dataset.status = job.status;
  at("detail").replaceChildren(
    make("div", { class: "row" }, make("h2", { class: "name", title: job.source_name }, job.source_name || job.job_id), make("span", { class: `pill ${state(job)}` }, state(job))),
    job.error_message ? make("p", { class: state(job) === "cancelled" ? "notice warning" : "notice" }, job.error_message) : "",
    ...warnings(job).map((sentence) => make("p", { class: "notice warning" }, sentence)),
    job.status === "running" ? make("progress", { max: 100, ...(job.frames_total ? { value: percent(job) } : {}) }) : "",
    make("div", { class: "chips" }, ...classes.map(([name, count]) => make("span", { class: "chip small" }, `${name} ${count}`))),
    make("div", { id: "result" }),
    list,
    buttons);
  if (job.status === "completed") showResult(job, going);
}

// The video with what was found over it.

async function showResult(job, going) {
  const place = at("result"); // of this job, though another may have been chosen once its text comes
  const video = make("video", { src: `v1/jobs/${job.job_id}/video`, controls: "", muted: "", playsinline: "", preload: "auto" });
  video.muted = true;
  const canvas = make("canvas");
  const texts = make("tbody");
  const heading = make("h2", {}, "Text");
  place.append(make("div", { class: "stage" }, video, canvas));
  const found = new Frames(job.job_id);
  const paint = () => {
    if (!going()) return;
    const frame = found.at(video.currentTime);
    draw(canvas, video, frame ? frame.result : null, found.size);
  };
  const tick = () => {
    if (!going()) { video.pause(); return; }
    found.want(video.currentTime).then(paint, () => {});
    paint();
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(tick);
  };
  video.addEventListener("loadedmetadata", () => { if (chosen.from) video.currentTime = chosen.from; chosen.from = 0; });
  const unplayed = () => sayWhyItIsNotPlayed(video.parentElement, video.getAttribute("src"), found);
  video.addEventListener("error", unplayed);
  video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) unplayed(); }); // its sound alone
  video.addEventListener("loadeddata", tick);
  video.addEventListener("seeked", () => found.want(video.currentTime).then(paint, () => {}));
  if (!video.requestVideoFrameCallback) video.addEventListener("timeupdate", tick);
  try {
    const first = await found.load(0);
    let before = "";
    for (const frame of first.results) {
      if (!frame.result.text || frame.result.text === before) continue;
      before = frame.result.text;
      const time = frame.timestamp_s;
      texts.append(make("tr", {}, make("td", { class: "at", onclick: () => { video.currentTime = time; } }, clock(time)), make("td", {}, before.replaceAll("\n", " · "))));
    }
    const lookedFor = first.models.some((model) => model.role === "text");
    if (lookedFor && !texts.children.length) texts.append(make("tr", {}, make("td", { class: "soft" }, "None was read.")));
    if (first.next_frame !== null) heading.textContent = `Text of the first ${span(first.results.at(-1).timestamp_s)}`;
    if (texts.children.length) place.append(heading, make("div", { class: "scroll" }, make("table", {}, texts)));
    paint();
  } catch (error) {
    place.append(make("p", { class: "notice" }, String(error.message || error)));
  }
}

const KINDS = { "x-msvideo": "AVI", mp2t: "MPEG-TS", mpeg: "MPEG-PS", "x-flv": "FLV", "x-ms-asf": "ASF", matroska: "Matroska", webm: "WebM" };

// In place of the picture; what was found is listed all the same.
async function sayWhyItIsNotPlayed(stage, address, found) {
  const response = await fetch(address, { method: "HEAD" }).catch(() => null);
  const told = make("div", { class: "unplayed" });
  stage.replaceWith(told);
  if (!response || !response.ok) {
    told.append(make("p", { class: "soft" }, response ? "The video has been deleted." : "The video cannot be fetched."));
    return;
  }
  const kind = KINDS[(response.headers.get("Content-Type") || "").replace("video/", "")];
  await found.load(0).catch(() => null);
  const what = [kind || "MP4", found.size && found.size.codec].filter(Boolean).join(", ");
  told.append(make("p", {}, `This browser cannot play the video (${what}). What was found in it is listed here and in the result.`));
  if (kind) told.append(make("p", { class: "soft" }, "A copy in an MP4 may play: ", make("code", {}, "ffmpeg -i IN -c copy OUT.mp4")));
  told.append(make("a", { class: "button", href: address, download: "" }, "Download the video"));
}

class Frames {
  // A result may have millions of frames, so only the ones around the playing time are fetched.
  constructor(id) { this.id = id; this.blocks = new Map(); this.perSecond = 25; }
  load(from) {
    if (!this.blocks.has(from)) {
      const block = ask(`v1/video/results/${this.id}?from_frame=${from}&limit=${FRAMES_AT_ONCE}`).then((part) => {
        this.perSecond = (part.video && part.video.fps) || this.perSecond;
        this.size = part.video || {};
        block.frames = part.results;
        return part;
      });
      block.frames = [];
      this.blocks.set(from, block);
      if (this.blocks.size > 8) this.blocks.delete(this.blocks.keys().next().value);
    }
    return this.blocks.get(from);
  }
  from(seconds) { const index = Math.floor(seconds * this.perSecond); return Math.max(0, index - (index % FRAMES_AT_ONCE)); }
  want(seconds) { this.load(this.from(seconds + 3)); return this.load(this.from(seconds)); }
  at(seconds) {
    const block = this.blocks.get(this.from(seconds));
    if (!block) return null;
    let best = null;
    for (const frame of block.frames) {
      if (frame.timestamp_s > seconds + 0.001) break;
      best = frame;
    }
    return best;
  }
}

function draw(canvas, video, result, size) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  if (!result || !video.videoWidth) return;
  const scale = Math.min(width / video.videoWidth, height / video.videoHeight);
  const left = (width - video.videoWidth * scale) / 2, top = (height - video.videoHeight * scale) / 2;
  // Boxes are in pixels of the document, which need not be as many as the browser counts.
  const across = (video.videoWidth / ((size && size.width) || video.videoWidth)) * scale;
  const down = (video.videoHeight / ((size && size.height) || video.videoHeight)) * scale;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "12px system-ui, sans-serif";
  const box = ([x1, y1, x2, y2], colour, label, dashed) => {
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.setLineDash(dashed ? [4, 3] : []);
    pen.strokeRect(left + x1 * across, top + y1 * down, (x2 - x1) * across, (y2 - y1) * down);
    if (!label) return;
    const wide = pen.measureText(label).width + 8;
    const above = Math.max(0, top + y1 * down - 17);
    pen.fillStyle = colour;
    pen.fillRect(left + x1 * across - 1, above, wide, 17);
    pen.fillStyle = "#000";
    pen.fillText(label, left + x1 * across + 3, above + 12.5);
  };
  // A region of text that was read has its text where its own label would be.
  const read = new Set((result.text_blocks || []).map((one) => String(one.bbox)));
  for (const one of result.detections) {
    const label = one.class === "text" && read.has(String(one.bbox)) ? "" : `${one.class} ${Math.round(one.confidence * 100)} %`;
    box(one.bbox, COLOURS[one.class_id % COLOURS.length], label, false);
  }
  for (const one of result.text_blocks || []) box(one.bbox, "#ffffff", one.text, true);
}

// Beginning.

at("curl").textContent = `curl -F file=@video.mp4 ${new URL("v1/video/submit", location).href}`;

async function main() {
  for (;;) {
    if (!document.hidden) await Promise.all([refresh(), checkHealth(), listRejected()]);
    await new Promise((wake) => setTimeout(wake, POLL_MS));
  }
}
main();
