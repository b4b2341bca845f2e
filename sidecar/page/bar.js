// The controls under the picture.

import { clock, icon, make, number } from "./dom.js";

/** @import {Change, View} from "./types.js" */
/** @import {Player} from "./player.js" */

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 4, 8];
const STEP = 0.05;

export class Bar {
  /**
   * @param {Player} player
   * @param {Change} change
   * @param {() => void} full goes to or leaves full screen
   */
  constructor(player, change, full) {
    this.player = player;
    this.change = change;
    /** @type {View | null} */
    this.view = null;
    this.frames = 0;
    this.play = this.button("Play", "Space", () => player.toggle(), icon("play"));
    this.clock = make("span", { class: "clock" }, clock(0));
    this.frame = make("span", { class: "soft small frame-number" });
    this.speed = make("select", { "aria-label": "Speed", title: "Speed (< >)", onchange: () => this.setSpeed(Number(this.speed.value)) },
      ...SPEEDS.map((speed) => make("option", { value: speed, selected: speed === 1 }, `${speed}×`)));
    this.confidence = make("input", { type: "range", min: 0, max: 0.95, step: STEP, value: 0, "aria-label": "Least confidence", oninput: () => change({ confidence: Number(this.confidence.value) }) });
    this.least = make("output", {}, "0.00");
    this.boxes = this.button("Boxes", "B", () => change({ boxes: !this.view?.boxes }), "Boxes");
    this.text = this.button("Boxes of text", "T", () => change({ text: !this.view?.text }), "Text");
    this.mute = this.button("Sound", "M", () => this.toggleSound(), icon("sound"));
    this.full = this.button("Full screen", "Enter", full, icon("full"));
    this.element = make("div", { class: "bar", role: "toolbar", "aria-label": "Player" },
      make("div", { class: "group" }, this.play,
        this.button("One frame back", ",", () => player.step(-1), icon("back")), this.button("One frame on", ".", () => player.step(1), icon("forward")),
        this.button("One second back", "←", () => player.skip(-1), "−1 s"), this.button("One second on", "→", () => player.skip(1), "+1 s")),
      make("div", { class: "group times" }, this.clock, this.frame),
      make("div", { class: "group" }, this.boxes, this.text, make("label", { class: "confidence", title: "Least confidence (- +)" }, make("span", { class: "small" }, "Confidence"), this.confidence, this.least)),
      make("div", { class: "group" }, this.speed, this.mute, this.full));
  }

  /**
   * @param {string} label
   * @param {string} key
   * @param {() => void} act
   * @param {...(Node | string)} inside
   */
  button(label, key, act, ...inside) {
    const isNamed = typeof inside[0] === "string"; // by what is on it
    return make("button", { "aria-label": !isNamed && label, title: `${label} (${key})`, onclick: act }, ...inside);
  }

  /** @param {number} speed */
  setSpeed(speed) {
    const { video } = this.player;
    video.defaultPlaybackRate = video.playbackRate = speed; // the former is that of a video that is loaded again
    this.speed.value = String(speed);
  }

  /** @param {1 | -1} way */
  faster(way) {
    const place = SPEEDS.indexOf(Number(this.speed.value)) + way;
    if (SPEEDS[place]) this.setSpeed(SPEEDS[place]);
  }

  /** @param {1 | -1} way */
  surer(way) {
    const now = this.view?.confidence ?? 0;
    this.change({ confidence: Math.max(0, Math.min(0.95, Math.round((now + way * STEP) * 100) / 100)) });
  }

  toggleSound() {
    const { video } = this.player;
    video.muted = !video.muted;
    this.mute.setAttribute("aria-pressed", String(!video.muted));
    this.mute.replaceChildren(icon(video.muted ? "muted" : "sound"));
  }

  /** Say whether it plays. */
  played() {
    const { playing } = this.player;
    this.play.replaceChildren(icon(playing ? "pause" : "play"));
    this.play.setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  /** Without a video that plays, there are only single frames. */
  lacksVideo() {
    for (const control of [this.play, this.speed, this.mute]) control.hidden = true;
  }

  /** @param {View} view */
  apply(view) {
    this.view = view;
    this.confidence.value = String(view.confidence);
    this.least.textContent = view.confidence.toFixed(2);
    this.boxes.setAttribute("aria-pressed", String(view.boxes));
    this.text.setAttribute("aria-pressed", String(view.text));
  }

  /** @param {number} time */
  moved(time) {
    this.clock.textContent = clock(time);
    const index = this.player.painted?.frame_index;
    this.frame.textContent = index === undefined ? "" : `frame ${number(index)}${this.frames ? ` of ${number(this.frames)}` : ""}`;
  }
}
