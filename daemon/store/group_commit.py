"""GroupCommit: what several threads change of jobs at about the same time goes to the disk with one sync.

While one thread waits for the disk, others line up with what they want to change. When it is back one of them stores
all of it, so each waits for two syncs at most, and a hundred need few. Every change is a line of its own, as if it had
been made alone: it is checked, refused and told of by itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from daemon.jobs import Job, timestamp
from daemon.store.journal_files import Changes, NoJsonForm
from daemon.store.outgoing_events import OutgoingEvents
from daemon.store.tinydb_table import JournalTable

Commit = tuple[Mapping[int, Any], Changes]
"""What ``JournalTable.commit_all`` takes."""


@dataclass(eq=False)
class Change:
    """New values of a job's fields; those of one that has its ``status`` among them are a move."""

    job_id: str
    fields: Mapping[str, Any]
    durable: bool = True
    outcome: Job | BaseException | None = field(default=None, init=False)
    """The job as it is then, or why it is as it was; None as long as nobody knows."""

    def result(self) -> Job:
        """Return the job; raises why it was not changed."""
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome


class GroupCommit:
    """Stores changes of jobs. Safe to use from any thread; a change is stored when ``carry_out`` returns.

    Args:
        table: Of the jobs; its lock is held while they are stored.
        get: Returns a job, or raises that there is none; called with the lock held.
        events: Say what has to be stored besides when a job ends.
        clock: Returns the present as an aware datetime.
    """

    def __init__(
        self, table: JournalTable, get: Callable[[str], Job], events: OutgoingEvents, clock: Callable[[], datetime]
    ) -> None:
        self._table = table
        self._get = get
        self._events = events
        self._clock = clock
        self._turn = threading.Condition()
        self._waiting: deque[Change] = deque()
        self._is_storing = False

    def carry_out(self, *changes: Change) -> None:
        """Store changes; the outcome of each is in it afterwards. Those of one job are made in this order.

        Nobody may hold the lock of the table who calls this.
        """
        with self._turn:
            self._waiting.extend(changes)
            self._turn.wait_for(lambda: not self._is_storing or not _are_open(changes))
            if not _are_open(changes):
                return
            self._is_storing = True
        try:
            with self._table.lock:
                while _are_open(changes):
                    self._store(self._next_group())
        finally:
            with self._turn:
                self._is_storing = False
                self._turn.notify_all()

    def _next_group(self) -> list[Change]:
        """Take what waits, up to a second change of a job: that one needs to know what becomes of the first."""
        group: dict[str, Change] = {}
        while self._waiting and self._waiting[0].job_id not in group:
            change = self._waiting.popleft()
            group[change.job_id] = change
        return list(group.values())

    def _store(self, group: Sequence[Change]) -> None:
        """Store changes of different jobs, or say of each why not."""
        commits: dict[Change, Commit] = {}
        try:
            for change in group:
                try:
                    commits[change] = self._commit_of(change)
                except Exception as error:
                    change.outcome = error
            if commits:
                self._table.commit_all([*commits.values()], any(change.durable for change in commits))
            for change in commits:
                change.outcome = self._get(change.job_id)
        except BaseException as error:
            if isinstance(error, NoJsonForm) and len(commits) > 1:  # nothing was written, and one of them is to blame
                for change in commits:
                    self._store([change])
            for change in group:
                change.outcome = change.outcome or error
            if not isinstance(error, Exception):
                raise

    def _commit_of(self, change: Change) -> Commit:
        before = self._get(change.job_id)
        if "status" in change.fields:
            before.check_move(change.fields["status"])
        now = self._clock()
        with suppress(ValueError):  # never before the last change, even when the clock was put back
            now = max(now, datetime.fromisoformat(before.updated_at) + timedelta(microseconds=1))
        job = replace(before, **change.fields, updated_at=timestamp(now))
        others = self._events.of([job]) if job.status is not before.status else {}
        return {job.sequence: job.to_record()}, others


def _are_open(changes: Sequence[Change]) -> bool:
    return any(change.outcome is None for change in changes)
