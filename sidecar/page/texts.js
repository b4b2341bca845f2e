// The texts of a video over time: a list with find-in-video.

import { clock, count, lasting, make, marked, number } from "./dom.js";
import { ROUNDING_S } from "./frames.js";
import { LongList } from "./list.js";
import { matches, placesOf, wordsOf } from "./words.js";

/** @import {Change, TextSpan, View} from "./types.js" */

export class Texts {
  /**
   * @param {(time: number) => void} seek
   * @param {Change} change
   * @param {(way: 1 | -1) => void} go to the text before or after
   */
  constructor(seek, change, go) {
    /** @type {TextSpan[]} in order of their beginning */
    this.all = [];
    /** @type {TextSpan[]} those that are shown */
    this.shown = [];
    /** @type {View | null} */
    this.view = null;
    this.seek = seek;
    this.complete = false;
    this.find = make("input", {
      type: "search", placeholder: "Find in this video", "aria-label": "Find in the texts of this video", maxlength: 200,
      oninput: () => change({ words: this.find.value }),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.typed(event),
    });
    const way = (/** @type {1 | -1} */ to, /** @type {string} */ sign, /** @type {string} */ label, /** @type {string} */ keys) => make("button", { class: "quiet", "aria-label": label, title: `${label} (${keys})`, onclick: () => go(to) }, sign);
    this.line = make("div", { class: "find-line" }, this.find, way(-1, "‹", "Previous text", "P ["), way(1, "›", "Next text", "N ]"));
    this.note = make("p", { class: "small soft note", role: "status" });
    this.list = new LongList("Texts", (/** @type {TextSpan} */ span) => this.row(span), (span) => seek(span.start_s));
    this.element = make("div", { class: "texts" }, this.line, this.note, this.list.element);
    this.say("Texts are being gathered …");
  }

  /** @param {KeyboardEvent} event */
  typed(event) {
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      if (event.key === "Enter" && this.shown.length) this.seek(this.shown[0].start_s);
      this.list.element.focus();
    } else if (event.key === "Escape" && !this.find.value) this.find.blur();
  }

  /** @param {TextSpan} span */
  row(span) {
    const words = make("span", { class: "words", title: `${span.text}\nread on ${count(span.reads, "frame")}, confidence ${span.confidence.toFixed(2)}` }, ...marked(span.text, placesOf(span.text, this.view?.words ?? "")));
    return [make("span", { class: "at" }, clock(span.start_s)), words, make("span", { class: "length" }, lasting(span.end_s - span.start_s))];
  }

  /** @param {TextSpan[]} spans that follow those that are there */
  add(spans) {
    for (const span of spans) this.all.push(span);
    this.filter();
  }

  /** @param {string} [instead] why there is none */
  finish(instead = "No text was read.") {
    this.complete = true;
    this.filter();
    if (!this.all.length) this.say(instead);
  }

  /** @param {View} view */
  apply(view) {
    const other = this.view?.words !== view.words || this.view?.confidence !== view.confidence;
    this.view = view;
    if (this.find.value !== view.words) this.find.value = view.words;
    if (other) this.filter();
  }

  filter() {
    const { words, confidence } = this.view ?? { words: "", confidence: 0 };
    const isAny = !wordsOf(words).length;
    this.shown = this.all.filter((span) => span.confidence >= confidence && (isAny || matches(span.text, words)));
    this.list.set(this.shown);
    if (this.all.length) this.say(this.shown.length === this.all.length ? "" : `${number(this.shown.length)} of ${count(this.all.length, "text")}`);
  }

  /** @param {string} words */
  say(words) {
    this.note.textContent = words;
    this.note.hidden = !words;
    this.list.element.hidden = !this.all.length;
    this.line.hidden = this.complete && !this.all.length;
  }

  /** @param {number} time */
  moved(time) {
    const until = time + ROUNDING_S;
    this.list.mark((span) => span.start_s <= until && until < span.end_s);
  }

  /**
   * The text that begins next before or behind a time.
   * @param {number} time
   * @param {1 | -1} way
   * @returns {TextSpan | undefined}
   */
  beside(time, way) {
    if (way > 0) return this.shown.find((span) => span.start_s > time + ROUNDING_S);
    return this.shown.findLast((span) => span.start_s < time - ROUNDING_S);
  }
}
