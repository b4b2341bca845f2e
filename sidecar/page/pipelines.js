// Which pipeline a video is sent to, and what is missing for it. Asked for again and again: weights may come at any time.

import { make, marked } from "./dom.js";
import { Poll } from "./poll.js";

/** @import {Api} from "./api.js" */

const POLL_MS = 3000;
const COMMAND = /(data\/models\/|dropframe models pull [\w.-]+|\.pt\b)/g;

/** @typedef {{pipeline_id: string, description: string, default: boolean, problem: string | null, note: string | null}} Pipeline */

export class Pipelines {
  /**
   * @param {HTMLSelectElement} menu
   * @param {HTMLElement} unfit where it is said what the chosen one lacks
   * @param {HTMLElement} lacking where it is said what all lack
   * @param {Api} api
   */
  constructor(menu, unfit, lacking, api) {
    this.menu = menu;
    this.unfit = unfit;
    this.lacking = lacking;
    this.api = api;
    this.shown = "";
    /** @type {Pipeline[]} */
    this.pipelines = [];
    this.poll = new Poll(POLL_MS, () => this.refresh());
    menu.addEventListener("change", () => this.judge());
  }

  async refresh() {
    const body = await this.api.get("v1/pipelines").catch(() => null);
    if (!body || JSON.stringify(body) === this.shown) return;
    this.shown = JSON.stringify(body);
    this.pipelines = body.pipelines;
    const before = this.menu.value;
    this.menu.replaceChildren(...this.pipelines.map((one) => {
      const option = make("option", { value: one.pipeline_id, title: one.description }, one.pipeline_id);
      option.selected = before ? one.pipeline_id === before : one.default;
      return option;
    }));
    this.lacking.replaceChildren(...withCommands(this.pipelines.find(({ note }) => note)?.note ?? ""));
    this.judge();
  }

  judge() {
    const chosen = this.pipelines.find((one) => one.pipeline_id === this.menu.value);
    this.unfit.replaceChildren(...withCommands(chosen?.problem ?? ""));
  }
}

/**
 * A sentence, with what is to be typed set apart.
 * @param {string} sentence
 */
const withCommands = (sentence) => marked(sentence, [...sentence.matchAll(COMMAND)].map(({ index, 0: part }) => [index, index + part.length]), "code");
