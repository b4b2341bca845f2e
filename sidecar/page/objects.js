// What was detected: in how many frames each class is, and how many of it at once.

import { count, make, number } from "./dom.js";

/** @import {Density, Track, View} from "./types.js" */
/** @import {Colours} from "./colours.js" */

export class Objects {
  /**
   * @param {Colours} colours
   * @param {(name: string) => void} filter shows a class beside those that are shown, or no more
   * @param {(name: string, way: 1 | -1) => void} go to the object of a class before or after
   */
  constructor(colours, filter, go) {
    this.colours = colours;
    this.filter = filter;
    this.go = go;
    /** @type {Map<string, {button: HTMLButtonElement, tracks: HTMLElement, n: number}>} */
    this.rows = new Map();
    /** @type {View | null} */
    this.view = null;
    this.note = make("p", { class: "small soft note" }, "Objects are being counted …");
    this.list = make("ul", { class: "objects-list" });
    this.element = make("div", { class: "objects" }, this.note, this.list);
  }

  /**
   * @param {Density} density
   * @param {[string, number][]} classes with how many detections they have, the most frequent first
   * @param {string} none what is said if there is none
   */
  begin(density, classes, none) {
    const frames = density.frames.reduce((a, b) => a + b, 0);
    this.note.textContent = classes.length ? "" : none;
    this.note.hidden = classes.length > 0;
    this.list.replaceChildren(...classes.map(([name, n]) => this.row(name, n, density, frames)));
    if (this.view) this.apply(this.view);
  }

  /**
   * @param {string} name
   * @param {number} n
   * @param {Density} density
   * @param {number} frames
   */
  row(name, n, density, frames) {
    const seen = density.classes?.[name];
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = this.colours.of(name);
    const button = make("button", { class: "object-name", "aria-pressed": "false", title: `Show only ${name}`, onclick: () => this.filter(name) }, swatch, make("strong", { class: "name" }, name));
    const tracks = make("span", {});
    this.rows.set(name, { button, tracks, n: 0 });
    const said = seen ? `in ${number(seen.frames)} of ${count(frames, "frame")}, up to ${number(seen.most)} at once` : count(n, "detection");
    const way = (/** @type {1 | -1} */ to, /** @type {string} */ sign, /** @type {string} */ words) => make("button", { class: "quiet", "aria-label": `${words} ${name}`, title: `${words} ${name}`, onclick: () => this.go(name, to) }, sign);
    return make("li", {}, make("div", { class: "object-line" }, button, way(-1, "‹", "Previous"), way(1, "›", "Next")), make("p", { class: "small soft" }, said, tracks));
  }

  /** @param {Track[]} tracks */
  addTracks(tracks) {
    for (const track of tracks) {
      const row = this.rows.get(track.class);
      if (row) row.n += 1;
    }
    for (const row of this.rows.values()) row.tracks.textContent = row.n ? `; ${count(row.n, "track")}` : "";
  }

  /** @param {View} view */
  apply(view) {
    this.view = view;
    for (const [name, { button }] of this.rows) button.setAttribute("aria-pressed", String(view.classes.has(name)));
  }
}
