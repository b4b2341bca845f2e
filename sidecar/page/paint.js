// What was found in one frame, drawn over its picture.

/** @import {Box, Found, View} from "./types.js" */
/** @import {Colours} from "./colours.js" */

const LABEL_PX = 17;
const TEXT_LABELS = 14; // of more lines than these none is written out: they would cover the picture

/**
 * Where the picture is in its canvas, and how many pixels of the canvas one of the document's has.
 * @typedef {{left: number, top: number, across: number, down: number, width: number, height: number}} Place
 */

/**
 * Where a picture stands that is fitted whole into the middle of a box.
 * @param {number} width of the box
 * @param {number} height
 * @param {{width: number, height: number}} shown size of the picture in the player
 * @param {{width?: number, height?: number} | null | undefined} size of the picture in the document
 * @returns {Place}
 */
export function placeOf(width, height, shown, size) {
  const scale = Math.min(width / shown.width, height / shown.height);
  const wide = shown.width * scale, high = shown.height * scale;
  return {
    left: (width - wide) / 2, top: (height - high) / 2, width: wide, height: high,
    across: wide / (size?.width || shown.width), down: high / (size?.height || shown.height),
  };
}

/**
 * @param {CanvasRenderingContext2D} pen in CSS pixels
 * @param {Found} found
 * @param {Place} place
 * @param {View} view
 * @param {Colours} colours
 */
export function paint(pen, found, place, view, colours) {
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const blocks = (found.text_blocks ?? []).filter((block) => block.confidence >= view.confidence);
  // A region of text that was read has its text where its own label would be.
  const read = new Set(blocks.map((block) => String(block.bbox)));
  if (view.text) {
    for (const block of blocks) textBox(pen, rectangle(block.bbox, place), blocks.length <= TEXT_LABELS ? block.text : "", matches(block.text, view.words));
  }
  if (!view.boxes) return;
  const shown = found.detections.filter((one) => isShown(one, view) && !(view.text && one.class === "text" && read.has(String(one.bbox))));
  for (const one of shown) outline(pen, rectangle(one.bbox, place), colours.of(one.class));
  for (const one of shown) label(pen, rectangle(one.bbox, place), place, `${one.class} ${Math.round(one.confidence * 100)} %`, colours.of(one.class));
}

/**
 * @param {{class: string, confidence: number}} found
 * @param {View} view
 */
export const isShown = (found, view) => found.confidence >= view.confidence && (!view.classes.size || view.classes.has(found.class));

/**
 * Whether a text has the words that are looked for.
 * @param {string} text
 * @param {string} words
 */
export const matches = (text, words) => words !== "" && text.toLocaleLowerCase().includes(words.toLocaleLowerCase());

/**
 * @param {Box} box
 * @param {Place} place
 * @returns {Box} x, y, width and height
 */
const rectangle = ([x1, y1, x2, y2], place) => [place.left + x1 * place.across, place.top + y1 * place.down, (x2 - x1) * place.across, (y2 - y1) * place.down];

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Box} box
 * @param {string} colour
 */
function outline(pen, box, colour) {
  pen.lineWidth = 4;
  pen.strokeStyle = "rgb(0 0 0 / 35%)"; // so that it stands out from a bright picture too
  pen.strokeRect(...box);
  pen.lineWidth = 2;
  pen.strokeStyle = colour;
  pen.strokeRect(...box);
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Box} box
 * @param {Place} place
 * @param {string} words
 * @param {string} colour
 */
function label(pen, [x, y], place, words, colour) {
  const wide = Math.ceil(pen.measureText(words).width) + 9;
  const left = Math.max(place.left, Math.min(x - 1, place.left + place.width - wide));
  const top = y - LABEL_PX >= place.top ? y - LABEL_PX : Math.max(place.top, y);
  pen.fillStyle = colour;
  pen.fillRect(left, top, wide, LABEL_PX);
  pen.fillStyle = "#08111a";
  pen.fillText(words, left + 4.5, top + LABEL_PX / 2 + 0.5);
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Box} box
 * @param {string} words
 * @param {boolean} found
 */
function textBox(pen, box, words, found) {
  pen.lineWidth = 3;
  pen.strokeStyle = "rgb(0 0 0 / 55%)";
  pen.strokeRect(...box);
  pen.lineWidth = found ? 2.5 : 1.2;
  pen.strokeStyle = found ? "#ffd54a" : "#ffffff";
  pen.strokeRect(...box);
  if (!words) return;
  const [x, y, , high] = box;
  const wide = Math.ceil(pen.measureText(words).width) + 8;
  pen.fillStyle = found ? "#ffd54a" : "rgb(8 17 26 / 78%)";
  pen.fillRect(x - 0.6, y + high + 1, wide, LABEL_PX - 1);
  pen.fillStyle = found ? "#08111a" : "#ffffff";
  pen.fillText(words, x + 3.4, y + high + LABEL_PX / 2 + 1);
}
