// A lane for each class with its tracks over time, and one for texts.

import { clock, count, make, number } from "./dom.js";
import { TEXT_COLOUR } from "./colours.js";
import { isShown } from "./paint.js";
import { matches, wordsOf } from "./words.js";

/** @import {Change, Density, TextSpan, Track, View} from "./types.js" */
/** @import {Colours} from "./colours.js" */

const MOST_LANES = 8;
const MOST_BARS = 3000; // of more, how many there are at a time is shown
const TEXT = "text";

/**
 * @typedef {object} Lane
 * @property {string} name
 * @property {boolean} ofText
 * @property {string} colour
 * @property {{start_s: number, end_s: number, confidence: number, text?: string}[]} bars
 * @property {number[]} density
 * @property {HTMLElement} row
 * @property {HTMLCanvasElement} canvas
 * @property {HTMLButtonElement} button
 */

export class Lanes {
  /**
   * @param {Colours} colours
   * @param {(time: number) => void} seek
   * @param {Change} change
   * @param {(name: string) => void} filter shows a class beside those that are shown, or no more
   */
  constructor(colours, seek, change, filter) {
    this.colours = colours;
    this.seek = seek;
    this.change = change;
    this.filter = filter;
    /** @type {Lane[]} */
    this.lanes = [];
    /** @type {Density | null} */
    this.density = null;
    /** @type {View | null} */
    this.view = null;
    this.duration = 0;
    this.time = 0;
    this.opened = false;
    this.drawing = 0;
    this.rows = make("div", { class: "lane-rows" });
    this.head = make("div", { class: "head", hidden: true });
    this.more = make("button", { class: "quiet small", hidden: true, "aria-expanded": "false", onclick: () => this.open() });
    // What a slider is to the eye, this is to a screen reader; the keys are those of the whole page.
    this.slider = make("div", { class: "time-slider", role: "slider", tabindex: 0, "aria-label": "Time", "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0 }, this.head);
    this.tip = make("output", { class: "tip", hidden: true });
    this.element = make("div", { class: "lanes", "aria-label": "Objects and texts over time", role: "group" }, this.rows, this.slider, this.tip, this.more);
    this.listen();
    this.resized = new ResizeObserver(() => this.drawSoon());
    this.resized.observe(this.rows);
  }

  listen() {
    const area = this.slider;
    area.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      area.setPointerCapture(event.pointerId);
      this.seek(this.timeAt(event.clientX));
    });
    area.addEventListener("pointermove", (event) => {
      if (area.hasPointerCapture(event.pointerId)) this.seek(this.timeAt(event.clientX));
      this.hint(event);
    });
    area.addEventListener("pointerleave", () => { this.tip.hidden = true; });
  }

  /** The span of time that is shown. */
  get span() {
    return this.view?.span ?? [0, this.duration || 1];
  }

  /** @param {number} x on the screen */
  timeAt(x) {
    const box = this.slider.getBoundingClientRect();
    const [from, to] = this.span;
    return from + Math.max(0, Math.min(1, (x - box.left) / box.width)) * (to - from);
  }

  /** @param {PointerEvent} event */
  hint(event) {
    const lane = this.lanes.find(({ row }) => within(row.getBoundingClientRect(), event.clientY));
    const time = this.timeAt(event.clientX);
    const bars = lane?.bars.filter((bar) => bar.start_s <= time && time < bar.end_s) ?? [];
    const what = bars[0]?.text ?? (bars.length ? `${number(bars.length)} × ${lane?.name}` : "");
    this.tip.textContent = what ? `${clock(time)} · ${what}` : clock(time);
    this.tip.hidden = false;
    const left = event.clientX - this.element.getBoundingClientRect().left;
    this.tip.style.left = `${Math.max(0, Math.min(left - this.tip.offsetWidth / 2, this.element.clientWidth - this.tip.offsetWidth))}px`;
  }

  /**
   * Show what a result has, at first by how much there is of it at a time.
   * @param {Density} density
   * @param {[string, number][]} classes with how many detections they have, the most frequent first
   * @param {number} lines of text
   */
  begin(density, classes, lines) {
    this.density = density;
    this.lanes = classes.map(([name, n]) => this.lane(name, n, this.colours.of(name), density.objects[name] ?? [], false));
    if (lines || !classes.length) this.lanes.push(this.lane(TEXT, lines, TEXT_COLOUR, density.text_lines, true));
    this.rows.replaceChildren(...this.lanes.map(({ row }) => row));
    this.fold();
    if (this.view) this.apply(this.view);
    this.drawSoon();
  }

  /**
   * @param {string} name
   * @param {number} n
   * @param {string} colour
   * @param {number[]} density
   * @param {boolean} ofText
   * @returns {Lane}
   */
  lane(name, n, colour, density, ofText) {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = colour;
    const act = () => (ofText ? this.change({ text: !this.view?.text }) : this.filter(name));
    const title = ofText ? "Boxes of text (T)" : `Show only ${name}`;
    const button = make("button", { class: ofText ? "lane-name of-text" : "lane-name", title, "aria-pressed": "false", onclick: act }, swatch, make("span", { class: "name" }, name), make("span", { class: "soft" }, number(n)));
    const canvas = make("canvas", { "aria-hidden": "true" });
    return { name, ofText, colour, bars: [], density, canvas, button, row: make("div", { class: "lane" }, button, canvas) };
  }

  open() {
    this.opened = !this.opened;
    this.fold();
    this.drawSoon();
  }

  fold() {
    const objects = this.lanes.filter((lane) => !lane.ofText);
    const hidden = objects.length > MOST_LANES + 1 ? objects.slice(MOST_LANES) : [];
    for (const { row } of hidden) row.hidden = !this.opened;
    this.more.hidden = !hidden.length;
    this.more.textContent = this.opened ? "Fewer classes" : `${count(hidden.length, "more class").replace("classs", "classes")}`;
    this.more.setAttribute("aria-expanded", String(this.opened));
  }

  /** @param {Track[]} tracks */
  addTracks(tracks) {
    const by = new Map(this.lanes.filter((lane) => !lane.ofText).map((lane) => [lane.name, lane]));
    for (const track of tracks) by.get(track.class)?.bars.push(track);
    this.drawSoon();
  }

  /** @param {TextSpan[]} texts */
  addTexts(texts) {
    const lane = this.lanes.find(({ ofText }) => ofText);
    for (const text of texts) lane?.bars.push(text);
    this.drawSoon();
  }

  /** @param {View} view */
  apply(view) {
    this.view = view;
    for (const lane of this.lanes) {
      const pressed = lane.ofText ? view.text : view.classes.has(lane.name);
      lane.button.setAttribute("aria-pressed", String(pressed));
      lane.row.classList.toggle("off", lane.ofText ? !view.text : view.classes.size > 0 && !pressed);
    }
    this.drawSoon();
    this.place();
  }

  /** @param {number} duration in seconds */
  size(duration) {
    this.duration = duration;
    this.slider.setAttribute("aria-valuemax", duration.toFixed(2));
    this.drawSoon();
    this.place();
  }

  /** @param {number} time */
  moved(time) {
    this.time = time;
    this.slider.setAttribute("aria-valuenow", time.toFixed(2));
    this.slider.setAttribute("aria-valuetext", clock(time));
    this.place();
  }

  place() {
    const [from, to] = this.span;
    const part = (this.time - from) / (to - from);
    this.head.hidden = !this.lanes.length || part < 0 || part > 1.0001;
    this.head.style.left = `${100 * part}%`;
  }

  drawSoon() {
    this.drawing ||= requestAnimationFrame(() => {
      this.drawing = 0;
      for (const lane of this.lanes) if (!lane.row.hidden) this.draw(lane);
    });
  }

  /** @param {Lane} lane */
  draw(lane) {
    const { canvas } = lane, ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.scale(canvas.width / width, canvas.height / height);
    pen.fillStyle = lane.colour;
    const [from, to] = this.span, perSecond = width / (to - from);
    if (this.isDense(lane)) this.drawDensity(pen, lane, from, perSecond, width, height);
    else this.drawBars(pen, lane, from, to, perSecond, height);
  }

  /**
   * How many bars there are in sight decides; a lane without any has not got its bars yet, or never will.
   * @param {Lane} lane
   */
  isDense({ bars }) {
    const [from, to] = this.span;
    return !bars.length || (bars.length > MOST_BARS && bars.filter((bar) => bar.start_s < to && bar.end_s > from).length > MOST_BARS);
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {Lane} lane
   * @param {number} from
   * @param {number} to
   * @param {number} perSecond pixels
   * @param {number} height
   */
  drawBars(pen, lane, from, to, perSecond, height) {
    const { confidence, words } = this.view ?? { confidence: 0, words: "" };
    const isSought = lane.ofText && wordsOf(words).length > 0;
    for (const bar of lane.bars) {
      if (bar.end_s <= from || bar.start_s >= to) continue;
      const faint = bar.confidence < confidence || (isSought && bar.text !== undefined && !matches(bar.text, words));
      pen.globalAlpha = faint ? 0.12 : 0.62;
      pen.fillRect((bar.start_s - from) * perSecond, 0, Math.max(1.5, (bar.end_s - bar.start_s) * perSecond), height);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {Lane} lane
   * @param {number} from
   * @param {number} perSecond pixels
   * @param {number} width
   * @param {number} height
   */
  drawDensity(pen, lane, from, perSecond, width, height) {
    const { bucket_s: step, frames } = /** @type {Density} */ (this.density);
    const most = lane.density.reduce((a, b, n) => Math.max(a, frames[n] ? b / frames[n] : 0), 0);
    const first = Math.max(0, Math.floor(from / step));
    for (let n = first; n < lane.density.length && (n * step - from) * perSecond < width; n += 1) {
      if (!lane.density[n]) continue;
      pen.globalAlpha = 0.2 + (0.75 * lane.density[n]) / frames[n] / most;
      pen.fillRect((n * step - from) * perSecond, 0, step * perSecond + 0.5, height);
    }
  }

  /**
   * The bar of a shown class that begins next before or behind a time.
   * @param {number} time
   * @param {1 | -1} way
   * @param {Set<string>} classes empty: all
   */
  beside(time, way, classes) {
    const view = this.view && { ...this.view, classes };
    /** @type {number | null} */
    let best = null;
    for (const lane of this.lanes) {
      if (lane.ofText || !view) continue;
      for (const bar of lane.bars) {
        if (!isShown({ class: lane.name, confidence: bar.confidence }, view)) continue;
        const away = (bar.start_s - time) * way;
        if (away > 0.002 && (best === null || away < (best - time) * way)) best = bar.start_s;
      }
    }
    return best;
  }

  close() {
    this.resized.disconnect();
    cancelAnimationFrame(this.drawing);
  }
}

/**
 * @param {DOMRect} box
 * @param {number} y
 */
const within = (box, y) => box.top <= y && y < box.bottom;
