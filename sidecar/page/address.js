// What is looked at, in the address: #/job/<id>?t=5.32&class=person,bus&conf=0.5&q=gate

const JOB = /^#\/job\/([0-9a-f-]{36})(?:\?(.*))?$/;
const OLD = /^#([0-9a-f-]{36})$/;
const WRITE_MS = 400; // Safari refuses more than a hundred writes in 30 s

/** @typedef {Record<string, string | number | null | undefined>} Values null, undefined and "" take a value away */

export class Address {
  constructor() {
    /** @type {string | null} */
    this.job = null;
    /** @type {Map<string, string>} */
    this.values = new Map();
    /** @type {Set<(address: Address) => void>} */
    this.listeners = new Set();
    this.timer = 0;
    this.written = "";
    this.read();
    addEventListener("popstate", () => this.changed());
    addEventListener("hashchange", () => this.changed());
    addEventListener("pagehide", () => this.write());
  }

  /**
   * Be told when somebody goes elsewhere: Back, Forward, a link, `go`. What `set` writes is not told.
   * @param {(address: Address) => void} listener
   * @returns {() => void} ends it
   */
  on(listener) {
    this.listeners.add(listener);
    return () => { this.listeners.delete(listener); };
  }

  /**
   * @param {string} key
   * @returns {string | null}
   */
  get(key) {
    return this.values.get(key) ?? null;
  }

  /**
   * A number of the address, or null.
   * @param {string} key
   */
  number(key) {
    const value = this.values.get(key);
    const found = value === undefined || value === "" ? NaN : Number(value);
    return Number.isFinite(found) ? found : null;
  }

  /**
   * Write values beside those that are there, soon, without an entry in the history.
   * @param {Values} values
   */
  set(values) {
    this.put(values);
    this.timer ||= window.setTimeout(() => this.write(), WRITE_MS);
  }

  /**
   * Go to a job, or with null to none; Back leads here again.
   * @param {string | null} job
   * @param {Values} [values]
   */
  go(job, values = {}) {
    this.write();
    this.job = job;
    this.values = new Map();
    this.put(values);
    const hash = this.hash();
    if (hash !== this.written) history.pushState(null, "", hash || location.pathname + location.search);
    this.written = hash;
    this.tell();
  }

  /**
   * The whole address, to be given to others.
   * @returns {string}
   */
  get link() {
    this.write();
    return location.href;
  }

  /** @param {Values} values */
  put(values) {
    for (const [key, value] of Object.entries(values)) {
      if (value === null || value === undefined || value === "") this.values.delete(key);
      else this.values.set(key, String(value));
    }
  }

  hash() {
    if (this.job === null) return "";
    const query = [...this.values].map(([key, value]) => `${key}=${encodeURIComponent(value).replaceAll("%2C", ",").replaceAll("%20", "+")}`).join("&");
    return `#/job/${this.job}${query ? `?${query}` : ""}`;
  }

  write() {
    clearTimeout(this.timer);
    this.timer = 0;
    const hash = this.hash();
    if (hash === this.written) return;
    this.written = hash;
    history.replaceState(null, "", hash || location.pathname + location.search);
  }

  changed() {
    if (location.hash === this.written) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this.read();
    this.tell();
  }

  read() {
    const found = JOB.exec(location.hash) ?? OLD.exec(location.hash);
    this.job = found?.[1] ?? null;
    this.values = new Map(new URLSearchParams(found?.[2] ?? ""));
    this.written = location.hash;
    if (this.job !== null) this.write(); // the old form becomes the new one
  }

  tell() {
    for (const listener of this.listeners) listener(this);
  }
}
