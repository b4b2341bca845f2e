// How videos get to Dropframe from here: dropped anywhere on the page, or chosen.

import { droppedFiles, filesOfFolder, leftOut } from "./chosen_files.js";
import { sentence } from "./dom.js";
import { ExportChoice } from "./export_choice.js";

/** @import {Api} from "./api.js" */
/** @import {Chosen} from "./chosen_files.js" */
/** @import {Uploads} from "./uploads.js" */

/**
 * @typedef {object} FormElements
 * @property {HTMLElement} drop lit while something is held over the page
 * @property {HTMLButtonElement} choose
 * @property {HTMLButtonElement} chooseFolder
 * @property {HTMLInputElement} files
 * @property {HTMLInputElement} folder
 * @property {HTMLSelectElement} pipeline
 * @property {HTMLInputElement} stride
 * @property {HTMLDetailsElement} exports
 * @property {HTMLElement} leftOut
 */

export class UploadForm {
  /**
   * @param {FormElements} at
   * @param {Api} api
   * @param {Uploads} uploads
   */
  constructor(at, api, uploads) {
    this.at = at;
    this.api = api;
    this.uploads = uploads;
    this.exports = new ExportChoice(at.exports, api);
    at.choose.addEventListener("click", () => at.files.click());
    at.chooseFolder.addEventListener("click", () => at.folder.click());
    at.drop.addEventListener("click", (event) => { if (event.target === at.drop) at.files.click(); });
    at.files.addEventListener("change", () => this.take({ files: [...(at.files.files ?? [])], left: 0, folder: false }, at.files));
    at.folder.addEventListener("change", () => this.take(filesOfFolder([...(at.folder.files ?? [])], this.endings), at.folder));
    this.listen();
  }

  listen() {
    for (const name of ["dragover", "dragenter"]) {
      document.addEventListener(name, (event) => {
        if (!hasFiles(/** @type {DragEvent} */ (event))) return;
        event.preventDefault();
        document.body.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => { if (event.relatedTarget === null) document.body.classList.remove("over"); });
    document.addEventListener("drop", (event) => {
      document.body.classList.remove("over");
      if (!hasFiles(event)) return; // text goes where it is dropped
      event.preventDefault();
      this.drop(/** @type {DataTransfer} */ (event.dataTransfer));
    });
  }

  get endings() {
    return this.at.files.accept.split(",").map((one) => one.trim().toLowerCase()).filter((one) => one.startsWith("."));
  }

  /** @returns {Record<string, string>} */
  get options() {
    const exports = this.exports.chosen.join(",");
    return { pipeline_id: this.at.pipeline.value, frame_stride: this.at.stride.value || "1", ...(exports && { exports }) };
  }

  /** @param {DataTransfer} transfer */
  async drop(transfer) {
    try {
      this.take(await droppedFiles(transfer, this.endings));
    } catch (error) {
      this.at.leftOut.textContent = `The folder cannot be read: ${sentence(error)}`;
    }
  }

  /**
   * @param {Chosen} chosen
   * @param {HTMLInputElement} [input] which may be used for the same files again
   */
  take(chosen, input) {
    if (this.api.session.rights === "read") {
      this.at.leftOut.textContent = "The token may only read; sending videos needs one that may submit.";
      return;
    }
    this.uploads.add(chosen.files, this.options);
    this.at.leftOut.textContent = leftOut(chosen) ?? "";
    if (input) input.value = "";
  }
}

/** @param {DragEvent} event */
const hasFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;
