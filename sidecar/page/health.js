// How Dropframe is: said in a word, and in sentences where something is not as it should be.

import { make } from "./dom.js";
import { Poll } from "./poll.js";

/** @import {Api} from "./api.js" */

const POLL_MS = 2000;
const ANSWER_MS = 10_000;
/** @type {Record<string, string>} */
const NAMES = { daemon: "Daemon", store: "Job store", disk: "Disk", inbox: "Inbox", outbox: "Outbox" };
const DOWN = { name: "Dropframe does not answer", detail: "What is shown is what was known last. The page goes on by itself once it answers." };

/** @typedef {{name: string, detail: string}} Problem */

export class Health {
  /**
   * @param {HTMLElement} word
   * @param {HTMLElement} wrong
   * @param {Api} api
   */
  constructor(word, wrong, api) {
    this.word = word;
    this.wrong = wrong;
    this.api = api;
    this.shown = "";
    this.poll = new Poll(POLL_MS, () => this.refresh());
  }

  async refresh() {
    /** @type {Problem[]} */
    let problems = [];
    let word = "ready";
    try {
      const response = await this.api.fetch("readyz", {}, ANSWER_MS);
      const body = await response.json().catch(() => null);
      const parts = Object.entries(/** @type {Record<string, {ok: boolean, detail: string}>} */ (body?.parts ?? {}));
      problems = parts.filter(([, part]) => !part.ok).map(([name, { detail }]) => ({ name: NAMES[name] ?? name, detail }));
      if (!response.ok && !problems.length) problems = [{ name: "Dropframe", detail: body?.detail || `The answer was ${response.status}.` }];
      if (problems.length) word = "not ready";
    } catch {
      problems = [DOWN];
      word = "no answer";
    }
    this.show(word, problems);
  }

  /**
   * Written anew only when something changed: it is read out each time.
   * @param {string} word
   * @param {Problem[]} problems
   */
  show(word, problems) {
    const now = JSON.stringify([word, problems]);
    if (now === this.shown) return;
    this.shown = now;
    this.word.textContent = word;
    this.word.className = `pill ${problems.length ? "failed" : "completed"}`;
    this.wrong.replaceChildren(...problems.map(({ name, detail }) => make("p", {}, make("strong", {}, name), ` ${detail}`)));
    this.wrong.hidden = !problems.length;
  }
}
