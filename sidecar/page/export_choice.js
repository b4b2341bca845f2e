// In which formats a result is put into the outbox as well; those that there are Dropframe says.

import { count, make, put, sentence } from "./dom.js";
import { persist } from "./retry.js";

/** @import {Api, Format} from "./types.js" */

export class ExportChoice {
  /**
   * @param {HTMLDetailsElement} place
   * @param {Api} api
   */
  constructor(place, api) {
    this.api = api;
    this.filling = false;
    this.heading = make("summary", { title: "In which formats the result is put into the outbox as well" });
    this.note = make("p", { class: "small soft", role: "status" });
    this.list = make("div", { class: "export-list", role: "group", "aria-label": "Exports into the outbox", onchange: () => this.show() });
    place.replaceChildren(this.heading, this.note, this.list);
    place.addEventListener("toggle", () => { if (place.open) this.fill(); });
    this.show();
  }

  /** @returns {string[]} names of formats */
  get chosen() {
    return [.../** @type {NodeListOf<HTMLInputElement>} */ (this.list.querySelectorAll(":checked"))].map((box) => box.value);
  }

  show() {
    const n = this.chosen.length;
    put(this.heading, `Exports: ${n ? count(n, "format") : "none"}`);
  }

  async fill() {
    if (this.list.childElementCount || this.filling) return;
    this.filling = true;
    try {
      const { formats } = /** @type {{formats: Format[]}} */ (await persist(() => this.api.get("v1/formats"), new AbortController().signal, (words) => put(this.note, words)));
      this.list.replaceChildren(...formats.map(({ format, title, ending }) => make("label", {}, make("input", { type: "checkbox", value: format }), `${title} `, make("span", { class: "soft" }, ending))));
    } catch (error) {
      put(this.note, sentence(error));
    }
    this.filling = false;
  }
}
