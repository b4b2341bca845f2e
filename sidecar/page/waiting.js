// The files of the inbox that are not jobs yet, with the reasons.

import { about, bytes, count } from "./dom.js";
import { FileList } from "./file_list.js";

/** @import {WaitingFile} from "./jobs.js" */

const LISTED = 50; // more are not told of

export class Waiting {
  /** @param {HTMLDetailsElement} place */
  constructor(place) {
    this.list = new FileList(place, (n) => `${count(n, "file")}${n >= LISTED ? " or more" : ""} waiting in the inbox`);
  }

  /** @param {WaitingFile[]} waiting */
  show(waiting) {
    this.list.show(waiting.map((file) => ({
      key: file.name, name: file.name, why: file.why, facts: `${bytes(file.size_bytes)} · for ${about(Math.max(1, file.age_s))}`,
    })));
  }
}
