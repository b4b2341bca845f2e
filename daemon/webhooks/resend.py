"""Asking the daemon to send events again: an empty file in the spool, whose name says which events and to whom.

``<job_id>.<receiver>.resend`` stands for the event that the job has ended, ``undelivered.<receiver>.resend`` for all
that were given up. The receiver is its key, or ``all``.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from daemon.fs.atomic import fsync_folder
from daemon.jobs import JOB_ID

ALL = "all"
UNDELIVERED = "undelivered"
_NAME = re.compile(rf"({JOB_ID}|{UNDELIVERED})\.([0-9a-z_]+)\.resend")


@dataclass(frozen=True)
class ResendRequest:
    """Which events are to be sent again, and to whom."""

    what: str
    """A job's id, or ``undelivered``."""
    receiver: str = ALL
    """A key, or ``all``."""

    @property
    def name(self) -> str:
        """The name of the file that asks for it."""
        return f"{self.what}.{self.receiver}.resend"


def ask(spool_dir: Path, request: ResendRequest) -> None:
    """Ask the daemon; it does so now, or when it runs again.

    Raises:
        OSError: the spool cannot be written.
    """
    spool_dir.mkdir(parents=True, exist_ok=True)
    os.close(os.open(spool_dir / request.name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640))
    fsync_folder(spool_dir)


def asked_for(spool_dir: Path) -> list[ResendRequest]:
    """Return what is asked for.

    Raises:
        OSError: the spool is there and cannot be read.
    """
    with contextlib.suppress(FileNotFoundError):
        found = map(_NAME.fullmatch, sorted(os.listdir(spool_dir)))
        return [ResendRequest(name[1], name[2]) for name in found if name]
    return []


def done(spool_dir: Path, request: ResendRequest) -> None:
    """Note that a request was carried out.

    Raises:
        OSError: the spool cannot be written.
    """
    (spool_dir / request.name).unlink(missing_ok=True)
