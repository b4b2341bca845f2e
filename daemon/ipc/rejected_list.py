"""RejectedList: the rejected files as the daemon last saw them, ``data/rejected.json``, for readers without the inbox.

The files and their reasons in ``inbox/rejected/`` are the truth; this is made from them, again and again. All it knows
beyond them is which of them the outbox has been told of.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from daemon.fs.atomic import atomic_write

NAME = "rejected.json"
MOST_FILES = 10_000
"""Files listed, the newest."""


class Note(StrEnum):
    """How it stands with the note in the outbox that says why a file was rejected."""

    OWED = "owed"
    PUBLISHED = "published"
    OUTDATED = "outdated"
    """The rejected file has been removed, and its note is to follow."""


@dataclass(frozen=True)
class RejectedRecord:
    """A file that was not taken in."""

    name: str
    """As it was dropped, below the inbox."""
    path: str
    """Where it is now, below the inbox."""
    reason: str
    """Why it was rejected and what to do, in sentences."""
    rejected_at: str
    """ISO 8601 UTC."""
    size_bytes: int
    written_at: str = ""
    """When its reason was written, by the clock of that file system; changes when another file takes its path."""
    note: Note = Note.OWED
    told: bool = True
    """Whether those who are told of events will hear of it; True where an earlier version did not say."""


@dataclass(frozen=True)
class RejectedList:
    """The rejected files."""

    files: tuple[RejectedRecord, ...] = ()
    """The newest first, at most MOST_FILES; also those that are gone and whose notes are not yet."""
    count: int = 0
    """How many there are, listed or not."""

    @property
    def present(self) -> list[RejectedRecord]:
        """The files that are there, the newest first."""
        return [record for record in self.files if record.note is not Note.OUTDATED]


_FORMAT = TypeAdapter(RejectedList)


def write(data_dir: Path, rejected: RejectedList) -> None:
    """Replace the list.

    Raises:
        OSError: the data folder cannot be written.
    """
    with atomic_write(data_dir / NAME) as file:
        file.write(json.dumps(asdict(rejected), ensure_ascii=False).encode())


def read(data_dir: Path) -> RejectedList | None:
    """Return the list, or None if there is none that this version understands."""
    try:
        return _FORMAT.validate_json((data_dir / NAME).read_bytes())
    except (OSError, ValidationError):
        return None
