"""Agenda: which files want to be looked at when."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from typing import NamedTuple

from daemon.ingest.stability import TrackedFile


class _Item(NamedTuple):
    """A look that is due; the file with the lower order is looked at first."""

    due: float
    order: int
    path: str


class Agenda:
    """The looks that are due. Planning a file anew replaces what was planned for it.

    Args:
        tracked: The files by path; one that leaves it is forgotten.
    """

    def __init__(self, tracked: Mapping[str, TrackedFile]) -> None:
        self._tracked = tracked
        self._items: list[_Item] = []
        self._arrivals = itertools.count()

    def plan(self, tracked: TrackedFile, due: float) -> None:
        """Have a file looked at; of those that are due at the same time the oldest first.

        Args:
            tracked: Which one.
            due: Monotonic time in seconds.
        """
        tracked.due = due
        order = tracked.identity.mtime_ns if tracked.identity else next(self._arrivals)
        heapq.heappush(self._items, _Item(due, order, tracked.path))

    def next_due(self) -> float | None:
        """Return when the next look is due; None if there is none."""
        while self._items and self._is_stale(self._items[0]):
            heapq.heappop(self._items)
        return self._items[0].due if self._items else None

    def take(self, now: float, most: int) -> dict[str, TrackedFile]:
        """Return the files that are due, and plan nothing more for them.

        Args:
            now: Monotonic time in seconds.
            most: How many at most.
        """
        found: dict[str, TrackedFile] = {}
        while self._items and self._items[0].due <= now and len(found) < most:
            item = heapq.heappop(self._items)
            if not self._is_stale(item):
                found[item.path] = self._tracked[item.path]
        return found

    def _is_stale(self, item: _Item) -> bool:
        tracked = self._tracked.get(item.path)
        return tracked is None or tracked.due != item.due
