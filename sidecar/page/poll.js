// Work that is done again and again while somebody looks at the page.

export class Poll {
  /**
   * @param {number} pause ms from the end of one time to the beginning of the next
   * @param {() => Promise<void>} work must not throw
   */
  constructor(pause, work) {
    this.pause = pause;
    this.work = work;
    this.timer = 0;
    this.working = false;
    this.wanted = false;
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.now(); });
  }

  /** Do it now, and from now on; if it is under way, once more after that. */
  async now() {
    clearTimeout(this.timer);
    if (this.working) {
      this.wanted = true;
      return;
    }
    this.working = true;
    do {
      this.wanted = false;
      await this.work();
    } while (this.wanted);
    this.working = false;
    if (!document.hidden) this.timer = window.setTimeout(() => this.now(), this.pause);
  }
}
