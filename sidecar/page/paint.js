// What was found in one frame, drawn over its picture.

import { matches } from "./words.js";

/** @import {Box, Found, TextBlock, View} from "./types.js" */
/** @import {Colours} from "./colours.js" */

/** @param {Place} place */
const labelHeight = (place) => (place.width < 480 ? 14 : 17);
const SOUGHT = "#ffd54a";

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
 * @param {[number, number] | null} pointer under which a text is written out
 */
export function paint(pen, found, place, view, colours, pointer) {
  const size = place.width < 480 ? 10 : 12;
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const blocks = (found.text_blocks ?? []).filter((block) => block.confidence >= view.confidence);
  if (view.boxes) paintObjects(pen, found, blocks, place, view, colours);
  if (!view.text) return;
  const sought = blocks.filter((block) => matches(block.text, view.words));
  for (const block of blocks) textBox(pen, rectangle(block.bbox, place), sought.includes(block));
  const pointed = pointer && blocks.find((block) => holds(rectangle(block.bbox, place), pointer));
  for (const block of pointed && !sought.includes(pointed) ? [...sought, pointed] : sought) {
    const box = rectangle(block.bbox, place);
    const under = box[1] + box[3] + labelHeight(place) + 1;
    label(pen, [box[0], under <= place.top + place.height ? under : box[1], 0, 0], place, block.text, sought.includes(block) ? SOUGHT : "#ffffff");
  }
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Found} found
 * @param {TextBlock[]} blocks that are drawn
 * @param {Place} place
 * @param {View} view
 * @param {Colours} colours
 */
function paintObjects(pen, found, blocks, place, view, colours) {
  // A region of text that was read is drawn as a text.
  const read = new Set(view.text ? blocks.map((block) => String(block.bbox)) : []);
  const shown = found.detections.filter((one) => isShown(one, view) && !(one.class === "text" && read.has(String(one.bbox))));
  for (const one of shown) outline(pen, rectangle(one.bbox, place), colours.of(one.class));
  for (const one of shown) label(pen, rectangle(one.bbox, place), place, `${one.class} ${Math.round(one.confidence * 100)} %`, colours.of(one.class));
}

/**
 * @param {Box} box
 * @param {[number, number]} point
 */
const holds = ([x, y, wide, high], [at, down]) => at >= x && at <= x + wide && down >= y && down <= y + high;

/**
 * @param {{class: string, confidence: number}} found
 * @param {View} view
 */
export const isShown = (found, view) => found.confidence >= view.confidence && (!view.classes.size || view.classes.has(found.class));

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
  const wide = Math.ceil(pen.measureText(words).width) + 9, high = labelHeight(place);
  const left = Math.max(place.left, Math.min(x - 1, place.left + place.width - wide));
  const top = y - high >= place.top ? y - high : Math.max(place.top, y);
  pen.fillStyle = colour;
  pen.fillRect(left, top, wide, high);
  pen.fillStyle = "#08111a";
  pen.fillText(words, left + 4.5, top + high / 2 + 0.5);
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Box} box
 * @param {boolean} sought
 */
function textBox(pen, box, sought) {
  pen.lineWidth = 3;
  pen.strokeStyle = "rgb(0 0 0 / 55%)";
  pen.strokeRect(...box);
  pen.lineWidth = sought ? 2.5 : 1.2;
  pen.strokeStyle = sought ? SOUGHT : "#ffffff";
  pen.strokeRect(...box);
}
