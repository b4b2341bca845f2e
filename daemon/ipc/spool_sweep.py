"""Clearing the spool of what submitters that were killed left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from daemon.ipc.spool import BAD_FOLDER, TicketKind, ticket_name

LEFTOVER_SECONDS = 60.0
"""What nobody holds open is removed when nothing has changed it for this long."""


def sweep(spool_dir: Path, now: float) -> int:
    """Remove what submitters that died left behind: parts nobody holds, and videos that never got a ticket.

    The daemon does this, now and then; nobody else has to. A submitter holds its file's lock until the ticket is
    written, and nobody was promised anything about a file without one: a video whose ticket was rejected stays.

    Args:
        spool_dir: The spool.
        now: Seconds since 1970.

    Returns:
        How many files were removed.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    removed = 0
    try:
        entries = list(os.scandir(spool_dir))
    except FileNotFoundError:
        return 0
    for entry in entries:
        hidden = entry.name.startswith(".") and entry.name.endswith((".part", ".tmp"))
        if not hidden and not _is_orphan(spool_dir, entry.name):
            continue
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            old = now - max(status.st_mtime, status.st_ctime) > LEFTOVER_SECONDS
            if old and stat.S_ISREG(status.st_mode) and not _in_use(entry.path):
                os.unlink(entry.path)
                removed += 1
    return removed


def _in_use(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_orphan(spool_dir: Path, name: str) -> bool:
    """Tell whether a file of the spool is a video without a ticket; a rejected one is a ticket, too."""
    if name.startswith(".") or not name.endswith(".mp4"):
        return False
    ticket = ticket_name(name.removesuffix(".mp4"), TicketKind.SUBMIT)
    return not any((folder / ticket).exists() for folder in (spool_dir, spool_dir / BAD_FOLDER))
