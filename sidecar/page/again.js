// A video in which no objects were looked for, for want of weights, is run again once there are some.

import { make, sentence } from "./dom.js";

/** @import {Api, Job} from "./types.js" */
/** @import {Address} from "./address.js" */

const NO_OBJECTS = "No objects were looked for, as there are no object weights; the detections are regions of text.";
const LOOK_MS = 3000;

export class RunAgain {
  /**
   * @param {Api} api
   * @param {Address} address
   * @param {Job} job
   * @param {AbortSignal} signal
   */
  constructor(api, address, job, signal) {
    this.api = api;
    this.address = address;
    this.job = job;
    this.note = make("span", { class: "small soft", role: "status" });
    this.button = make("button", { class: "primary", hidden: true, onclick: () => this.run(signal) }, "Run again with objects");
    this.element = make("div", { class: "again" }, this.button, this.note);
    const lacks = job.status === "completed" && (job.summary?.warnings ?? []).includes(NO_OBJECTS) && !job.source_removed_at;
    this.element.hidden = !lacks;
    if (lacks) this.look(signal);
  }

  /** Look whether weights have come. @param {AbortSignal} signal */
  async look(signal) {
    while (!signal.aborted) {
      const { pipelines } = await this.api.get("v1/pipelines").catch(() => ({ pipelines: [] }));
      const note = pipelines.find((/** @type {{note: string | null}} */ one) => one.note)?.note ?? "";
      this.button.hidden = !pipelines.length || Boolean(note);
      if (!this.button.disabled) this.note.textContent = note;
      await new Promise((wake) => setTimeout(wake, LOOK_MS));
    }
  }

  /**
   * A result is never changed, so a video that is run again is a job of its own.
   * @param {AbortSignal} signal of the view: whoever has left it is not led away from where they went
   */
  async run(signal) {
    this.button.disabled = true;
    this.note.textContent = "being submitted …";
    try {
      const { job_id: id, source_name: name, pipeline_id: pipeline, options } = this.job;
      const video = await this.api.fetch(`v1/jobs/${id}/video`);
      if (!video.ok) throw new Error((await video.json()).detail);
      const form = new FormData();
      for (const [option, value] of Object.entries({ pipeline_id: pipeline, ...options })) if (value !== null && value !== undefined) form.append(option, String(value));
      form.append("file", await video.blob(), (name || id).split("/").pop());
      const answer = await this.api.fetch("v1/video/submit", { method: "POST", body: form });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.detail);
      if (!signal.aborted) this.address.go(body.job_id);
    } catch (error) {
      this.note.textContent = sentence(error);
      this.button.disabled = false;
    }
  }
}
