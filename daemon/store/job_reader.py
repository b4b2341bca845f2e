"""JobReader: the jobs as another process sees them, read from the files of the store."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any, Self

from daemon.errors import StoreDamaged, UnknownJob
from daemon.jobs import Job, JobStatus
from daemon.store.journal_reader import JournalReader
from daemon.store.migrations import JOBS, new_tables


def check_record(doc_id: str, record: Mapping[str, Any]) -> tuple[str, JobStatus]:
    """Return a record's job id and status.

    Raises:
        StoreDamaged: it is not the record of a job with that sequence.
    """
    try:
        if str(record["sequence"]) != doc_id:
            raise ValueError("its sequence is another")
        return str(record["job_id"]), JobStatus(record["status"])
    except (KeyError, ValueError) as error:
        raise StoreDamaged(f"Record {doc_id} of the job file is not a job: {error!r}.") from error


class JobIndex:
    """Which job is where, and how many are in each status; kept as changes come."""

    def __init__(self) -> None:
        self.doc_ids: dict[str, str] = {}
        self.counts = dict.fromkeys(JobStatus, 0)
        self._known: dict[str, tuple[str, JobStatus]] = {}

    def rebuild(self, rows: Mapping[str, Any]) -> None:
        """Begin anew.

        Raises:
            StoreDamaged: a record has no job id or an unknown status.
        """
        self.__init__()  # type: ignore[misc]
        self.update(rows)

    def update(self, changes: Mapping[str, Any]) -> None:
        """Take in documents by id, None for one that is gone."""
        for doc_id, record in changes.items():
            if before := self._known.pop(doc_id, None):
                job_id, status = before
                self.doc_ids.pop(job_id, None)
                self.counts[status] -= 1
            if record is None:
                continue
            job_id, status = check_record(doc_id, record)
            self._known[doc_id] = job_id, status
            self.doc_ids[job_id] = doc_id
            self.counts[status] += 1


def read_job(record: Mapping[str, Any]) -> Job:
    """Build a job that shares nothing with its record that could be changed."""
    summary = record.get("summary")
    return Job.from_record({**record, "summary": copy.deepcopy(summary)} if summary else record)


def read_jobs(rows: Mapping[str, Any], status: JobStatus | None) -> list[Job]:
    """Build all jobs, or those in one status, by sequence."""
    found = [read_job(record) for record in rows.values() if status is None or record["status"] == status]
    return sorted(found, key=lambda job: job.sequence)


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
                self._index.rebuild(self._journal.tables.get(JOBS, {}))
            for change in changes or ():
                self._index.update(change.get(JOBS, {}))
            return self.version != before

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
            doc_id = self._index.doc_ids.get(job_id)
            return None if doc_id is None else read_job(self._journal.tables[JOBS][doc_id])

    def jobs(self, status: JobStatus | None = None) -> list[Job]:
        """Return all jobs, or those in one status, by sequence."""
        with self._lock:
            return read_jobs(self._journal.tables.get(JOBS, {}), status)

    def counts(self) -> dict[JobStatus, int]:
        """Return how many jobs are in each status."""
        with self._lock:
            return dict(self._index.counts)

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
