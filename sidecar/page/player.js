// The picture with what was found over it: a video, or single pictures of one that cannot be played, or neither.

import { clock, make, sentence } from "./dom.js";
import { Frames, timeOf } from "./frames.js";
import { paint, placeOf } from "./paint.js";

/** @import {Api, FrameRecord, View} from "./types.js" */
/** @import {Colours} from "./colours.js" */

const AHEAD_S = 3;
const STILL_PX = 1280;

/**
 * @typedef {object} Listeners
 * @property {(time: number) => void} moved another picture is shown
 * @property {() => void} played playing has begun or ended
 * @property {(why: "gone" | "unplayable" | "still", detail: string) => void} lacks there is not a video that plays
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
    this.closed = false;
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
    /** @type {HTMLImageElement | null} where the video cannot be played */
    this.still = null;
    this.video = make("video", { playsinline: true, preload: "auto", "aria-label": "Video", tabindex: -1 });
    this.canvas = make("canvas", { role: "img", "aria-label": "What was found in the picture" });
    this.says = make("p", { class: "stage-says", role: "status", hidden: true });
    this.element = make("div", { class: "stage" }, this.video, this.canvas, this.says);
    this.watchVideo();
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.canvas);
  }

  watchVideo() {
    const video = this.video;
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, () => this.listeners.played());
    // The last picture before a pause may come without its time; after a seek it is known.
    video.addEventListener("pause", () => { if (!this.seeking && !video.ended) this.seek(video.currentTime); });
    video.addEventListener("loadedmetadata", () => {
      if (!video.videoWidth) return void this.explain(); // its sound alone
      this.fit();
      this.listeners.sized();
    });
    video.addEventListener("error", () => this.explain());
    this.element.addEventListener("click", () => this.toggle());
    this.element.addEventListener("pointermove", (event) => this.point(event));
    this.element.addEventListener("pointerleave", () => this.point(null));
    this.onFrame();
    video.src = this.api.url(`v1/jobs/${this.jobId}/video`);
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
    this.time = time;
    if (!this.seeking) this.goal = time;
    this.drawPicture();
    this.listeners.moved(time);
    if (!this.frames.at(time)) this.frames.want(time).then(() => this.known(time), () => {});
    if (this.playing) this.frames.prefetch(time, AHEAD_S * this.video.playbackRate);
  }

  /** What was found in a picture has come after it. @param {number} time */
  known(time) {
    if (time !== this.time || this.closed) return;
    this.draw();
    this.listeners.moved(time);
  }

  get playing() {
    return this.source === "video" && !this.video.paused && !this.video.ended;
  }

  /** How long the video is in seconds, or 0 while that is not known. */
  get duration() {
    const told = this.video.duration;
    return Number.isFinite(told) && told > 0 ? told : this.frames.about?.video?.duration_s ?? 0;
  }

  toggle() {
    if (this.source !== "video") return;
    if (this.playing) this.video.pause();
    else this.video.play().catch(() => {});
  }

  /**
   * Go to a time; of many that come fast the last one counts.
   * @param {number} time
   */
  async seek(time) {
    this.goal = this.wanted = Math.max(0, this.duration ? Math.min(time, this.duration) : time);
    if (this.seeking) return;
    this.seeking = true;
    while (this.wanted !== null && !this.closed) {
      /** @type {number} */
      const goal = this.wanted;
      const middle = await this.frames.middle(goal).catch(() => goal);
      if (this.wanted !== goal) continue;
      this.wanted = null;
      if (this.source === "video") await this.seekVideo(middle);
      else await this.seekStill(goal);
    }
    this.seeking = false;
    if (this.presented) this.goal = this.time;
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
      const query = frame ? `index=${frame.frame_index}` : `t=${time.toFixed(3)}`;
      const image = new Image();
      image.src = this.api.url(`v1/jobs/${this.jobId}/frame?${query}&width=${STILL_PX}`);
      await image.decode().catch(() => {});
      if (this.wanted !== null || this.closed) return;
      this.element.classList.remove("loading");
      this.still = image.naturalWidth ? image : null;
    }
    this.show(shown);
  }

  /** @param {1 | -1} way */
  async step(way) {
    this.video.pause();
    const frame = await this.frames.step(this.goal, way).catch(() => null);
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
    const ratio = devicePixelRatio || 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const frame = (this.painted = this.presented ? this.frames.at(this.time) : null);
    this.canvas.dataset.frame = frame ? String(frame.frame_index) : "";
    const place = placeOf(this.canvas.width / ratio, this.canvas.height / ratio, this.size(), this.frames.about?.video);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.imageSmoothingQuality = this.playing ? "low" : "high";
    const picture = this.source === "video" ? this.video : this.still;
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

  /** Find out why the video does not play, and show what can be shown instead. */
  async explain() {
    if (this.source !== "video" || this.closed) return;
    const answer = await this.api.fetch(`v1/jobs/${this.jobId}/video`, { method: "HEAD" }).catch(() => null);
    await this.frames.want(this.goal).catch(() => {});
    if (this.closed) return;
    if (!answer?.ok) this.instead("none", "gone", answer ? "" : "The video cannot be fetched.");
    else this.instead("stills", "unplayable", answer.headers.get("Content-Type") ?? "");
  }

  /**
   * @param {"stills" | "none"} source
   * @param {"gone" | "unplayable"} why
   * @param {string} detail
   */
  instead(source, why, detail) {
    this.source = source;
    this.video.hidden = true;
    this.element.dataset.source = source;
    this.listeners.lacks(why, detail);
    this.listeners.sized();
    this.fit();
    this.seek(this.goal);
    this.giveUp();
  }

  /** @param {unknown} error */
  say(error) {
    this.says.textContent = error ? sentence(error) : "";
    this.says.hidden = !error;
  }

  close() {
    this.closed = true;
    this.giveUp();
    this.resized.disconnect();
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load(); // lets go of the connection
  }
}

/**
 * The time of the picture that a video shows just now; null where a browser does not tell it.
 * @param {HTMLVideoElement} video
 */
function pictureTime(video) {
  if (!("VideoFrame" in window)) return null; // as on a page that did not come by HTTPS
  try {
    const picture = new VideoFrame(video);
    const time = picture.timestamp / 1e6;
    picture.close();
    return time;
  } catch {
    return null;
  }
}

/**
 * @param {EventTarget} target
 * @param {string} name of an event
 * @returns {Promise<void>}
 */
const happens = (target, name) => new Promise((done) => { target.addEventListener(name, () => done(), { once: true }); });
