"""PublicJob: what callers and users are told of a job; the one list of those fields and of what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from daemon.jobs import EXPORT_PENDING, JOB_ID, MOST_FRAMES, ErrorKind, JobSource, JobStatus

PROGRESS: Mapping[str, float] = {
    JobStatus.PENDING: 0.0,
    JobStatus.RUNNING: 0.5,
    JobStatus.COMPLETED: 1.0,
    JobStatus.FAILED: 1.0,
}

JobId = Annotated[
    str,
    Field(pattern=f"^{JOB_ID}$", json_schema_extra={"format": "uuid"}),
]
Count = Annotated[int, Field(ge=0)]
FrameNumber = Annotated[int, Field(ge=1, le=MOST_FRAMES)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""ISO 8601, UTC, microseconds."""


class PublicModel(BaseModel):
    """A model that is published under its name without the ``Public``."""

    model_config = ConfigDict(model_title_generator=lambda model: model.__name__.removeprefix("Public"))


class PublicOptions(PublicModel):
    """How a video is sampled, and what is made of its result."""

    frame_stride: FrameNumber = Field(description="Analyse every n-th frame.")
    max_frames: FrameNumber | None = Field(description="Stop after this many analysed frames; null means all.")
    exports: list[str] = Field([], description="Formats that the result is to be in the outbox in as well, if any.")


class PublicJob(PublicModel):
    """One video and what became of it."""

    job_id: JobId
    status: JobStatus
    progress: float = Field(ge=0, le=1, description="0.0 while pending, 0.5 while running, 1.0 once ended.")
    pipeline_id: str
    source: JobSource
    source_name: str = Field(description="The file's original name.")
    options: PublicOptions
    size_bytes: Count
    sha256: str | None = Field(description="Of the video, once known.")
    created_at: Time
    updated_at: Time
    started_at: Time | None = Field(description="When the latest attempt started.")
    finished_at: Time | None
    source_removed_at: Time | None = Field(description="When its video was deleted.")
    result_removed_at: Time | None = Field(description="When its result was deleted.")
    attempts: Count
    error_kind: ErrorKind | None
    error_message: str | None = Field(description="What went wrong, in a sentence to act on.")
    frames_processed: Count
    frames_total: Count | None = Field(description="Frames to analyse, as far as the video says.")
    frames_per_second: float | None = Field(description="While running.")
    eta_s: float | None = Field(description="Seconds left, while running.")
    queue_position: Count | None = Field(description="How many jobs come first, while pending; 0 is the next.")
    device: str | None = Field(description="What the models ran on: cpu or cuda:N.")
    exports: dict[str, str] = Field(
        description="By format: pending, published, or why there is no export in the outbox beside the result."
    )
    summary: dict[str, Any] | None = Field(description="Counts of the result, once completed.")


COMPUTED = frozenset({"progress", "frames_per_second", "eta_s", "queue_position"})
STORED = tuple(name for name in PublicJob.model_fields if name not in COMPUTED)


def state_of(record: Mapping[str, Any]) -> str:
    """Return a job's state as people read it: its status, but for ``cancelled``, which is ``failed`` to programs."""
    cancelled = record["status"] == JobStatus.FAILED and record["error_kind"] == ErrorKind.CANCELLED
    return str(ErrorKind.CANCELLED if cancelled else record["status"])


@dataclass(frozen=True)
class RunningFacts:
    """What the daemon's heartbeat says of the job that runs; fresher than its record."""

    frames_processed: int
    frames_total: int | None
    frames_per_second: float | None


def _export(state: str) -> str:
    """Return what is said of an export that a record calls so."""
    if state.startswith(EXPORT_PENDING):
        return EXPORT_PENDING
    return "published" if state.startswith("sha256:") else state


def to_public(
    record: Mapping[str, Any], queue_position: int | None = None, running: RunningFacts | None = None
) -> dict[str, Any]:
    """Return a job as callers see it: the members of a PublicJob, not validated anew.

    Args:
        record: As the store keeps it.
        queue_position: How many jobs come before it; None unless it is pending.
        running: What the heartbeat says of it; None unless it runs.
    """
    public = {name: record.get(name) for name in STORED}
    public["progress"] = PROGRESS[record["status"]]
    if asked := record.get("asked_exports"):
        public["options"] = {**record["options"], "exports": asked}
    public["exports"] = {name: _export(state) for name, state in record.get("exports", {}).items()}
    public["queue_position"] = queue_position
    public["frames_per_second"] = public["eta_s"] = None
    if running is not None:
        public["frames_processed"] = done = max(record["frames_processed"], running.frames_processed)
        public["frames_total"] = total = record["frames_total"] or running.frames_total
        public["frames_per_second"] = speed = running.frames_per_second
        if speed and total:
            public["eta_s"] = round(max(0, total - done) / speed, 1)
    return public
