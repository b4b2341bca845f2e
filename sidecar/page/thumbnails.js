// Pictures of videos in lists. They come two at a time: a browser has few connections, and whoever waits for a picture
// holds one. One that cannot be had is asked for again: soon, as a busy machine may only be slow, then now and then.

import { make } from "./dom.js";

/** @import {Api} from "./types.js" */

const AT_ONCE = 2;
const AGAIN_MS = [5_000, 20_000, 60_000];

export class Thumbnails {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.loading = 0;
    /** @type {HTMLImageElement[]} those that wait for their turn */
    this.coming = [];
    /** Whether a picture comes near what is seen, so that a long list asks for few. */
    this.seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        this.seen.unobserve(target);
        this.coming.push(/** @type {HTMLImageElement} */ (target));
      }
      this.load();
    }, { rootMargin: "200px" });
  }

  /**
   * A picture of a job's video, which may come later.
   * @param {string} jobId
   * @param {number} [seconds] of the picture; without, one that stands for the video
   */
  of(jobId, seconds) {
    const image = make("img", { class: "thumb", alt: "" });
    image.dataset.path = `v1/jobs/${jobId}/frame?${seconds === undefined ? "" : `t=${seconds}&`}width=160`;
    let failed = 0;
    const settled = (/** @type {boolean} */ here) => {
      image.classList.toggle("here", here);
      this.loading -= 1;
      this.load();
      if (here) return;
      setTimeout(() => { if (image.isConnected) this.seen.observe(image); }, AGAIN_MS[Math.min(failed, AGAIN_MS.length - 1)]);
      failed += 1;
    };
    image.addEventListener("load", () => settled(true));
    image.addEventListener("error", () => settled(false));
    this.seen.observe(image);
    return image;
  }

  load() {
    while (this.loading < AT_ONCE && this.coming.length) {
      const image = /** @type {HTMLImageElement} */ (this.coming.shift());
      if (!image.isConnected) continue;
      this.loading += 1;
      image.removeAttribute("src");
      image.src = this.api.url(/** @type {string} */ (image.dataset.path));
    }
  }
}
