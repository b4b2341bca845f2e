// One job: what it is doing, and once it has completed what was found in its video.

import { RunAgain } from "./again.js";
import { icon, make, put, sentence } from "./dom.js";
import { Downloads } from "./downloads.js";
import { keys } from "./keys.js";
import { pause, persist } from "./retry.js";
import { nameOf, stateOf } from "./states.js";
import { Unfinished } from "./unfinished.js";
import { Watch } from "./watch.js";

/** @import {Api, Job} from "./types.js" */
/** @import {Address} from "./address.js" */
/** @import {Actions} from "./keys.js" */

const WAIT_S = 20;
const PAUSE_S = 2;
const COPIED_MS = 2000;
const LINK = "Copy link at this position";

export class Viewer {
  /**
   * @param {HTMLElement} root everything is shown in it
   * @param {Api} api
   * @param {Address} address
   * @param {(job: Job) => void} told of each record of the job that is shown
   */
  constructor(root, api, address, told) {
    this.root = root;
    this.api = api;
    this.address = address;
    this.told = told;
    /** @type {Job | null} */
    this.job = null;
    /** @type {string | null} */
    this.id = null;
    /** @type {Watch | null} */
    this.watch = null;
    /** @type {Unfinished | null} */
    this.unfinished = null;
    this.stop = new AbortController();
    /** @type {Actions} */
    this.actions = {};
    address.on(() => {
      if (this.id !== null && address.job === this.id) this.watch?.follow();
    });
  }

  /**
   * Show a job, as the address says.
   * @param {string} jobId
   */
  async show(jobId) {
    if (this.id === jobId) return;
    this.close();
    this.id = jobId;
    this.stop = new AbortController();
    const { signal } = this.stop;
    const note = make("p", { class: "soft viewer-loading", role: "status" }, "…");
    this.root.replaceChildren(note);
    try {
      const job = await persist(() => this.api.get(`v1/jobs/${jobId}`, { signal }), signal, (words) => put(note, words));
      if (signal.aborted) return;
      this.render(job);
      this.told(job);
      this.follow(signal);
    } catch (error) {
      if (!signal.aborted) this.root.replaceChildren(make("p", { class: "notice", role: "alert" }, sentence(error)));
    }
  }

  /** Ask for news of a job that has not ended. @param {AbortSignal} signal */
  async follow(signal) {
    let tag = "";
    while (!signal.aborted && this.job && this.job.status !== "completed") {
      let seconds = PAUSE_S;
      try {
        const response = await this.api.fetch(`v1/jobs/${this.job.job_id}?wait=${WAIT_S}`, { signal, headers: tag ? { "If-None-Match": tag } : {} });
        if (signal.aborted) return;
        if (response.ok) {
          tag = response.headers.get("ETag") ?? "";
          const job = await response.json();
          if (signal.aborted) return;
          this.update(job);
        }
        if (response.status < 400 && this.job.status !== "failed") seconds = 0; // a failed job is answered at once
        if (response.status === 404 || response.status === 410) return;
      } catch {
        // It does not answer at the moment; the head of the page says so.
      }
      await pause(seconds, signal).catch(() => {});
    }
  }

  /**
   * Show what is new of the job.
   * @param {object} record
   */
  update(record) {
    const job = /** @type {Job} */ (record);
    if (!this.job || job.job_id !== this.id || job.updated_at < this.job.updated_at) return;
    const before = this.job;
    this.job = job;
    if (before.status !== job.status && (job.status === "completed" || before.status === "completed")) this.render(job);
    else this.unfinished?.update(job);
    this.sayState(job);
    this.told(job);
  }

  /** @param {Job} job */
  render(job) {
    this.leave();
    this.job = job;
    this.pill = make("span", { class: "pill" });
    const name = nameOf(job);
    const title = make("h2", { class: "viewer-name", title: name, tabindex: -1 }, name);
    const tools = make("div", { class: "tools" });
    const body = job.status === "completed" ? this.renderResult(job, tools) : (this.unfinished = new Unfinished(this.api, job)).element;
    tools.append(make("button", { "aria-label": "Keys", title: "Keys (?)", onclick: () => keys.help() }, "?"));
    const focused = this.root.contains(document.activeElement);
    this.root.replaceChildren(make("article", { class: "viewer", "aria-label": name }, make("header", { class: "viewer-head" }, title, this.pill, tools), ...this.warnings(job), body));
    if (focused) title.focus();
    this.sayState(job);
    this.watch?.begin();
  }

  /**
   * @param {Job} job
   * @param {HTMLElement} tools
   */
  renderResult(job, tools) {
    const watch = (this.watch = new Watch(this.api, this.address, job));
    this.downloads = new Downloads(this.api, job, () => watch.view, () => watch.player.time, watch.ended.signal);
    this.link = make("button", { title: "Copy a link at this position (C)", onclick: () => this.copyLink() }, icon("link"), make("span", {}, LINK));
    tools.append(this.downloads.element, this.link);
    this.actions = this.actionsOf(watch);
    keys.bind(this.actions);
    return watch.element;
  }

  /** @param {Job} job */
  warnings(job) {
    const all = job.status === "completed" ? (job.summary?.warnings ?? []) : [];
    const again = new RunAgain(this.api, this.address, job, this.stop.signal);
    return [...all.map((words) => make("p", { class: "notice warning" }, words)), again.element];
  }

  /** @param {Job} job */
  sayState(job) {
    if (!this.pill) return;
    this.pill.textContent = stateOf(job);
    this.pill.className = `pill ${stateOf(job)}`;
  }

  async copyLink() {
    const words = /** @type {HTMLElement} */ (this.link?.lastElementChild);
    this.watch?.noteTime();
    try {
      await navigator.clipboard.writeText(this.address.link);
      words.textContent = "Copied";
    } catch {
      words.textContent = "In the address bar"; // where it may be copied from
    }
    setTimeout(() => { words.textContent = LINK; }, COPIED_MS);
  }

  /**
   * @param {Watch} watch
   * @returns {Actions}
   */
  actionsOf(watch) {
    const { player, bar } = watch;
    return {
      play: () => player.toggle(),
      step: (key) => player.step(key === "." ? 1 : -1),
      second: (key, event) => player.skip((key === "ArrowRight" ? 1 : -1) * (event.shiftKey ? 10 : 1)),
      ends: (key) => player.seek(key === "Home" ? 0 : player.duration),
      text: (key) => watch.toText("]n".includes(key) ? 1 : -1),
      object: (key) => watch.toObject("}N".includes(key) ? 1 : -1),
      class: (key) => watch.filter(watch.classes[Number(key) - 1]?.[0]),
      boxes: () => watch.change({ boxes: !watch.view.boxes }),
      texts: () => watch.change({ text: !watch.view.text }),
      confidence: (key) => bar.surer(key === "-" ? -1 : 1),
      speed: (key) => bar.faster(key === ">" ? 1 : -1),
      whole: () => watch.change({ span: null }),
      mute: () => bar.toggleSound(),
      full: () => watch.fullScreen(),
      find: () => {
        watch.change({ tab: "text" });
        watch.texts.find.focus();
      },
      link: () => this.copyLink(),
      download: () => this.downloads?.toggle(),
    };
  }

  leave() {
    keys.release(this.actions);
    this.watch?.close();
    this.watch = null;
    this.unfinished = null;
  }

  close() {
    this.stop.abort();
    this.leave();
    this.job = this.id = null;
    this.root.replaceChildren();
  }
}
