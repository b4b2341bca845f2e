"""Tickets: how another process submits, cancels or retries a job, while the daemon is up or down.

The spool is a folder. A submission is a video ``<job_id>.mp4`` and then its ticket ``<job_id>.submit.json``;
the ticket's appearance is the moment from which the job is promised. A request about a job is a ticket
``<job_id>.cancel.json`` or ``<job_id>.retry.json``. All are written under a hidden name first.

The daemon must be able to read what others put here. So a video is open to the group, as far as the umask lets it, and
what root submits is given to the owner of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import stat
import uuid
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from daemon.errors import StorageError
from daemon.failpoints import failpoint
from daemon.fs.atomic import atomic_write, fsync_folder
from daemon.fs.identity import shown
from daemon.jobs import JOB_ID, Job, JobSource, Options, input_key, is_job_id, new_job_id, normalized_timestamp, utc_now

log = logging.getLogger(__name__)

BAD_FOLDER = "bad"
MAX_TICKET_BYTES = 65_536
FILE_MODE = 0o640
"""Permissions of a submission: the folder's group may read it."""

UNUSABLE = frozenset({errno.EACCES, errno.ELOOP, errno.ENXIO})
"""Why a ticket cannot be opened and never will be: not ours to read, a link, a socket."""

_TICKET_NAME = re.compile(rf"({JOB_ID})\.(submit|cancel|retry)\.json")


class TicketKind(StrEnum):
    """What a ticket asks for."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    RETRY = "retry"


def ticket_name(job_id: str, kind: TicketKind) -> str:
    """Return the file name of a ticket."""
    return f"{job_id}.{kind}.json"


def video_name(job_id: str) -> str:
    """Return the file name of a submitted video."""
    return f"{job_id}.mp4"


@dataclass(frozen=True)
class Ticket:
    """What another process asks for."""

    kind: TicketKind
    job_id: str
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

    @property
    def name(self) -> str:
        """The ticket's file name."""
        return ticket_name(self.job_id, self.kind)

    @property
    def video_name(self) -> str:
        """The submitted video's file name."""
        return video_name(self.job_id)

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
            options=Options.as_far_as_valid(self.options),
            size_bytes=self.size_bytes,
            sha256=self.sha256,
        )


def part_path(spool_dir: Path, job_id: str) -> Path:
    """Return where a submission's bytes are collected until it is complete."""
    return spool_dir / f".{video_name(job_id)}.part"


def submit(
    spool_dir: Path,
    video: Path | BinaryIO,
    *,
    source: JobSource,
    source_name: str,
    pipeline_id: str,
    options: Options,
    job_id: str | None = None,
    sha256: str | None = None,
) -> str:
    """Copy a video into the spool and write its ticket.

    Args:
        spool_dir: The spool; made if missing.
        video: A file's path, or an open file that is read to its end.
        source: Who submits.
        source_name: Its name for people.
        pipeline_id: Which pipeline.
        options: How it is sampled.
        job_id: The job's id; a new one if not given.
        sha256: Of the video, if known.

    Returns:
        The job's id. From here on the job survives anything.

    Raises:
        StorageError: the path is not a regular file.
        OSError: it cannot be read, or the spool cannot be written.
    """
    job_id = job_id or new_job_id()
    asked = asdict(options)
    ticket = Ticket(TicketKind.SUBMIT, job_id, utc_now(), source, source_name, pipeline_id, asked, sha256=sha256)
    spool_dir.mkdir(parents=True, exist_ok=True)
    part = part_path(spool_dir, job_id)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE), "wb") as target:
            fcntl.flock(target, fcntl.LOCK_EX)  # in use, however slowly it comes: spool_sweep looks for this
            if isinstance(video, Path):
                with _open_video(video) as opened:
                    shutil.copyfileobj(opened, target, 4 << 20)
            else:
                shutil.copyfileobj(video, target, 4 << 20)
            target.flush()
            return commit(spool_dir, ticket)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def commit(spool_dir: Path, ticket: Ticket) -> str:
    """Turn a complete ``part_path`` into a submission: fsync, rename, ticket.

    Args:
        spool_dir: The spool.
        ticket: What is asked; its size is taken from the file, and its name is made fit for JSON.

    Returns:
        The job's id. From here on the job survives anything.

    Raises:
        OSError: the spool cannot be written; nothing of the submission is left that can be removed.
    """
    part, video = part_path(spool_dir, ticket.job_id), spool_dir / ticket.video_name
    name = os.fsencode(ticket.source_name).decode("utf-8", "backslashreplace")
    try:
        size = _make_durable(part, spool_dir)
        part.rename(video)
        failpoint("spool.renamed")
        fsync_folder(spool_dir)
        _write(spool_dir, replace(ticket, source_name=name, size_bytes=size))
    except BaseException:
        for path in (spool_dir / ticket.name, part, video):
            path.unlink(missing_ok=True)
        raise
    return ticket.job_id


def request(spool_dir: Path, kind: TicketKind, job_id: str) -> None:
    """Ask for a job to be cancelled or tried again.

    Raises:
        StorageError: it is not a job id.
        OSError: the spool cannot be written.
    """
    if not is_job_id(job_id):
        raise StorageError(f"{job_id!r} is not a job id.")
    spool_dir.mkdir(parents=True, exist_ok=True)
    _write(spool_dir, Ticket(kind, job_id, utc_now()))


def tickets(spool_dir: Path) -> list[Ticket]:
    """Return all tickets, oldest first; move malformed ones to ``bad/`` with a log line. For the daemon.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    return _read_all(spool_dir, move_bad=True)


def pending_submissions(spool_dir: Path) -> list[Ticket]:
    """Return the submissions that are not jobs yet, oldest first; changes nothing. For readers.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    return [t for t in _read_all(spool_dir, move_bad=False) if t.kind is TicketKind.SUBMIT]


def done(spool_dir: Path, ticket: Ticket) -> None:
    """Remove a ticket that was acted on; one that is gone is not an error.

    Raises:
        OSError: it cannot be removed; it will come again, so acting twice must be harmless.
    """
    (spool_dir / ticket.name).unlink(missing_ok=True)


def reject_ticket(spool_dir: Path, name: str, reason: str) -> None:
    """Move a ticket that cannot be acted on to ``bad/``."""
    bad = spool_dir / BAD_FOLDER
    bad.mkdir(exist_ok=True)
    target = bad / name
    if target.exists():
        target = bad / f"{uuid.uuid4()}-{name}"
    with contextlib.suppress(FileNotFoundError):
        (spool_dir / name).rename(target)
        log.warning("The ticket %s cannot be used and was moved to %s: %s", shown(name), BAD_FOLDER, reason)


def _read_all(spool_dir: Path, move_bad: bool) -> list[Ticket]:
    found = []
    bad: dict[str, str] = {}
    try:
        entries = sorted(os.listdir(spool_dir))
    except FileNotFoundError:
        return []
    for name in entries:
        if name.startswith(".") or not name.endswith(".json"):
            continue
        try:
            found.append(read_ticket(spool_dir / name))
        except FileNotFoundError:  # acted on meanwhile
            continue
        except RecursionError:
            bad[name] = "its JSON is too deep"
        except OSError as error:
            if error.errno in UNUSABLE:
                bad[name] = str(error.strerror)
            else:  # a disk error, too many open files: it may well be read the next time
                log.debug("the ticket %s cannot be read: %s", shown(name), error.strerror)
        except (ValueError, KeyError, TypeError) as error:
            bad[name] = str(error)
    for name, reason in bad.items() if move_bad else ():
        try:
            reject_ticket(spool_dir, name, reason)
        except OSError as error:  # it holds up no other ticket
            log.debug("the ticket %s cannot be moved: %s", shown(name), error.strerror)
    return sorted(found, key=lambda ticket: (ticket.created_at, ticket.name))


def read_ticket(path: Path) -> Ticket:
    """Read a ticket.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is not one, for the reason given.
        OSError: it cannot be read.
    """
    named = _TICKET_NAME.fullmatch(path.name)
    if named is None:
        raise ValueError("its name is not that of a ticket")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        text = file.read(MAX_TICKET_BYTES + 1)
    if len(text) > MAX_TICKET_BYTES:
        raise ValueError(f"it has more than {MAX_TICKET_BYTES} bytes")
    values = json.loads(text)
    if not isinstance(values, dict) or (values.get("job_id"), values.get("kind")) != named.groups():
        raise ValueError("its content does not fit its name")
    values["kind"] = TicketKind(values["kind"])
    values["source"] = JobSource(values.get("source", JobSource.CLI))
    texts = (values["created_at"], values.get("source_name", ""), values.get("pipeline_id", ""))
    if not all(isinstance(value, str) for value in texts) or not isinstance(values.get("options", {}), dict):
        raise ValueError("a field has the wrong type")
    if not isinstance(values.get("sha256"), str | None) or type(values.get("size_bytes", 0)) is not int:
        raise ValueError("a field has the wrong type")
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text in it cannot be written as UTF-8") from error
    return Ticket(**values)


def _write(spool_dir: Path, ticket: Ticket) -> None:
    with atomic_write(spool_dir / ticket.name) as file:
        file.write(json.dumps(asdict(ticket), sort_keys=True).encode())
        _let_daemon_read(file.fileno(), spool_dir)


def _make_durable(part: Path, spool_dir: Path) -> int:
    """Sync a file that the daemon may read from now on; return its size in bytes."""
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _let_daemon_read(descriptor, spool_dir)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _let_daemon_read(descriptor: int, folder: Path) -> None:
    """Give a file the group's right to read, whatever the umask; what root has written becomes the folder owner's."""
    os.fchmod(descriptor, FILE_MODE)
    if os.geteuid() == 0:
        owner = folder.stat()
        with contextlib.suppress(PermissionError):  # a root without the power to give files away
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _open_video(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"{path} is not a file.")
    return open(descriptor, "rb")
