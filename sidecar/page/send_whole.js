// A file in one request, with its progress.

import { ApiError, NoAnswer } from "./api.js";

/** @import {Api} from "./api.js" */
/** @import {Job} from "./types.js" */

/** @typedef {Record<string, string>} SubmitOptions */

/**
 * Send a file; the answer is its job.
 * @param {Api} api
 * @param {File} file
 * @param {SubmitOptions} options
 * @param {string} key sent again with the same key, a file becomes the same job
 * @param {AbortSignal} signal
 * @param {(sent: number, size: number) => void} progress in bytes
 * @returns {Promise<Job>}
 */
export function sendWhole(api, file, options, key, signal, progress) {
  return new Promise((good, bad) => {
    const form = new FormData();
    for (const [option, value] of Object.entries(options)) form.append(option, value);
    form.append("file", file);
    const request = new XMLHttpRequest(); // fetch tells no progress of what it sends
    request.open("POST", api.url("v1/video/submit"));
    for (const [name, value] of Object.entries({ ...api.headers, "Idempotency-Key": key })) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => progress(event.loaded, event.total);
    request.onerror = () => bad(new NoAnswer());
    request.onabort = () => bad(signal.reason);
    request.onload = () => {
      /** @type {any} */
      let body = null;
      try { body = JSON.parse(request.responseText); } catch { /* a proxy's page */ }
      if (request.status === 201 && body) good(body);
      else bad(new ApiError(request.status, body, request.getResponseHeader("Retry-After")));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
