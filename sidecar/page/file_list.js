// A list of files with reasons, folded up under its number; its lines stay while nothing changes.

import { make, put } from "./dom.js";

/** @typedef {{key: string, name: string, why: string, facts: string}} ListedFile */

export class FileList {
  /**
   * @param {HTMLDetailsElement} place
   * @param {(n: number) => string} title
   */
  constructor(place, title) {
    this.place = place;
    this.title = title;
    this.place.open = matchMedia("(min-width: 64rem)").matches; // on a small screen it would keep the jobs out of sight
    this.heading = make("summary");
    this.list = make("ul", { class: "files" });
    this.rest = make("p", { class: "small soft" });
    place.replaceChildren(this.heading, this.list, this.rest);
    /** @type {Map<string, {item: HTMLLIElement, why: HTMLElement, facts: HTMLElement}>} */
    this.lines = new Map();
  }

  /**
   * @param {ListedFile[]} files
   * @param {string} rest what is said of those that are not listed
   * @param {number} [all] how many there are
   */
  show(files, rest = "", all = files.length) {
    this.place.hidden = !all;
    put(this.heading, this.title(all));
    put(this.rest, rest);
    const lines = new Map(files.map((file) => [file.key, this.lines.get(file.key) ?? lineOf(file)]));
    for (const [key, { item }] of this.lines) if (!lines.has(key)) item.remove();
    let place = 0;
    for (const file of files) {
      const line = /** @type {{item: HTMLLIElement, why: HTMLElement, facts: HTMLElement}} */ (lines.get(file.key));
      put(line.why, file.why);
      put(line.facts, file.facts);
      if (this.list.children[place] !== line.item) this.list.insertBefore(line.item, this.list.children[place] ?? null);
      place += 1;
    }
    this.lines = lines;
  }
}

/** @param {ListedFile} file */
function lineOf(file) {
  const why = make("span", { class: "why" });
  const facts = make("span", { class: "small soft" });
  return { item: make("li", {}, make("strong", { class: "file" }, file.name), why, facts), why, facts };
}
