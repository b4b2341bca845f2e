"""Rejected files: moved to ``rejected/`` in the inbox, beside a text file that says why."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from daemon.errors import SourceChanged
from daemon.fs.folders import Folders
from daemon.fs.identity import identity_of, shown
from daemon.fs.moves import move_file, rename_new, with_free_name
from daemon.ingest.model import REJECTED_FOLDER, Dropped
from daemon.ingest.names import OPTIONS_SUFFIX

REASON_SUFFIX = ".reason.txt"
OTHER_DISK = frozenset({errno.EXDEV})
"""When to copy. A file that may not be moved is not copied either, or it would be rejected anew each day."""


def quarantine(
    inbox: Path, dropped: Dropped, reason: str, when: datetime, stopping: Callable[[], bool] = lambda: False
) -> str:
    """Move a file, its options file too, to the same place below ``rejected/``; write the reason beside it.

    The reason comes first, so that no rejected file is ever without one. A name that is taken gets a number.

    Args:
        inbox: The inbox folder.
        dropped: The file.
        reason: One sentence, and what to do next.
        when: Written into the reason file, in UTC.
        stopping: Asked while a file is copied to another file system.

    Returns:
        Where it is now, below the inbox.

    Raises:
        SourceChanged: the file is not the one that was rejected; it stays.
        OSError: it cannot be moved; it stays.
    """
    folder, _, name = dropped.path.rpartition("/")
    below = f"{REJECTED_FOLDER}/{folder}" if folder else REJECTED_FOLDER
    with Folders(inbox) as folders:
        source = folders.get(folder)
        target = folders.get(below, make=True)
        text = reason_text(name, reason, when)

        def place(free: str) -> str:
            _write_reason(free + REASON_SUFFIX, target, text)
            try:
                gone = move_file(name, source, free, target, dropped.identity, copy_when=OTHER_DISK, stopping=stopping)
                if not gone:
                    os.unlink(free, dir_fd=target)
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
            except BaseException:
                os.unlink(free + REASON_SUFFIX, dir_fd=target)
                raise
            return free

        free = with_free_name(name, target, place, also=(REASON_SUFFIX, OPTIONS_SUFFIX))
        if dropped.options_path:
            _move_options(dropped.options_path.rpartition("/")[2], source, free + OPTIONS_SUFFIX, target)
        folders.fsync()
    return f"{below}/{free}"


def reason_text(name: str, reason: str, when: datetime) -> str:
    """Return what is written beside a rejected file.

    Args:
        name: Its name, without its folder.
        reason: Sentences.
        when: In UTC.
    """
    return f"{shown(name)} was not taken in.\n\n{reason}\n\nTime: {when:%Y-%m-%d %H:%M:%S} UTC\n"


def _move_options(name: str, source: int, target: str, target_folder: int) -> None:
    """Move an options file, which may be a link or a pipe; one that cannot be moved stays, as the video has gone."""
    with contextlib.suppress(OSError, SourceChanged):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            move_file(name, source, target, target_folder, identity_of(status), copy_when=OTHER_DISK)
        else:
            rename_new(name, source, target, target_folder)


def _write_reason(name: str, folder: int, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o644, dir_fd=folder), "w", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise
