// The shapes that the API gives, as far as the page reads them; docs/endpoints.md has them whole.

/** @typedef {[number, number, number, number]} Box x1, y1, x2, y2 in pixels of the document's picture */
/** @typedef {{bbox: Box, class: string, class_id?: number, confidence: number}} Detection */
/** @typedef {{bbox: Box, text: string, confidence: number}} TextBlock */
/** @typedef {{detections: Detection[], text: string, text_blocks?: TextBlock[]}} Found */
/** @typedef {{frame_index: number, timestamp_s?: number, result: Found}} FrameRecord */
/** @typedef {{width?: number, height?: number, fps?: number | null, duration_s?: number | null, codec?: string | null, frame_count?: number | null, sample_aspect_ratio?: string, rotation?: number, mirrored?: boolean, interlaced?: boolean, hdr?: string}} VideoFacts */
/** @typedef {{role: string, name: string, runtime?: string, device?: string, precision?: string, imgsz?: number[] | null}} Model */
/** @typedef {{frame_count?: number, frames_decoded?: number, detection_count?: number, classes?: Record<string, number>, warnings?: string[]}} Summary */
/**
 * A result document without its frames.
 * @typedef {{models?: Model[], options?: {frame_stride?: number, max_frames?: number | null}, summary?: Summary, video?: VideoFacts | null}} About
 */
/** @typedef {About & {results: FrameRecord[], next_frame: number | null}} Part */
/**
 * @typedef {object} Job
 * @property {string} job_id
 * @property {"pending" | "running" | "completed" | "failed"} status
 * @property {string} pipeline_id
 * @property {string | null} source_name
 * @property {string} source
 * @property {{frame_stride?: number, max_frames?: number | null}} options
 * @property {number} size_bytes
 * @property {string | null} sha256
 * @property {string} created_at
 * @property {string} updated_at
 * @property {string | null} started_at
 * @property {string | null} finished_at
 * @property {string | null} source_removed_at
 * @property {string | null} result_removed_at
 * @property {string | null} error_kind
 * @property {string | null} error_message
 * @property {number} frames_processed
 * @property {number | null} frames_total
 * @property {string | null} device
 * @property {Summary | null} summary
 * @property {number | null} queue_position
 * @property {number | null} frames_per_second
 * @property {number | null} eta_s
 */
/** @typedef {{text: string, start_s: number, end_s: number, first_frame: number, last_frame: number, reads: number, confidence: number, bbox: Box}} TextSpan */
/** @typedef {{track_id: number, class: string, start_s: number, end_s: number, first_frame: number, last_frame: number, boxes: number, confidence: number, best_frame: number, best_bbox: Box}} Track */
/**
 * @typedef {object} Density
 * @property {number} bucket_s
 * @property {number[]} frames
 * @property {Record<string, number[]>} objects
 * @property {number[]} text_lines
 * @property {Record<string, {frames: number, most: number, confidences: number[]}>} classes
 */
/** @typedef {{format: string, title: string, ending: string, media_type: string, content: string, used_by: string}} Format */
/** @typedef {import("./api.js").Api} Api */
/**
 * What of a job is looked at, and how; the address holds it.
 * @typedef {object} View
 * @property {Set<string>} classes that are shown; empty: all
 * @property {number} confidence least
 * @property {string} words that are looked for in the texts
 * @property {boolean} boxes whether those of objects are drawn
 * @property {boolean} text whether those of texts are drawn
 * @property {[number, number] | null} span of time that lanes and plots show; null: all
 * @property {string} tab
 */
/** @typedef {(change: Partial<View>) => void} Change */

export {};
