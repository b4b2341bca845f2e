// A stand-in until the viewer comes.

import { make } from "./dom.js";
import { nameOf, stateOf } from "./states.js";

/** @import {Api} from "./types.js" */
/** @import {Address} from "./address.js" */
/** @import {Job} from "./types.js" */

export class Viewer {
  /**
   * @param {HTMLElement} root
   * @param {Api} api
   * @param {Address} address
   */
  constructor(root, api, address) {
    this.root = root;
    this.api = api;
    this.address = address;
  }

  /** @param {string} jobId */
  async show(jobId) {
    const video = make("video", { src: this.api.url(`v1/jobs/${jobId}/video`), muted: true, width: "640" });
    this.heading = make("h2", {}, jobId);
    this.root.replaceChildren(this.heading, video);
    const seek = () => { video.currentTime = this.address.number("t") ?? 0; };
    video.addEventListener("loadedmetadata", seek);
    this.end = this.address.on(seek);
  }

  /** @param {Job} job */
  update(job) {
    this.heading?.replaceChildren(`${nameOf(job)} ${stateOf(job)}`);
  }

  close() {
    this.end?.();
    this.root.replaceChildren();
  }
}
