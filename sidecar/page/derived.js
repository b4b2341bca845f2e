// Texts, tracks and density: waited for while they are made, and read without holding the page up.

/** @import {Api, Density, TextSpan, Track} from "./types.js" */

const WAIT_S = 20;
const PAUSE_MS = 1000;
const WORK_MS = 25; // after so much of it others get their turn

/** Nothing can be derived; its message says why. */
export class NothingDerived extends Error {}

/**
 * Wait until a derived file has been made.
 * @param {Api} api
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {() => void} waits is told when it is not there yet
 * @returns {Promise<Response>}
 */
async function made(api, path, signal, waits) {
  for (let wait = 0; ; wait = WAIT_S) {
    const response = await api.fetch(wait ? `${path}?wait=${wait}` : path, { signal });
    if (response.status === 200) return response;
    const body = await response.json().catch(() => ({}));
    if (response.status === 202) waits();
    else if (response.status !== 429 && response.status !== 503) throw new NothingDerived(body.detail || response.statusText);
    if (wait || response.status !== 202) await new Promise((wake) => setTimeout(wake, PAUSE_MS));
    signal.throwIfAborted();
  }
}

/**
 * @param {Api} api
 * @param {string} jobId
 * @param {AbortSignal} signal
 * @param {() => void} waits
 * @returns {Promise<Density>}
 */
export async function loadDensity(api, jobId, signal, waits) {
  return (await (await made(api, `v1/jobs/${jobId}/density`, signal, waits)).json()).density;
}

/**
 * The texts or tracks, some at a time.
 * @template {"texts" | "tracks"} K
 * @param {Api} api
 * @param {string} jobId
 * @param {K} kind
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<K extends "texts" ? TextSpan[] : Track[]>}
 */
export async function* load(api, jobId, kind, signal) {
  const response = await made(api, `v1/jobs/${jobId}/${kind}`, signal, () => {});
  yield* /** @type {any} */ (entries(response, kind));
}

/**
 * The entries of a list in a document that has one a line; what follows the list is not fetched.
 * @param {Response} response
 * @param {string} member the list's name
 */
async function* entries(response, member) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let rest = "", inside = false, began = performance.now();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    const found = [];
    for (const line of lines) {
      if (!inside) inside = line.startsWith(`"${member}": [`);
      else if (line.startsWith("]")) {
        yield found;
        return void reader.cancel();
      } else found.push(JSON.parse(line.endsWith(",") ? line.slice(0, -1) : line));
    }
    if (found.length) yield found;
    if (performance.now() - began > WORK_MS) {
      await new Promise((wake) => setTimeout(wake));
      began = performance.now();
    }
  }
}
