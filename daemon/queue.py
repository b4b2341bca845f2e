"""QueueService and InMemoryQueueService: which job is next.

The store is the truth; the queue is rebuilt from it at start, so nothing here is written to disk.
"""

from __future__ import annotations

import heapq
import threading
import time
from typing import Protocol


class QueueService(Protocol):
    """First in, first out by sequence, among the entries that are due."""

    def enqueue(self, job_id: str, sequence: int | None = None, due: float = 0.0) -> None:
        """Add a job, or change when it is due if it is in already.

        Args:
            job_id: Which job.
            sequence: Its place: of the jobs that are due the lowest leaves first. None keeps the place of a job
                that is in already, and puts another one behind all that ever were.
            due: Monotonic time in seconds before which it stays.
        """

    def dequeue(self, now: float | None = None) -> str | None:
        """Take the due job with the lowest sequence, or None if none is due.

        Args:
            now: Monotonic time in seconds; the present if not given.
        """

    def remove(self, job_id: str) -> bool:
        """Take a job out wherever it stands; False if it is not in."""

    def next_due(self) -> float | None:
        """Return the monotonic time at which the first entry is due, or None when empty."""

    def size(self) -> int:
        """Return the number of jobs in the queue, due or not."""


class InMemoryQueueService:
    """A QueueService for one process; safe to use from any thread.

    Two heaps: ``_waiting`` by the time an entry is due, ``_due`` by sequence. An entry that was removed or
    moved stays in its heap as a ghost, known by not being the one in ``_entries``, until it comes up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[int, float]] = {}
        self._waiting: list[tuple[float, int, str]] = []
        self._due: list[tuple[int, float, str]] = []
        self._last = 0
        """The highest sequence so far."""

    def enqueue(self, job_id: str, sequence: int | None = None, due: float = 0.0) -> None:
        """See QueueService.enqueue."""
        with self._lock:
            if sequence is None:
                sequence, _ = self._entries.get(job_id, (self._last + 1, due))
            self._last = max(self._last, sequence)
            self._entries[job_id] = (sequence, due)
            heapq.heappush(self._waiting, (due, sequence, job_id))

    def dequeue(self, now: float | None = None) -> str | None:
        """See QueueService.dequeue."""
        with self._lock:
            now = time.monotonic() if now is None else now
            while self._waiting and self._waiting[0][0] <= now:
                due, sequence, job_id = heapq.heappop(self._waiting)
                heapq.heappush(self._due, (sequence, due, job_id))
            while self._due:
                sequence, due, job_id = heapq.heappop(self._due)
                if self._entries.get(job_id) == (sequence, due):
                    del self._entries[job_id]
                    return job_id
            return None

    def remove(self, job_id: str) -> bool:
        """See QueueService.remove."""
        with self._lock:
            return self._entries.pop(job_id, None) is not None

    def next_due(self) -> float | None:
        """See QueueService.next_due."""
        with self._lock:
            return min((due for _, due in self._entries.values()), default=None)

    def size(self) -> int:
        """See QueueService.size."""
        with self._lock:
            return len(self._entries)
