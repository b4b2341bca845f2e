"""UnpublishedErrors: failed jobs whose error the outbox does not have yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daemon.errors import StoreError
from daemon.fs.atomic import fsync_folder
from daemon.jobs import ErrorKind, Job, JobStatus, utc_now
from daemon.logs import LogOnce
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from daemon.worker.outcomes import UNAVAILABLE_SECONDS
from daemon.worker.owed_objects import ERROR, OwedObjects

log = logging.getLogger(__name__)

OLD_NOTES = "owed_errors"
"""Storage key of the folder in which earlier versions kept an empty file for each such job."""


class UnpublishedErrors:
    """Fails jobs, and sees to it that the outbox gets the reason of each.

    A failed job's record says so in ``unpublished_error`` from the commit that failed it until its error is in the
    outbox: no kill, and no outbox that is away, comes between.

    Args:
        store: Keeps the records.
        outbox: Gets the errors.
        old_notes: Where earlier versions noted such jobs; what is there is taken over once.
        stopping: Asked between two errors; True ends publishing.
        owed: Gets the jobs whose errors are to be copied to the result store.
    """

    def __init__(
        self,
        store: JobStore,
        outbox: Outbox,
        old_notes: Path,
        stopping: Callable[[], bool],
        owed: OwedObjects | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._old_notes: Path | None = old_notes if old_notes.is_dir() else None
        self._stopping = stopping
        self._owed = owed or OwedObjects()
        self._lock = threading.Lock()
        self._due = 0.0
        self._not_taken_over = LogOnce(log)
        self._waiting = {job.job_id: LogOnce(log) for job in store.jobs(JobStatus.FAILED) if job.unpublished_error}

    def fail(self, job_id: str, kind: ErrorKind, message: str) -> Job:
        """Record that a job has failed; its error is published by the next ``publish``.

        Raises:
            StoreError: the store cannot be written; the job is as it was.
        """
        with self._lock:
            job = self._store.move(
                job_id,
                JobStatus.FAILED,
                error_kind=kind,
                error_message=message,
                finished_at=utc_now(),
                unpublished_error=True,
            )
            self._waiting[job_id] = LogOnce(log)
            self._due = 0.0
        return job

    def expect(self, job_id: str) -> None:
        """Know of a job whose record says that its error is not published."""
        with self._lock:
            if job_id not in self._waiting:
                self._waiting[job_id] = LogOnce(log)
                self._due = 0.0

    def publish(self, now: float) -> None:
        """Put the errors of failed jobs into the outbox; what cannot be put there is tried again later.

        Args:
            now: Monotonic time in seconds.
        """
        if now < self._due or not (self._waiting or self._old_notes):
            return
        self._due = now + UNAVAILABLE_SECONDS
        try:
            self._take_over_old_notes()
        except (OSError, StoreError) as error:
            self._not_taken_over(f"The unpublished errors of an earlier version cannot be taken over yet: {error}")
        for job_id, log_once in list(self._waiting.items()):
            if self._stopping():
                return
            try:
                self._publish(job_id)
            except (OSError, StoreError) as error:
                log_once(f"The error of job {job_id} cannot be put into the outbox yet: {_reason(error)}.")
                if isinstance(error, FileNotFoundError | StoreError):  # all of it is away, for the others too
                    return

    def _publish(self, job_id: str) -> None:
        job = self._store.find(job_id)
        if job is not None and job.unpublished_error:
            self._outbox.publish_error(job)
        with self._lock:
            latest = self._store.find(job_id)
            if latest is not None and latest.unpublished_error:
                if job is None or latest.finished_at != job.finished_at:
                    return  # it was run again and has failed again while its first error was published
                with self._owed.lock:
                    self._store.note(job_id, unpublished_error=False, **self._owed.note(ERROR))
                self._owed.tell(job_id)
            self._waiting.pop(job_id, None)

    def _take_over_old_notes(self) -> None:
        if self._old_notes is None:
            return
        for note in sorted(path for path in self._old_notes.iterdir() if not path.is_dir()):
            job = self._store.find(note.name)
            if job is not None and job.status is JobStatus.FAILED:
                self._store.note(job.job_id, unpublished_error=True)
                self._waiting.setdefault(job.job_id, LogOnce(log))
            note.unlink()
        with suppress(OSError):  # it holds a folder, which is not ours
            self._old_notes.rmdir()
            fsync_folder(self._old_notes.parent)  # or a power cut could bring the notes back
        self._old_notes = None


def _reason(error: OSError | StoreError) -> str:
    """Return what is wrong, without the number and the path that Python adds."""
    return str((isinstance(error, OSError) and error.strerror) or error).rstrip(".")
