// What is said in place of a video that is gone or that the browser cannot play.

import { make } from "./dom.js";

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
   */
  constructor(api, job, about, why, detail) {
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
    this.element.append(make("a", { class: "button", href: api.url(`v1/jobs/${job.job_id}/video`), download: "" }, "Download the video"));
    this.offerMp4(api, job);
  }

  /**
   * A video with boxes, where it can be exported.
   * @param {Api} api
   * @param {Job} job
   */
  async offerMp4(api, job) {
    const { formats } = await api.get("v1/formats").catch(() => ({ formats: [] }));
    const annotated = formats.find((/** @type {{ending: string}} */ one) => one.ending.endsWith(".mp4"));
    if (annotated) this.element.append(" ", make("a", { class: "button", href: api.url(`v1/jobs/${job.job_id}/export/${annotated.format}?wait=60`), download: "" }, annotated.title));
  }
}
