// One upload as it is shown, changed in place.

import { about, bytes, make } from "./dom.js";

const SPEED_MS = 3000; // over which it is measured

/** @typedef {"waiting" | "sending" | "later" | "done" | "refused" | "broken" | "cut off"} UploadState */

export class UploadLine {
  /**
   * @param {string} name
   * @param {Record<string, () => void>} does what its buttons do, by what they say
   */
  constructor(name, does) {
    this.name = name;
    this.does = does;
    this.note = make("span", { class: "note small soft" });
    this.buttons = make("span", { class: "buttons" });
    this.bar = make("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
    this.why = make("p", { class: "notice small", hidden: true });
    this.item = make("li", { class: "upload" },
      make("span", { class: "name", title: name }, name), this.buttons, this.bar, this.note, this.why);
    /** @type {{at: number, sent: number}[]} */
    this.measured = [];
  }

  /**
   * @param {UploadState} state
   * @param {string} note
   * @param {string} why what is wrong
   * @param {string[]} buttons what they say
   * @param {string | null} link to the job
   */
  show(state, note, why, buttons, link = null) {
    this.item.dataset.state = state;
    this.note.textContent = note;
    this.why.textContent = why;
    this.why.hidden = !why;
    this.bar.hidden = state === "refused" || state === "done";
    const label = (/** @type {Element} */ one) => one.textContent;
    const wanted = [...(link ? ["Open"] : []), ...buttons];
    if ([...this.buttons.children].map(label).join() === wanted.join()) return;
    const focused = this.buttons.contains(document.activeElement);
    this.buttons.replaceChildren(
      ...(link ? [make("a", { class: "button", href: link, "aria-label": `Open ${this.name}` }, "Open")] : []),
      ...buttons.map((text) => make("button", { type: "button", "aria-label": `${text}: ${this.name}`, onclick: () => this.does[text]() }, text)));
    if (focused) /** @type {HTMLElement | null} */ (this.buttons.lastElementChild)?.focus();
  }

  /**
   * @param {number} sent
   * @param {number} size
   */
  progress(sent, size) {
    this.bar.value = size ? sent / size : 0;
    const now = performance.now();
    this.measured = [...this.measured.filter(({ at }) => now - at < SPEED_MS), { at: now, sent }];
    const first = this.measured[0];
    const perSecond = (1000 * (sent - first.sent)) / Math.max(1, now - first.at);
    const speed = perSecond > 0 && now - first.at > 500 ? ` · ${bytes(perSecond)}/s · ${about((size - sent) / perSecond)} left` : "";
    this.note.textContent = sent < size ? `${bytes(sent)} of ${bytes(size)}${speed}` : "being checked";
  }
}
