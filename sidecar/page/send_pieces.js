// A large file in pieces (tus), which goes on where it was after a cut, and after the page was loaded again.

import "./vendor/tus.min.js";
import { ApiError, NoAnswer } from "./api.js";

/** @import {Api} from "./api.js" */
/** @import {SubmitOptions} from "./send_whole.js" */

const tus = /** @type {typeof import("./vendor/tus.min.js")} */ (/** @type {any} */ (globalThis).tus);

export const PIECES_FROM_BYTES = 64 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024 * 1024;
const AGAIN_MS = [1000, 2000, 5000, 10_000, 20_000, 30_000, 60_000, 60_000, 60_000, 60_000];
const LATER = new Set([409, 423, 429, 500, 502, 503, 504]);
const VERSION = { "Tus-Resumable": "1.0.0" };

/** @typedef {{key: string, url: string, name: string, size: number, sent: number}} Begun an upload that was cut off */

/**
 * Send a file in pieces; the answer is the id of its job.
 * @param {Api} api
 * @param {File} file
 * @param {SubmitOptions} options
 * @param {AbortSignal} signal
 * @param {(sent: number, size: number) => void} progress in bytes
 * @param {{url: (url: string) => void, broken: () => void}} told of the address of the upload, and of each break
 * @returns {Promise<string>}
 */
export async function sendInPieces(api, file, options, signal, progress, told) {
  return new Promise((good, bad) => {
    const upload = new tus.Upload(file, {
      endpoint: api.url("v1/uploads"),
      metadata: { filename: file.name, ...options },
      chunkSize: PIECE_BYTES,
      retryDelays: AGAIN_MS,
      removeFingerprintOnSuccess: true,
      onBeforeRequest: (request) => { for (const [name, value] of Object.entries(api.headers)) request.setHeader(name, value); },
      onUploadUrlAvailable: () => told.url(/** @type {string} */ (upload.url)),
      onProgress: progress,
      onShouldRetry: (error) => {
        const status = error.originalResponse?.getStatus() ?? 0;
        const again = status === 0 || LATER.has(status);
        if (again) told.broken();
        return again;
      },
      onSuccess: () => good(idOf(/** @type {string} */ (upload.url))),
      onError: (error) => bad(problemOf(error)),
    });
    signal.addEventListener("abort", () => {
      // What has come is given up, too; where that cannot be said now, Dropframe removes it after some hours.
      upload.abort(true).catch(() => {});
      bad(signal.reason);
    });
    upload.findPreviousUploads().then(([before]) => {
      if (before) {
        upload.resumeFromPreviousUpload(before);
        told.url(before.uploadUrl ?? "");
      }
      if (!signal.aborted) upload.start();
    }, bad);
  });
}

/** The uploads that this browser has begun and not ended. */
export const begunBefore = () => tus.defaultOptions.urlStorage.findAllUploads().catch(() => []);

/**
 * Those of them that were cut off, such as by loading the page again.
 * @param {Api} api
 * @param {Awaited<ReturnType<typeof begunBefore>>} begun
 * @param {(url: string) => boolean} isSent whether this tab or another sends one; to ask for it would end that
 * @returns {Promise<Begun[]>}
 */
export async function cutOff(api, begun, isSent) {
  const found = [];
  for (const { uploadUrl, size, metadata, urlStorageKey } of begun) {
    if (!uploadUrl?.startsWith(api.url("v1/uploads/")) || isSent(uploadUrl)) continue;
    const response = await api.fetch(uploadUrl, { method: "HEAD", headers: VERSION }).catch(() => null);
    if (!response) continue;
    const sent = Number(response.headers.get("Upload-Offset"));
    if (response.ok && size && sent < size) found.push({ key: urlStorageKey, url: uploadUrl, name: metadata.filename ?? "", size, sent });
    else if (response.ok || response.status === 404 || response.status === 410) await forget(urlStorageKey);
  }
  return found;
}

/**
 * Give up an upload that was cut off.
 * @param {Api} api
 * @param {Begun} begun
 */
export async function giveUp(api, begun) {
  await api.fetch(begun.url, { method: "DELETE", headers: VERSION });
  await forget(begun.key);
}

/** @param {string} key */
const forget = (key) => tus.defaultOptions.urlStorage.removeUpload(key).catch(() => {});

/** @param {string} url */
const idOf = (url) => url.split("/").pop() ?? "";

/** @param {any} error */
function problemOf(error) {
  const answer = error?.originalResponse;
  if (!answer) return error?.originalRequest ? new NoAnswer() : error;
  let body = null;
  try { body = JSON.parse(answer.getBody()); } catch { /* a proxy's page */ }
  return new ApiError(answer.getStatus(), body, answer.getHeader("Retry-After") ?? null);
}
