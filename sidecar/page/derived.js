// Texts, tracks and density: waited for while they are made, and read without holding the page up.

import { bodyOf, NoAnswer } from "./api.js";
import { pauseAfter, persist, whenMade } from "./retry.js";

/** @import {Api, Density, TextSpan, Track} from "./types.js" */
/** @import {Told} from "./retry.js" */

const MAKING = "Texts, tracks and plots are being made from the result …";
const WORK_MS = 25; // after so much of it others get their turn

/**
 * @param {Api} api
 * @param {string} jobId
 * @param {AbortSignal} signal
 * @param {Told} told
 * @returns {Promise<Density>}
 */
export async function loadDensity(api, jobId, signal, told) {
  const path = `v1/jobs/${jobId}/density`;
  return persist(async () => (await bodyOf(await whenMade(api, path, signal, told, "GET", MAKING))).density, signal, told);
}

/**
 * The texts or tracks, some at a time, each once however often the connection breaks.
 * @template {"texts" | "tracks"} K
 * @param {Api} api
 * @param {string} jobId
 * @param {K} kind
 * @param {AbortSignal} signal
 * @param {Told} told
 * @returns {AsyncGenerator<K extends "texts" ? TextSpan[] : Track[]>}
 */
export async function* load(api, jobId, kind, signal, told) {
  for (let had = 0, tries = 0; ; tries += 1) {
    try {
      const response = await whenMade(api, `v1/jobs/${jobId}/${kind}`, signal, told, "GET", MAKING);
      let place = 0;
      for await (const some of entries(response, kind)) {
        const more = some.slice(Math.max(0, had - place));
        place += some.length;
        if (!more.length) continue;
        had = place;
        tries = 0;
        yield /** @type {any} */ (more);
      }
      return;
    } catch (error) {
      await pauseAfter(error, tries, signal, told);
    }
  }
}

/**
 * The entries of a list in a document that has one a line; what follows the list is not fetched.
 * @param {Response} response
 * @param {string} member the list's name
 * @throws {NoAnswer} it was cut off
 */
async function* entries(response, member) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let rest = "", inside = false, began = performance.now();
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ value: "", done: true }));
    if (done) throw new NoAnswer();
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
