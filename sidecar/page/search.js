// Texts and objects of all videos; a hit opens its video at its time.

import { clock, make, marked, number, sentence } from "./dom.js";
import { placesOf } from "./words.js";

/** @import {Api} from "./api.js" */
/** @import {Thumbnails} from "./thumbnails.js" */

const PAGE_HITS = 30;
const TYPING_MS = 200;
const STEPS = new Map([["ArrowDown", 1], ["ArrowUp", -1]]);

/** @typedef {{source_name: string | null, job_id: string, kind: "text" | "object", text: string, start_s: number, end_s: number, frame_index: number, confidence: number, count: number}} Hit */
/** @typedef {{hits: Hit[], next_cursor: string | null, complete: boolean}} HitPage */

export class Search {
  /**
   * @param {HTMLInputElement} box
   * @param {HTMLElement} found
   * @param {Api} api
   * @param {Thumbnails} thumbnails
   * @param {(sentence: string) => void} say
   */
  constructor(box, found, api, thumbnails, say) {
    this.box = box;
    this.found = found;
    this.api = api;
    this.thumbnails = thumbnails;
    this.say = say;
    /** @type {AbortController | null} */
    this.asking = null;
    this.kind = "";
    this.hits = make("ul", { class: "hits" });
    this.note = make("p", { class: "soft small" });
    this.more = make("button", { type: "button", hidden: true }, "More");
    this.kinds = [["", "All"], ["text", "Texts"], ["object", "Objects"]].map(([kind, label]) =>
      make("button", { type: "button", "aria-pressed": String(kind === ""), onclick: () => this.only(kind) }, label));
    found.append(make("div", { class: "row kinds", role: "group", "aria-label": "What to show" }, ...this.kinds), this.hits, this.note, this.more);
    this.listen();
  }

  listen() {
    let timer = 0;
    this.box.addEventListener("input", () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => this.find(), TYPING_MS);
    });
    this.box.addEventListener("focus", () => { if (this.box.value.trim()) this.found.hidden = false; });
    this.more.addEventListener("click", () => this.find(this.more.dataset.cursor));
    document.addEventListener("search", () => { this.box.focus(); this.box.select(); });
    document.addEventListener("pointerdown", (event) => {
      if (event.target instanceof Node && !this.found.contains(event.target) && event.target !== this.box) this.found.hidden = true;
    });
    for (const place of [this.box, this.found]) place.addEventListener("keydown", (event) => this.pressed(event));
    this.hits.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("a")) this.found.hidden = true;
    });
  }

  /** @param {string} kind */
  only(kind) {
    this.kind = kind;
    for (const [place, button] of this.kinds.entries()) button.setAttribute("aria-pressed", String(["", "text", "object"][place] === kind));
    this.find();
  }

  /** @param {string} [cursor] of the next page */
  async find(cursor) {
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    const words = this.box.value.trim();
    this.found.hidden = !words;
    if (!words) return;
    const query = new URLSearchParams({ q: words, limit: String(PAGE_HITS) });
    if (this.kind) query.set("kind", this.kind);
    if (cursor) query.set("cursor", cursor);
    try {
      this.show(words, await this.api.get(`v1/search?${query}`, { signal: asking.signal }), Boolean(cursor));
    } catch (error) {
      if (asking.signal.aborted) return;
      this.hits.replaceChildren();
      this.more.hidden = true;
      this.note.textContent = sentence(error);
    }
  }

  /**
   * @param {string} words
   * @param {HitPage} page
   * @param {boolean} further whether the page comes after those that are shown
   */
  show(words, page, further) {
    const lines = page.hits.map((hit) => this.line(hit, words));
    if (further) this.hits.append(...lines);
    else this.hits.replaceChildren(...lines);
    if (further) lines[0]?.querySelector("a")?.focus();
    else this.found.scrollTop = 0;
    this.more.hidden = page.next_cursor === null;
    this.more.dataset.cursor = page.next_cursor ?? "";
    const shown = this.hits.childElementCount;
    this.note.textContent = !page.complete ? "Not all results have been searched: the index is being made."
      : shown ? "" : "Nothing was found.";
    this.say(shown ? `${number(shown)}${page.next_cursor ? " or more" : ""} found.` : this.note.textContent);
  }

  /**
   * @param {Hit} hit
   * @param {string} words
   */
  line(hit, words) {
    const query = new URLSearchParams({ t: String(hit.start_s) });
    if (hit.kind === "text") query.set("q", words);
    const what = hit.kind === "text" ? make("span", { class: "what" }, ...marked(hit.text, placesOf(hit.text, words)))
      : make("span", { class: "what" }, hit.text, make("span", { class: "soft" }, hit.count > 1 ? ` in ${number(hit.count)} frames` : ""));
    return make("li", {}, make("a", { class: "hit", href: `#/job/${hit.job_id}?${query}` },
      make("span", { class: "picture" }, this.thumbnails.of(hit.job_id, hit.start_s)),
      make("span", { class: "lines" }, what,
        make("span", { class: "small soft" }, make("span", { class: "name" }, hit.source_name || hit.job_id), ` · ${clock(hit.start_s, 1)}`))));
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key === "Escape" && !this.found.hidden) {
      event.preventDefault();
      this.box.focus();
      this.found.hidden = true;
      return;
    }
    const step = STEPS.get(event.key);
    if (!step || this.found.hidden) return;
    const places = [this.box, .../** @type {NodeListOf<HTMLElement>} */ (this.hits.querySelectorAll("a"))];
    const place = places.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (place < 0) return;
    event.preventDefault();
    places[Math.max(0, Math.min(places.length - 1, place + step))].focus();
  }
}
