"""DueEvents: which events wait for a receiver, and when each is due."""

from __future__ import annotations

import heapq


class DueEvents:
    """Event ids in the order in which they are due. One thread changes it; others may ask how many wait."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, str]] = []
        """Monotonic seconds, time of the event, its id."""
        self._waiting: dict[str, tuple[float, str, str]] = {}
        """What is valid of the heap, by id of the event."""

    def put(self, event_id: str, time_of: str, due: float) -> None:
        """Have an event wait, or another while.

        Args:
            event_id: Which event.
            time_of: When it happened, ISO 8601 UTC; of those that are due together the oldest comes first.
            due: Monotonic time in seconds.
        """
        self._waiting[event_id] = entry = (due, time_of, event_id)
        heapq.heappush(self._heap, entry)

    def remove(self, event_id: str) -> None:
        """Have an event wait no more."""
        self._waiting.pop(event_id, None)

    def first(self) -> tuple[str, float] | None:
        """Return the event that is due first, and when; None if none waits."""
        while self._heap:
            due, _, event_id = self._heap[0]
            if self._waiting.get(event_id) == self._heap[0]:
                return event_id, due
            heapq.heappop(self._heap)
        return None

    def make_all_due(self, now: float) -> None:
        """Have everything be due now, monotonic time in seconds."""
        self._heap = [(now, time_of, event_id) for _, time_of, event_id in self._waiting.values()]
        heapq.heapify(self._heap)
        self._waiting = {entry[2]: entry for entry in self._heap}

    def times(self) -> list[str]:
        """Return when each of those that wait happened; callable from any thread."""
        return [time_of for _, time_of, _ in list(self._waiting.values())]
