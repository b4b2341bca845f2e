// A completed job: its picture, lanes, plots and lists, which all show the same time and the same choice.

import { Bar } from "./bar.js";
import { Colours } from "./colours.js";
import { ApiError } from "./api.js";
import { loadDensity, load } from "./derived.js";
import { make, put, sentence } from "./dom.js";
import { facts } from "./facts.js";
import { Frames } from "./frames.js";
import { Lanes } from "./lanes.js";
import { Objects } from "./objects.js";
import { Player } from "./player.js";
import { Plots } from "./plots.js";
import { persist } from "./retry.js";
import { Tabs } from "./tabs.js";
import { Texts } from "./texts.js";
import { UnplayedNote } from "./unplayed.js";

/** @import {Api, Density, Job, View} from "./types.js" */
/** @import {Address} from "./address.js" */

const PLAYING_MS = 500; // between two writes of the time while it plays

export class Watch {
  /**
   * @param {Api} api
   * @param {Address} address
   * @param {Job} job
   */
  constructor(api, address, job) {
    this.api = api;
    this.address = address;
    this.job = job;
    this.ended = new AbortController();
    this.usualTab = "text"; // where the address names none
    this.view = readView(address, this.usualTab);
    this.classes = Object.entries(job.summary?.classes ?? {}).sort((a, b) => b[1] - a[1]);
    this.noted = 0;
    const colours = new Colours(this.classes.map(([name]) => name));
    const seek = (/** @type {number} */ time) => { this.player.seek(time); };
    const change = (/** @type {Partial<View>} */ part) => this.change(part);
    const filter = (/** @type {string} */ name) => this.filter(name);
    this.frames = new Frames(api, job.job_id);
    this.player = new Player(api, job.job_id, this.frames, colours, {
      moved: () => this.moved(),
      played: () => this.played(),
      lacks: (why, detail) => this.lacks(why, detail),
      sized: () => this.sized(),
      failed: (error) => this.notice(sentence(error)),
      trouble: (words) => this.say("frames", words),
    });
    this.bar = new Bar(this.player, change, () => this.fullScreen());
    this.lanes = new Lanes(colours, seek, change, filter);
    this.plots = new Plots(colours, seek, change);
    this.texts = new Texts(seek, change, (way) => this.toText(way));
    this.objects = new Objects(colours, filter, (name, way) => this.toObject(way, new Set([name])));
    this.factsPlace = make("div", {});
    /** @type {Map<string, string>} what is still waited for, and why */
    this.awaited = new Map();
    this.awaiting = make("p", { class: "small soft note", role: "status", hidden: true });
    this.notices = make("div", { class: "notices" });
    this.tabs = new Tabs([
      { id: "text", title: "Text", panel: this.texts.element },
      { id: "objects", title: "Objects", panel: make("div", {}, this.objects.element, this.plots.histogram) },
      { id: "facts", title: "Facts", panel: this.factsPlace },
    ], (tab) => this.change({ tab }));
    this.theatre = make("div", { class: "theatre" }, this.player.element, this.bar.element);
    this.element = make("div", { class: "watch" },
      make("div", { class: "watch-main" }, this.theatre, this.notices, this.awaiting, this.lanes.element, this.plots.element),
      make("aside", { class: "watch-side", "aria-label": "What was found" }, this.tabs.element));
    this.apply();
  }

  /** Fetch what is to be shown; what fails says so in its place. */
  begin() {
    const time = this.address.number("t") ?? 0;
    persist(() => this.frames.want(time), this.ended.signal, (words) => this.say("frames", words)).then(() => this.begun(), (error) => this.notice(sentence(error)));
    this.player.seek(time);
    this.loadDerived().catch((error) => this.nothingDerived(error));
  }

  begun() {
    if (this.ended.signal.aborted) return;
    const { about, stride } = this.frames;
    this.bar.frames = about?.summary?.frames_decoded ?? (about?.summary?.frame_count ?? 0) * stride;
    this.sized();
    this.player.fit();
    this.moved();
    if (!this.player.playing) this.player.describe();
  }

  async loadDerived() {
    const { job_id: id } = this.job, { signal } = this.ended;
    const say = (/** @type {string} */ words) => this.say("derived", words);
    this.show(await loadDensity(this.api, id, signal, say));
    for await (const spans of load(this.api, id, "texts", signal, say)) {
      this.texts.add(spans);
      this.lanes.addTexts(spans);
      this.tabs.count("text", this.texts.all.length);
      this.moved();
    }
    this.texts.finish(this.lackOf("text", "No text was read.", "Text was not looked for."));
    for await (const tracks of load(this.api, id, "tracks", signal, say)) {
      this.lanes.addTracks(tracks);
      this.objects.addTracks(tracks);
    }
  }

  /** @param {Density} density */
  show(density) {
    // Of results of earlier releases there are no sums.
    if (!this.classes.length) this.classes = Object.entries(density.objects).map(([name, column]) => /** @type {[string, number]} */ ([name, sum(column)])).sort((a, b) => b[1] - a[1]);
    this.density = density;
    this.lanes.begin(density, this.classes, sum(density.text_lines));
    this.plots.begin(density, this.classes.map(([name]) => name).filter((name) => name in density.objects));
    this.objects.begin(density, this.classes, this.lackOf("objects", "No objects were detected.", "Objects were not looked for."));
    this.tabs.count("objects", this.classes.length);
    if (!sum(density.text_lines) && this.classes.length) {
      this.usualTab = "objects";
      this.view = readView(this.address, this.usualTab);
      this.tabs.show(this.view.tab);
    }
    if (!this.classes.length && !sum(density.text_lines)) this.notice("Nothing was found in this video.", "note");
    this.sized();
    this.moved();
  }

  /**
   * @param {string} role
   * @param {string} none
   * @param {string} unasked
   */
  lackOf(role, none, unasked) {
    const models = this.frames.about?.models ?? [];
    return models.length && !models.some((model) => model.role === role) ? unasked : none;
  }

  /** @param {unknown} error */
  nothingDerived(error) {
    if (this.ended.signal.aborted) return;
    this.say("derived", "");
    this.texts.finish("Texts are not known.");
    this.objects.begin({ bucket_s: 1, frames: [], objects: {}, text_lines: [], classes: {} }, [], "Objects are not known.");
    this.notice(sentence(error), error instanceof ApiError && error.kind === "nothing-derived" ? "warning" : "");
  }

  /** @param {Partial<View>} part */
  change(part) {
    this.view = { ...this.view, ...part };
    const { classes, confidence, words, boxes, text, span, tab } = this.view;
    this.address.set({
      class: [...classes].join(","), conf: confidence || null, q: words, boxes: boxes ? null : 0, text: text ? null : 0,
      from: span && span[0].toFixed(2), to: span && span[1].toFixed(2), tab: part.tab === undefined ? this.address.get("tab") : tab,
    });
    this.apply();
  }

  /** Somebody went back or on, or opened a link to the same job. */
  follow() {
    const time = this.address.number("t") ?? 0;
    this.view = readView(this.address, this.usualTab);
    this.apply();
    if (Math.abs(time - this.player.goal) > 0.005) this.player.seek(time);
  }

  apply() {
    for (const part of [this.player, this.bar, this.lanes, this.plots, this.texts, this.objects]) part.apply(this.view);
    this.tabs.show(this.view.tab);
  }

  moved() {
    const time = this.player.goal;
    if (this.ended.signal.aborted) return; // the address is of another job
    for (const part of [this.bar, this.lanes, this.texts]) part.moved(time);
    this.plots.moved(time, this.player.painted);
    const now = performance.now();
    if (this.player.playing && now - this.noted < PLAYING_MS) return;
    this.noted = now;
    this.noteTime();
    if (!this.player.playing) this.player.describe();
  }

  noteTime() {
    const time = this.player.goal;
    this.address.set({ t: time ? String(Math.round(time * 1000) / 1000) : null });
  }

  played() {
    this.bar.played();
    this.noted = 0;
    this.moved();
  }

  sized() {
    const duration = this.player.duration || (this.density ? this.density.frames.length * this.density.bucket_s : 0);
    this.lanes.size(duration);
    this.plots.size(duration);
    this.factsPlace.replaceChildren(facts(this.job, this.frames.about, duration));
  }

  /**
   * @param {"gone" | "unplayable" | "still"} why
   * @param {string} detail
   */
  lacks(why, detail) {
    this.bar.lacksVideo();
    this.notices.prepend(new UnplayedNote(this.api, this.job, this.frames.about, why, detail, this.ended.signal).element);
  }

  /**
   * @param {string} words
   * @param {string} [kind]
   */
  notice(words, kind = "") {
    if (this.ended.signal.aborted || !words || [...this.notices.children].some((one) => one.textContent === words)) return;
    this.notices.append(make("p", { class: `notice ${kind}`, role: kind ? "status" : "alert" }, words));
  }

  /**
   * Say why something is not there yet.
   * @param {"frames" | "derived"} what
   * @param {string} words "" once it is there
   */
  say(what, words) {
    if (this.ended.signal.aborted) return;
    this.awaited.set(what, words);
    put(this.awaiting, [...new Set(this.awaited.values())].filter(Boolean).join(" "));
    this.awaiting.hidden = !this.awaiting.textContent;
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.theatre.requestFullscreen?.().catch(() => {});
  }

  /** @param {1 | -1} way */
  toText(way) {
    const span = this.texts.beside(this.player.here, way);
    if (span) this.player.seek(span.start_s);
  }

  /**
   * @param {1 | -1} way
   * @param {Set<string>} [classes]
   */
  toObject(way, classes = this.view.classes) {
    const time = this.lanes.beside(this.player.here, way, classes);
    if (time !== null) this.player.seek(time);
  }

  /** @param {string | undefined} name of a class to show beside those that are shown, or no more */
  filter(name) {
    if (name === undefined) return;
    const classes = new Set(this.view.classes);
    if (!classes.delete(name)) classes.add(name);
    this.change({ classes });
  }

  close() {
    this.ended.abort();
    this.player.close();
    this.lanes.close();
    this.plots.close();
    this.texts.list.close();
  }
}

/** @param {number[]} column */
const sum = (column) => column.reduce((a, b) => a + b, 0);

/**
 * @param {Address} address
 * @param {string} usualTab
 * @returns {View}
 */
function readView(address, usualTab) {
  const [from, to] = [address.number("from"), address.number("to")];
  return {
    classes: new Set((address.get("class") ?? "").split(",").filter(Boolean)),
    confidence: Math.max(0, Math.min(0.95, address.number("conf") ?? 0)),
    words: address.get("q") ?? "",
    boxes: address.get("boxes") !== "0",
    text: address.get("text") !== "0",
    span: from !== null && to !== null && to > from ? [from, to] : null,
    tab: address.get("tab") ?? usualTab,
  };
}
