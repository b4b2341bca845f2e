"""The folders that all machines of a cluster share: a mark in each tells whether a machine sees it, at that path."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from daemon.errors import ResourceUnavailable
from daemon.fs.atomic import atomic_write
from daemon.settings import Settings

MARK = ".cluster"
"""Name of the file in each of the folders, whose content is new with each start of the driver."""


def shared_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders; each may be a volume of its own."""
    return settings.videos_dir, settings.models_dir


def put_mark(settings: Settings) -> str:
    """Put a new mark into each folder; return what it says.

    Raises:
        OSError: a folder cannot be written.
    """
    said = os.urandom(16).hex()
    for folder in shared_folders(settings):
        with atomic_write(folder / MARK) as file:
            file.write(said.encode())
    return said


def require_share(settings: Settings, said: str) -> None:
    """Make sure that this machine sees the mark in each folder, and can write beside it.

    Raises:
        ResourceUnavailable: it does not, or cannot; the text names the machine and the folder.
    """
    for folder in shared_folders(settings):
        _require(folder, said)


def _require(folder: Path, said: str) -> None:
    here = socket.gethostname()
    try:
        if (folder / MARK).read_text() != said:
            raise ResourceUnavailable(
                f"{folder} of {here} is another folder than Dropframe's; mount the same one there (docs/scale-out.md)."
            )
        probe = folder / f"{MARK}-{here}-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ResourceUnavailable(
            f"{folder} cannot be used on {here}: {error.strerror}. Mount Dropframe's data folder there, at the same "
            "path (docs/scale-out.md)."
        ) from error
