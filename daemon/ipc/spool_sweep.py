"""Clearing the spool of what submitters that were killed left behind."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from daemon.ipc.partial_uploads import PartialUploads, locked
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
        return removed
    for entry in entries:
        hidden = entry.name.startswith(".") and entry.name.endswith((".part", ".tmp"))
        if not hidden and not _is_orphan(spool_dir, entry.name):
            continue
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            old = now - max(status.st_mtime, status.st_ctime) > LEFTOVER_SECONDS
            if old and stat.S_ISREG(status.st_mode):
                with locked(entry.path):
                    os.unlink(entry.path)
                removed += 1
    return removed


def _is_orphan(spool_dir: Path, name: str) -> bool:
    """Tell whether a file of the spool is a video without a ticket; a rejected one is a ticket, too.

    One of which a partial upload is known gets its ticket from the next process that looks at the upload.
    """
    if name.startswith(".") or not name.endswith(".mp4"):
        return False
    job_id = name.removesuffix(".mp4")
    if PartialUploads(spool_dir).is_known(job_id):
        return False
    ticket = ticket_name(job_id, TicketKind.SUBMIT)
    return not any((folder / ticket).exists() for folder in (spool_dir, spool_dir / BAD_FOLDER))
