"""DeletedJobs: which jobs were deleted when, and what still has to be removed of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from daemon.errors import UnknownJob
from daemon.jobs import Job
from daemon.store.migrations import DELETED, deleted_at
from daemon.store.tinydb_table import JobStorage, JournalTable


class DeletedJobs:
    """The deleted jobs of a store. The commit that takes a record away says what is to be removed with it, so that a
    job is either there with all that belongs to it, or will be gone with all of it.

    Args:
        storage: Of the store.
        table: That of its jobs, whose lock and commits these are, too.
    """

    def __init__(self, storage: JobStorage, table: JournalTable) -> None:
        self._storage = storage
        self._table = table

    def add(self, job: Job, now: str) -> None:
        """Delete a job: from this commit on it is not a job any more.

        Args:
            job: As the store has it, but for its claim.
            now: ISO 8601 UTC.

        Raises:
            StoreError: the store cannot be written; the job is as it was.
        """
        row = {"deleted_at": now, "record": job.to_record()}
        self._table.commit({job.sequence: None}, others={DELETED: {job.job_id: row}})

    def at(self, job_id: str) -> str | None:
        """Return when a job was deleted; None if it was not, or nobody remembers it."""
        with self._table.lock:
            return deleted_at(self._storage.read(), job_id)

    def unfinished(self) -> list[Job]:
        """Return the jobs of which something may be left."""
        with self._table.lock:
            return [Job.from_record(row["record"]) for _, row in self._rows() if row.get("record")]

    def unfinished_ids(self) -> list[str]:
        """Return the ids of these jobs."""
        with self._table.lock:
            return [job_id for job_id, row in self._rows() if row.get("record")]

    def left_behind(self) -> list[Job]:
        """Return the jobs whose files stay where they were dropped, and are not to be taken again."""
        with self._table.lock:
            found = [Job.from_record(record) for _, row in self._rows() if (record := _record_of(row))]
        return [job for job in found if _left_behind(job)]

    def find(self, job_id: str) -> Job | None:
        """Return a deleted job as it was, if something is left of it or its file stays where it was dropped."""
        with self._table.lock:
            record = _record_of(self._row(job_id))
        return Job.from_record(record) if record else None

    def note(self, job_id: str, **changes: Any) -> Job:
        """Change what is remembered of a job that ``find`` returns; return it.

        Raises:
            UnknownJob: it is not remembered.
            StoreError: the store cannot be written.
        """
        with self._table.lock:
            job = self.find(job_id)
            if job is None:
                raise UnknownJob(f"There is no job {job_id!r}.")
            job = replace(job, **changes)
            row = {**self._row(job_id), "record": job.to_record()}
            row = row if self._row(job_id).get("record") else self._finished(job)
            self._table.commit({}, others={DELETED: {job_id: row}})
        return job

    def finish(self, job: Job) -> None:
        """Note that nothing is left of a job; a claim on a file that stays where it was dropped is kept.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._table.lock:
            row = self._finished(self.find(job.job_id) or job)  # its claim may have changed meanwhile
            self._table.commit({}, others={DELETED: {job.job_id: row}})

    def _finished(self, job: Job) -> dict[str, Any]:
        row: dict[str, Any] = {"deleted_at": self.at(job.job_id)}
        return {**row, "left_behind": job.to_record()} if _left_behind(job) else row

    def forget(self, before: str) -> int:
        """Forget the jobs that were deleted before a moment, and of which nothing is left; return how many.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._table.lock:
            old = [job_id for job_id, row in self._rows() if row["deleted_at"] < before and len(row) == 1]
            if old:
                self._table.commit({}, others={DELETED: dict.fromkeys(old)})
        return len(old)

    def _row(self, job_id: str) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self._storage.read().get(DELETED, {}).get(job_id, {})
        return row

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield from self._storage.read().get(DELETED, {}).items()


def _record_of(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return row.get("record") or row.get("left_behind")


def _left_behind(job: Job) -> bool:
    """Tell whether a job's file stays where it was dropped; one that was kept and has gone does not."""
    claim = job.claim
    return claim is not None and claim.left_behind and not (claim.stays and claim.seen is None)
