"""JobView: the job store and the spool as the sidecar sees them, followed change by change; never writes.

It keeps the records as they are on disk and its own order of them, because a list page and a status call must
cost the same with ten jobs and with a hundred thousand; ``JobReader.jobs`` builds every one.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from daemon.errors import StoreError
from daemon.ipc.ticket import Ticket, TicketKind, place_of, read_ticket, ticket_name
from daemon.jobs import JobStatus
from daemon.store.job_index import JobIndex
from daemon.store.journal_reader import JournalReader
from daemon.store.migrations import JOBS, deleted_at, new_tables
from daemon.store.paging import Place

SUBMIT_ENDING = ticket_name("", TicketKind.SUBMIT)
"""Of the names of submissions, after the job's id."""
FRESH_SECONDS = 0.1
"""A folder changed so lately may change again without another time stamp."""


class SpooledSubmissions:
    """The submissions that are not jobs yet, kept up with the spool folder."""

    def __init__(self, spool_dir: Path) -> None:
        self._spool_dir = spool_dir
        self._stamp = 0
        self._due = 0.0
        self.records: dict[str, dict[str, Any]] = {}
        """Job records made of tickets, by job id, oldest first."""
        self.positions: dict[str, int] = {}
        self._places: dict[str, tuple[int, str, str]] = {}
        """What the order goes by, by job id."""

    def refresh(self, force: bool = False) -> bool:
        """Catch up with the folder; tell whether something has changed.

        Raises:
            StoreError: the spool cannot be read.
        """
        try:
            stamp = self._spool_dir.stat().st_mtime_ns
            now = time.monotonic()
            if not force and (stamp == self._stamp or now < self._due):
                return False
            names = [n[: -len(SUBMIT_ENDING)] for n in os.listdir(self._spool_dir) if n.endswith(SUBMIT_ENDING)]
        except FileNotFoundError:
            names, stamp, now = [], 0, time.monotonic()
        except OSError as error:
            raise StoreError(f"The spool cannot be read: {error.strerror}.") from error
        found = {job_id: self.records.get(job_id) or self._read(job_id) for job_id in names}
        changed = found.keys() != self.records.keys()
        if changed:
            self._places = {job_id: self._places[job_id] for job_id in names if job_id in self._places}
            self._keep(record for record in found.values() if record)
        # A spool of many thousand tickets takes long to list, so it is listed less often.
        self._due = time.monotonic() + 20 * (time.monotonic() - now)
        self._stamp = 0 if time.time_ns() - stamp < FRESH_SECONDS * 1e9 else stamp
        return changed

    def add(self, ticket: Ticket) -> None:
        """Know of a ticket that this process has written, before the folder is looked at again."""
        self._places[ticket.job_id] = place_of(self._spool_dir, ticket)
        self._keep([*self.records.values(), ticket.to_job().to_record()])

    def _keep(self, records: Iterable[dict[str, Any]]) -> None:
        ordered = sorted(records, key=lambda record: self._places[record["job_id"]])
        self.records = {record["job_id"]: record for record in ordered}
        self.positions = {job_id: position for position, job_id in enumerate(self.records)}

    def _read(self, job_id: str) -> dict[str, Any] | None:
        try:
            ticket = read_ticket(self._spool_dir / f"{job_id}{SUBMIT_ENDING}")
            self._places[job_id] = place_of(self._spool_dir, ticket)
            return ticket.to_job().to_record()
        except (OSError, ValueError, TypeError, KeyError, RecursionError):  # acted on meanwhile, or the daemon's to say
            return None


class JobView:
    """Jobs and waiting submissions as one. Used by one thread, the event loop's.

    Args:
        data_dir: Of the home.
        spool_dir: Where tickets are.
    """

    def __init__(self, data_dir: Path, spool_dir: Path) -> None:
        self._journal = JournalReader(data_dir, "jobs", new_tables())
        self.order = JobIndex()
        self.waiting = SpooledSubmissions(spool_dir)

    def refresh(self, force: bool = False) -> bool:
        """Catch up; tell whether something has changed.

        The spool comes first: a ticket is removed after its job was recorded, so a submission is never in
        neither.

        Raises:
            StoreError: the job store or the spool cannot be read; what was known stays.
        """
        changed = self.waiting.refresh(force)
        before = self._journal.version
        changes = self._journal.refresh()
        if changes is None:
            self.order.rebuild(self._rows)
        for change in changes or ():
            self.order.update(change.get(JOBS, {}))
        return changed or self._journal.version != before

    @property
    def _rows(self) -> Mapping[str, Any]:
        rows: Mapping[str, Any] = self._journal.tables.get(JOBS, {})
        return rows

    def find(self, job_id: str) -> Mapping[str, Any] | None:
        """Return a job's record, made of its ticket while it waits, or None."""
        sequence = self.order.sequences.get(job_id)
        if sequence is not None:
            record: Mapping[str, Any] = self._rows[str(sequence)]
            return record
        return self.waiting.records.get(job_id)

    def deleted_at(self, job_id: str) -> str | None:
        """Return when a job was deleted, ISO 8601 UTC; None if it was not, or nobody remembers it."""
        return deleted_at(self._journal.tables, job_id)

    def queue_position(self, record: Mapping[str, Any]) -> int | None:
        """Return how many jobs come before a pending one, 0 for the next; None for any other."""
        if record["status"] != JobStatus.PENDING:
            return None
        pending = self.order.ordered(JobStatus.PENDING)
        if record["sequence"]:
            return bisect_left(pending, record["sequence"])
        return len(pending) + self.waiting.positions.get(record["job_id"], 0)

    def queue_length(self) -> int:
        """Return how many jobs wait, those that are still tickets included."""
        new = sum(job_id not in self.order.sequences for job_id in self.waiting.records)
        return len(self.order.ordered(JobStatus.PENDING)) + new

    def oldest_pending(self) -> Mapping[str, Any] | None:
        """Return the pending job that came first, or None."""
        pending = self.order.ordered(JobStatus.PENDING)
        if pending:
            record: Mapping[str, Any] = self._rows[str(pending[0])]
            return record
        return next(iter(self.waiting.records.values()), None)

    def counts(self) -> dict[JobStatus, int]:
        """Return how many jobs are in each status."""
        counts = self.order.counts()
        counts[JobStatus.PENDING] = self.queue_length()
        return counts

    def waiting_before(self, place: Place | None) -> list[Mapping[str, Any]]:
        """Return the waiting submissions that come after a place in a list, newest first."""
        if place and (place.sequence or place.job_id in self.order.sequences):
            return []
        new: list[Mapping[str, Any]] = [
            r for job_id, r in self.waiting.records.items() if job_id not in self.order.sequences
        ]
        if place:
            before = self.waiting.positions.get(place.job_id, 0)
            new = [record for record in new if self.waiting.positions[record["job_id"]] < before]
        return new[::-1]

    def jobs_before(self, sequence: float, status: JobStatus | None, most: int) -> list[Mapping[str, Any]]:
        """Return the jobs with the highest sequences below one, newest first."""
        ordered = self.order.ordered(status)
        end = bisect_left(ordered, sequence)
        return [self._rows[str(s)] for s in reversed(ordered[max(0, end - most) : end])]

    def with_status(self, status: JobStatus) -> Iterator[Mapping[str, Any]]:
        """Go through the jobs in one status, oldest first."""
        for sequence in list(self.order.ordered(status)):
            yield self._rows[str(sequence)]

    def close(self) -> None:
        """Let go of the files."""
        self._journal.close()
