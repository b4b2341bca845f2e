"""OutcomeRecorder: what each outcome of an attempt means for the job's record, the queue and the files."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from daemon.errors import SourceChanged, StoreError
from daemon.failpoints import failpoint
from daemon.fs.identity import shown
from daemon.fs.space import FULL
from daemon.jobs import EXPORT_PENDING, ErrorKind, Job, JobStatus, output_key, utc_now
from daemon.logs import LogOnce
from daemon.queue import QueueService
from daemon.settings import Settings
from daemon.store.group_commit import Change
from daemon.store.job_store import JobStore
from daemon.worker.attempt import Sources
from daemon.worker.control import RunControl, RunControls
from daemon.worker.job_files import JobFiles
from daemon.worker.outbox import Outbox
from daemon.worker.outcomes import (
    CANCELLED,
    UNAVAILABLE_SECONDS,
    Completed,
    Failed,
    Outcome,
    PutBack,
    Requeue,
    Retry,
    outcome_of,
)
from daemon.worker.owed_objects import RESULT, OwedObjects
from daemon.worker.unpublished_errors import UnpublishedErrors

log = logging.getLogger(__name__)


class OutcomeRecorder:
    """Applies outcomes; one that cannot be recorded just now is kept until it can.

    Args:
        store: Keeps the records.
        queue: Gets the jobs that wait again.
        files: The result documents, which a job without a result must not leave.
        sources: Puts back a video that was written to.
        outbox: Knows where results are published.
        unpublished: Fails jobs.
        control: Says whether the job is to end.
        totals: What was done since the start is added here: ``jobs_completed`` and ``jobs_failed``.
        settings: Attempts that a job has, and the wait after one.
        clock: Monotonic time in seconds.
        owed: Gets the jobs whose results are to be copied to the result store.
    """

    def __init__(
        self,
        store: JobStore,
        queue: QueueService,
        files: JobFiles,
        sources: Sources,
        outbox: Outbox,
        unpublished: UnpublishedErrors,
        control: RunControl | RunControls,
        totals: defaultdict[str, float],
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        owed: OwedObjects | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._files = files
        self._sources = sources
        self._outbox = outbox
        self._unpublished = unpublished
        self._control = control
        self._totals = totals
        self._settings = settings
        self._clock = clock
        self._owed = owed or OwedObjects()
        self.completed: SimpleQueue[str] = SimpleQueue()
        """Jobs that have completed, for those who go on with their results."""
        self._unrecorded: dict[str, Outcome] = {}
        """By job id."""
        self._log_unrecorded: dict[str, LogOnce] = defaultdict(lambda: LogOnce(log))

    def apply(self, job: Job, outcome: Outcome, now: float) -> None:
        """Record an outcome and act on it.

        Raises:
            StoreError: the store cannot be written; applying it again is safe.
        """
        match self._decide(job, outcome):
            case Completed() as completed:
                self._complete(job, completed)
            case Failed() as failed:
                self.fail(job, failed)
            case Retry() as retry:
                self._wait(job, retry, now)
            case Requeue():
                self._requeue(job)
            case PutBack() as put_back:
                self._put_back(job, put_back, now)

    def apply_all(self, ended: Sequence[tuple[Job, Outcome]], now: float) -> None:
        """Record how several attempts have ended, with one sync for those that have completed.

        Args:
            ended: The jobs and their outcomes; what cannot be recorded is kept.
            now: Monotonic time in seconds.
        """
        completed = [(job, outcome) for job, outcome in ended if isinstance(outcome, Completed)]
        together = {job.job_id for job, _ in completed} if len(completed) > 1 else set()
        if together:
            try:
                self._complete_all(completed)
            except Exception as error:
                for job, end in completed:
                    self.keep(job.job_id, end, error)
        for job, outcome in ended:
            if job.job_id not in together:
                try:
                    self.apply(job, outcome, now)
                except Exception as error:
                    self.keep(job.job_id, outcome, error)

    def fail(self, job: Job, outcome: Failed) -> None:
        """Record that a job has failed, and leave nothing of its result.

        Raises:
            StoreError: the store cannot be written; the job is as it was.
        """
        self._files.discard_result(job)
        self._unpublished.fail(job.job_id, outcome.kind, outcome.text)
        failpoint("worker.failed")
        self._totals["jobs_failed"] += 1
        log.warning("Job %s failed (%s): %s", job.job_id, outcome.kind, outcome.text)

    def reconcile(self, now: float) -> bool:
        """Record the outcomes that could not be recorded; a job that was not even started waits again.

        Returns:
            False if the store does not let us just now.
        """
        for job_id, outcome in list(self._unrecorded.items()):
            try:
                job = self._store.find(job_id)
                if job is not None and job.status is JobStatus.RUNNING:
                    self.apply(job, outcome, now)
                elif job is not None and job.status is JobStatus.PENDING:
                    self._queue.enqueue(job_id, job.sequence, now + UNAVAILABLE_SECONDS)
                elif job is not None:  # it was recorded after all, though the disk failed
                    self._follow_up(job)
            except Exception as error:
                self.keep(job_id, outcome, error)
                return False
            del self._unrecorded[job_id]
            self._log_unrecorded.pop(job_id, None)
        return True

    def keep(self, job_id: str, outcome: Outcome, error: Exception) -> None:
        """Keep an outcome for ``reconcile``.

        Args:
            job_id: Whose.
            outcome: How the attempt ended.
            error: Why that could not be recorded. One that nobody expected is the outcome instead.
        """
        if isinstance(error, StoreError | OSError):
            self._log_unrecorded[job_id](f"Job {job_id} is reconciled when the job store can be used again: {error}")
        else:
            log.exception("Job %s could not be recorded because of an unexpected error", job_id)
            outcome = outcome_of(error, self._settings.retry_seconds)
        self._unrecorded[job_id] = outcome

    def _decide(self, job: Job, outcome: Outcome) -> Outcome:
        """Return what becomes of a job, given what a person has asked for and how often it was tried."""
        if self._control.close(job.job_id) and not isinstance(outcome, Completed):
            return Failed(ErrorKind.CANCELLED, CANCELLED)  # a promise made, whatever else happened at the same time
        if not isinstance(outcome, Retry):
            return outcome
        if self._control.stopping.is_set():  # the pipeline process is ended together with us
            return Requeue()
        if outcome.counted and job.attempts >= self._settings.max_attempts:
            tried = f" It was tried {job.attempts} times." if job.attempts > 1 else ""
            return Failed(ErrorKind.TRANSIENT, outcome.text + tried)
        return outcome

    def _complete(self, job: Job, outcome: Completed) -> None:
        with self._owed.lock:
            self._store.move(job.job_id, JobStatus.COMPLETED, **self._end_of(job, outcome))
        self._follow_up(self._store.get(job.job_id))

    def _complete_all(self, ends: Sequence[tuple[Job, Completed]]) -> None:
        for job, _ in ends:
            self._control.close(job.job_id)
        fields = [{"status": JobStatus.COMPLETED, **self._end_of(job, outcome)} for job, outcome in ends]
        changes = [Change(job.job_id, each) for (job, _), each in zip(ends, fields, strict=True)]
        with self._owed.lock:
            self._store.change_all(changes)
        for change, (_, outcome) in zip(changes, ends, strict=True):
            try:
                self._follow_up(change.result())
            except Exception as error:
                self.keep(change.job_id, outcome, error)

    def _end_of(self, job: Job, outcome: Completed) -> dict[str, Any]:
        """Return what a completed job's record gets to know."""
        return {
            "output_path": output_key(job.job_id),
            "finished_at": utc_now(),
            "exports": dict.fromkeys((*self._settings.exports, *job.options.exports), EXPORT_PENDING),
            **self._owed.note(RESULT),
            **outcome.facts,
        }

    def _follow_up(self, job: Job) -> None:
        """Have those go on who wait for the end of a job that has ended."""
        if job.status is JobStatus.FAILED:
            self._unpublished.expect(job.job_id)
            return
        self.completed.put(job.job_id)
        self._owed.tell(job.job_id)
        failpoint("worker.completed")
        self._totals["jobs_completed"] += 1
        log.info("Job %s is completed: %s", job.job_id, shown(self._outbox.path(job).name))

    def _wait(self, job: Job, outcome: Retry, now: float) -> None:
        """Make a job pending again for a later attempt."""
        attempts = job.attempts if outcome.counted else job.attempts - 1
        changes = {"attempts": attempts, "error_kind": ErrorKind.TRANSIENT, "error_message": outcome.text}
        try:
            self._store.move(job.job_id, JobStatus.PENDING, **changes)
        except StoreError as error:
            if getattr(error.__cause__, "errno", None) not in FULL:
                raise
            self._files.discard_partial(job)  # the disk may be full of it, and the record comes first
            self._store.move(job.job_id, JobStatus.PENDING, **changes)
        log.warning("Job %s waits %.0f s: %s", job.job_id, outcome.after, outcome.text)
        self._queue.enqueue(job.job_id, job.sequence, max(now, self._clock()) + outcome.after)

    def _requeue(self, job: Job) -> None:
        self._store.move(job.job_id, JobStatus.PENDING, attempts=job.attempts - 1)
        self._queue.enqueue(job.job_id, job.sequence)

    def _put_back(self, job: Job, outcome: PutBack, now: float) -> None:
        self._files.discard_result(job)
        try:
            renewed = self._sources.put_back(job, outcome.text)
        except SourceChanged:  # somebody still writes
            self._wait(job, Retry(UNAVAILABLE_SECONDS, counted=False, text=outcome.text), now)
        except OSError as error:
            text = f"{outcome.text} It could not be put back: {error.strerror}."
            self._wait(job, Retry(UNAVAILABLE_SECONDS, counted=False, text=text), now)
        else:
            if renewed is None:
                self.fail(job, Failed(ErrorKind.PERMANENT, outcome.text))
            else:
                self._requeue(job)
