// One job in the list: made once, and then changed in place, so that focus and selection stay where they are.

import { about, bytes, count, make, moment, put } from "./dom.js";
import { nameOf, progressOf, REQUESTED, stateOf } from "./states.js";

/** @import {Job} from "./types.js" */
/** @import {Action} from "./states.js" */
/** @import {Thumbnails} from "./thumbnails.js" */

const SHOWN_CLASSES = 4;

export class JobRow {
  /**
   * @param {Job} job
   * @param {Thumbnails} thumbnails
   */
  constructor(job, thumbnails) {
    this.job = job;
    this.thumbnails = thumbnails;
    /** @type {{action: Action, at: string} | null} what was requested, and of which record */
    this.requested = null;
    this.pick = make("input", { type: "checkbox", class: "pick" });
    this.picture = make("span", { class: "picture" });
    this.name = make("span", { class: "name" });
    this.mark = make("span", { class: "mark", role: "img", hidden: true }, "!");
    this.pill = make("span", { class: "pill" });
    this.facts = make("span", { class: "facts small soft" });
    this.what = make("span", { class: "what small" });
    this.progress = make("progress", { max: 100, hidden: true });
    this.link = make("a", { class: "open", href: `#/job/${job.job_id}` },
      this.picture,
      make("span", { class: "lines" },
        make("span", { class: "first" }, this.name, this.mark, this.pill), this.facts, this.what, this.progress));
    this.item = make("li", { class: "job", "data-id": job.job_id }, make("label", { class: "picker" }, this.pick), this.link);
    this.show(job);
  }

  /** @param {Job} job a newer record of it */
  show(job) {
    this.job = job;
    if (this.requested && this.requested.at !== job.updated_at) this.requested = null;
    const name = nameOf(job);
    const state = stateOf(job);
    put(this.name, name);
    this.name.title = name;
    if (this.pick.ariaLabel !== `Select ${name}`) this.pick.ariaLabel = `Select ${name}`;
    put(this.pill, state);
    this.pill.className = `pill ${state}`;
    put(this.facts, `${when(job.created_at)} · ${bytes(job.size_bytes)}`);
    this.facts.title = moment(job.created_at);
    put(this.what, this.requested ? REQUESTED[this.requested.action] : told(job));
    this.what.className = `what small ${state === "failed" ? "bad" : "soft"}`;
    this.item.classList.toggle("going", this.requested?.action === "delete");
    this.warn((job.summary && job.summary.warnings) || []);
    this.progress.hidden = job.status !== "running" || !job.frames_total;
    this.progress.value = progressOf(job);
    this.progress.ariaLabel = `${name}: ${Math.floor(progressOf(job))} %`;
    this.depict(!job.source_removed_at);
  }

  /** @param {Action} action */
  request(action) {
    this.requested = { action, at: this.job.updated_at };
    this.show(this.job);
  }

  /** @param {boolean} chosen whether it is the job that is looked at */
  choose(chosen) {
    this.item.classList.toggle("chosen", chosen);
    if (chosen) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
  }

  /** @param {string[]} warnings */
  warn(warnings) {
    this.mark.hidden = !warnings.length;
    this.mark.title = this.mark.ariaLabel = warnings.join(" ");
  }

  /** @param {boolean} there whether its video is kept */
  depict(there) {
    if (there === (this.picture.firstChild !== null)) return;
    this.picture.replaceChildren(...(there ? [this.thumbnails.of(this.job.job_id)] : []));
  }
}

/** @param {Job} job */
function told(job) {
  if (job.status === "pending") return job.queue_position ? `${job.queue_position} ahead of it` : "next";
  if (job.status === "failed") return job.error_message || "";
  if (job.status === "running") {
    const parts = [job.frames_total ? `${Math.floor(progressOf(job))} %` : "reading the video"];
    if (job.frames_per_second) parts.push(`${job.frames_per_second.toFixed(1)} frames/s`);
    if (job.eta_s !== null) parts.push(`${about(job.eta_s)} left`);
    return parts.join(" · ");
  }
  const classes = Object.entries(job.summary?.classes ?? {}).filter(([name]) => name !== "text").sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const more = classes.length > SHOWN_CLASSES ? ` and ${classes.length - SHOWN_CLASSES} more` : "";
  return [job.summary ? count(job.summary.frame_count ?? 0, "frame") : "", classes.slice(0, SHOWN_CLASSES).join(", ") + more].filter(Boolean).join(" · ");
}

/**
 * A time, as short as can be: of today `11:06`, of this year `Nov 26, 11:06`.
 * @param {string} text ISO 8601
 */
function when(text) {
  const [time, now] = [new Date(text), new Date()];
  if (time.toDateString() === now.toDateString()) return time.toLocaleTimeString([], { timeStyle: "short" });
  return time.getFullYear() === now.getFullYear()
    ? time.toLocaleString([], { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" }) : moment(text);
}
