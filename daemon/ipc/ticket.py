"""Ticket: what another process asks the daemon for; a small JSON file in the spool (``spool``).

Tickets are in the order of their numbers, and not of a clock that may be set back. A ticket's number is its file's
modification time in whole seconds: it comes with the ticket in one step, and a Dropframe that does not know of numbers
reads the ticket as it always did. Files dated later than ``MOST_NUMBER`` have none: they were written by such a
Dropframe, or copied without their times, and come first, in the order of their clocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from daemon.jobs import (
    JOB_ID,
    Job,
    JobSource,
    Options,
    input_key,
    is_job_id,
    normalized_timestamp,
    timestamp,
)

MAX_TICKET_BYTES = 65_536
MAX_REQUEST_BYTES = 16 << 20
"""Of a request, which may name some hundred thousand jobs."""
MOST_NUMBER = 999_999_999
"""As a time this is in 2001."""
ENDING = ".json"

_TICKET_NAME = re.compile(rf"({JOB_ID})\.(submit|cancel|retry|delete)\.json")


class TicketKind(StrEnum):
    """What a ticket asks for."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


def ticket_name(job_id: str, kind: TicketKind) -> str:
    """Return the file name of a ticket."""
    return f"{job_id}.{kind}{ENDING}"


def video_name(job_id: str) -> str:
    """Return the file name of a submitted video."""
    return f"{job_id}.mp4"


@dataclass(frozen=True)
class Ticket:
    """What another process asks for."""

    kind: TicketKind
    job_id: str
    """The job's; where ``job_ids`` names the jobs, the ticket's own."""
    created_at: str
    """ISO 8601 UTC with microseconds."""
    source: JobSource = JobSource.CLI
    source_name: str = ""
    """The file's original name; undecodable bytes are escaped."""
    pipeline_id: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    """As the client gave them; checked when the job is made."""
    size_bytes: int = 0
    sha256: str | None = None
    """Of the video, if the submitter knows it."""
    job_ids: tuple[str, ...] = ()
    """Of a request about several jobs."""
    outbox_name: str | None = None
    """Of a submission: what its result is called in the outbox, without an ending; None: the settings say."""

    @property
    def name(self) -> str:
        """The ticket's file name."""
        return ticket_name(self.job_id, self.kind)

    @property
    def video_name(self) -> str:
        """The submitted video's file name."""
        return video_name(self.job_id)

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of the jobs that it is about."""
        return self.job_ids or (self.job_id,)

    def to_bytes(self) -> bytes:
        """Return it as JSON; what it does not need is left out, so that an older Dropframe can read it."""
        values = asdict(self)
        if not self.job_ids:
            del values["job_ids"]
        if self.outbox_name is None:
            del values["outbox_name"]
        return json.dumps(values, sort_keys=True).encode()

    def to_job(self) -> Job:
        """Return the job that this submission asks for, pending and without a sequence.

        An option that it cannot have reads as the default; whether they are right is checked when it is taken in. So is
        the time of acceptance, which is "" if it is not one.
        """
        accepted = normalized_timestamp(self.created_at) or ""
        return Job(
            self.job_id,
            pipeline_id=self.pipeline_id,
            input_path=input_key(self.job_id),
            created_at=accepted,
            updated_at=accepted,
            source=self.source,
            source_name=self.source_name,
            outbox_name=self.outbox_name,
            options=Options.as_far_as_valid(self.options),
            size_bytes=self.size_bytes,
            sha256=self.sha256,
        )


def ticket_names(spool_dir: Path, *kinds: TicketKind) -> list[str]:
    """Return the names of the files in the spool that may be tickets, sorted.

    Args:
        spool_dir: The spool; it need not be there.
        kinds: Only those of these kinds.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    endings = tuple(ticket_name("", kind) for kind in kinds) or ENDING
    try:
        return sorted(name for name in os.listdir(spool_dir) if name.endswith(endings) and not name.startswith("."))
    except FileNotFoundError:
        return []


def number_of(status: os.stat_result) -> int:
    """Return the number of a ticket, 0 if it has none."""
    seconds = int(status.st_mtime)
    return seconds if 0 < seconds <= MOST_NUMBER else 0


def next_number(spool_dir: Path) -> int:
    """Return a number above those of all tickets in the spool.

    It is only ever compared with those of tickets that wait at the same time: what was taken in has a sequence. Two
    processes at the same moment may get the same one; their clocks decide then.
    """
    most = 0
    with contextlib.suppress(OSError), os.scandir(spool_dir) as entries:
        for entry in entries:
            if entry.name.endswith(ENDING):
                with contextlib.suppress(OSError):
                    most = max(most, number_of(entry.stat(follow_symlinks=False)))
    return min(MOST_NUMBER, most + 1)


def place_of(spool_dir: Path, ticket: Ticket) -> tuple[int, str, str]:
    """Return what the order of tickets goes by."""
    number = 0
    with contextlib.suppress(OSError):  # it is gone
        number = number_of(os.stat(spool_dir / ticket.name, follow_symlinks=False))
    return number, ticket.created_at, ticket.name


def in_order(spool_dir: Path, tickets: Iterable[Ticket]) -> list[Ticket]:
    """Return tickets in the order in which they were written."""
    return sorted(tickets, key=lambda ticket: place_of(spool_dir, ticket))


def read_ticket(path: Path) -> Ticket:
    """Read a ticket. An empty request, as one is on a disk that was full, is about the job that its name says.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is not one, for the reason given.
        OSError: it cannot be read.
    """
    named = _TICKET_NAME.fullmatch(path.name)
    if named is None:
        raise ValueError("its name is not that of a ticket")
    kind = TicketKind(named[2])
    most = MAX_TICKET_BYTES if kind is TicketKind.SUBMIT else MAX_REQUEST_BYTES
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"it has more than {most} bytes")
    if not text and kind is not TicketKind.SUBMIT:
        return Ticket(kind, named[1], timestamp(datetime.fromtimestamp(status.st_ctime, UTC)))
    return _parse(text, named[1], kind)


def _parse(text: bytes, job_id: str, kind: TicketKind) -> Ticket:
    values = json.loads(text)
    if not isinstance(values, dict) or (values.get("job_id"), values.get("kind")) != (job_id, kind):
        raise ValueError("its content does not fit its name")
    values["kind"] = kind
    values["source"] = JobSource(values.get("source", JobSource.CLI))
    texts = (values["created_at"], values.get("source_name", ""), values.get("pipeline_id", ""))
    if not all(isinstance(value, str) for value in texts) or not isinstance(values.get("options", {}), dict):
        raise ValueError("a field has the wrong type")
    outbox_name = values.get("outbox_name")
    if not isinstance(outbox_name, str | None) or {"", ".", ".."} & set((outbox_name or "x").split("/")):
        raise ValueError("outbox_name is not a name")
    if not isinstance(values.get("sha256"), str | None) or type(values.get("size_bytes", 0)) is not int:
        raise ValueError("a field has the wrong type")
    values["job_ids"] = _job_ids(values.get("job_ids", []))
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text in it cannot be written as UTF-8") from error
    return Ticket(**values)


def _job_ids(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(each, str) and is_job_id(each) for each in given):
        raise ValueError("job_ids are not ids of jobs")
    return tuple(given)
