// A question before something that cannot be undone.

import { make } from "./dom.js";

/**
 * Ask, and tell whether the answer was yes. Escape means no.
 * @param {string} title
 * @param {(Node | string)[]} words
 * @param {string} yes what the button says that does it
 * @returns {Promise<boolean>}
 */
export function confirmed(title, words, yes) {
  const no = make("button", { type: "submit", value: "" }, "Keep");
  const go = make("button", { type: "submit", value: "yes", class: "danger" }, yes);
  const dialog = make("dialog", { class: "question", "aria-labelledby": "question-title" },
    make("form", { method: "dialog" },
      make("h2", { id: "question-title" }, title), ...words, make("div", { class: "row end" }, no, go)));
  const before = document.activeElement;
  document.body.append(dialog);
  dialog.showModal();
  no.focus();
  return new Promise((answer) => dialog.addEventListener("close", () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
    answer(dialog.returnValue === "yes");
  }));
}
