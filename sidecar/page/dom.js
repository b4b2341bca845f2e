// Elements, and numbers as people read them.

/**
 * Make an element. Text from videos and names of files go in as text, never as markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [attributes] `on…` are listeners; null, undefined and false are left out
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

/**
 * Change a text only if it differs: what is selected in it stays, and it is not read out again.
 * @param {HTMLElement} place
 * @param {string} text
 */
export function put(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/**
 * A text with parts of it set apart.
 * @param {string} text
 * @param {[number, number][]} parts where they begin and end, in order
 * @param {"mark" | "code"} tag
 * @returns {(Node | string)[]}
 */
export function marked(text, parts, tag = "mark") {
  let at = 0;
  const nodes = parts.flatMap(([from, to]) => {
    const before = text.slice(at, from);
    at = to;
    return [before, make(tag, {}, text.slice(from, to))];
  });
  return [...nodes, text.slice(at)].filter((node) => node !== "");
}

const ICONS = {
  play: "M7 4.5v15l13-7.5z",
  pause: "M6 5h4.2v14H6zM13.8 5H18v14h-4.2z",
  back: "M17 5v14L7.5 12zM5 5h2v14H5z",
  forward: "M7 5v14l9.5-7zM17 5h2v14h-2z",
  full: "M4 9V4h5v2H6v3zM15 4h5v5h-2V6h-3zM4 15h2v3h3v2H4zM18 15h2v5h-5v-2h3z",
  sound: "M4 9v6h4l5 4V5L8 9zM15.5 8.5a5 5 0 0 1 0 7l1.4 1.4a7 7 0 0 0 0-9.8z",
  muted: "M4 9v6h4l5 4V5L8 9zM15 9.4 16.4 8l2.1 2.1L20.6 8 22 9.4 19.9 11.5 22 13.6 20.6 15l-2.1-2.1L16.4 15 15 13.6l2.1-2.1z",
  download: "M11 4h2v8.2l3-3 1.4 1.4L12 16l-5.4-5.4L8 9.200l3 3zM5 18h14v2H5z",
  link: "M10.6 13.4a3.500 3.500 0 0 0 5 0l3.2-3.200a3.500 3.500 0 0 0-5-5L12.600 6.400l1.400 1.400 1.200-1.200a1.500 1.500 0 0 1 2.200 2.200l-3.200 3.200a1.500 1.500 0 0 1-2.200 0zM13.400 10.600a3.500 3.500 0 0 0-5 0l-3.200 3.200a3.500 3.500 0 0 0 5 5l1.200-1.200-1.400-1.400-1.200 1.200a1.500 1.500 0 0 1-2.200-2.200l3.200-3.200a1.500 1.500 0 0 1 2.200 0z",
};

/**
 * @param {keyof typeof ICONS} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" })) drawing.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}

/**
 * A time in a video: `0:05.32`, `1:02:05.32`.
 * @param {number} seconds
 * @param {number} [digits] behind the point
 */
export function clock(seconds, digits = 2) {
  const scale = 10 ** digits;
  const all = Math.floor(Math.max(0, seconds) * scale + 1e-3);
  const whole = Math.floor(all / scale);
  const pad = (/** @type {number} */ n, /** @type {number} */ wide) => String(n).padStart(wide, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (h ? `${h}:${pad(m, 2)}` : String(m)) + `:${pad(s, 2)}` + (digits ? `.${pad(all % scale, digits)}` : "");
}

/**
 * How long something lasts: `0.5 s`, `8.8 s`, `2:05 min`, `1:02 h`.
 * @param {number} seconds
 */
export function lasting(seconds) {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  const pad = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${pad(Math.round(seconds) % 60)} min` : `${Math.floor(minutes / 60)}:${pad(minutes % 60)} h`;
}

/** @param {number} seconds */
export function about(seconds) {
  if (seconds < 90) return `about ${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number} n */
export function bytes(n) {
  if (n >= 1e9) return `${(n / 1e9).toFixed(1)} GB`;
  return n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.ceil(n / 1e3)} kB`;
}

/** @param {number} n */
export const number = (n) => n.toLocaleString("en");

/**
 * `1 frame`, `2 frames`, `1,200 frames`.
 * @param {number} n
 * @param {string} what
 */
export const count = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;

/** @param {string} text an ISO time */
export const moment = (text) => new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

/** @param {unknown} error */
export const sentence = (error) => (error instanceof Error ? error.message : String(error));
