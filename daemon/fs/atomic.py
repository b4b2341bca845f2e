"""Writing a file whole or not at all, and clearing away what killed writers left."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from daemon.failpoints import failpoint

TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{12}\.tmp")
"""Names that ``atomic_write`` gives; one that is old was left by a process that was killed."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its final place, fsync it, rename it there, fsync the folder.

    The temporary name starts with "." and is opened with O_EXCL and O_NOFOLLOW, so a planted link is never
    written through. On any error it is removed and the old file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{os.urandom(6).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        failpoint("storage.written")
        temporary.replace(path)
        failpoint("storage.renamed")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they commit renames by themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sweep(
    folder: Path,
    older_seconds: float,
    names: re.Pattern[str] = TEMPORARY,
    deep: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Remove what killed processes left; links are not followed, and what cannot be removed stays.

    Args:
        folder: Where to look; nothing happens if it is not there.
        older_seconds: Younger ones may still be written to.
        names: Whole names of what goes, files and folders.
        deep: Look into folders below too.
        stopping: Asked at every folder; True ends it.

    Returns:
        How many were removed.
    """
    oldest = time.time() - older_seconds
    removed = 0
    with contextlib.suppress(OSError):  # not there, gone meanwhile, or too many files are open
        for _, folders, files, descriptor in os.fwalk(folder.resolve(), follow_symlinks=False):
            if stopping():
                break
            for name in filter(names.fullmatch, [*folders, *files]):
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if status.st_mtime > oldest:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        shutil.rmtree(name, dir_fd=descriptor)
                    else:
                        os.unlink(name, dir_fd=descriptor)
                    removed += 1
            if not deep:
                break
    return removed
