"""Event: something that has happened, as receivers are told of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from daemon.ipc.rejected_list import RejectedRecord
from daemon.jobs import Job, JobStatus, new_job_id, utc_now
from daemon.store.outgoing_events import Row
from daemon.webhook_settings import EventType

TEST = "webhook.test"
"""The type of an event that only shows that an endpoint can be reached."""
JOB_FIELDS = (
    "job_id",
    "status",
    "pipeline_id",
    "source",
    "source_name",
    "size_bytes",
    "sha256",
    "created_at",
    "started_at",
    "finished_at",
    "attempts",
    "frames_processed",
    "error_kind",
    "error_message",
)
"""Of a job's record: nothing that was seen or read in the video."""
REJECTED_FIELDS = ("name", "path", "reason", "rejected_at", "size_bytes")
_IDS = uuid.UUID("5f0c7f0a-4f0e-4b52-9c0a-3b9a6d1d2f71")


@dataclass(frozen=True)
class Event:
    """One event."""

    event_id: str
    """The same however often it is sent."""
    type: str
    time: str
    """When it happened, ISO 8601 UTC."""
    subject: str
    """What it is about: the job's id, or the name of the rejected file."""
    data: dict[str, Any]

    @classmethod
    def of_job(cls, job: Job) -> Self:
        """Return the event that a job has ended; the same whenever it is made."""
        kind = EventType.COMPLETED if job.status is JobStatus.COMPLETED else EventType.FAILED
        time = job.finished_at or job.updated_at
        record = {name: getattr(job, name) for name in JOB_FIELDS}
        return cls(_id_of(kind, job.job_id, time), kind, time, job.job_id, record)

    @classmethod
    def of_rejected(cls, rejected: RejectedRecord) -> Self:
        """Return the event that a file was rejected; the same whenever it is made."""
        kind = EventType.REJECTED
        event_id = _id_of(kind, rejected.path, rejected.written_at, rejected.rejected_at)
        record = {name: getattr(rejected, name) for name in REJECTED_FIELDS}
        return cls(event_id, kind, rejected.rejected_at, rejected.name, record)

    @classmethod
    def for_test(cls) -> Self:
        """Return an event that says nothing."""
        data = {"message": "This is a test of a webhook of Dropframe."}
        return cls(_id_of(TEST, new_job_id()), TEST, utc_now(), "test", data)

    @classmethod
    def from_row(cls, event_id: str, row: Row) -> Self:
        """Return an event as the store keeps it."""
        return cls(event_id, row["type"], row["time"], row["subject"], row["data"])

    def to_row(self, receivers: Iterable[str]) -> Row:
        """Return what the store keeps of it.

        Args:
            receivers: Keys of those that are to be told.
        """
        owed: dict[str, Row] = {key: {} for key in receivers}
        return {"type": self.type, "time": self.time, "subject": self.subject, "data": self.data, "owed": owed}

    def body(self) -> bytes:
        """Return what is sent, the same to the byte however often: JSON in ASCII, its keys sorted as in the store."""
        told = {"type": self.type, "timestamp": self.time, "data": self.data}
        return json.dumps(told, separators=(",", ":"), sort_keys=True).encode()


def _id_of(*parts: str) -> str:
    return f"evt_{uuid.uuid5(_IDS, chr(0).join(parts)).hex}"
