// What stands above the job that is looked at: the way back, and its deletion.

import { sentence } from "./dom.js";
import { sureToDelete } from "./selection.js";
import { MAY, nameOf } from "./states.js";

/** @import {Api} from "./api.js" */
/** @import {Address} from "./address.js" */
/** @import {Job} from "./types.js" */

export class JobBar {
  /**
   * @param {HTMLButtonElement} remove
   * @param {HTMLElement} problem where it is said what went wrong
   * @param {Api} api
   * @param {Address} address
   * @param {(sentence: string) => void} say
   */
  constructor(remove, problem, api, address, say) {
    this.remove = remove;
    this.problem = problem;
    this.api = api;
    this.address = address;
    this.say = say;
    /** @type {string | null} */
    this.id = null;
    remove.addEventListener("click", () => this.delete());
  }

  /** @param {string | null} id of the job that is looked at */
  show(id) {
    this.id = id;
    this.remove.hidden = true;
    this.problem.textContent = "";
    document.title = "Dropframe";
  }

  /** @param {Job} job a newer record */
  update(job) {
    if (job.job_id !== this.id) return;
    document.title = `${nameOf(job)} · Dropframe`;
    this.remove.hidden = !MAY.delete(job);
  }

  async delete() {
    const { id } = this;
    this.problem.textContent = "";
    try {
      const job = await this.api.get(`v1/jobs/${id}`);
      if (!(await sureToDelete([job]))) return;
      await this.api.request("DELETE", `v1/jobs/${id}`);
      this.say(`${nameOf(job)} is being deleted.`);
      if (this.id === id) this.address.go(null);
    } catch (error) {
      if (this.id === id) this.problem.textContent = `It was not deleted. ${sentence(error)}`;
    }
  }
}
