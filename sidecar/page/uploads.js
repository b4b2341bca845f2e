// What is uploaded: a line each, some at a time; nothing here changes what somebody looks at.

import { ApiError, NoAnswer } from "./api.js";
import { bytes, sentence } from "./dom.js";
import { whyNotSent } from "./file_check.js";
import { pause } from "./retry.js";
import { begunBefore, cutOff, giveUp, PIECES_FROM_BYTES, sendInPieces } from "./send_pieces.js";
import { sendWhole } from "./send_whole.js";
import { Tabs } from "./other_tabs.js";
import { UploadLine } from "./upload_line.js";

/** @import {Api} from "./api.js" */
/** @import {Begun} from "./send_pieces.js" */
/** @import {SubmitOptions} from "./send_whole.js" */

const AT_ONCE = 2;
const PASSING = new Set([401, 409, 423, 429]);
const TRIES_S = [1, 2, 5, 10, 20, 30, 60, 60, 60];

/** @typedef {{file: File, options: SubmitOptions, line: UploadLine, stop: AbortController, key: string, url: string, sent: number, size: number}} Upload */

export class Uploads {
  /**
   * @param {HTMLElement} list
   * @param {HTMLButtonElement} clear takes away the lines of uploads that have ended
   * @param {Api} api
   * @param {{say: (sentence: string) => void, done: () => void, changed: (sending: {n: number, sent: number, size: number}) => void}} told
   */
  constructor(list, clear, api, told) {
    this.list = list;
    this.clear = clear;
    this.api = api;
    this.told = told;
    /** @type {Upload[]} */
    this.waiting = [];
    /** @type {Set<Upload>} */
    this.sending = new Set();
    /** @type {Map<UploadLine, Begun>} */
    this.begun = new Map();
    /** @type {number | null} */
    this.most = null;
    this.tabs = new Tabs(() => [...this.sending].map((upload) => upload.url).filter(Boolean));
    clear.addEventListener("click", () => {
      for (const item of this.ended) item.remove();
      this.tell();
      document.getElementById("choose")?.focus();
    });
    addEventListener("beforeunload", (event) => { if (this.sending.size || this.waiting.length) event.preventDefault(); });
  }

  /** Learn how large a video may be, and list what was cut off. */
  async begin() {
    const before = await begunBefore(); // later ones are of this tab
    const response = await this.api.fetch("v1/uploads", { method: "OPTIONS" }).catch(() => null);
    this.most = Number(response?.headers.get("Tus-Max-Size")) || null;
    const others = await this.tabs.sending();
    const isSent = (/** @type {string} */ url) => others.has(url) || [...this.sending].some((upload) => upload.url === url);
    for (const begun of await cutOff(this.api, before, isSent)) this.offer(begun);
  }

  /**
   * Send files.
   * @param {File[]} files
   * @param {SubmitOptions} options
   */
  add(files, options) {
    for (const file of files) this.enqueue(file, options);
  }

  /**
   * @param {File} file
   * @param {SubmitOptions} options
   */
  enqueue(file, options) {
    const { name } = file;
    const before = this.continued(file);
    const random = crypto.getRandomValues(new Uint32Array(4)).join("-");
    const line = new UploadLine(name, {
      Cancel: () => this.cancel(upload),
      "Try again": () => { this.wait(upload); this.next(); },
      Dismiss: () => this.dismiss(line),
    });
    /** @type {Upload} */
    const upload = { file, options, line, stop: new AbortController(), key: random, url: "", sent: 0, size: 0 };
    if (before) before.item.replaceWith(line.item);
    else this.list.append(line.item);
    this.wait(upload);
    this.next();
  }

  /** @param {Upload} upload */
  wait(upload) {
    upload.line.show("waiting", "waiting", "", ["Cancel"]);
    upload.stop = new AbortController();
    this.waiting.push(upload);
  }

  next() {
    while (this.sending.size < AT_ONCE && this.waiting.length) {
      const upload = /** @type {Upload} */ (this.waiting.shift());
      this.sending.add(upload);
      this.send(upload).finally(() => {
        this.sending.delete(upload);
        this.tell();
        this.next();
      });
    }
    this.tell();
  }

  /** @param {Upload} upload */
  async send(upload) {
    const { line, file } = upload;
    const { name } = file;
    try {
      const why = await whyNotSent(file, this.most);
      if (why) return this.refuse(upload, why);
      line.show("sending", "", "", ["Cancel"]);
      this.progress(upload, 0, file.size);
      const id = await this.transfer(upload);
      line.show("done", `uploaded, ${bytes(file.size)}`, "", ["Dismiss"], `#/job/${id}`);
      this.told.say(`${name} was uploaded.`);
      this.told.done();
    } catch (error) {
      if (upload.stop.signal.aborted) return;
      if (error instanceof ApiError && error.status < 500 && !PASSING.has(error.status)) return this.refuse(upload, error.message);
      line.show("broken", "stopped", sentence(error), ["Try again", "Dismiss"]);
      this.told.say(`The upload of ${name} has stopped: ${sentence(error)}`);
    }
  }

  /**
   * @param {Upload} upload
   * @returns {Promise<string>} the job's id
   */
  async transfer(upload) {
    const { file } = upload;
    const progress = (/** @type {number} */ sent, /** @type {number} */ size) => this.progress(upload, sent, size);
    if (file.size > PIECES_FROM_BYTES) {
      return sendInPieces(this.api, file, upload.options, upload.stop.signal, progress, {
        url: (url) => { upload.url = url; },
        broken: () => upload.line.show("later", "the connection broke; trying again", "", ["Cancel"]),
      });
    }
    for (let tries = 0; ; tries += 1) {
      try {
        return (await sendWhole(this.api, file, upload.options, upload.key, upload.stop.signal, progress)).job_id;
      } catch (error) {
        await this.pause(upload, error, tries);
      }
    }
  }

  /**
   * Wait until it makes sense to try again, or throw the error.
   * @param {Upload} upload
   * @param {unknown} error
   * @param {number} tries
   */
  async pause(upload, error, tries) {
    const { signal } = upload.stop;
    if (signal.aborted || tries >= TRIES_S.length) throw error;
    if (error instanceof ApiError && error.status === 401) return this.api.logIn();
    const busy = error instanceof ApiError && (error.status === 429 || error.status === 503 || error.kind === "key-in-use");
    if (!busy && !(error instanceof NoAnswer)) throw error;
    const seconds = (error instanceof ApiError && error.retryAfter) || TRIES_S[tries];
    upload.line.show("later", `${busy ? sentence(error) : "The connection broke."} Trying again in ${seconds} s.`, "", ["Cancel"]);
    await pause(seconds, signal);
    upload.line.show("sending", "", "", ["Cancel"]);
  }

  /**
   * @param {Upload} upload
   * @param {number} sent
   * @param {number} size
   */
  progress(upload, sent, size) {
    [upload.sent, upload.size] = [sent, size];
    if (upload.line.item.dataset.state === "later") upload.line.show("sending", "", "", ["Cancel"]);
    upload.line.progress(sent, size);
    this.tell();
  }

  /**
   * @param {Upload} upload
   * @param {string} why
   */
  refuse(upload, why) {
    upload.line.show("refused", "", why, ["Dismiss"]);
    this.told.say(`${upload.file.name} is not taken: ${why}`);
  }

  /** @param {Upload} upload */
  cancel(upload) {
    upload.stop.abort(new DOMException("Cancelled.", "AbortError"));
    this.waiting = this.waiting.filter((one) => one !== upload);
    this.dismiss(upload.line);
    this.told.say(`The upload of ${upload.file.name} was cancelled.`);
    this.tell();
  }

  /** @param {UploadLine} line */
  dismiss(line) {
    const next = line.item.nextElementSibling ?? line.item.previousElementSibling;
    const focused = line.item.contains(document.activeElement);
    line.item.remove();
    if (focused) /** @type {HTMLElement | null} */ (next?.querySelector("button, a") ?? document.getElementById("choose"))?.focus();
    this.tell();
  }

  /**
   * Show an upload that was cut off; it goes on once its file is chosen again.
   * @param {Begun} begun
   */
  offer(begun) {
    const line = new UploadLine(begun.name, {
      "Choose the file again": () => document.getElementById("files")?.click(),
      "Give up": () => this.drop(line, begun),
    });
    line.bar.value = begun.sent / begun.size;
    line.show("cut off", `${bytes(begun.sent)} of ${bytes(begun.size)} had come when it was cut off; it goes on from there.`, "", ["Choose the file again", "Give up"]);
    this.begun.set(line, begun);
    this.list.append(line.item);
  }

  /**
   * The line of an upload that goes on with this file.
   * @param {File} file
   */
  continued(file) {
    for (const [line, begun] of this.begun) {
      if (begun.name !== file.name || begun.size !== file.size) continue;
      this.begun.delete(line);
      return line;
    }
    return null;
  }

  /**
   * @param {UploadLine} line
   * @param {Begun} begun
   */
  async drop(line, begun) {
    try {
      await giveUp(this.api, begun);
      this.begun.delete(line);
      this.dismiss(line);
    } catch (error) {
      line.show("cut off", "", sentence(error), ["Choose the file again", "Give up"]);
    }
  }

  get ended() {
    return this.list.querySelectorAll(":is([data-state=done], [data-state=refused])");
  }

  tell() {
    this.clear.hidden = this.ended.length < 2;
    const all = [...this.sending, ...this.waiting];
    this.told.changed({
      n: all.length,
      sent: all.reduce((sum, { sent }) => sum + sent, 0),
      size: all.reduce((sum, { size }) => sum + size, 0),
    });
  }
}
