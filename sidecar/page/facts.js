// What is known of a job, its video and how it was looked at.

import { bytes, clock, count, lasting, make, moment, number } from "./dom.js";

/** @import {About, Job} from "./types.js" */

/**
 * @param {Job} job
 * @param {About | null} about its result without the frames
 * @param {number} duration of the video in seconds, 0: not known
 */
export function facts(job, about, duration) {
  const rows = [...videoFacts(about, duration), ...resultFacts(job, about), ...jobFacts(job)].filter(([, value]) => value);
  return make("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

/**
 * @param {About | null} about
 * @param {number} duration
 * @returns {[string, string | null | undefined | false | 0][]}
 */
function videoFacts(about, duration) {
  const video = about?.video ?? {};
  const turned = [video.rotation && `turned by ${video.rotation}°`, video.mirrored && "mirrored", video.interlaced && "interlaced", video.hdr && `HDR (${video.hdr.toUpperCase()})`, video.sample_aspect_ratio && `pixels ${video.sample_aspect_ratio}`];
  return [
    ["Picture", video.width && `${video.width} × ${video.height}`],
    ["Length", duration && clock(duration)],
    ["Frame rate", video.fps && `${Number(video.fps.toFixed(3))} frames/s`],
    ["Codec", video.codec],
    ["Picture made", turned.filter(Boolean).join(", ")],
  ];
}

/**
 * @param {Job} job
 * @param {About | null} about
 * @returns {[string, string | null | undefined | false | 0][]}
 */
function resultFacts(job, about) {
  const stride = about?.options?.frame_stride ?? job.options?.frame_stride ?? 1;
  const most = about?.options?.max_frames;
  const frames = about?.summary?.frame_count ?? job.frames_processed;
  return [
    ["Analysed", `${count(frames, "frame")}${stride > 1 ? `, every ${ordinal(stride)}` : ""}${most ? `, ${number(most)} at most` : ""}`],
    ["Detections", job.summary?.detection_count !== undefined && number(job.summary.detection_count)],
    ...(about?.models ?? []).map((model) => /** @type {[string, string]} */ ([ROLES[model.role] ?? model.role, [model.name, model.runtime, model.device, model.precision].filter(Boolean).join(", ")])),
  ];
}

/** @type {Record<string, string>} */
const ROLES = { objects: "Objects by", text_regions: "Regions by", text: "Text by" };

/**
 * @param {Job} job
 * @returns {[string, string | null | undefined | false | 0][]}
 */
function jobFacts(job) {
  const took = job.started_at && job.finished_at ? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 : 0;
  return [
    ["Pipeline", job.pipeline_id],
    ["File", `${job.source_name ?? ""} (${bytes(job.size_bytes)})`],
    ["Came by", { inbox: "the inbox", http: "upload", cli: "the command line" }[job.source] ?? job.source],
    ["Submitted", moment(job.created_at)],
    ["Took", took > 0 && lasting(took)],
    ["SHA-256", job.sha256],
    ["Job", job.job_id],
  ];
}

/** @param {number} n */
const ordinal = (n) => `${n}${n % 100 > 10 && n % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th"}`;
