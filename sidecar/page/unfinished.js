// A job that has no result: it waits, it runs, it failed.

import { about, count, make, number, put, sentence } from "./dom.js";
import { MAY, stateOf } from "./states.js";

/** @import {Api, Job} from "./types.js" */

export class Unfinished {
  /**
   * @param {Api} api
   * @param {Job} job
   */
  constructor(api, job) {
    this.api = api;
    this.job = job;
    this.title = make("p", { class: "waiting-title", role: "status" });
    this.note = make("p", { class: "soft" });
    this.asked = ""; // what was asked for, until the state is another one
    this.progress = make("progress", { max: 1, "aria-label": "Progress" });
    this.problem = make("p", { class: "notice", role: "alert", hidden: true });
    this.act = make("button", { onclick: () => this.ask() });
    this.picture = make("img", { class: "waiting-picture", alt: "", hidden: true });
    this.picture.addEventListener("load", () => { this.picture.hidden = false; });
    if (!job.source_removed_at) this.picture.src = api.url(`v1/jobs/${job.job_id}/frame?width=960`);
    this.element = make("section", { class: "waiting" }, this.picture, make("div", { class: "waiting-words" }, this.title, this.progress, this.note, this.problem, this.act));
    this.update(job);
  }

  /** @param {Job} job */
  update(job) {
    this.job = job;
    const state = stateOf(job);
    if (this.element.dataset.state !== state) this.asked = "";
    this.element.dataset.state = state;
    put(this.title, this.asked || { pending: "It waits for its turn.", running: "It is being analysed.", cancelled: "It was cancelled.", failed: job.error_message || "It failed.", completed: "" }[state]);
    this.note.textContent = { pending: ahead(job), running: running(job), cancelled: doneBefore(job), failed: doneBefore(job), completed: "" }[state];
    this.progress.hidden = state !== "running";
    if (job.frames_total) this.progress.value = Math.min(1, job.frames_processed / job.frames_total);
    else this.progress.removeAttribute("value");
    const ended = job.status === "failed";
    this.act.textContent = ended ? (state === "cancelled" ? "Run it after all" : "Retry") : "Cancel";
    this.act.classList.toggle("primary", ended);
    this.act.hidden = ended && !MAY.retry(job);
  }

  async ask() {
    this.act.disabled = true;
    this.problem.hidden = true;
    const { state } = this.element.dataset;
    const ended = this.job.status === "failed";
    try {
      const answer = await this.api.fetch(`v1/jobs/${this.job.job_id}/${ended ? "retry" : "cancel"}`, { method: "POST" });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || answer.statusText);
      if (this.element.dataset.state === state) put(this.title, (this.asked = ended ? "It will be tried again." : "It is being cancelled …"));
    } catch (error) {
      this.problem.textContent = sentence(error);
      this.problem.hidden = false;
    }
    this.act.disabled = false;
  }
}

/** @param {Job} job */
function ahead(job) {
  if (job.queue_position === null) return "";
  return job.queue_position ? `${count(job.queue_position, "video")} ahead of it` : "It is the next.";
}

/** @param {Job} job */
function running(job) {
  const parts = [
    job.frames_total ? `${number(job.frames_processed)} of ${count(job.frames_total, "frame")}` : job.frames_processed ? count(job.frames_processed, "frame") : "It begins …",
    job.frames_per_second && `${job.frames_per_second.toFixed(1)} frames/s`,
    job.eta_s !== null && `${about(job.eta_s)} left`,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** @param {Job} job */
const doneBefore = (job) => (job.frames_processed ? `${count(job.frames_processed, "frame")} had been analysed.` : "");
