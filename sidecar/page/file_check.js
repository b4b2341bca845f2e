// What can be said of a file before it is sent. Dropframe looks at all files itself; this spares the way there.

import { bytes } from "./dom.js";

const HEAD_BYTES = 4096;

/** First bytes in hexadecimal and plain name of what is often found under a video's name; daemon/containers.py has them too. */
export const SIGNATURES = [
  ["ffd8ff", "a JPEG picture"],
  ["89504e47", "a PNG picture"],
  ["47494638", "a GIF picture"],
  ["25504446", "a PDF document"],
  ["504b0304", "a ZIP archive"],
  ["1f8b", "a gzip archive"],
  ["494433", "an MP3 file"],
  ["234558544d3355", "a playlist"],
  ["6666636f6e636174", "a playlist"],
  ["3c", "a text or web page"],
];

/**
 * Say why a file need not be sent, or null if it may be a video.
 * @param {File} file
 * @param {number | null} most bytes that Dropframe takes
 * @returns {Promise<string | null>}
 */
export async function whyNotSent(file, most) {
  if (!file.size) return "It is empty.";
  if (most !== null && file.size > most) return `It has ${bytes(file.size)}; Dropframe takes at most ${bytes(most)} (max_video_bytes).`;
  /** @type {Uint8Array} */
  let head;
  try {
    head = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  } catch {
    return "It cannot be read. If it is a folder, drop it rather than choosing it.";
  }
  const start = [...head.slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const [, name] = SIGNATURES.find(([signature]) => start.startsWith(signature)) ?? [];
  if (name) return `It is ${name}, not a video.`;
  return head.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127)) ? "It is text, not a video." : null;
}
