// What other tabs of the page upload: nobody may take an upload over from a tab that is at it.

const ANSWER_MS = 300;

export class Tabs {
  /** @param {() => string[]} sending addresses of the uploads of this tab */
  constructor(sending) {
    this.channel = new BroadcastChannel("dropframe-uploads");
    /** @type {Set<string>} */
    this.others = new Set();
    this.channel.addEventListener("message", ({ data }) => {
      if (data === "?") this.channel.postMessage(sending());
      else if (Array.isArray(data)) for (const url of data) this.others.add(url);
    });
  }

  /** Ask the others, and wait a moment for their answers. */
  async sending() {
    this.others.clear();
    this.channel.postMessage("?");
    await new Promise((wake) => setTimeout(wake, ANSWER_MS));
    return this.others;
  }
}
