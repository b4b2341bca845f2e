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
   * @param {Api} api
   * @param {Address} address
   * @param {(sentence: string) => void} say
   */
  constructor(remove, api, address, say) {
    this.remove = remove;
    this.api = api;
    this.address = address;
    this.say = say;
    /** @type {string | null} */
    this.id = null;
    remove.addEventListener("click", () => this.delete());
  }

  /** @param {string | null} id of the job that is looked at */
  async show(id) {
    this.id = id;
    this.remove.hidden = true;
    document.title = "Dropframe";
    if (id === null) return;
    const job = await this.api.get(`v1/jobs/${id}`).catch(() => null);
    if (job && this.id === id) this.update(job);
  }

  /** @param {Job} job a newer record */
  update(job) {
    document.title = `${nameOf(job)} · Dropframe`;
    this.remove.hidden = !MAY.delete(job);
  }

  async delete() {
    const { id } = this;
    try {
      const job = await this.api.get(`v1/jobs/${id}`);
      if (!(await sureToDelete([job]))) return;
      await this.api.request("DELETE", `v1/jobs/${id}`);
      this.say(`${nameOf(job)} is being deleted.`);
      if (this.id === id) this.address.go(null);
    } catch (error) {
      this.say(sentence(error));
    }
  }
}
