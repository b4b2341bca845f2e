"""What inbox and intake tell each other about a file: ``Dropped`` one way, an ``Outcome`` the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from daemon.jobs import Identity, Job

REJECTED_FOLDER = "rejected"


@dataclass(frozen=True)
class Dropped:
    """A file of the inbox that can be acted on."""

    path: str
    """Below the inbox, "/" between its parts; undecodable bytes as surrogates (os.fsdecode)."""
    identity: Identity
    """The content that was looked at."""
    options_path: str | None = None
    """Path of its options file, if it has one."""
    reason: str | None = None
    """None for a whole video; else one sentence why it will never become a job."""


@dataclass(frozen=True)
class Taken:
    """The file is a job, stored and queued."""

    dropped: Dropped
    job: Job


@dataclass(frozen=True)
class Rejected:
    """The file was moved to the rejected files."""

    dropped: Dropped
    reason: str
    """One sentence, and what to do next."""


@dataclass(frozen=True)
class Blocked:
    """The file stays where it is for now, and is tried again."""

    dropped: Dropped
    reason: str
    """What is in the way, in sentences."""
    retry_at: float
    """Monotonic time in seconds; the present, if it has only changed or gone and needs another look."""


@dataclass(frozen=True)
class Ignored:
    """The file stays where it is until its content changes."""

    dropped: Dropped
    reason: str


@dataclass(frozen=True)
class Kept:
    """The file is a job already and stays where it is; only another content makes another job."""

    dropped: Dropped


Outcome: TypeAlias = Taken | Rejected | Blocked | Ignored | Kept
"""What became of a file that the inbox handed out."""
