"""The folder that all machines of a cluster share: a mark in it tells whether a machine sees it, at the same path."""

from __future__ import annotations

import os
import socket

from daemon.errors import ResourceUnavailable
from daemon.fs.atomic import atomic_write
from daemon.settings import Settings

MARK = ".cluster"
"""Name of the file in the folder of the videos, whose content is new with each start of the driver."""


def put_mark(settings: Settings) -> str:
    """Put a new mark; return what it says.

    Raises:
        OSError: the folder cannot be written.
    """
    said = os.urandom(16).hex()
    with atomic_write(settings.videos_dir / MARK) as file:
        file.write(said.encode())
    return said


def require_share(settings: Settings, said: str) -> None:
    """Make sure that this machine sees the mark, and can write beside it.

    Raises:
        ResourceUnavailable: it does not, or cannot; the text names the machine and the folder.
    """
    folder, here = settings.videos_dir, socket.gethostname()
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
