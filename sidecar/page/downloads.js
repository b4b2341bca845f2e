// What can be taken away: the result, the video, a picture, and every format of exports.

import { clock, icon, make, sentence } from "./dom.js";

/** @import {Api, Format, Job, View} from "./types.js" */

const WAIT_S = 20;
const PAUSE_MS = 1000;

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
    const rows = [this.row("Result", ".json", "everything, frame by frame", async () => `v1/video/results/${id}`)];
    if (!gone) {
      rows.push(this.row("Video", /\.\w+$/.exec(name ?? "")?.[0] ?? "", "as it was submitted", async () => `${path}/video`));
      rows.push(this.row("This picture", ".jpg", "as it is", async () => `${path}/frame?t=${this.time().toFixed(3)}`, `${name}-${clock(this.time())}.jpg`));
      rows.push(this.row("This picture with boxes", ".jpg", "for a report", async () => `${path}/frame?t=${this.time().toFixed(3)}&boxes=1`, `${name}-${clock(this.time())}-boxes.jpg`));
    }
    this.list.replaceChildren(...rows);
    try {
      const { formats } = /** @type {{formats: Format[]}} */ (await this.api.get("v1/formats"));
      this.list.append(...formats.map((one) => this.row(one.title, one.ending, one.used_by, (say) => this.made(one, say))));
    } catch (error) {
      this.list.append(make("p", { class: "notice small" }, sentence(error)));
    }
  }

  /**
   * @param {string} title
   * @param {string} ending
   * @param {string} what
   * @param {(say: (words: string) => void) => Promise<string>} get makes it if need be; gives its path
   * @param {string} [name] of the file; by default the one that comes with it
   */
  row(title, ending, what, get, name = "") {
    const note = make("span", { class: "small soft", role: "status" }, what);
    /** @param {string} words */
    const say = (words) => { note.textContent = words; };
    const button = make("button", { class: "download", onclick: async () => {
      button.setAttribute("aria-disabled", "true");
      note.classList.remove("notice");
      try {
        const path = await get(say);
        make("a", { href: this.api.url(path), download: name }).click();
        say("ready");
      } catch (error) {
        if (this.signal.aborted) return;
        note.classList.add("notice");
        say(sentence(error));
      }
      button.removeAttribute("aria-disabled");
    } }, make("span", {}, title, " ", make("span", { class: "soft" }, ending)), note);
    return button;
  }

  /**
   * Wait until an export has been made.
   * @param {Format} format
   * @param {(words: string) => void} say
   * @returns {Promise<string>}
   */
  async made(format, say) {
    const query = this.query(format);
    const path = `v1/jobs/${this.job.job_id}/export/${format.format}${query ? `?${query}` : ""}`;
    say("being made …");
    for (;;) {
      const response = await this.api.fetch(`${path}${query ? "&" : "?"}wait=${WAIT_S}`, { method: "HEAD", signal: this.signal });
      if (response.status === 200) return path;
      if (response.status !== 202) await this.api.get(path); // its error says why
      await new Promise((wake) => setTimeout(wake, PAUSE_MS));
    }
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
    return query.toString();
  }
}
