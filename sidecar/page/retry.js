// Calls that are made again until they are answered, and files that are waited for while they are made.

import { ApiError, bodyOf, NoAnswer } from "./api.js";
import { sentence } from "./dom.js";

/** @import {Api} from "./types.js" */
/** @typedef {(words: string) => void} Told what there is to say while it is waited; "" once it goes on */

const WAIT_S = 20; // in which Dropframe answers as soon as a file has been made
const PAUSES_S = [1, 2, 4, 8, 15, 30];
const PASSING = new Set([429, 502, 503, 504]);

/**
 * Whether the same call may be answered later. An answer that was cut off is an error of a good status.
 * @param {unknown} error
 */
const isPassing = (error) => error instanceof NoAnswer
  || (error instanceof ApiError && error.kind !== "export-failed" && (error.status < 300 || PASSING.has(error.status)));

/**
 * How long to wait before the next try.
 * @param {number} tries that have failed before this one
 * @param {unknown} [error]
 * @returns {number} seconds
 */
export const pauseOf = (tries, error) => (error instanceof ApiError && error.retryAfter) || PAUSES_S[Math.min(tries, PAUSES_S.length - 1)];

/**
 * Wait some seconds, or until the signal ends it.
 * @param {number} seconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export async function pause(seconds, signal) {
  const ended = new AbortController();
  await new Promise((wake) => {
    setTimeout(wake, 1000 * seconds);
    signal.addEventListener("abort", wake, { signal: ended.signal });
  });
  ended.abort();
  signal.throwIfAborted();
}

/**
 * Wait before a call is made again that has failed; where that would not help, throw its error.
 * @param {unknown} error
 * @param {number} tries that have failed before this one
 * @param {AbortSignal} signal
 * @param {Told} told
 */
export async function pauseAfter(error, tries, signal, told) {
  signal.throwIfAborted();
  if (!isPassing(error)) throw error;
  told(`${sentence(error)} It is tried again until it succeeds.`);
  await pause(pauseOf(tries, error), signal);
}

/**
 * Do something until it succeeds, or fails in a way that will not pass.
 * @template T
 * @param {() => Promise<T>} work
 * @param {AbortSignal} signal
 * @param {Told} told
 * @returns {Promise<T>}
 */
export async function persist(work, signal, told) {
  for (let tries = 0; ; tries += 1) {
    try {
      const result = await work();
      told("");
      return result;
    } catch (error) {
      await pauseAfter(error, tries, signal, told);
    }
  }
}

/**
 * Wait until a file has been made that is made because it is asked for; nothing but the file is ever returned.
 * @param {Api} api
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {Told} told
 * @param {"GET" | "HEAD"} [method]
 * @param {string} [making] what is said while it is made
 * @returns {Promise<Response>}
 */
export async function whenMade(api, path, signal, told, method = "GET", making = "being made …") {
  let wait = "";
  return persist(async () => {
    for (;;) {
      const response = await api.fetch(path + wait, { method, signal });
      if (response.status === 200) return response;
      if (response.status === 202) {
        told(making);
        if (wait) await pause(pauseOf(0), signal);
        wait = `${path.includes("?") ? "&" : "?"}wait=${WAIT_S}`;
      } else if (method === "GET") await bodyOf(response);
      else await whyNot(api, path, signal);
    }
  }, signal, told);
}

/**
 * Throw the error of a file whose HEAD was refused, as the answer to that has no sentence; none if it is there by now.
 * @param {Api} api
 * @param {string} path
 * @param {AbortSignal} signal
 */
async function whyNot(api, path, signal) {
  const response = await api.fetch(path, { signal });
  if (response.ok) await response.body?.cancel();
  else await bodyOf(response);
}
