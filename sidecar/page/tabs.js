// Panels of which one is shown.

import { make, number } from "./dom.js";

export class Tabs {
  /**
   * @param {{id: string, title: string, panel: HTMLElement}[]} parts
   * @param {(id: string) => void} chosen
   */
  constructor(parts, chosen) {
    this.parts = parts;
    this.chosen = chosen;
    this.buttons = parts.map(({ id, title }) => make("button", { role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => chosen(id) }, title, make("span", { class: "soft" })));
    this.panels = parts.map(({ id, panel }) => make("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}` }, panel));
    this.list = make("div", { role: "tablist", "aria-label": "What was found", onkeydown: (/** @type {KeyboardEvent} */ event) => this.pressed(event) }, ...this.buttons);
    this.element = make("div", { class: "tabs" }, this.list, ...this.panels);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const at = this.buttons.findIndex((button) => button === document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: this.buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    const place = (to + this.buttons.length) % this.buttons.length;
    event.preventDefault();
    this.chosen(this.parts[place].id);
    this.buttons[place].focus();
  }

  /** @param {string} id */
  show(id) {
    const known = Math.max(0, this.parts.findIndex((part) => part.id === id));
    this.buttons.forEach((button, place) => {
      button.setAttribute("aria-selected", String(place === known));
      button.tabIndex = place === known ? 0 : -1;
      this.panels[place].hidden = place !== known;
    });
  }

  /**
   * @param {string} id
   * @param {number} n
   */
  count(id, n) {
    const button = this.buttons[this.parts.findIndex((part) => part.id === id)];
    /** @type {HTMLElement} */ (button.lastElementChild).textContent = ` ${number(n)}`;
  }
}
