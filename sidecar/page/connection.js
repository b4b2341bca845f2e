// The connection by which a video comes: it is loaded again where that breaks. What cannot be played at all is told.

import { ApiError } from "./api.js";
import { sentence } from "./dom.js";
import { pause, pauseOf, persist } from "./retry.js";

/** @import {Api} from "./types.js" */

const BROKEN = "The connection is broken. The video goes on by itself once it is back.";
const GONE = new Set([404, 410]);
const STALLED_S = 2;
const ENOUGH = 3; // the ready state in which a video goes on

/**
 * @typedef {object} Listeners
 * @property {(words: string) => void} broken what there is to say of it; "" once the video is back
 * @property {(plays: boolean) => void} back it has been loaded again, from its beginning; whether it is to play
 * @property {(why: "gone" | "unplayable", detail: string) => void} lacks there is not a video that plays
 */

export class Connection {
  /**
   * @param {Api} api
   * @param {string} path of the video
   * @param {HTMLVideoElement} video
   * @param {AbortSignal} signal
   * @param {Listeners} listeners
   */
  constructor(api, path, video, signal, listeners) {
    this.api = api;
    this.path = path;
    this.video = video;
    this.signal = signal;
    this.listeners = listeners;
    this.broken = false; // until it has been loaded again
    this.plays = false; // once it is back
    this.known = false; // whether the browser can play it
    this.doubting = false;
    this.tries = 0; // since it was at its place
    this.refusals = 0;
    for (const name of ["loadstart", "waiting"]) video.addEventListener(name, () => this.doubt());
    video.addEventListener("error", () => this.mend());
    video.addEventListener("loadedmetadata", () => this.loaded());
    video.addEventListener("seeked", () => { this.tries = 0; });
    video.src = api.url(path);
  }

  loaded() {
    if (!this.video.videoWidth) return void this.giveUp(); // its sound alone
    this.known = true;
    if (!this.broken) return;
    this.broken = false;
    this.listeners.broken("");
    this.listeners.back(this.plays);
  }

  /** Look what is wrong where nothing more comes: a browser tries for half a minute before it calls that an error. */
  async doubt() {
    if (this.doubting || this.broken) return;
    this.doubting = true;
    try {
      await pause(STALLED_S, this.signal);
      const isAway = this.video.readyState < ENOUGH && (await this.look()).wasAway;
      if (isAway && !this.broken) await this.reload();
    } catch {
      // The page has gone on to something else, or the browser finds the error too.
    }
    this.doubting = false;
  }

  /** Find out why the video does not play, and load it again if that can help. */
  async mend() {
    const { video, signal } = this, code = video.error?.code;
    if (signal.aborted || !code) return;
    this.breaks();
    // To a browser a video that does not come at all is one that it does not support.
    const isNetwork = code === MediaError.MEDIA_ERR_NETWORK || (this.known && code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED);
    try {
      if (isNetwork) {
        this.listeners.broken(BROKEN);
        await pause(pauseOf(this.tries), signal);
        this.tries += 1;
      }
      const { type, wasAway } = await this.look();
      if (!isNetwork && !wasAway) this.refusals += code === MediaError.MEDIA_ERR_DECODE ? 2 : 1;
      if (this.refusals > 1) this.listeners.lacks("unplayable", type);
      else await this.reload();
    } catch (error) {
      this.lacks(error);
    }
  }

  breaks() {
    if (!this.broken) this.plays = !this.video.paused;
    this.broken = true;
  }

  async reload() {
    this.breaks();
    await this.api.renew(); // the pass may be of a Dropframe that has been started again since
    if (!this.signal.aborted) this.video.load();
  }

  /** Wait until the video is there; tell of what media type it is, and whether it was not there at first. */
  async look() {
    let wasAway = false;
    const type = await persist(async () => {
      const response = await this.api.fetch(this.path, { method: "HEAD", signal: this.signal });
      if (!response.ok) throw new ApiError(response.status, null, response.headers.get("Retry-After"));
      return response.headers.get("Content-Type") ?? "";
    }, this.signal, (words) => {
      if (!words) return;
      wasAway = true;
      this.listeners.broken(BROKEN);
    });
    return { type, wasAway };
  }

  /** The browser cannot play the video. */
  async giveUp() {
    try {
      const { type } = await this.look();
      this.listeners.lacks("unplayable", type);
    } catch (error) {
      this.lacks(error);
    }
  }

  /** @param {unknown} error */
  lacks(error) {
    if (this.signal.aborted) return;
    const isGone = error instanceof ApiError && GONE.has(error.status);
    this.listeners.lacks("gone", isGone ? "" : `The video cannot be fetched. ${sentence(error)}`);
  }
}
