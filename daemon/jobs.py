"""Job and JobStatus: what is known of one video, and the moves allowed between states."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from daemon.errors import BadOptions, IllegalMove
from daemon.export_formats import formats_in
from daemon.unknown_names import no_such

DEFAULT_PIPELINE = "yolo_ocr"
EXPORT_PENDING = "pending"
"""What a job's ``exports`` says of a format, perhaps with more behind it, that is to be published."""
MOST_FRAMES = 2**31 - 1
"""Largest value of an option."""
MOST_NAMED = 10
"""Of unknown options: no more is repeated."""
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
JOB_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""Pattern of the ids that ``new_job_id`` makes."""


class JobStatus(StrEnum):
    """The four states. Clients rely on these words."""

    PENDING = "pending"
    """Waits for its turn, or for its next attempt."""

    RUNNING = "running"
    """The pipeline works on it."""

    COMPLETED = "completed"
    """Its result is in the outbox. Nothing moves a job out of this state."""

    FAILED = "failed"
    """Ended without a result; ``error_message`` says why. A person's retry makes it pending again."""


MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.RUNNING, JobStatus.FAILED}),  # failed: cancelled while it waited
    JobStatus.RUNNING: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.PENDING}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset({JobStatus.PENDING}),
}


class ErrorKind(StrEnum):
    """Why a job has an error message."""

    TRANSIENT = "transient"
    """It is, or was, tried again."""

    PERMANENT = "permanent"
    """It would end the same way each time."""

    CANCELLED = "cancelled"
    """A person ended it."""


class JobSource(StrEnum):
    """Where a job came from."""

    INBOX = "inbox"
    """A file dropped into the inbox."""

    HTTP = "http"
    """An upload through the sidecar."""

    CLI = "cli"
    """``dropframe submit``."""


@dataclass(frozen=True)
class Options:
    """How a video is sampled, and what is made of its result."""

    frame_stride: int = 1
    """Analyse every n-th frame, 1 or more."""

    max_frames: int | None = None
    """Stop after this many analysed frames, 1 or more; None means all."""

    exports: tuple[str, ...] = ()
    """Formats that the result is put into the outbox in, beside those of the settings."""

    @property
    def sampling(self) -> dict[str, int | None]:
        """What shows in the result."""
        return {"frame_stride": self.frame_stride, "max_frames": self.max_frames}

    def to_record(self) -> dict[str, Any]:
        """Return what ``from_mapping`` reads; as older releases write it where no exports are asked for."""
        return self.sampling | ({"exports": list(self.exports)} if self.exports else {})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Check values that came from a person.

        Raises:
            BadOptions: a name is unknown, or a value is not what the option takes; it says so of each.
        """
        if wrong := cls.errors_in(values):
            raise BadOptions(" ".join(wrong.values()))
        formats = formats_in(values["exports"]) if "exports" in values else ()
        return cls(**{**values, "exports": formats})

    @classmethod
    def errors_in(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """Say what is wrong with values that came from a person, in a sentence for each option that is."""
        known = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in known]
        wrong = {}
        for name in (*(each for each in known if each in values), *unknown):  # at every door in the same order
            value = values[name]
            if name not in known:
                if name in unknown[:MOST_NAMED]:
                    wrong[name] = no_such("option", name, known)
            elif name == "exports":
                try:
                    formats_in(value)
                except ValueError as error:
                    wrong[name] = f"Option exports: {error}"
            elif name == "max_frames" and value is None:
                continue
            elif type(value) is not int or value < 1:
                wrong[name] = f"Option {name} must be a whole number of 1 or more, not {_as_written(value)}."
            elif value > MOST_FRAMES:
                wrong[name] = f"Option {name} must be at most {MOST_FRAMES}."
        if len(unknown) > MOST_NAMED:
            wrong[unknown[MOST_NAMED]] = f"There are {len(unknown) - MOST_NAMED} more that are not options."
        return wrong

    @staticmethod
    def value_in(name: str, text: str) -> int | str:
        """Return the whole number that a person wrote, as in ``5``, ``+5`` and ``005``; any other text as it is."""
        return int(text) if name != "exports" and _WHOLE_NUMBER.fullmatch(text) else text

    @classmethod
    def as_far_as_valid(cls, values: Mapping[str, Any]) -> Self:
        """Take those values that are options; the others read as the default."""
        options = cls()
        for name, value in values.items():
            with suppress(BadOptions):
                options = replace(options, **{name: getattr(cls.from_mapping({name: value}), name)})
        return options


def _as_written(value: Any) -> str:
    """Return a value as its writer knows it: ``null`` rather than None."""
    try:
        return repr(value)[:100] if isinstance(value, str) else json.dumps(value)[:100]
    except RecursionError:
        return "lists in lists"


@dataclass(frozen=True)
class Identity:
    """Which content a path held when we looked: a file written to later has another identity."""

    device: int
    inode: int
    size: int
    """Bytes."""
    mtime_ns: int

    @property
    def lasting(self) -> tuple[int, int, int]:
        """What is still the same after a reboot or a remount, when the device may have another number."""
        return self.inode, self.size, self.mtime_ns


@dataclass(frozen=True)
class Claim:
    """Where a job's video came from; kept so that a crash while it was moved can be mended."""

    path: str
    """The path it was taken from: relative to the inbox or the spool, with "/" between its parts."""
    identity: Identity
    left_behind: bool = False
    """The source could not be removed, so its identity is remembered and it is not taken again."""
    companion: bool = False
    """The job was made with an options file, which is fetched with the video."""
    options_name: str | None = None
    """Of that file, beside the video and written as ``path`` is; None stands for the video's and .options.json."""
    stays: bool = False
    """The source stays where it is, and the video is a copy (``inbox_mode`` keep)."""
    seen: Identity | None = None
    """Of a source that stays: under which identity its content was seen last; None once it is gone."""


def timestamp(moment: datetime) -> str:
    """Return an aware moment as records hold it: ISO 8601, UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def normalized_timestamp(text: str) -> str | None:
    """Return a moment that was written elsewhere as records hold it; None if it is not one, or has no time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else timestamp(moment)


def utc_now() -> str:
    """Return the present as records hold it."""
    return timestamp(datetime.now(UTC))


def new_job_id() -> str:
    """Return a random id; ids are never reused and cannot be guessed."""
    return str(uuid.uuid4())


def is_job_id(text: str) -> bool:
    """Tell whether a text is written as ``new_job_id`` writes ids."""
    return re.fullmatch(JOB_ID, text) is not None


def input_key(job_id: str) -> str:
    """Return the storage key of a job's video."""
    return f"video_jobs/{job_id}.mp4"


def output_key(job_id: str) -> str:
    """Return the storage key of a job's result document."""
    return f"video_jobs/{job_id}_results.json"


@dataclass(frozen=True)
class Job:
    """One video and what became of it: a record in the job store."""

    job_id: str
    """UUID4, the primary key."""
    status: JobStatus = JobStatus.PENDING
    pipeline_id: str = DEFAULT_PIPELINE
    input_path: str = ""
    """Storage key of the video."""
    output_path: str | None = None
    """Storage key of the result document, once there is one."""
    error_message: str | None = None
    """One sentence a user can act on."""
    created_at: str = ""
    """When it was accepted, ISO 8601 UTC with microseconds; set by the store unless it is known."""
    updated_at: str = ""
    """ISO 8601 UTC with microseconds; set by the store at each change."""
    sequence: int = 0
    """Arrival order, given by the store: the lowest that is due starts first."""
    source: JobSource = JobSource.INBOX
    source_name: str = ""
    """The original name; for a dropped file its path below the inbox. Undecodable bytes are escaped."""
    outbox_name: str | None = None
    """What its result is called in the outbox, without an ending; None: as a dropped file is, else by its id."""
    options: Options = field(default_factory=Options)
    attempts: int = 0
    """How often it was started, failures of its environment not counted."""
    error_kind: ErrorKind | None = None
    unpublished_error: bool = False
    """It has failed and the outbox does not have its error yet. Set with ``failed``, cleared once it is published."""
    frames_processed: int = 0
    frames_total: int | None = None
    """Frames to be analysed, as far as the container says; None when it does not."""
    started_at: str | None = None
    """When the latest attempt started, ISO 8601 UTC."""
    finished_at: str | None = None
    source_removed_at: str | None = None
    """Since when its video is not kept any more; such a job cannot be retried."""
    result_removed_at: str | None = None
    """Since when its result is not kept any more."""
    sha256: str | None = None
    size_bytes: int = 0
    device: str | None = None
    """What the models ran on: ``cpu`` or ``cuda:N``; ``cuda`` after a crash just when its result was finished."""
    summary: dict[str, Any] | None = None
    """The result document's ``summary`` without its texts, so that lists need not open results."""
    claim: Claim | None = None
    exports: dict[str, str] = field(default_factory=dict)
    """By format what became of the export beside its result: ``pending``, its SHA-256, or why there is none."""
    stored_objects: dict[str, str] = field(default_factory=dict)
    """By ``result``, ``error`` or export format the same of its copy in the result store."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.status in (JobStatus.COMPLETED, JobStatus.FAILED)

    def check_move(self, to: JobStatus) -> None:
        """Raise IllegalMove unless this job may go to that status."""
        if to not in MOVES[self.status]:
            raise IllegalMove(f"Job {self.job_id} is {self.status} and cannot become {to}.")

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form that the store keeps and programs are shown."""
        record = asdict(self)
        del record["options"]["exports"]  # where an older release does not look for options that it does not know
        if self.options.exports:
            record["asked_exports"] = list(self.options.exports)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Build a job from its JSON form; a key that this version does not know is left out."""
        values = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        values["status"] = JobStatus(values["status"])
        values["source"] = JobSource(values.get("source", JobSource.INBOX))
        asked = tuple(record.get("asked_exports", ()))
        values["options"] = Options(**values.get("options") or {}, exports=asked)
        if values.get("error_kind") is not None:
            values["error_kind"] = ErrorKind(values["error_kind"])
        if values.get("claim") is not None:
            claim = values["claim"]
            values["claim"] = Claim(
                claim["path"],
                Identity(**claim["identity"]),
                claim["left_behind"],
                claim.get("companion", False),
                options_name=claim.get("options_name"),
                stays=claim.get("stays", False),
                seen=Identity(**claim["seen"]) if claim.get("seen") else None,
            )
        return cls(**values)


def why_no_retry(record: Mapping[str, Any]) -> str | None:
    """Say why a person's retry cannot make a job pending again, as the end of a sentence; None if it can.

    Args:
        record: The job's fields: its record as the store keeps it, or ``vars`` of a Job.
    """
    if record["status"] != JobStatus.FAILED:
        return "only a failed one can be tried again"
    if record.get("source_removed_at"):
        return "its video is not kept any more; drop or submit it again"
    if record["error_kind"] == ErrorKind.PERMANENT and record["started_at"] is None:
        # Such as a submission with an unknown option: what would run is not what was asked for.
        return "it was refused before it could start, as its error message says; submit it again"
    return None
