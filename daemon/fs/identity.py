"""Which content a path holds, and opening it without following a link."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat

from daemon.fs.locks import fcntl
from daemon.jobs import Identity


def identity_of(status: os.stat_result) -> Identity:
    """Return which content a status belongs to."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def shown(path: str) -> str:
    """Return a path as it may stand in a log line: undecodable bytes and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def to_claim(path: str) -> str:
    """Write a path so that it can be stored as UTF-8: an undecodable byte becomes NUL and two hex digits."""
    return re.sub(r"[\udc80-\udcff]", lambda byte: f"\0{ord(byte[0]) - 0xDC00:02x}", path)


def from_claim(path: str) -> str:
    """Undo ``to_claim``; no file name holds a NUL, so nothing is ambiguous."""
    return re.sub(r"\0([0-9a-f]{2})", lambda byte: chr(0xDC00 + int(byte[1], 16)), path)


def has_writer(descriptor: int) -> bool | None:
    """Tell whether anybody has an open file open for writing; None where that cannot be known.

    A read lease (fcntl(2), F_SETLEASE) is granted only while nobody has. It needs the file's owner or
    CAP_LEASE, and a file system that keeps leases. It is given back at once.
    """
    try:
        # Should a writer come just now, the kernel sends a signal; SIGIO, the default, would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def open_regular(name: str, folder: int) -> int:
    """Open a regular file of a folder for reading, never following a link or waiting for a pipe.

    Raises:
        OSError: it cannot be opened; EINVAL if it is not a regular file.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", name)
