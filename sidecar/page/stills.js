// Single pictures of a video that cannot be played; of many that are asked for fast the last one counts.

import { NoAnswer } from "./api.js";
import { sentence } from "./dom.js";
import { persist, whenMade } from "./retry.js";

/** @import {Api, FrameRecord} from "./types.js" */

const WIDTH_PX = 1280;

export class Stills {
  /**
   * @param {Api} api
   * @param {string} jobId
   * @param {(words: string) => void} say what there is to say while a picture does not come
   */
  constructor(api, jobId, say) {
    this.api = api;
    this.path = `v1/jobs/${jobId}/frame`;
    this.say = say;
    this.looking = new AbortController();
    /** @type {ImageBitmap | null} that came last */
    this.picture = null;
    this.query = ""; // of that
  }

  /**
   * Fetch another picture.
   * @param {FrameRecord | null} frame whose picture it is
   * @param {number} time where no frame is known
   */
  async fetch(frame, time) {
    this.stop();
    const { signal } = this.looking = new AbortController();
    const query = frame ? `index=${frame.frame_index}` : `t=${time.toFixed(3)}`;
    const image = async () => {
      const response = await whenMade(this.api, `${this.path}?${query}&width=${WIDTH_PX}`, signal, this.say);
      return response.blob().catch(() => { throw new NoAnswer(); });
    };
    try {
      const picture = await createImageBitmap(await persist(image, signal, this.say));
      if (!signal.aborted) [this.picture, this.query] = [picture, query];
    } catch (error) {
      if (signal.aborted) return;
      this.picture = null;
      this.say(sentence(error));
    }
  }

  stop() {
    this.looking.abort();
  }
}
