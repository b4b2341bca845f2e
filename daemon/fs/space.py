"""How much room a disk has, and what errors say that it has none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Why a write fails for want of room."""


TRANSIENT_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""What a disk says that does not let us just now."""


def free_bytes(path: Path) -> int:
    """Return the bytes that this user can still write on the file system of a path.

    Raises:
        OSError: the path cannot be reached, or the file system is read-only.
    """
    room = os.statvfs(path)
    if room.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    return room.f_bavail * room.f_frsize
