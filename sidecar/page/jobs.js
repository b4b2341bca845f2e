// The list of jobs: filters, pages, and rows that are changed in place.

import { NoAnswer } from "./api.js";
import { count, number, sentence } from "./dom.js";
import { JobRow } from "./job_row.js";
import { Poll } from "./poll.js";
import { Selection } from "./selection.js";

/** @import {Api} from "./api.js" */
/** @import {Job} from "./types.js" */
/** @import {Thumbnails} from "./thumbnails.js" */

const POLL_MS = 1000;
const PAGE_JOBS = 50;
const TYPING_MS = 200;
const STEPS = new Map([["ArrowDown", 1], ["ArrowUp", -1]]);

/** @typedef {{name: string, size_bytes: number, age_s: number, why: string}} WaitingFile */
/** @typedef {{jobs: Job[], next_cursor: string | null, counts: Record<string, number>, waiting: WaitingFile[]}} JobPage */
/**
 * @typedef {object} JobListElements
 * @property {HTMLElement} list
 * @property {HTMLSelectElement} status
 * @property {HTMLInputElement} name
 * @property {HTMLInputElement} all the box that selects all of the page
 * @property {HTMLElement} bar what can be done with the selected
 * @property {HTMLElement} counts
 * @property {HTMLElement} problem
 * @property {HTMLElement} empty shown while there is nothing at all
 * @property {HTMLElement} none shown while nothing fits the filters
 * @property {HTMLButtonElement} newer
 * @property {HTMLButtonElement} older
 * @property {HTMLElement} place which jobs the page shows
 * @property {HTMLButtonElement} retryFailed
 */

export class JobList {
  /**
   * @param {JobListElements} at
   * @param {Api} api
   * @param {Thumbnails} thumbnails
   * @param {(sentence: string) => void} say
   * @param {(page: JobPage) => void} came is told of each answer
   */
  constructor(at, api, thumbnails, say, came) {
    this.at = at;
    this.api = api;
    this.thumbnails = thumbnails;
    this.say = say;
    this.came = came;
    /** @type {Map<string, JobRow>} in the order of the page */
    this.rows = new Map();
    /** @type {string[]} cursors of the pages before this one and of this one; none on the first */
    this.cursors = [];
    /** @type {string | null} */
    this.next = null;
    /** @type {string | null} the job that is looked at */
    this.chosen = null;
    /** @type {string | null} the job that was picked last, where a range begins */
    this.last = null;
    this.asked = 0;
    this.selection = new Selection(at.bar, api, {
      changed: () => this.showPicks(),
      requested: (action, id) => { this.rows.get(id)?.request(action); this.poll.now(); },
      say,
    });
    this.poll = new Poll(POLL_MS, () => this.refresh());
    this.listen();
  }

  listen() {
    const { at } = this;
    let timer = 0;
    at.status.addEventListener("change", () => this.turn([]));
    at.name.addEventListener("input", () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => this.turn([]), TYPING_MS);
    });
    at.older.addEventListener("click", () => { if (this.next) this.turn([...this.cursors, this.next]); });
    at.newer.addEventListener("click", () => this.turn(this.cursors.slice(0, -1)));
    at.all.addEventListener("change", () => this.pickAll(at.all.checked));
    at.retryFailed.addEventListener("click", () => this.retryFailed());
    at.list.addEventListener("click", (event) => this.clicked(event));
    at.list.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** @param {string[]} cursors of another page */
  turn(cursors) {
    this.cursors = cursors;
    this.asked += 1; // what is under way is of another page
    this.at.list.scrollTop = 0;
    this.poll.now();
  }

  async refresh() {
    const asked = this.asked;
    const query = new URLSearchParams({ limit: String(PAGE_JOBS) });
    if (this.at.status.value) query.set("status", this.at.status.value);
    if (this.at.name.value.trim()) query.set("name", this.at.name.value.trim());
    const cursor = this.cursors.at(-1);
    if (cursor) query.set("cursor", cursor);
    try {
      const page = await this.api.get(`v1/jobs?${query}`);
      if (asked === this.asked) this.show(page);
      this.at.problem.hidden = true;
    } catch (error) {
      this.at.problem.textContent = sentence(error);
      this.at.problem.hidden = error instanceof NoAnswer; // which the head of the page says
    }
  }

  /** @param {JobPage} page */
  show(page) {
    if (!page.jobs.length && this.cursors.length) return this.turn([]); // all of the page has been deleted
    this.showRows(page.jobs);
    this.next = page.next_cursor;
    const { at } = this;
    const filtered = at.status.value !== "" || at.name.value.trim() !== "";
    const total = Object.values(page.counts).reduce((sum, n) => sum + n, 0);
    at.empty.hidden = total > 0 || filtered;
    at.none.hidden = page.jobs.length > 0 || !at.empty.hidden;
    at.list.hidden = !page.jobs.length;
    at.all.disabled = !page.jobs.length;
    at.newer.disabled = !this.cursors.length;
    at.older.disabled = !page.next_cursor;
    const first = this.cursors.length * PAGE_JOBS + 1;
    at.place.textContent = page.jobs.length ? `${number(first)}–${number(first + page.jobs.length - 1)}${at.name.value.trim() ? "" : ` of ${number(at.status.value ? page.counts[at.status.value] ?? 0 : total)}`}` : "";
    at.counts.textContent = Object.entries(page.counts).filter(([, n]) => n).map(([state, n]) => `${number(n)} ${state === "failed" ? "failed or cancelled" : state}`).join(" · ");
    at.retryFailed.hidden = at.status.value !== "failed" || !page.jobs.length;
    this.showPicks();
    this.came(page);
  }

  /** @param {Job[]} jobs */
  showRows(jobs) {
    /** @type {Map<string, JobRow>} */
    const rows = new Map();
    let before = /** @type {Element | null} */ (null);
    const focused = this.focused();
    for (const job of jobs) {
      const row = this.rows.get(job.job_id) ?? new JobRow(job, this.thumbnails);
      row.show(job);
      row.choose(job.job_id === this.chosen);
      rows.set(job.job_id, row);
      this.selection.update(job);
    }
    const left = [...this.rows.keys()];
    for (const [id, row] of this.rows) if (!rows.has(id)) row.item.remove();
    for (const row of rows.values()) {
      const there = before ? before.nextElementSibling : this.at.list.firstElementChild;
      if (there !== row.item) this.at.list.insertBefore(row.item, there);
      before = row.item;
    }
    this.rows = rows;
    if (focused && !rows.has(focused)) this.focusNear(left, focused);
  }

  /** The id of the job whose row has the focus. */
  focused() {
    const item = document.activeElement?.closest("li.job");
    return item instanceof HTMLElement && this.at.list.contains(item) ? item.dataset.id ?? null : null;
  }

  /**
   * Where the row with the focus has gone, the next one has it.
   * @param {string[]} before ids in the order that was shown
   * @param {string} gone
   */
  focusNear(before, gone) {
    const place = before.indexOf(gone);
    const near = [...before.slice(place), ...before.slice(0, place).reverse()].find((id) => this.rows.has(id));
    (near ? this.rows.get(near)?.link : this.at.name)?.focus();
  }

  /** @param {string | null} id of the job that is looked at */
  choose(id) {
    this.chosen = id;
    for (const row of this.rows.values()) row.choose(row.job.job_id === id);
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const pick = event.target;
    const item = pick instanceof HTMLInputElement ? pick.closest("li") : null;
    const row = item ? this.rows.get(item.dataset.id ?? "") : null;
    if (!row) return;
    const ids = [...this.rows.keys()];
    const [from, to] = [this.last && event.shiftKey ? ids.indexOf(this.last) : -1, ids.indexOf(row.job.job_id)];
    const range = from < 0 ? [to] : Array.from({ length: Math.abs(to - from) + 1 }, (_, n) => Math.min(from, to) + n);
    for (const place of range) this.selection.pick(/** @type {JobRow} */ (this.rows.get(ids[place])).job, row.pick.checked);
    this.last = row.job.job_id;
    this.showPicks();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const step = STEPS.get(event.key);
    const kind = document.activeElement instanceof HTMLInputElement ? "pick" : "link";
    const ids = [...this.rows.keys()];
    const place = ids.indexOf(this.focused() ?? "");
    if (place < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = step ? place + step : event.key === "Home" ? 0 : event.key === "End" ? ids.length - 1 : -1;
    if (!step && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    this.rows.get(ids[to])?.[kind].focus();
  }

  /** @param {boolean} picked */
  pickAll(picked) {
    for (const row of this.rows.values()) this.selection.pick(row.job, picked);
    this.showPicks();
  }

  showPicks() {
    let picked = 0;
    for (const [id, row] of this.rows) {
      row.pick.checked = this.selection.jobs.has(id);
      picked += Number(row.pick.checked);
    }
    this.at.all.checked = picked > 0 && picked === this.rows.size;
    this.at.all.indeterminate = picked > 0 && picked < this.rows.size;
    this.selection.show();
  }

  async retryFailed() {
    this.selection.complain("");
    try {
      const { requested } = await this.api.request("POST", "v1/jobs/retry-failed");
      if (requested) this.say(`${count(requested, "job")} ${requested === 1 ? "is" : "are"} queued again.`);
      else this.selection.complain("None of them can be tried again.");
    } catch (error) {
      this.selection.complain(`They were not queued again. ${sentence(error)}`);
    }
    this.poll.now();
  }
}

/** The elements of the list in the page. */
export function jobListElements() {
  const at = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
  return {
    list: at("jobs"), status: at("status"), name: at("name"), all: at("select-all"), bar: at("selected"), counts: at("counts"),
    problem: at("problem"), empty: at("empty"), none: at("none"), newer: at("newer"), older: at("older"), place: at("place"), retryFailed: at("retry-failed"),
  };
}

