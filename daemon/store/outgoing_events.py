"""OutgoingEvents: what receivers are still to be told, kept in the job store.

An event comes into the store in the commit that ends its job, so that no kill lies between the two. Its row stays
until every receiver has it: what a receiver is owed is noted by the receiver's key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from daemon.jobs import Job
from daemon.logs import LogOnce
from daemon.store.journal_files import Changes
from daemon.store.migrations import EVENTS, RECEIVERS
from daemon.store.tinydb_table import JobStorage, JournalTable

log = logging.getLogger(__name__)

MOST_EVENTS = 50_000
"""About 100 MB of memory. Above this the oldest is dropped for each new one: receivers that never answer must not fill
memory and disk."""

AT_ONCE = 200
"""Events that are stored in one commit."""

Row = dict[str, Any]
"""An event: ``type``, ``time`` (ISO 8601 UTC), ``subject``, ``data``, and ``owed``, by receiver what is known of the
attempts to tell it: ``attempts``, ``due`` (ISO 8601 UTC), ``problem`` and ``given_up``, as far as there is any."""


class OutgoingEvents:
    """The events of a store. Safe to use from any thread.

    Args:
        storage: Of the store.
        table: That of its jobs, whose lock and commits these are, too.
    """

    def __init__(self, storage: JobStorage, table: JournalTable) -> None:
        self._storage = storage
        self._table = table
        self.make: Callable[[Job], Mapping[str, Row]] = lambda job: {}
        """Returns the events, by id, of a job that has just ended; without it there are none."""
        self.heard: Callable[[Mapping[str, Row | None]], None] = lambda rows: None
        """Is told of new events, and with None of those that are dropped, with the lock held: whoever looks for them
        then finds them once they are stored."""
        self._too_many = LogOnce(log)

    def of(self, jobs: Iterable[Job]) -> Changes:
        """Return what has to be stored in the commit in which jobs come into their status."""
        rows: dict[str, Row] = {}
        for job in jobs:
            if job.ended:
                rows |= self.make(job)
        return self._adding(rows)

    def add(self, rows: Mapping[str, Row]) -> None:
        """Store events that are not about a change of a job; one that is there is owed to more receivers.

        Many are stored in several commits, so that nobody waits long for the lock.

        Raises:
            StoreError: the store cannot be written; some may have been stored.
        """
        ids = list(rows)
        for start in range(0, len(ids), AT_ONCE):
            with self._table.lock:
                there = self._rows()
                some = {event_id: rows[event_id] for event_id in ids[start : start + AT_ONCE]}
                for event_id in some.keys() & there.keys():
                    row = some[event_id]
                    some[event_id] = {**row, "owed": {**there[event_id]["owed"], **row["owed"]}}
                self._table.commit({}, others=self._adding(some))

    def _adding(self, rows: Mapping[str, Row]) -> Changes:
        if not rows:
            return {}
        there = self._rows()
        changes: dict[str, Row | None] = dict(rows)
        if (surplus := len(there.keys() | rows.keys()) - MOST_EVENTS) > 0:
            self._too_many(f"More than {MOST_EVENTS} events wait for their receivers; the oldest are dropped.")
            oldest = sorted(there.keys() - rows.keys(), key=lambda event_id: str(there[event_id]["time"]))
            changes |= dict.fromkeys(oldest[:surplus])
        self.heard(changes)
        return {EVENTS: changes}

    def find(self, event_id: str) -> Row | None:
        """Return an event; None once every receiver has it."""
        with self._table.lock:
            return self._rows().get(event_id)

    def owed_to(self, receiver: str) -> dict[str, Row]:
        """Return the events that a receiver is owed, those that were given up included; the oldest first."""
        with self._table.lock:
            found = [(event_id, row) for event_id, row in self._rows().items() if receiver in row["owed"]]
        return dict(sorted(found, key=lambda pair: str(pair[1]["time"])))

    def note(self, event_id: str, receiver: str, state: Row | None) -> None:
        """Note how it stands with an event for a receiver.

        Args:
            event_id: Which event.
            receiver: Its key.
            state: What its row says of the receiver; None once it has the event.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._table.lock:
            if (row := self._rows().get(event_id)) is not None:
                # A power cut may undo it, and the receiver is told twice.
                self._table.commit({}, durable=False, others={EVENTS: {event_id: _noted(row, receiver, state)}})

    def switch_off(self, receiver: str, now: str) -> None:
        """Note that a receiver wants no more events; what it is owed stays, in case it is switched on again.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._table.lock:
            self._table.commit({}, others={RECEIVERS: {receiver: {"off_since": now}}})

    def off_since(self, receiver: str) -> str | None:
        """Return since when a receiver is switched off; None if it is not."""
        with self._table.lock:
            row = self._storage.read().get(RECEIVERS, {}).get(receiver)
        return None if row is None else str(row["off_since"])

    def switch_on(self, receiver: str) -> None:
        """Switch a receiver on again.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._table.lock:
            if self.off_since(receiver) is not None:
                self._table.commit({}, others={RECEIVERS: {receiver: None}})

    def forget(self, before: str, receivers: Iterable[str]) -> list[str]:
        """Forget what has been given up, or is owed to receivers that are not told any more; return their ids.

        Args:
            before: ISO 8601 UTC; only events that are older.
            receivers: Those that are told.

        Raises:
            StoreError: the store cannot be written.
        """
        known = frozenset(receivers)
        with self._table.lock:
            old = [
                event_id
                for event_id, row in self._rows().items()
                if row["time"] < before
                and not any(key in known and "given_up" not in state for key, state in row["owed"].items())
            ]
            if old:
                self._table.commit({}, others={EVENTS: dict.fromkeys(old)})
        return old

    def _rows(self) -> Mapping[str, Row]:
        rows: Mapping[str, Row] = self._storage.read().get(EVENTS, {})
        return rows


def _noted(row: Row, receiver: str, state: Row | None) -> Row | None:
    """Return a row with another state of a receiver; None if nobody is owed it any more."""
    owed = {key: known for key, known in row["owed"].items() if key != receiver}
    if state is not None:
        owed[receiver] = state
    return {**row, "owed": owed} if owed else None
