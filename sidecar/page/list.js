// A long list of which only the rows in sight are in the page: arrow keys go through it, Enter and a click choose.

import { make } from "./dom.js";

const ROW_PX = 34;
const SPARE = 8;
let lists = 0;

/** @template T */
export class LongList {
  /**
   * @param {string} label
   * @param {(item: T) => (Node | string)[]} row what a row holds
   * @param {(item: T) => void} chosen
   */
  constructor(label, row, chosen) {
    this.row = row;
    this.chosen = chosen;
    /** @type {T[]} */
    this.items = [];
    this.active = -1;
    /** @type {(item: T) => boolean} */
    this.current = () => false;
    this.id = `list-${(lists += 1)}`;
    this.drawing = 0;
    this.rows = make("div", { class: "rows", role: "presentation" });
    this.element = make("div", {
      class: "long-list", role: "listbox", tabindex: 0, "aria-label": label,
      onscroll: () => this.drawSoon(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.pressed(event),
      onfocus: () => { if (this.active < 0 && this.items.length && this.element.matches(":focus-visible")) this.activate(Math.max(0, this.items.findIndex(this.current))); },
    }, this.rows);
    this.resized = new ResizeObserver(() => this.drawSoon());
    this.resized.observe(this.element);
  }

  /** @param {T[]} items */
  set(items) {
    const kept = this.items[this.active];
    this.items = items;
    this.active = kept === undefined ? -1 : items.indexOf(kept);
    this.drawSoon();
  }

  /** @param {(item: T) => boolean} current whether a row is of what is on the screen just now */
  mark(current) {
    this.current = current;
    for (const row of /** @type {Iterable<HTMLElement>} */ (this.rows.children)) {
      const item = this.items[Number(row.dataset.place)];
      row.classList.toggle("current", item !== undefined && current(item));
    }
  }

  /** @param {number} place */
  activate(place) {
    this.active = Math.max(0, Math.min(this.items.length - 1, place));
    this.reveal(this.active);
    this.draw();
  }

  /** @param {number} place */
  reveal(place) {
    const top = place * ROW_PX, box = this.element;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_PX - box.clientHeight;
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW_PX) - 1);
    const moves = { ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: this.items.length - 1 };
    if (event.key in moves) this.activate(moves[/** @type {keyof typeof moves} */ (event.key)]);
    else if (event.key === "Enter" && this.items[this.active]) this.chosen(this.items[this.active]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  close() {
    this.resized.disconnect();
    cancelAnimationFrame(this.drawing);
  }

  drawSoon() {
    this.drawing ||= requestAnimationFrame(() => {
      this.drawing = 0;
      this.draw();
    });
  }

  draw() {
    const from = Math.max(0, Math.floor(this.element.scrollTop / ROW_PX) - SPARE);
    const to = Math.min(this.items.length, from + Math.ceil(this.element.clientHeight / ROW_PX) + 2 * SPARE);
    this.rows.style.height = `${this.items.length * ROW_PX}px`;
    this.rows.replaceChildren(...this.items.slice(from, to).map((item, n) => this.drawRow(item, from + n)));
    const active = this.active >= from && this.active < to;
    if (active) this.element.setAttribute("aria-activedescendant", `${this.id}-${this.active}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /**
   * @param {T} item
   * @param {number} place
   */
  drawRow(item, place) {
    const classes = ["row-item", this.current(item) ? "current" : "", place === this.active ? "active" : ""].join(" ").trim();
    const row = make("div", {
      class: classes, role: "option", id: `${this.id}-${place}`, "data-place": place, "aria-selected": place === this.active,
      "aria-setsize": this.items.length, "aria-posinset": place + 1,
      onclick: () => { this.active = place; this.chosen(item); this.draw(); },
    }, ...this.row(item));
    row.setAttribute("aria-selected", String(place === this.active));
    row.style.top = `${place * ROW_PX}px`;
    return row;
  }
}
