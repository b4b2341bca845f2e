"""JobRequests: what people ask of jobs (cancel, retry, delete), carried out a slice of time after the other."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from daemon.errors import StoreError, UnknownJob
from daemon.failpoints import failpoint
from daemon.fs.space import FULL, DiskGuard
from daemon.fs.storage import StorageService
from daemon.ipc import spool
from daemon.ipc.ticket import Ticket, TicketKind, video_name
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, utc_now
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)


class Worker(Protocol):
    """What requests need of the worker."""

    def cancel(self, job_id: str) -> bool:
        """See ``JobWorker.cancel``."""

    def retry(self, job_id: str) -> bool:
        """See ``JobWorker.retry``."""

    def forget(self, job_id: str) -> bool:
        """See ``JobWorker.forget``."""


class JobRequests:
    """Carries out the requests about jobs that are in the spool.

    A ticket stays until what it asks is done, so that it outlives us: doing it twice changes nothing. One that names
    many jobs is written anew with those that are left.

    Args:
        store: Keeps the records.
        storage: Keeps the videos.
        worker: Does it.
        spool_dir: Where the tickets are.
        disk: Watches the disk of both.
        written_anew: Told of a ticket that was written anew.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        store: JobStore,
        storage: StorageService,
        worker: Worker,
        spool_dir: Path,
        disk: DiskGuard,
        written_anew: Callable[[Ticket], None] = lambda ticket: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._storage = storage
        self._worker = worker
        self._spool_dir = spool_dir
        self._disk = disk
        self._written_anew = written_anew
        self._clock = clock
        self._ends: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """How many jobs of a ticket ended how, by its name."""

    def carry_out(self, tickets: Iterable[Ticket], until: float) -> None:
        """Do what tickets ask, at least for one job.

        Args:
            tickets: Requests, oldest first.
            until: Monotonic time in seconds, after which the rest is left to the next call.

        Raises:
            StoreError: the job store cannot be written; the tickets stay.
            OSError: the spool cannot be written; the same.
        """
        for ticket in tickets:
            left = self._jobs_left(ticket, until)
            if not left:
                self._say_end(ticket)
                spool.done(self._spool_dir, ticket)
            elif len(left) < len(ticket.jobs):
                spool.keep_rest(self._spool_dir, ticket, left)
                self._written_anew(ticket)
            if self._clock() >= until:
                return

    def _jobs_left(self, ticket: Ticket, until: float) -> list[str]:
        """Carry a ticket out for its jobs, until the time is over; return those that it is still to be done for."""
        left: list[str] = []
        for number, job_id in enumerate(ticket.jobs):
            if number and self._clock() >= until:
                return [*left, *ticket.jobs[number:]]
            how = self._carry_out(ticket.kind, job_id)
            if how is None:
                left.append(job_id)
            else:
                self._ends[ticket.name][how] += 1
        return left

    def _carry_out(self, kind: TicketKind, job_id: str) -> str | None:
        """Return how it ended for a job, in words; None if it has to wait."""
        try:
            if kind is TicketKind.RETRY:
                return "done" if self._worker.retry(job_id) else "came too late"
            if kind is TicketKind.DELETE:
                return "done" if self._delete(job_id) else None
            job = self._cancel(job_id)
        except UnknownJob:
            return "unknown"
        if not job.ended:
            return None
        return "done" if job.error_kind is ErrorKind.CANCELLED else "came too late"

    def _delete(self, job_id: str) -> bool:
        """Delete a job. If the disk has no room to record that, its video goes first: the ticket is still there."""
        try:
            return self._worker.forget(job_id)
        except StoreError as error:
            job = self._store.get(job_id)
            if getattr(error.__cause__, "errno", None) not in FULL or not (job.ended or self._may_go(job)):
                raise
            self._remove_video(job)
            failpoint("requests.freed")
            return self._worker.forget(job_id)

    def _cancel(self, job_id: str) -> Job:
        """Cancel a job. While the disk is too full, that makes room: a submitted video goes with its job.

        The record comes first. If not even that can be written the video goes first: the ticket is still there.
        """
        removed = False
        try:
            self._worker.cancel(job_id)
        except StoreError as error:
            job = self._store.get(job_id)
            if getattr(error.__cause__, "errno", None) not in FULL or not self._may_go(job):
                raise
            self._remove_video(job)
            removed = True
            failpoint("requests.freed")
            self._worker.cancel(job_id)
        job = self._store.get(job_id)
        cancelled = job.status is JobStatus.FAILED and job.error_kind is ErrorKind.CANCELLED
        if cancelled and self._may_go(job) and (removed or self._disk.shortage()):
            job = self._store.note(job_id, source_removed_at=utc_now())
            self._remove_video(job)
            log.info("Job %s: its video was removed, as the disk is too full.", job_id)
        return job

    def _may_go(self, job: Job) -> bool:
        """Tell whether a job's video is a copy that Dropframe made: of a dropped one there is no other."""
        return job.source is not JobSource.INBOX and job.source_removed_at is None

    def _remove_video(self, job: Job) -> None:
        for path in (self._storage.path(job.input_path), self._spool_dir / video_name(job.job_id)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _say_end(self, ticket: Ticket) -> None:
        ends = self._ends.pop(ticket.name, Counter())
        if ticket.job_ids:
            counts = ", ".join(f"{count} {how}" for how, count in sorted(ends.items()))
            log.info("A request to %s %d jobs: %s", ticket.kind, ends.total(), counts)
        elif ends["unknown"]:
            log.warning("A ticket to %s names the unknown job %s", ticket.kind, ticket.job_id)
        else:
            log.info("Job %s: %s %s", ticket.job_id, ticket.kind, *ends)
