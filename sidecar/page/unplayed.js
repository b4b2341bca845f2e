// What is said in place of a video that is gone or that the browser cannot play.

import { make, sentence } from "./dom.js";
import { downloadButton } from "./download.js";
import { persist } from "./retry.js";

/** @import {About, Api, Job} from "./types.js" */

/** @type {Record<string, string>} */
const KINDS = { "x-msvideo": "AVI", mp2t: "MPEG-TS", mpeg: "MPEG-PS", "x-flv": "FLV", "x-ms-asf": "ASF", "x-matroska": "Matroska", matroska: "Matroska", webm: "WebM" };
/** @type {Record<string, string>} */
const CODECS = { hevc: "HEVC (H.265)", h264: "H.264", av1: "AV1", vp9: "VP9", mpeg4: "MPEG-4 Part 2", prores: "ProRes", mpeg2video: "MPEG-2", mjpeg: "Motion JPEG" };

export class UnplayedNote {
  /**
   * @param {Api} api
   * @param {Job} job
   * @param {About | null} about
   * @param {string} why
   * @param {string} detail the media type, or what happened
   * @param {AbortSignal} signal of the view
   */
  constructor(api, job, about, why, detail, signal) {
    this.element = make("div", { class: "unplayed", role: "status" });
    if (why === "gone") {
      this.element.append(make("p", {}, detail || (job.source_removed_at ? "The video was not kept. What was found in it is still here." : "The video has been deleted. What was found in it is still here.")));
      return;
    }
    const kind = KINDS[detail.replace("video/", "")];
    const codec = about?.video?.codec;
    const what = [kind ?? "MP4", codec && (CODECS[codec] ?? codec)].filter(Boolean).join(", ");
    this.element.append(make("p", {}, `This browser cannot play the video (${what}), so it is shown frame by frame.`));
    if (kind) this.element.append(make("p", { class: "soft small" }, "A copy in an MP4 may play: ", make("code", {}, "ffmpeg -i IN -c copy OUT.mp4")));
    const note = make("span", { class: "small soft", role: "status" });
    const take = (/** @type {string} */ path, /** @type {string} */ words) => note.before(downloadButton(api, signal, () => ({ path: `v1/jobs/${job.job_id}/${path}` }), note, {}, words));
    this.element.append(make("p", { class: "row" }, note));
    take("video", "Download the video");
    this.offerMp4(api, signal, take).catch((error) => { if (!signal.aborted) note.textContent = sentence(error); });
  }

  /**
   * A video with boxes, where it can be exported.
   * @param {Api} api
   * @param {AbortSignal} signal
   * @param {(path: string, words: string) => void} take adds a button
   */
  async offerMp4(api, signal, take) {
    const { formats } = await persist(() => api.get("v1/formats"), signal, () => {});
    const annotated = formats.find((/** @type {{ending: string}} */ one) => one.ending.endsWith(".mp4"));
    if (annotated) take(`export/${annotated.format}`, annotated.title);
  }
}
