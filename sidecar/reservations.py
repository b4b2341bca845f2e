"""Reservations: room on the data disk that is promised to uploads whose bytes are still to come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.fs.space import DiskGuard
from sidecar.problems import Problem


def disk_full() -> Problem:
    """Return a 507."""
    return Problem(
        507,
        "The disk is too full for this video: what min_free_bytes says stays free, and so does what other uploads have "
        "still to send. Make room, or submit it later.",
        "disk-full",
    )


class Reservation:
    """What one upload may write. It grows where the client has not announced how much will come.

    Args:
        ledger: Knows those of all uploads.
        announced: Bytes; 0 where the client does not say.
    """

    def __init__(self, ledger: Reservations, announced: int) -> None:
        self._ledger = ledger
        self.promised = announced
        self.written = 0

    @property
    def outstanding(self) -> int:
        """Bytes that are promised and not written yet."""
        return max(0, self.promised - self.written)

    def allow(self, size: int) -> None:
        """Let the upload write so many bytes.

        Raises:
            Problem: 507, there is no room for what was not announced, or others than uploads have filled the disk.
            OSError: the disk cannot be asked.
        """
        self._ledger.allow(self, size)

    def wrote(self, size: int) -> None:
        """Note that so many more bytes are on the disk."""
        self.written += size


class Reservations:
    """All that is promised. Used by the event loop and by the threads that write.

    The disk counts a byte as taken from when it is written on, so what is free for others is its room less what is
    promised and not written yet.

    Args:
        disk: Returns what watches the disk that uploads are on.
    """

    def __init__(self, disk: Callable[[], DiskGuard]) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._open: set[Reservation] = set()

    @contextmanager
    def reserve(self, announced: int) -> Iterator[Reservation]:
        """Promise room to an upload until the end of the block, however that comes.

        Raises:
            Problem: 507, there is not so much.
            OSError: the disk cannot be asked.
        """
        reservation = Reservation(self, announced)
        with self._lock:
            if self._room() < announced:
                raise disk_full()
            self._open.add(reservation)
        try:
            yield reservation
        finally:
            with self._lock:
                self._open.discard(reservation)

    def allow(self, reservation: Reservation, size: int) -> None:
        """See Reservation.allow."""
        with self._lock:
            more = size - reservation.outstanding
            if self._disk().room() < size or (more > 0 and self._room() < more):
                raise disk_full()
            reservation.promised += max(0, more)

    def _room(self) -> int:
        # A byte that is written between the two looks counts twice, never not at all.
        outstanding = sum(reservation.outstanding for reservation in self._open)
        return self._disk().room() - outstanding
