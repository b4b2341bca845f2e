// A button that takes a file away once it is there, and says until then what it waits for.

import { make, sentence } from "./dom.js";
import { whenMade } from "./retry.js";

/** @import {Api} from "./types.js" */

/**
 * @param {Api} api
 * @param {AbortSignal} signal ends the waiting
 * @param {() => {path: string, name?: string}} wanted the file, and what it is to be called if not as it comes
 * @param {HTMLElement} note where it says how far it is
 * @param {Record<string, string>} attributes of the button
 * @param {...(Node | string)} inside
 */
export function downloadButton(api, signal, wanted, note, attributes, ...inside) {
  /** @param {string} words */
  const say = (words) => { note.textContent = words; };
  const button = make("button", { ...attributes, onclick: async () => {
    if (button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    note.classList.remove("notice");
    try {
      const { path, name = "" } = wanted();
      // A browser would save whatever is answered; so it is asked only for what is there.
      await whenMade(api, path, signal, say, "HEAD");
      await api.renew(); // the pass may be of a Dropframe that has been started again since
      make("a", { href: api.url(path), download: name }).click();
      say("ready");
    } catch (error) {
      if (signal.aborted) return;
      note.classList.add("notice");
      say(sentence(error));
    }
    button.removeAttribute("aria-disabled");
  } }, ...inside);
  return button;
}
