"""JournalFile: one journal, to which lines are added."""

from __future__ import annotations

import os

from daemon.failpoints import failpoint
from daemon.store.journal_files import Files


class JournalFile:
    """One journal, to which lines are added behind its last good one. Not open until ``open``.

    Args:
        files: Of the store.
        generation: Of the journal.
        size: Bytes of it that are good.
    """

    def __init__(self, files: Files, generation: int, size: int = 0) -> None:
        self.generation = generation
        self.size = size
        self.sound = True
        """False once nobody can know what the disk holds of it; it must not be written to again."""
        self._path = files.journal(generation)
        self._fd = -1

    def open(self) -> None:
        """Open it, and make it if it is missing; it may be open already.

        Raises:
            OSError: it cannot be opened.
        """
        if self._fd < 0:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o644)

    def trim(self) -> None:
        """Cut off what is behind the good lines, and make those durable.

        Raises:
            OSError: it could not be done.
        """
        if os.fstat(self._fd).st_size != self.size:
            os.ftruncate(self._fd, self.size)
        if self.size:
            self.sync()  # what was read may be in the cache alone, left there by a killed process
        else:
            os.fsync(self._fd)  # nothing of an empty journal can be lost, so this may fail and be tried again

    def append(self, lines: bytes, durable: bool) -> None:
        """Add lines.

        Raises:
            OSError: they are not stored, and were taken back if the disk let us.
        """
        try:
            _write_all(self._fd, lines)
            failpoint("journal.written")
            if durable:
                self.sync()
        except OSError:
            self._cut()
            raise
        self.size += len(lines)

    def sync(self) -> None:
        """Make all lines durable.

        Raises:
            OSError: some may be lost.
        """
        try:
            os.fsync(self._fd)
        except OSError:
            # The kernel reports a lost write once and then forgets it, so a second fsync proves nothing.
            self.sound = False
            raise

    def close(self) -> None:
        """Let go of it as it is; it may be closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self.sound = False


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
