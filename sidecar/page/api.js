// The calls of Dropframe, and the token that they are sent with.

const KEPT_ANSWERS = 64;
const TOKEN = "dropframe-token"; // of this tab alone, and gone with it
const AGAIN_MS = 2000;
const RENEW_MS = 240_000; // a pass lasts for 15 minutes
const LONGEST_S = 60; // that anybody waits because an answer says so

/** @typedef {{token: string | null, rights: "read" | "submit", cookie: string | null, cookie_seconds: number | null}} Session */
/** @typedef {(check: (token: string) => Promise<string | null>) => Promise<void>} AskForToken asks until the check returns null, not a sentence */

/** What Dropframe has refused; the message is its own sentence. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{detail?: string, type?: string} | null} problem
   * @param {string | null} retryAfter seconds, as the header has it
   */
  constructor(status, problem, retryAfter = null) {
    super(problem?.detail || `The answer was ${status}.`);
    this.status = status;
    this.kind = (problem?.type || "").split(":").pop() || "";
    const seconds = Number(retryAfter);
    /** @type {number | null} seconds; a proxy may say anything */
    this.retryAfter = seconds > 0 ? Math.min(LONGEST_S, Math.max(1, seconds)) : null;
  }
}

/** Nobody answered. */
export class NoAnswer extends Error {
  constructor() {
    super("Dropframe does not answer.");
  }
}

export class Api {
  /** @param {AskForToken} askForToken */
  constructor(askForToken) {
    this.askForToken = askForToken;
    /** @type {string | null} */
    this.token = sessionStorage.getItem(TOKEN);
    /** @type {Session} */
    this.session = { token: null, rights: "submit", cookie: null, cookie_seconds: null };
    /** @type {Promise<void> | null} */
    this.asking = null;
    this.unanswered = false; // since nobody answered a call
    /** @type {Map<string, {tag: string, body: any}>} */
    this.answers = new Map();
    // A browser has one pass for all tabs: where another one has taken it away, this one gets its own again.
    this.tabs = new BroadcastChannel("dropframe-session");
    this.tabs.addEventListener("message", () => { if (this.token !== null) this.renew(); });
  }

  /** Learn what the caller may do, as soon as Dropframe answers; ask for a token if one is needed. */
  async begin() {
    while (!(await this.renew())) await new Promise((wake) => setTimeout(wake, AGAIN_MS));
    // It was another tab's pass that was answered: what this one may do, its own token says.
    if (this.token === null && this.session.token !== null && this.session.cookie === null) await this.logIn();
    if (this.session.cookie === null) return;
    setInterval(() => this.renew(), RENEW_MS);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.renew(); });
  }

  /** Ask what the caller may do, and get another pass before the last one ends; tell whether that was answered. */
  async renew() {
    return this.get("v1/session").then((session) => { this.adopt(session); return true; }, () => false);
  }

  /**
   * The address of a call, for what a browser fetches by itself.
   * @param {string} path relative, as `v1/jobs`, since a proxy may show the page below a path
   */
  url(path) {
    return new URL(path, document.baseURI).href;
  }

  /** @returns {Record<string, string>} */
  get headers() {
    return this.token === null ? {} : { Authorization: `Bearer ${this.token}` };
  }

  /**
   * Call; where a token is wanted it is asked for, and the call made again.
   * @param {string} path
   * @param {RequestInit} [init]
   * @param {number} [within] ms in which it must be answered, apart from the time in which somebody types a token
   * @returns {Promise<Response>}
   * @throws {NoAnswer} nobody answered
   */
  async fetch(path, init = {}, within = 0) {
    for (;;) {
      const signal = within ? AbortSignal.timeout(within) : init.signal;
      const response = await fetch(this.url(path), { ...init, signal, headers: { ...init.headers, ...this.headers } }).catch((error) => {
        if (init.signal?.aborted) throw error;
        this.unanswered = true;
        throw new NoAnswer();
      });
      if (this.unanswered) {
        this.unanswered = false;
        if (this.session.cookie !== null) this.renew(); // passes end when Dropframe is started again
      }
      if (response.status !== 401) return response;
      await this.logIn();
    }
  }

  /**
   * Call, and return the JSON of the answer: the very same object as before if nothing has changed.
   * @param {string} path
   * @param {RequestInit} [init]
   * @returns {Promise<any>}
   * @throws {ApiError} it was refused
   * @throws {NoAnswer} nobody answered
   */
  async get(path, init = {}) {
    const known = this.answers.get(path);
    const response = await this.fetch(path, known ? { ...init, headers: { ...init.headers, "If-None-Match": known.tag } } : init);
    if (known && response.status === 304) return known.body;
    const body = await bodyOf(response);
    this.answers.delete(path);
    const tag = response.headers.get("ETag");
    if (tag) this.answers.set(path, { tag, body });
    if (this.answers.size > KEPT_ANSWERS) this.answers.delete(/** @type {string} */ (this.answers.keys().next().value));
    return body;
  }

  /**
   * Request something, and return the JSON of the answer.
   * @param {"POST" | "DELETE"} method
   * @param {string} path
   * @returns {Promise<any>}
   */
  async request(method, path) {
    return bodyOf(await this.fetch(path, { method }));
  }

  /** Ask for a token; once, however many calls want one. */
  logIn() {
    this.asking ??= this.askForToken((token) => this.check(token)).finally(() => { this.asking = null; });
    return this.asking;
  }

  /** Forget the token. */
  logOut() {
    sessionStorage.removeItem(TOKEN);
    const name = this.session.cookie?.split("=")[0];
    if (name) document.cookie = `${name}=; max-age=0; ${this.cookiePlace}`;
    this.tabs.postMessage("logged out");
    location.reload();
  }

  /**
   * Try a token; return null, or a sentence on what is wrong with it.
   * @param {string} token
   */
  async check(token) {
    if (!/^[!-~]+$/.test(token)) return "A token has only letters from A to Z, digits and signs such as _, without spaces. Copy it again, from df_ on.";
    const response = await fetch(this.url("v1/session"), { headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
    if (response === null) return "Dropframe does not answer.";
    if (response.status === 401) return "Dropframe does not know that token.";
    if (!response.ok) return (await response.json().catch(() => ({}))).detail || `The answer was ${response.status}.`;
    this.token = token;
    sessionStorage.setItem(TOKEN, token);
    this.adopt(await response.json());
    return null;
  }

  /** @param {Session} session */
  adopt(session) {
    this.session = session;
    // Videos, pictures and downloads are fetched by the browser itself, which sends this in place of the token.
    if (session.cookie) document.cookie = `${session.cookie}; max-age=${session.cookie_seconds}; ${this.cookiePlace}`;
  }

  get cookiePlace() {
    return `path=${new URL("v1/", document.baseURI).pathname}; samesite=strict${location.protocol === "https:" ? "; secure" : ""}`;
  }
}

/**
 * The JSON of an answer.
 * @param {Response} response
 * @returns {Promise<any>}
 * @throws {ApiError} it was refused, or cut off
 */
export async function bodyOf(response) {
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, body, response.headers.get("Retry-After"));
  if (body === null) throw new ApiError(response.status, { detail: "The answer was cut off." });
  return body;
}
