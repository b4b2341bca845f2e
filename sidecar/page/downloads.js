// What can be taken away: the result, the video, a picture, and every format of exports.

import { clock, icon, make, sentence } from "./dom.js";
import { downloadButton } from "./download.js";
import { persist } from "./retry.js";

/** @import {Api, Format, Job, View} from "./types.js" */

export class Downloads {
  /**
   * @param {Api} api
   * @param {Job} job
   * @param {() => View} view
   * @param {() => number} time that is shown
   * @param {AbortSignal} signal
   */
  constructor(api, job, view, time, signal) {
    this.api = api;
    this.job = job;
    this.view = view;
    this.time = time;
    this.signal = signal;
    this.filled = false;
    this.only = make("input", { type: "checkbox" });
    this.onlyWhat = make("span", {});
    this.list = make("div", { class: "download-list" });
    this.panel = make("div", { class: "menu", id: "downloads", hidden: true, onkeydown: (/** @type {KeyboardEvent} */ event) => this.pressed(event) },
      make("label", { class: "small only" }, this.only, this.onlyWhat), this.list);
    this.button = make("button", { "aria-expanded": "false", "aria-controls": "downloads", title: "Download (D)", onclick: () => this.toggle() }, icon("download"), "Download");
    this.element = make("div", { class: "downloads" }, this.button, this.panel);
    document.addEventListener("pointerdown", (event) => {
      if (!this.panel.hidden && event.target instanceof Node && !this.element.contains(event.target)) this.toggle(false);
    }, { signal });
  }

  /** @param {boolean} [open] */
  toggle(open = this.panel.hidden) {
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    this.sayOnly();
    if (!this.filled) this.fill();
    this.panel.querySelector("button")?.focus();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const buttons = [...this.panel.querySelectorAll("button")];
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    if (event.key === "Escape") {
      this.toggle(false);
      this.button.focus();
    } else if (event.key === "ArrowDown") buttons[Math.min(buttons.length - 1, at + 1)]?.focus();
    else if (event.key === "ArrowUp") buttons[Math.max(0, at - 1)]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Say what is left out of exports if only what is shown is wanted. */
  sayOnly() {
    const { classes, confidence, span } = this.view();
    const what = [classes.size && [...classes].join(", "), confidence && `confidence ${confidence.toFixed(2)} or more`, span && `${clock(span[0])} to ${clock(span[1])}`].filter(Boolean);
    const label = /** @type {HTMLElement} */ (this.only.parentElement);
    label.hidden = !what.length;
    if (!what.length) this.only.checked = false;
    this.onlyWhat.textContent = `Exports: only ${what.join("; ")}`;
  }

  async fill() {
    this.filled = true;
    const { job_id: id, source_name: name, source_removed_at: gone } = this.job;
    const path = `v1/jobs/${id}`;
    const rows = [this.row("Result", ".json", "everything, frame by frame", () => ({ path: `v1/video/results/${id}` }))];
    if (!gone) {
      const frame = (/** @type {string} */ query, /** @type {string} */ ending) => () => ({ path: `${path}/frame?t=${this.time().toFixed(3)}${query}`, name: `${name}-${clock(this.time())}${ending}.jpg` });
      rows.push(this.row("Video", /\.\w+$/.exec(name ?? "")?.[0] ?? "", "as it was submitted", () => ({ path: `${path}/video` })));
      rows.push(this.row("This picture", ".jpg", "as it is", frame("", "")));
      rows.push(this.row("This picture with boxes", ".jpg", "for a report", frame("&boxes=1", "-boxes")));
    }
    const note = make("p", { class: "notice small", role: "status" });
    this.list.replaceChildren(...rows, note);
    try {
      const { formats } = /** @type {{formats: Format[]}} */ (await persist(() => this.api.get("v1/formats"), this.signal, (words) => { note.textContent = words; }));
      this.list.append(...formats.map((one) => this.row(one.title, one.ending, one.used_by, () => ({ path: `${path}/export/${one.format}${this.query(one)}` }))));
    } catch (error) {
      note.textContent = sentence(error);
    }
  }

  /**
   * @param {string} title
   * @param {string} ending
   * @param {string} what
   * @param {() => {path: string, name?: string}} wanted
   */
  row(title, ending, what, wanted) {
    const note = make("span", { class: "small soft", role: "status" }, what);
    return downloadButton(this.api, this.signal, wanted, note, { class: "download" }, make("span", {}, title, " ", make("span", { class: "soft" }, ending)), note);
  }

  /** @param {Format} format */
  query(format) {
    if (!this.only.checked) return "";
    const { classes, confidence, span } = this.view();
    const query = new URLSearchParams();
    if (classes.size && format.content !== "texts") query.set("classes", [...classes].join(","));
    if (confidence) query.set("min_confidence", String(confidence));
    if (span) {
      query.set("from_s", span[0].toFixed(3));
      query.set("to_s", span[1].toFixed(3));
    }
    return query.size ? `?${query}` : "";
  }
}
