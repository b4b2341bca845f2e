"""TicketReader: the tickets in the spool as the daemon follows them, a slice of time after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

from daemon.ipc.spool import read_named
from daemon.ipc.ticket import Ticket, place_of, ticket_names

AT_ONCE = 100
"""Tickets read between two looks at the clock."""


class TicketReader:
    """Reads each ticket once, so that thousands that wait cost a listing of their names.

    Args:
        spool_dir: The spool.
        clock: Monotonic time in seconds.
    """

    def __init__(self, spool_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._spool_dir = spool_dir
        self._clock = clock
        self._known: dict[str, tuple[tuple[int, str, str], Ticket]] = {}
        """Each with its place, by name."""

    def read(self, until: float) -> list[Ticket] | None:
        """Return all tickets, oldest first; move malformed ones to ``bad/`` with a log line.

        Args:
            until: Monotonic time in seconds, after which nothing more is read.

        Returns:
            None if not all could be read by then; the next call goes on from there.

        Raises:
            OSError: the spool is there and cannot be read.
        """
        names = ticket_names(self._spool_dir)
        there = set(names)
        self._known = {name: known for name, known in self._known.items() if name in there}
        new = [name for name in names if name not in self._known]
        for start in range(0, len(new), AT_ONCE):
            if start and self._clock() >= until:
                return None
            for ticket in read_named(self._spool_dir, new[start : start + AT_ONCE], move_bad=True):
                self._known[ticket.name] = place_of(self._spool_dir, ticket), ticket
        return [ticket for _, ticket in sorted(self._known.values(), key=itemgetter(0))]

    def forget(self, ticket: Ticket) -> None:
        """Read a ticket anew the next time, as it was written anew."""
        self._known.pop(ticket.name, None)
