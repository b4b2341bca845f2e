// The files of the inbox that were not taken in, with the reasons.

import { bytes, count, moment } from "./dom.js";
import { FileList } from "./file_list.js";
import { Poll } from "./poll.js";

/** @import {Api} from "./types.js" */

const SHOWN = 20;
const POLL_MS = 3000;

/** @typedef {{name: string, path: string, reason: string, rejected_at: string, size_bytes: number}} RejectedFile */

export class Rejected {
  /**
   * @param {HTMLDetailsElement} place
   * @param {Api} api
   */
  constructor(place, api) {
    this.api = api;
    this.list = new FileList(place, (n) => `${count(n, "file")} rejected`);
    this.poll = new Poll(POLL_MS, () => this.refresh());
  }

  async refresh() {
    const page = await this.api.get(`v1/rejected?limit=${SHOWN}`).catch(() => null);
    if (!page) return; // nobody answers at the moment, which is said elsewhere
    const more = page.count - page.rejected.length;
    this.list.show(page.rejected.map(listed), more > 0 ? `${more} more in inbox/rejected.` : "", page.count);
  }
}

/** @param {RejectedFile} file */
const listed = (file) => ({ key: file.path, name: file.name, why: file.reason, facts: `${moment(file.rejected_at)} · ${bytes(file.size_bytes)}` });
