// The keys, and the list of them that ? shows.

import { make } from "./dom.js";

/**
 * Each key does what a button does as well.
 * @type {{keys: string[], name: string, does: string, shown: string[]}[]}
 */
export const KEYS = [
  { keys: [" ", "k", "K"], name: "play", does: "Play or pause", shown: ["Space", "K"] },
  { keys: [",", "."], name: "step", does: "One analysed frame back or on", shown: [",", "."] },
  { keys: ["ArrowLeft", "ArrowRight"], name: "second", does: "One second back or on; with Shift ten", shown: ["←", "→"] },
  { keys: ["Home", "End"], name: "ends", does: "To the beginning or the end", shown: ["Home", "End"] },
  { keys: ["p", "n", "[", "]"], name: "text", does: "To the text before or after", shown: ["P", "N", "[", "]"] },
  { keys: ["P", "N", "{", "}"], name: "object", does: "To the object before or after, of the classes that are shown; with Shift", shown: ["⇧ P", "⇧ N", "{", "}"] },
  { keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], name: "class", does: "Show only this class, or all again", shown: ["1", "…", "9"] },
  { keys: ["b", "B"], name: "boxes", does: "Boxes of objects", shown: ["B"] },
  { keys: ["t", "T"], name: "texts", does: "Boxes of text", shown: ["T"] },
  { keys: ["-", "+", "="], name: "confidence", does: "Least confidence lower or higher", shown: ["-", "+"] },
  { keys: ["<", ">"], name: "speed", does: "Slower or faster", shown: ["<", ">"] },
  { keys: ["z", "Z"], name: "whole", does: "The whole video in lanes and plots", shown: ["Z"] },
  { keys: ["m", "M"], name: "mute", does: "Sound", shown: ["M"] },
  { keys: ["Enter"], name: "full", does: "Full screen", shown: ["Enter"] },
  { keys: ["f", "F"], name: "find", does: "Find in this video", shown: ["F"] },
  { keys: ["/"], name: "search", does: "Search all videos", shown: ["/"] },
  { keys: ["c", "C"], name: "link", does: "Copy a link to this picture", shown: ["C"] },
  { keys: ["d", "D"], name: "download", does: "Download", shown: ["D"] },
  { keys: ["?"], name: "help", does: "These keys", shown: ["?"] },
];

const NAMES = new Map(KEYS.flatMap((one) => one.keys.map((key) => [key, one.name])));
const TYPING = "input:not([type=checkbox]):not([type=button]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]";
const PRESSED = "button, a[href], summary, [role=tab], [role=option], input[type=checkbox], input[type=radio]";
const MOVED = "[role=listbox], [role=tab], [role=menuitem], input[type=range], input[type=radio], select";
const BRACKETS = new Set(["[", "]", "{", "}"]);
const MOVING = new Set(["ArrowLeft", "ArrowRight", "Home", "End"]);

/** @typedef {Record<string, (key: string, event: KeyboardEvent) => void>} Actions by name */

class Keys {
  constructor() {
    /** @type {Actions} */
    this.actions = {};
    /** @type {HTMLDialogElement | null} */
    this.dialog = null;
    document.addEventListener("keydown", (event) => this.pressed(event));
  }

  /**
   * What the keys do from now on, beside ? and /.
   * @param {Actions} actions
   */
  bind(actions) {
    this.actions = actions;
  }

  /** @param {Actions} actions that were bound */
  release(actions) {
    if (this.actions === actions) this.actions = {};
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const key = keyOf(event), name = NAMES.get(key);
    if (!name || event.defaultPrevented || isTaken(event)) return;
    const action = this.actions[name] ?? this.own(name);
    if (!action) return;
    event.preventDefault();
    action(key, event);
  }

  /**
   * @param {string} name
   * @returns {(() => void) | null}
   */
  own(name) {
    if (name === "help") return () => this.help();
    return name === "search" ? () => { document.dispatchEvent(new CustomEvent("search")); } : null;
  }

  /** Show the keys. */
  help() {
    this.dialog ??= helpDialog();
    if (!this.dialog.isConnected) document.body.append(this.dialog);
    this.dialog.showModal();
  }
}

/**
 * A letter is a capital one with Shift, whatever Caps Lock says.
 * @param {KeyboardEvent} event
 */
function keyOf({ key, shiftKey }) {
  if (!/^[a-z]$/i.test(key)) return key;
  return shiftKey ? key.toUpperCase() : key.toLowerCase();
}

/**
 * Whether a key means something else where it was pressed.
 * @param {KeyboardEvent} event
 */
function isTaken(event) {
  // Many keyboards have brackets behind AltGr, which reads as Ctrl and Alt, or behind Option.
  const isBracket = event.altKey && BRACKETS.has(event.key);
  if (event.metaKey || (!isBracket && (event.ctrlKey || event.altKey))) return true;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest(TYPING) || document.querySelector("dialog[open]")) return true;
  if (event.key === "Enter" || event.key === " ") return target.closest(PRESSED) !== null;
  return MOVING.has(event.key) && target.closest(MOVED) !== null;
}

function helpDialog() {
  const rows = KEYS.map(({ shown, does }) => make("tr", {}, make("th", { scope: "row" }, ...shown.map((key) => (key === "…" ? "…" : make("kbd", {}, key)))), make("td", {}, does)));
  const close = make("button", { type: "submit" }, "Close");
  return make("dialog", { class: "keys", "aria-labelledby": "keys-title" },
    make("h2", { id: "keys-title" }, "Keys"),
    make("table", {}, make("tbody", {}, ...rows)),
    make("form", { method: "dialog" }, close));
}

export const keys = new Keys();
