// Several jobs at once: which are selected, and what is done to them.

import { count, make, sentence } from "./dom.js";
import { confirmed } from "./question.js";
import { MAY, nameOf } from "./states.js";

/** @import {Job} from "./types.js" */
/** @import {Action} from "./states.js" */
/** @import {Api} from "./api.js" */

const AT_ONCE = 4;
const NAMED = 5;
const DONE = { cancel: "asked to be cancelled", retry: "queued again", delete: "being deleted" };

export class Selection {
  /**
   * @param {HTMLElement} bar shown while something is selected
   * @param {Api} api
   * @param {{changed: () => void, requested: (action: Action, jobId: string) => void, say: (sentence: string) => void}} told
   */
  constructor(bar, api, told) {
    this.bar = bar;
    this.api = api;
    this.told = told;
    /** @type {Map<string, Job>} */
    this.jobs = new Map();
    this.number = make("span", { class: "number" });
    this.note = make("p", { class: "notice", role: "alert" });
    /** @type {Record<Action, HTMLButtonElement>} */
    this.buttons = { cancel: this.button("cancel"), retry: this.button("retry"), delete: this.button("delete") };
    this.none = make("button", { type: "button", class: "plain", onclick: () => this.clear() }, "Select none");
    bar.append(this.number, this.buttons.cancel, this.buttons.retry, this.buttons.delete, this.none);
    bar.after(this.note);
  }

  /** @param {Action} action */
  button(action) {
    return make("button", { type: "button", class: action === "delete" ? "danger" : null, "data-action": action, onclick: () => this.act(action) });
  }

  /**
   * @param {Job} job
   * @param {boolean} picked
   */
  pick(job, picked) {
    if (picked) this.jobs.set(job.job_id, job);
    else this.jobs.delete(job.job_id);
    this.show();
  }

  /** @param {Job} job a newer record */
  update(job) {
    if (this.jobs.has(job.job_id)) this.jobs.set(job.job_id, job);
  }

  clear() {
    const within = this.bar.contains(document.activeElement);
    this.jobs.clear();
    this.show();
    this.told.changed();
    if (within) document.getElementById("select-all")?.focus();
  }

  show() {
    this.bar.hidden = !this.jobs.size;
    this.number.textContent = `${this.jobs.size} selected`;
    for (const action of /** @type {Action[]} */ (Object.keys(MAY))) {
      const some = [...this.jobs.values()].filter(MAY[action]).length;
      const label = action[0].toUpperCase() + action.slice(1);
      this.buttons[action].textContent = some && some < this.jobs.size ? `${label} ${some}` : label;
      this.buttons[action].disabled = !some;
    }
  }

  /** @param {Action} action */
  async act(action) {
    const chosen = [...this.jobs.values()].filter(MAY[action]);
    if (action === "delete" && !(await sureToDelete(chosen, this.jobs.size - chosen.length))) return;
    this.complain("");
    const problems = await this.request(action, chosen);
    const good = chosen.length - problems.length;
    if (good) this.told.say(`${count(good, "job")} ${good === 1 ? "is" : "are"} ${DONE[action]}.`);
    if (problems.length) this.complain(`${count(problems.length, "job")} could not be changed: ${[...new Set(problems)].join(" ")}`);
    this.clear();
  }

  /** Say what went wrong. @param {string} words */
  complain(words) {
    this.note.textContent = words;
  }

  /**
   * @param {Action} action
   * @param {Job[]} jobs
   * @returns {Promise<string[]>} what went wrong
   */
  async request(action, jobs) {
    /** @type {string[]} */
    const problems = [];
    const left = [...jobs];
    const work = async () => {
      for (let job = left.shift(); job; job = left.shift()) {
        try {
          const path = `v1/jobs/${job.job_id}`;
          await (action === "delete" ? this.api.request("DELETE", path) : this.api.request("POST", `${path}/${action}`));
          this.told.requested(action, job.job_id);
        } catch (error) {
          problems.push(sentence(error));
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return problems;
  }
}

/**
 * Ask whether jobs are to be deleted.
 * @param {Job[]} jobs
 * @param {number} [left] how many are not deleted, as they run
 */
export function sureToDelete(jobs, left = 0) {
  const names = jobs.slice(0, NAMED).map((job) => make("li", {}, nameOf(job)));
  if (jobs.length > NAMED) names.push(make("li", { class: "soft" }, `and ${jobs.length - NAMED} more`));
  return confirmed(`Delete ${count(jobs.length, "job")}?`, [
    make("ul", { class: "names" }, ...names),
    make("p", {}, `${jobs.length === 1 ? "Its video and result are" : "Their videos and results are"} deleted too. This cannot be undone.`),
    left ? make("p", { class: "soft" }, `${count(left, "job")} that ${left === 1 ? "is" : "are"} running will be left; cancel first what you want to delete.`) : "",
  ], "Delete");
}
