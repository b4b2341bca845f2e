// What is said to those who do not see the page, a sentence at a time.

const AGAIN_MS = 100;

export class Announcer {
  /** @param {HTMLElement} place a live region, which is never rebuilt */
  constructor(place) {
    this.place = place;
    this.timer = 0;
    /** @type {string[]} */
    this.sentences = [];
  }

  /** @param {string} sentence */
  say(sentence) {
    this.sentences.push(sentence);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      this.place.textContent = this.sentences.splice(0).join(" ");
    }, AGAIN_MS);
  }
}
