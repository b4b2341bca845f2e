// The picture with what was found over it: a video, or single pictures of one that cannot be played, or neither.

import { Connection } from "./connection.js";
import { clock, make, put } from "./dom.js";
import { Frames, timeOf } from "./frames.js";
import { paint, placeOf } from "./paint.js";
import { persist } from "./retry.js";
import { Stills } from "./stills.js";
import { happens, pictureTime } from "./video_events.js";

/** @import {Api, FrameRecord, View} from "./types.js" */
/** @import {Colours} from "./colours.js" */

const AHEAD_S = 3;
const NEAR_S = 0.1; // of a picture that lasts longer it is kept how far into it one is

/**
 * @typedef {object} Listeners
 * @property {() => void} moved another picture is shown, or what was found in it
 * @property {() => void} played playing has begun or ended
 * @property {(why: "gone" | "unplayable", detail: string) => void} lacks there is not a video that plays
 * @property {(error: unknown) => void} failed what was found in the picture cannot be had
 * @property {(words: string) => void} trouble why it is not known yet what is in the picture; "" once it is
 * @property {() => void} sized the video's length is known
 */

export class Player {
  /**
   * @param {Api} api
   * @param {string} jobId
   * @param {Frames} frames
   * @param {Colours} colours
   * @param {Listeners} listeners
   */
  constructor(api, jobId, frames, colours, listeners) {
    this.api = api;
    this.jobId = jobId;
    this.frames = frames;
    this.colours = colours;
    this.listeners = listeners;
    /** @type {"video" | "stills" | "none"} */
    this.source = "video";
    this.time = 0; // of the picture that is shown, as the video counts
    this.goal = 0; // where it was last told to go
    /** @type {number | null} */
    this.wanted = null;
    this.seeking = false;
    this.asking = false;
    this.ended = new AbortController();
    /** Ends waiting for a video that does not play. @type {() => void} */
    this.giveUp = () => {};
    this.givenUp = new Promise((done) => { this.giveUp = () => done(undefined); });
    this.presented = false; // whether there is a picture to draw over
    /** @type {[number, number] | null} where the pointer is in the canvas */
    this.pointer = null;
    /** @type {View | null} */
    this.view = null;
    /** @type {FrameRecord | null} what the canvas shows */
    this.painted = null;
    this.video = make("video", { playsinline: true, preload: "auto", "aria-label": "Video", tabindex: -1 });
    this.canvas = make("canvas", { role: "img", "aria-label": "What was found in the picture" });
    this.says = make("p", { class: "stage-says", role: "status", hidden: true });
    this.element = make("div", { class: "stage" }, this.video, this.canvas, this.says);
    this.stills = new Stills(api, jobId, (words) => this.say(words)); // where the video cannot be played
    this.connection = new Connection(api, `v1/jobs/${jobId}/video`, this.video, this.ended.signal, {
      broken: (words) => this.say(words),
      back: (plays) => this.comeBack(plays),
      lacks: (why, detail) => this.instead(why, detail),
    });
    this.watchVideo();
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.canvas);
  }

  watchVideo() {
    const video = this.video;
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, () => this.listeners.played());
    // The last picture before a pause may come without its time; after a seek it is known.
    video.addEventListener("pause", () => { if (!this.seeking && !video.ended && !this.connection.broken) this.seek(video.currentTime); });
    video.addEventListener("loadedmetadata", () => {
      this.fit();
      this.listeners.sized();
    });
    this.element.addEventListener("click", () => this.toggle());
    this.element.addEventListener("pointermove", (event) => this.point(event));
    this.element.addEventListener("pointerleave", () => this.point(null));
    this.onFrame();
  }

  get closed() {
    return this.ended.signal.aborted;
  }

  // A browser puts a video's pictures on the screen whenever they are due, and tells the page a moment later. So each
  // picture is drawn into the canvas together with what was found in it; the video itself lies behind.
  onFrame() {
    if (this.closed) return;
    if (!this.video.requestVideoFrameCallback) {
      if (this.source === "video" && this.video.readyState >= 2) this.show(this.video.currentTime);
      requestAnimationFrame(() => this.onFrame());
      return;
    }
    this.video.requestVideoFrameCallback((_, { mediaTime }) => {
      this.show(pictureTime(this.video) ?? mediaTime);
      const now = pictureTime(this.video);
      if (now !== null && now !== this.time) this.show(now); // another one came while it was drawn
      this.onFrame();
    });
  }

  /** @param {number} time of the picture that is shown now */
  show(time) {
    if (this.closed) return;
    this.presented = true;
    if (!this.seeking && time !== this.time) this.goal = time;
    this.time = time;
    this.drawPicture();
    this.listeners.moved();
    if (this.frames.isLacking(time)) this.ask();
    if (this.playing) this.frames.prefetch(time, AHEAD_S * this.video.playbackRate);
  }

  /** Have it fetched what was found in the picture; of pictures that follow each other fast, in the last one. */
  async ask() {
    if (this.asking) return;
    this.asking = true;
    try {
      while (this.frames.isLacking(this.time)) await persist(() => this.frames.want(this.time), this.ended.signal, this.listeners.trouble);
      this.asking = false; // after an error it would be the same one
      this.draw();
      this.listeners.moved();
    } catch (error) {
      this.listeners.failed(error);
    }
  }

  get playing() {
    if (this.source !== "video") return false;
    return this.connection.broken ? this.connection.plays : !this.video.paused && !this.video.ended;
  }

  /** Where a step begins: at the picture that is shown, or while one is sought at that. */
  get here() {
    return this.seeking ? this.goal : this.time;
  }

  /** How long the video is in seconds, or 0 while that is not known. */
  get duration() {
    const told = this.video.duration;
    return Number.isFinite(told) && told > 0 ? told : this.frames.about?.video?.duration_s ?? 0;
  }

  toggle() {
    if (this.source !== "video") return;
    if (this.connection.broken) this.connection.plays = !this.connection.plays;
    else if (this.playing) this.video.pause();
    else this.video.play().catch(() => {});
    this.listeners.played();
  }

  /**
   * Go some seconds on or back.
   * @param {number} seconds
   */
  skip(seconds) {
    const isUnderWay = this.playing && !this.seeking && !this.connection.broken;
    return this.seek((isUnderWay ? this.video.currentTime : this.goal) + seconds);
  }

  /** The video has been loaded again: go on where it was. @param {boolean} plays */
  async comeBack(plays) {
    if (this.seeking) this.video.currentTime = await this.frames.inside(this.goal).catch(() => this.goal); // which was cut off
    else await this.seek(this.goal);
    if (plays && !this.closed) await this.video.play().catch(() => {});
  }

  /**
   * Go to a time; of many that come fast the last one counts.
   * @param {number} time
   */
  async seek(time) {
    this.goal = this.wanted = Math.max(0, this.duration ? Math.min(time, this.duration) : time);
    this.stills.stop();
    if (this.seeking) return;
    this.seeking = true;
    while (this.wanted !== null && !this.closed) {
      /** @type {number} */
      const goal = this.wanted;
      const inside = await this.frames.inside(goal).catch(() => goal);
      if (this.wanted !== goal) continue;
      this.wanted = null;
      if (this.source === "video") await this.seekVideo(inside);
      else await this.seekStill(goal);
    }
    this.seeking = false;
    if (this.presented && Math.abs(this.goal - this.time) < NEAR_S) this.goal = this.time;
    this.listeners.moved();
  }

  /** @param {number} time */
  async seekVideo(time) {
    const video = this.video;
    if (video.readyState === 0) await Promise.race([happens(video, "loadedmetadata"), this.givenUp]);
    if (this.source !== "video" || this.closed) return;
    const last = Math.max(0, video.duration - 0.001); // behind the end some show nothing
    video.currentTime = Number.isFinite(last) ? Math.min(time, last) : time;
    await Promise.race([happens(video, "seeked"), this.givenUp]);
    if (this.source !== "video" || this.closed) return;
    this.show(pictureTime(video) ?? video.currentTime);
  }

  /** @param {number} time */
  async seekStill(time) {
    const frame = this.frames.at(time);
    const shown = frame ? timeOf(frame) : time;
    if (this.source === "stills") {
      this.element.classList.add("loading");
      await this.stills.fetch(frame, time);
      if (this.wanted !== null || this.closed) return;
      this.element.classList.remove("loading");
    }
    this.show(shown);
  }

  /** @param {1 | -1} way */
  async step(way) {
    this.video.pause();
    const frame = await this.frames.step(this.here, way).catch(() => null);
    if (frame) await this.seek(timeOf(frame));
  }

  /** @param {PointerEvent | null} event */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    this.pointer = event && [event.clientX - box.left, event.clientY - box.top];
    if (!this.playing) requestAnimationFrame(() => this.draw());
  }

  /** @param {View} view */
  apply(view) {
    this.view = view;
    this.draw();
  }

  /** Give the canvas as many pixels as it has on the screen. */
  fit() {
    const size = this.size();
    this.element.style.setProperty("--ratio", String(size.width / size.height));
    const ratio = devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.draw();
  }

  /** The picture's size, which only tells its form where the picture is not there. */
  size() {
    const video = this.frames.about?.video;
    if (this.source === "video" && this.video.videoWidth) return { width: this.video.videoWidth, height: this.video.videoHeight };
    return { width: video?.width || 1280, height: video?.height || 720 };
  }

  /** Draw again; while the video plays its next picture is awaited, which is another one. */
  draw() {
    if (!this.playing) this.drawPicture();
  }

  drawPicture() {
    const pen = this.canvas.getContext("2d");
    if (!pen || !this.view || this.closed) return;
    if (this.source === "video" && this.presented && this.video.readyState < 2) return; // what was drawn last stays
    const ratio = devicePixelRatio || 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const frame = (this.painted = this.presented ? this.frames.at(this.time) : null);
    this.canvas.dataset.frame = frame ? String(frame.frame_index) : "";
    const place = placeOf(this.canvas.width / ratio, this.canvas.height / ratio, this.size(), this.frames.about?.video);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.imageSmoothingQuality = this.playing ? "low" : "high";
    const picture = this.source === "video" ? this.video : this.stills.picture;
    if (picture && this.presented) pen.drawImage(picture, place.left, place.top, place.width, place.height);
    if (!frame) return;
    // Of a picture between two analysed ones, what was found in the one before it.
    pen.globalAlpha = this.frames.stride > 1 && this.time - timeOf(frame) > this.frames.stepSeconds / this.frames.stride / 2 ? 0.6 : 1;
    paint(pen, frame.result, place, this.view, this.colours, this.pointer);
    pen.globalAlpha = 1;
  }

  /** Say in words what is drawn. */
  describe() {
    const frame = this.painted;
    const counts = new Map();
    for (const one of frame?.result.detections ?? []) counts.set(one.class, (counts.get(one.class) ?? 0) + 1);
    const objects = [...counts].map(([name, count]) => `${count} ${name}`).join(", ") || "no objects";
    const text = frame?.result.text?.replaceAll("\n", " · ");
    this.canvas.setAttribute("aria-label", frame ? `Frame ${frame.frame_index} at ${clock(this.time)}: ${objects}${text ? `; text: ${text}` : ""}` : "Nothing is known of this picture");
  }

  /**
   * Show what can be shown in place of the video.
   * @param {"gone" | "unplayable"} why
   * @param {string} detail
   */
  async instead(why, detail) {
    await this.frames.want(this.goal).catch(() => {});
    if (this.source !== "video" || this.closed) return;
    this.source = this.element.dataset.source = why === "gone" ? "none" : "stills";
    this.video.hidden = true;
    this.say("");
    this.listeners.lacks(why, detail);
    this.listeners.sized();
    this.fit();
    this.seek(this.goal);
    this.giveUp();
  }

  /** @param {string} words over the picture */
  say(words) {
    put(this.says, words);
    this.says.hidden = !words;
  }

  close() {
    this.ended.abort();
    this.stills.stop();
    this.giveUp();
    this.resized.disconnect();
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load(); // lets go of the connection
  }
}
