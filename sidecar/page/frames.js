// The frames of a result by time. A result may have millions, so blocks around the time looked at are fetched.

/** @import {About, Api, FrameRecord, Part} from "./types.js" */

const FRAMES_AT_ONCE = 250;
const MOST_BLOCKS = 8;
const AGAIN_MS = 2000; // after what follows could not be fetched
const EDGE_S = 0.05; // how near to the next frame a seek may lead
/** A player's times and a document's are rounded differently. */
export const ROUNDING_S = 0.002;

/**
 * Frames that follow each other.
 * @typedef {object} Block
 * @property {FrameRecord[]} frames at least one
 * @property {number} first index of the first
 * @property {number | null} next index of the frame behind the last; null: it is the video's last
 */

/** @param {FrameRecord} frame */
export const timeOf = (frame) => /** @type {number} */ (frame.timestamp_s);

export class Frames {
  /**
   * @param {Api} api
   * @param {string} jobId
   */
  constructor(api, jobId) {
    this.api = api;
    this.path = `v1/video/results/${jobId}`;
    /** @type {Block[]} the last used ones are the last */
    this.blocks = [];
    /** @type {About | null} the document without its frames, once a block has come */
    this.about = null;
    /** @type {Map<string, Promise<Part>>} */
    this.coming = new Map();
    /** @type {Promise<unknown> | null} what is being fetched ahead of a player */
    this.ahead = null;
    /** @type {[number, number]} a stretch of time of which nothing is known, as was found when it was asked for */
    this.gap = [0, 0];
  }

  /** How many of the video's frames one analysed frame stands for. */
  get stride() {
    return this.about?.options?.frame_stride ?? 1;
  }

  /** How long an analysed frame lasts, going by the container. */
  get stepSeconds() {
    return this.stride / (this.about?.video?.fps || 25);
  }

  /**
   * The analysed frame that is on the screen at a time; null where none is known.
   * @param {number} time
   * @returns {FrameRecord | null}
   */
  at(time) {
    const found = this.find(time);
    if (!found) return null;
    const frame = found.block.frames[found.place];
    return this.ends(found.block, found.place, time) ? null : frame;
  }

  /**
   * Have the frame of a time, and what follows it, fetched.
   * @param {number} time
   * @returns {Promise<void>}
   */
  async want(time) {
    const found = this.find(time);
    if (found) this.touch(found.block);
    if (!this.isLacking(time)) return;
    await this.load(time);
    if (this.find(time)) return;
    const next = this.firstKnown(time);
    this.gap = [time, next ? timeOf(next) - ROUNDING_S : Infinity];
  }

  /** Whether it has still to be asked for what is on the screen at a time. @param {number} time */
  isLacking(time) {
    return !this.find(time) && !(this.gap[0] <= time && time < this.gap[1]);
  }

  /**
   * Have what follows fetched soon enough for a player.
   * @param {number} time
   * @param {number} ahead seconds
   */
  prefetch(time, ahead) {
    if (this.ahead) return; // one at a time
    const block = this.find(time)?.block;
    if (!block || block.next === null || timeOf(block.frames[block.frames.length - 1]) - time >= ahead) return;
    const later = () => new Promise((wake) => setTimeout(wake, AGAIN_MS));
    this.ahead = this.follow(block).catch(later).finally(() => { this.ahead = null; });
  }

  /**
   * A time at which the same frame is shown, away from its edges, so that rounding leads to no other: the middle of a
   * short one.
   * @param {number} time
   * @returns {Promise<number>}
   */
  async inside(time) {
    await this.want(time);
    const found = this.find(time);
    if (!found) return time;
    const start = timeOf(found.block.frames[found.place]);
    // Pictures that were not analysed lie between analysed ones; the one at this time is looked for.
    if (this.stride > 1) return time + ROUNDING_S / 2;
    const next = await this.beside(found, 1);
    const end = next ? timeOf(next) : start + this.stepSeconds;
    const edge = Math.min(EDGE_S, (end - start) / 2);
    return Math.max(start + edge, Math.min(time, end - edge));
  }

  /**
   * The analysed frame so many before or behind that of a time; null at the ends.
   * @param {number} time
   * @param {1 | -1} way
   * @returns {Promise<FrameRecord | null>}
   */
  async step(time, way) {
    await this.want(time);
    const found = this.find(time);
    if (!found) return way > 0 ? this.firstKnown(time) : null;
    // Between two analysed pictures a step back leads to the one whose boxes are shown.
    const frame = found.block.frames[found.place];
    if (way < 0 && time - timeOf(frame) > ROUNDING_S * 2 && this.stride > 1) return frame;
    return this.beside(found, way);
  }

  /**
   * @param {number} time
   * @returns {FrameRecord | null}
   */
  firstKnown(time) {
    const later = this.blocks.flatMap((block) => block.frames).filter((frame) => timeOf(frame) >= time);
    return later.reduce((/** @type {FrameRecord | null} */ a, b) => (a && timeOf(a) <= timeOf(b) ? a : b), null);
  }

  /**
   * @param {{block: Block, place: number}} found
   * @param {1 | -1} way
   */
  async beside({ block, place }, way) {
    const there = block.frames[place + way];
    if (there) return there;
    const other = way > 0 ? await this.follow(block) : await this.straddle(block);
    if (!other) return null;
    return (way > 0 ? other.frames[0] : other.frames.findLast((frame) => frame.frame_index < block.first)) ?? null;
  }

  /**
   * The block that holds what is on the screen at a time, and its place therein.
   * @param {number} time
   */
  find(time) {
    const until = time + ROUNDING_S;
    for (let n = this.blocks.length - 1; n >= 0; n -= 1) {
      const { frames, next } = this.blocks[n];
      const last = timeOf(frames[frames.length - 1]);
      if (timeOf(frames[0]) > until) continue;
      if (next !== null && last < time - ROUNDING_S) continue; // the next one may have begun
      return { block: this.blocks[n], place: lastAt(frames, until) };
    }
    return null;
  }

  /**
   * Whether nothing is known any more: analysis ended before the video did.
   * @param {Block} block
   * @param {number} place
   * @param {number} time
   */
  ends(block, place, time) {
    if (block.next !== null || place < block.frames.length - 1) return false;
    const most = this.about?.options?.max_frames;
    const all = this.about?.summary?.frame_count ?? 0;
    return Boolean(most) && all >= Number(most) && time > timeOf(block.frames[place]) + this.stepSeconds - ROUNDING_S;
  }

  /** @param {number} time */
  async load(time) {
    const block = this.keep(await this.fetch(`from_s=${Math.max(0, time).toFixed(6)}`));
    if (block && timeOf(block.frames[0]) <= time + ROUNDING_S) return;
    if (block) await this.straddle(block);
    else await this.loadLast();
  }

  async loadLast() {
    const all = this.about?.summary?.frame_count ?? 0;
    if (all) this.keep(await this.fetch(`from_frame=${Math.max(0, (all - FRAMES_AT_ONCE) * this.stride)}`));
  }

  /** @param {Block} block */
  async follow(block) {
    if (block.next === null) return null;
    const known = this.blocks.find((other) => other.first === block.next);
    return known ?? this.keep(await this.fetch(`from_frame=${block.next}`));
  }

  /**
   * Fetch what lies on both sides of a block's beginning.
   * @param {Block} block
   */
  async straddle(block) {
    if (block.first === 0) return null;
    return this.keep(await this.fetch(`from_frame=${Math.max(0, block.first - (FRAMES_AT_ONCE / 2) * this.stride)}`));
  }

  /**
   * @param {string} query
   * @returns {Promise<Part>}
   */
  fetch(query) {
    let part = this.coming.get(query);
    if (!part) {
      part = /** @type {Promise<Part>} */ (this.api.get(`${this.path}?${query}&limit=${FRAMES_AT_ONCE}`)).finally(() => this.coming.delete(query));
      this.coming.set(query, part);
    }
    return part;
  }

  /**
   * @param {Part} part
   * @returns {Block | null}
   */
  keep(part) {
    const { results, next_frame: next, ...about } = part;
    this.about = about;
    if (!results.length || results[0].timestamp_s === undefined) return null;
    const block = { frames: results, first: results[0].frame_index, next };
    this.blocks = this.blocks.filter((other) => other.first !== block.first);
    this.blocks.push(block);
    if (this.blocks.length > MOST_BLOCKS) this.blocks.shift();
    return block;
  }

  /** @param {Block} block */
  touch(block) {
    this.blocks = this.blocks.filter((other) => other !== block);
    this.blocks.push(block);
  }
}

/**
 * The place of the last frame that begins by a time.
 * @param {FrameRecord[]} frames
 * @param {number} until
 */
function lastAt(frames, until) {
  let low = 0, high = frames.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (timeOf(frames[middle]) <= until) low = middle;
    else high = middle;
  }
  return low;
}
