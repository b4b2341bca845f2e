// What a job's state is called, and what may be done to it.

/** @import {Job} from "./types.js" */

/**
 * To programs a cancelled job is a failed one; people read what it is.
 * @param {Job} job
 * @returns {"pending" | "running" | "completed" | "failed" | "cancelled"}
 */
export const stateOf = (job) => (job.status === "failed" && job.error_kind === "cancelled" ? "cancelled" : job.status);

/** @param {Job} job in percent */
export const progressOf = (job) => (job.frames_total ? Math.min(100, (100 * job.frames_processed) / job.frames_total) : 0);

/** @param {Job} job */
export const nameOf = (job) => job.source_name || job.job_id;

/** @typedef {"cancel" | "retry" | "delete"} Action */

/** @type {Record<Action, (job: Job) => boolean>} */
export const MAY = {
  cancel: (job) => job.status === "pending" || job.status === "running",
  // One that was refused before it began would be refused again.
  retry: (job) => job.status === "failed" && !job.source_removed_at && (job.error_kind !== "permanent" || job.started_at !== null),
  delete: (job) => job.status !== "running",
};

/** @type {Record<Action, string>} what a list says until it is done */
export const REQUESTED = { cancel: "being cancelled", retry: "to be tried again", delete: "being deleted" };
