"""The spool: how another process submits, cancels, retries or deletes a job, while the daemon is up or down.

The spool is a folder. A submission is a video ``<job_id>.mp4`` and then its ticket ``<job_id>.submit.json``;
the ticket's appearance is the moment from which the job is promised. A request about a job is a ticket
``<job_id>.cancel.json``, ``<job_id>.retry.json`` or ``<job_id>.delete.json``; one about several jobs has an id of its
own. All are written under a hidden name first.

The daemon must be able to read what others put here. So a video is open to the group, as far as the umask lets it, and
what root submits is given to the owner of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from daemon.errors import StorageError
from daemon.failpoints import failpoint
from daemon.fs.atomic import atomic_write, fsync_folder
from daemon.fs.identity import shown
from daemon.fs.locks import fcntl
from daemon.fs.space import FULL
from daemon.ipc.ticket import (
    Ticket,
    TicketKind,
    in_order,
    next_number,
    read_ticket,
    ticket_name,
    ticket_names,
    video_name,
)
from daemon.jobs import JobSource, Options, is_job_id, new_job_id, utc_now

__all__ = ["Ticket", "TicketKind", "read_ticket", "ticket_name", "video_name"]

log = logging.getLogger(__name__)

BAD_FOLDER = "bad"
FILE_MODE = 0o640
"""Permissions of a submission: the folder's group may read it."""

UNUSABLE = frozenset({errno.EACCES, errno.ELOOP, errno.ENXIO})
"""Why a ticket cannot be opened and never will be: not ours to read, a link, a socket."""


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
    created_at: str | None = None,
) -> str:
    """Copy a video into the spool and write its ticket.

    Args:
        spool_dir: The spool; made if missing.
        video: A file's path, or an open file that is read to its end.
        source: Who submits.
        source_name: Its name for people.
        pipeline_id: Which pipeline.
        options: How it is sampled, and what is made of its result.
        job_id: The job's id; a new one if not given.
        sha256: Of the video, if known.
        created_at: When another service accepted it, ISO 8601 UTC; the present if not given.

    Returns:
        The job's id. From here on the job survives anything.

    Raises:
        StorageError: the path is not a regular file.
        OSError: it cannot be read, or the spool cannot be written.
    """
    job_id = job_id or new_job_id()
    asked = options.to_record()
    accepted = created_at or utc_now()
    ticket = Ticket(TicketKind.SUBMIT, job_id, accepted, source, source_name, pipeline_id, asked, sha256=sha256)
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
    part = part_path(spool_dir, ticket.job_id)
    try:
        return promise(spool_dir, ticket, part).job_id
    except BaseException:
        for path in (spool_dir / ticket.name, part, spool_dir / ticket.video_name):
            path.unlink(missing_ok=True)
        raise


def promise(spool_dir: Path, ticket: Ticket, part: Path) -> Ticket:
    """Do the same with a file that stays if that fails: called again, it goes on where it was.

    Args:
        spool_dir: The spool.
        ticket: As for ``commit``.
        part: The video; on the spool's file system.

    Raises:
        OSError: the spool cannot be written, or the video is neither a part nor in the spool any more.
    """
    video = spool_dir / ticket.video_name
    name = os.fsencode(ticket.source_name).decode("utf-8", "backslashreplace")
    if part.exists():
        _make_durable(part, spool_dir)
        part.rename(video)
        failpoint("spool.renamed")
    fsync_folder(spool_dir)
    ticket = replace(ticket, source_name=name, size_bytes=video.stat().st_size)
    if not (spool_dir / ticket.name).exists():
        _write(spool_dir, ticket)
    return ticket


def request(spool_dir: Path, kind: TicketKind, *job_ids: str) -> None:
    """Ask for jobs to be cancelled, tried again or deleted; several in one ticket.

    On a disk so full that no byte can be written, a request about one job is an empty file: its name says all.

    Raises:
        StorageError: one is not a job id.
        OSError: the spool cannot be written.
    """
    if wrong := [job_id for job_id in job_ids if not is_job_id(job_id)]:
        raise StorageError(f"{wrong[0]!r} is not a job id.")
    if not job_ids:
        return
    spool_dir.mkdir(parents=True, exist_ok=True)
    several = len(job_ids) > 1
    ticket = Ticket(kind, new_job_id() if several else job_ids[0], utc_now(), job_ids=job_ids if several else ())
    try:
        _write(spool_dir, ticket)
    except OSError as error:
        if several or error.errno not in FULL:
            raise
        _write(spool_dir, ticket, content=b"")


def deletion_requested(spool_dir: Path, job_id: str) -> bool:
    """Tell whether a request to delete a job waits; changes nothing. For readers.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    waiting = read_named(spool_dir, ticket_names(spool_dir, TicketKind.DELETE), move_bad=False)
    return any(job_id in ticket.jobs for ticket in waiting)


def keep_rest(spool_dir: Path, ticket: Ticket, job_ids: Iterable[str]) -> None:
    """Write a request about several jobs anew, about those that it has not been carried out for.

    Raises:
        OSError: the spool cannot be written; the ticket is as it was, so acting twice must be harmless.
    """
    _write(spool_dir, replace(ticket, job_ids=tuple(job_ids)), number=int((spool_dir / ticket.name).stat().st_mtime))


def tickets(spool_dir: Path) -> list[Ticket]:
    """Return all tickets, oldest first; move malformed ones to ``bad/`` with a log line. For the daemon.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    return in_order(spool_dir, read_named(spool_dir, ticket_names(spool_dir), move_bad=True))


def pending_submissions(spool_dir: Path) -> list[Ticket]:
    """Return the submissions that are not jobs yet, oldest first; changes nothing. For readers.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    return in_order(spool_dir, read_named(spool_dir, ticket_names(spool_dir, TicketKind.SUBMIT), move_bad=False))


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


def read_named(spool_dir: Path, names: Iterable[str], move_bad: bool) -> list[Ticket]:
    """Read the tickets with these names, in their order; what is gone or cannot be read just now is left out.

    Args:
        spool_dir: The spool.
        names: Of its files.
        move_bad: Move those that are not tickets to ``bad/``, with a log line.
    """
    found = []
    bad: dict[str, str] = {}
    for name in names:
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
    return found


def _write(spool_dir: Path, ticket: Ticket, content: bytes | None = None, number: int | None = None) -> None:
    number = next_number(spool_dir) if number is None else number
    with atomic_write(spool_dir / ticket.name) as file:
        file.write(ticket.to_bytes() if content is None else content)
        _let_daemon_read(file.fileno(), spool_dir)
        file.flush()
        os.utime(file.fileno(), (number, number))


def _make_durable(part: Path, spool_dir: Path) -> None:
    """Sync a file that the daemon may read from now on."""
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _let_daemon_read(descriptor, spool_dir)
        os.fsync(descriptor)
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
