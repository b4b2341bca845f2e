"""The rejected files on the disk: what belongs to each, and what its reason file says."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daemon.fs.folders import Folders
from daemon.fs.identity import open_regular, shown
from daemon.ingest.model import REJECTED_FOLDER
from daemon.ingest.names import OPTIONS_SUFFIX
from daemon.ingest.quarantine import REASON_SUFFIX

MAX_REASON_BYTES = 16_384
_REASON = re.compile(
    r"(?P<name>[^\n/]+) was not taken in\.\n\n(?P<reason>.*?)\n\n"
    r"Time: (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC\n?",
    re.DOTALL,
)


@dataclass(frozen=True)
class RejectedFile:
    """A file with a reason beside it; one without was put there by somebody else."""

    path: str
    """Below the inbox; undecodable bytes as surrogates."""
    since: datetime
    """When its reason was written, by the clock of that file system; aware. Its own time is its writer's."""
    size_bytes: int
    """Of all that belongs to it."""
    own_bytes: int | None
    """Of the file itself; None if it is gone and only its reason is left."""


@dataclass(frozen=True)
class Reason:
    """What a reason file says."""

    name: str
    """The file's, as it was dropped, below the inbox."""
    text: str
    """In sentences."""
    time: datetime
    """When it was rejected, by the daemon's clock; aware."""


def rejected_files(inbox: Path) -> Iterator[RejectedFile]:
    """Yield the rejected files of an inbox.

    Raises:
        OSError: the folder cannot be read.
    """
    root = inbox / REJECTED_FOLDER
    if not root.is_dir():
        return
    for folder, _, names, descriptor in os.fwalk(root, follow_symlinks=False, onerror=_raise):
        for reason in (name for name in names if name.endswith(REASON_SUFFIX)):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(reason, dir_fd=descriptor, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    continue
                name = reason.removesuffix(REASON_SUFFIX)
                sizes = {member: regular_bytes(member, descriptor) for member in members(name, descriptor)}
                path = os.path.relpath(os.path.join(folder, name), inbox)
                since = datetime.fromtimestamp(status.st_mtime, UTC)
                yield RejectedFile(path, since, sum(filter(None, sizes.values())), sizes[name])


def _raise(error: OSError) -> None:
    """Have an error end a walk: a file that cannot be seen must not count as removed."""
    if not isinstance(error, FileNotFoundError):
        raise error


def members(name: str, folder: int) -> list[str]:
    """Return the names that belong to a rejected file; the reason, by which it is found, goes last.

    Args:
        name: The rejected file's.
        folder: Descriptor of its folder.
    """
    options_file = name + OPTIONS_SUFFIX
    if regular_bytes(options_file + REASON_SUFFIX, folder) is not None:  # it was rejected by itself
        return [name, name + REASON_SUFFIX]
    return [name, options_file, name + REASON_SUFFIX]


def regular_bytes(name: str, folder: int) -> int | None:
    """Return the size of a regular file, or None if there is none with that name."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_reason(inbox: Path, rejected: RejectedFile) -> Reason:
    """Read why a file was rejected; a text that a person has rewritten is the reason as it is.

    Raises:
        OSError: it cannot be read.
    """
    folder, _, name = rejected.path.rpartition("/")
    with Folders(inbox) as folders, open(open_regular(name + REASON_SUFFIX, folders.get(folder)), "rb") as file:
        text = file.read(MAX_REASON_BYTES).decode(errors="replace")
    above = folder.removeprefix(REJECTED_FOLDER).lstrip("/")
    below = f"{shown(above)}/" if above else ""
    written = _REASON.fullmatch(text)
    if written is None:
        return Reason(below + shown(name), text.strip(), rejected.since)
    time = datetime.strptime(f"{written['time']} +0000", "%Y-%m-%d %H:%M:%S %z")
    return Reason(below + written["name"], written["reason"], time)
