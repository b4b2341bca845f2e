"""How much room a disk has, and which errors mean that it has none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Why a write fails for want of room."""

TRANSIENT_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Why a write fails now and may work later."""


def free_bytes(path: Path) -> int:
    """Return the bytes that this user can still write on the file system of a path.

    Raises:
        OSError: the path cannot be reached, or the file system is read-only.
    """
    room = os.statvfs(path)
    if room.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    return room.f_bavail * room.f_frsize


class DiskGuard:
    """Says whether a disk has room to spare; nobody else compares with ``min_free_bytes``.

    Args:
        folder: A folder on the disk that this process may write.
        least: Bytes that stay free, the setting ``min_free_bytes``.
    """

    def __init__(self, folder: Path, least: int) -> None:
        self.folder = folder
        self.least = least

    def free(self) -> int | None:
        """Return the free bytes, or None if the folder cannot be asked or written."""
        try:
            return free_bytes(self.folder)
        except OSError:
            return None

    def room(self) -> int:
        """Return how many bytes may be written; negative when the disk is too full already.

        Raises:
            OSError: the folder cannot be asked or written.
        """
        return free_bytes(self.folder) - self.least

    def shortage(self, more: int = 0) -> str | None:
        """Say why so many more bytes cannot be written, in a sentence; None if they can."""
        try:
            room = self.room()
        except OSError as error:
            return f"The folder {self.folder} cannot be used: {error.strerror}."
        if room >= more:
            return None
        return (
            f"Fewer than {self.least + more} bytes are free for {self.folder} (min_free_bytes). Make room, or lower it."
        )
