"""JobReader: the jobs as another process sees them, read from the files of the store."""

from __future__ import annotations

import copy
import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any, Self

from daemon.errors import UnknownJob
from daemon.jobs import Job, JobStatus
from daemon.store.job_index import JobIndex
from daemon.store.journal_reader import JournalReader
from daemon.store.migrations import JOBS, deleted_at, new_tables


def read_job(record: Mapping[str, Any]) -> Job:
    """Build a job that shares nothing with its record that could be changed."""
    summary = record.get("summary")
    return Job.from_record({**record, "summary": copy.deepcopy(summary)} if summary else record)


def read_jobs(rows: Mapping[str, Any], sequences: Iterable[int]) -> list[Job]:
    """Build the jobs with these sequences."""
    return [read_job(rows[str(sequence)]) for sequence in sequences]


class JobReader:
    """The jobs as another process sees them: read only, without the lock, safe to use from any thread.

    Shows no jobs while there is no store. Nothing changes but by ``refresh``.

    Args:
        folder: That of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._journal = JournalReader(folder, "jobs", new_tables())
        self._index = JobIndex()
        self._lock = RLock()

    @property
    def version(self) -> int:
        """Grows when something has changed."""
        return self._journal.version

    def refresh(self) -> bool:
        """Catch up with the daemon; return whether something has changed.

        Raises:
            StoreDamaged: no readable copy of the job file is left.
            StoreError: it cannot be read.
        """
        with self._lock:
            before = self.version
            changes = self._journal.refresh()
            if changes is None:
                self._index.rebuild(self._rows)
            for change in changes or ():
                self._index.update(change.get(JOBS, {}))
            return self.version != before

    @property
    def _rows(self) -> Mapping[str, Any]:
        rows: Mapping[str, Any] = self._journal.tables.get(JOBS, {})
        return rows

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJob: there is none with that id.
        """
        job = self.find(job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id!r}.")
        return job

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        with self._lock:
            sequence = self._index.sequences.get(job_id)
            return None if sequence is None else read_job(self._rows[str(sequence)])

    def deleted_at(self, job_id: str) -> str | None:
        """Return when a job was deleted, ISO 8601 UTC; None if it was not, or nobody remembers it."""
        with self._lock:
            return deleted_at(self._journal.tables, job_id)

    def jobs(self, status: JobStatus | None = None) -> list[Job]:
        """Return all jobs, or those in one status, by sequence."""
        with self._lock:
            return read_jobs(self._rows, self._index.ordered(status))

    def sequence(self, job_id: str) -> int | None:
        """Return a job's sequence; None if there is none with that id."""
        with self._lock:
            return self._index.sequences.get(job_id)

    def queue_position(self, sequence: int) -> int:
        """Return how many pending jobs come before one."""
        with self._lock:
            return bisect_left(self._index.ordered(JobStatus.PENDING), sequence)

    def select(
        self, wanted: Callable[[Mapping[str, Any]], bool], newest: int | None = None, below: int | None = None
    ) -> list[Job]:
        """Return the jobs whose record is wanted, by sequence.

        Args:
            wanted: Asked about each record, which it must not change.
            newest: At most so many, the newest; no other job is built.
            below: Only those with a lower sequence.
        """
        with self._lock:
            ordered = self._index.ordered()
            end = len(ordered) if below is None else bisect_left(ordered, below)
            rows = (self._rows[str(ordered[place])] for place in range(end - 1, -1, -1))
            found = [read_job(record) for record in itertools.islice(filter(wanted, rows), newest)]
        return found[::-1]

    def counts(self) -> dict[JobStatus, int]:
        """Return how many jobs are in each status."""
        with self._lock:
            return self._index.counts()

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
