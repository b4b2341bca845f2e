// A colour for each class, the same in boxes, lanes and plots.

const COLOURS = ["#4cc38a", "#5b9bff", "#f0b254", "#ff7b80", "#c792ea", "#2bd4d9", "#d7c62a", "#ff9e64", "#9bd15a", "#ff8fc7", "#8fb4d9", "#cfa77f"];
export const TEXT_COLOUR = "#8793a3";

export class Colours {
  /** @param {string[]} names of classes, the most frequent first */
  constructor(names) {
    this.places = new Map(names.map((name, place) => [name, place]));
  }

  /** @param {string} name */
  of(name) {
    if (!this.places.has(name)) this.places.set(name, this.places.size);
    return COLOURS[/** @type {number} */ (this.places.get(name)) % COLOURS.length];
  }
}
