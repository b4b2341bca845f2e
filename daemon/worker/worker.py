"""JobWorker: take a job, have it attempted, record how that ended."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue

from daemon.failpoints import failpoint
from daemon.fs.space import DiskGuard
from daemon.fs.storage import StorageService
from daemon.jobs import ErrorKind, Job, JobStatus, input_key, output_key, utc_now, why_no_retry
from daemon.queue import QueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.attempt import Attempt, PipelineRunner, Sources
from daemon.worker.control import RunControls
from daemon.worker.job_files import JobFiles
from daemon.worker.lanes import Lane, Lanes
from daemon.worker.outbox import Outbox
from daemon.worker.outcomes import UNAVAILABLE_SECONDS, Failed, Outcome, Retry
from daemon.worker.owed_objects import OwedObjects
from daemon.worker.progress import NOTE_SECONDS, NOTE_SECONDS_OF_SEVERAL, ProgressNotes, Running
from daemon.worker.recorder import OutcomeRecorder
from daemon.worker.unpublished_errors import OLD_NOTES, UnpublishedErrors
from daemon.worker.warmth import Warmth

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""Longest wait of the loop when nothing wakes it."""
PAUSE_SECONDS = 0.1
"""Shortest wait of the loop: a job that is due but may not run, for want of space, costs no more than this."""


class JobWorker:
    """Runs jobs: one after the other, or several at once where the pipeline has room. They start in order.

    Args:
        store: Keeps the records.
        queue: Says which job is next.
        storage: Keeps videos and result documents.
        sources: Knows whether a stored video was written to, and puts such a one back.
        pipeline: Does the work.
        outbox: Gets results and errors.
        settings: Attempts, waits and free space.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        store: JobStore,
        queue: QueueService,
        storage: StorageService,
        sources: Sources,
        pipeline: PipelineRunner,
        outbox: Outbox,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._queue = queue
        self._storage = storage
        self._clock = clock
        self.totals: defaultdict[str, float] = defaultdict(float)
        """Since the start: ``jobs_completed``, ``jobs_failed``, ``frames``, and busy seconds a stage."""
        self._woken = threading.Event()
        self._control = RunControls(pipeline.lanes)
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._files = JobFiles(storage)
        self.owed = OwedObjects(settings.result_store is not None)
        """What ended jobs owe the result store."""
        stopping = self._control.stopping.is_set
        self._unpublished = UnpublishedErrors(store, outbox, storage.path(OLD_NOTES), stopping, self.owed)
        notes = ProgressNotes(store, clock, NOTE_SECONDS if pipeline.lanes == 1 else NOTE_SECONDS_OF_SEVERAL)
        self._lanes = Lanes(
            pipeline,
            self._control,
            lambda runner, control: Attempt(
                store, self._files, sources, runner, outbox, control, self.totals, settings, clock, notes
            ),
            self.wake,
        )
        self._recorder = OutcomeRecorder(
            store,
            queue,
            self._files,
            sources,
            outbox,
            self._unpublished,
            self._control,
            self.totals,
            settings,
            clock,
            self.owed,
        )
        self._warmth = Warmth(pipeline, stopping, clock)

    @property
    def running(self) -> Running | None:
        """The job that is being worked on, of several the one that was started first."""
        return next(iter(self._lanes.running), None)

    @property
    def running_besides(self) -> list[Running]:
        """The others that are being worked on, in the order of their starts."""
        return self._lanes.running[1:]

    @property
    def completed(self) -> SimpleQueue[str]:
        """Ids of jobs that have completed, for those who go on with their results."""
        return self._recorder.completed

    # Called from other threads.

    def wake(self) -> None:
        """Say that the queue has something new."""
        self._woken.set()

    def stop(self) -> None:
        """End ``run_forever``; a job that is running goes back to the queue."""
        self._control.stopping.set()
        self._woken.set()

    def cancel(self, job_id: str) -> bool:
        """End a job that waits or runs, as failed because a person wants it.

        Returns:
            Whether it was there to be cancelled; False for a job that has ended.

        Raises:
            UnknownJob: there is no such job.
            StoreError: the store cannot be written.
        """
        with self._control.lock:
            if self._control.cancel(job_id):
                return True
            job = self._store.get(job_id)
            if job.unpublished_error:
                self._unpublished.expect(job_id)
            if job.status is not JobStatus.PENDING or self._may_be_published(job):
                return False
            self._queue.remove(job_id)
            self._recorder.fail(job, Failed(ErrorKind.CANCELLED, "Cancelled before it started."))
        self.wake()  # its error is published from the loop, for the outbox may be slow
        return True

    def retry(self, job_id: str) -> bool:
        """Put a failed job back into the queue, with all its attempts.

        Returns:
            Whether it may be retried (``jobs.why_no_retry``).

        Raises:
            UnknownJob: there is no such job.
            StoreError: the store cannot be written.
        """
        job = self._store.get(job_id)
        if why_no_retry(vars(job)):
            return False
        self._storage.delete_file(output_key(job_id))
        job = self._store.move(
            job_id,
            JobStatus.PENDING,
            attempts=0,
            error_kind=None,
            error_message=None,
            unpublished_error=False,
            finished_at=None,
            frames_processed=0,
        )
        # Should retention have taken the video just now, the worker finds that it is gone and says so.
        self._queue.enqueue(job_id, job.sequence)
        self.wake()
        return True

    def forget(self, job_id: str) -> bool:
        """Delete a job; ``JobStore.deleted`` says what is to be removed. One that runs is cancelled first.

        Returns:
            Whether it is deleted; False while it is being ended.

        Raises:
            UnknownJob: there is no such job.
            StoreError: the store cannot be written; the job is as it was.
        """
        with self._control.lock:
            if self._store.deleted.at(job_id):
                return True
            job = self._store.get(job_id)
            if job.status is JobStatus.RUNNING:
                self._control.cancel(job_id)
                return False
            if job.claim is not None and job.source_removed_at is None and not self._files.video(job).exists():
                job = replace(job, claim=replace(job.claim, left_behind=True))  # its file stays in the inbox
            self._store.delete(job)
            self._queue.remove(job_id)
        log.info("Job %s was deleted.", job_id)
        return True

    # The loop.

    def run_forever(self) -> None:
        """Run jobs until ``stop`` is called and those that run have ended. No failure ends it."""
        while not self._control.stopping.is_set():
            self._woken.clear()
            try:
                if self.run_once():
                    continue
                self._warmth.keep()
            except Exception:
                log.exception("The worker goes on after an unexpected error")
                self._control.stopping.wait(IDLE_SECONDS)
            due = self._queue.next_due()
            wait = IDLE_SECONDS if due is None else due - self._clock()
            self._woken.wait(min(IDLE_SECONDS, max(PAUSE_SECONDS, wait)))
        self._lanes.wait()
        self._lanes.record_ended(self._recorder, self._clock())

    def run_once(self, now: float | None = None) -> bool:
        """Run the job that is due, if there is one and room for it; it may end later.

        Args:
            now: Monotonic time in seconds; the present if not given.

        Returns:
            Whether there was one.
        """
        now = self._clock() if now is None else now
        self._lanes.record_ended(self._recorder, now)
        if self._store.problem:
            return False  # nothing that is done now could be recorded
        in_order = self._recorder.reconcile(now)
        self._unpublished.publish(now)
        if not in_order or self._disk.shortage():
            return False  # the queue keeps its order until there is room
        if (lane := self._lanes.free()) is None:
            return False
        job_id = self._queue.dequeue(now)
        if job_id is None:
            return False
        self._run(job_id, lane, now)
        self._recorder.reconcile(now)
        self._unpublished.publish(now)
        return True

    # One job.

    def _run(self, job_id: str, lane: Lane, now: float) -> None:
        """Have a job attempted; in a lane of several the outcome is recorded once there is one."""
        outcome: Outcome = Retry(UNAVAILABLE_SECONDS, counted=False, text="The data folder could not be used.")
        try:
            if job := self._take(job_id, lane):
                if not self._lanes.is_single:
                    lane.attempt_beside(job)
                    return
                outcome = lane.attempt_here(job)
                self._recorder.apply(job, outcome, now)
        except Exception as error:
            self._recorder.keep(job_id, outcome, error)
        self._control.close(job_id)

    def _take(self, job_id: str, lane: Lane) -> Job | None:
        """Make a job the running one; None if it is not waiting any more."""
        with self._control.lock:
            job = self._store.find(job_id)
            if job is None and self._store.deleted.at(job_id):
                self._storage.delete_file(input_key(job_id))  # it came while its job was deleted
            if job is None or job.status is not JobStatus.PENDING:
                return None
            self._control.begin(lane.control, job_id, may_cancel=not self._may_be_published(job))
        job = self._store.move(
            job_id,
            JobStatus.RUNNING,
            attempts=job.attempts + 1,
            started_at=utc_now(),
            error_kind=None,
            error_message=None,
        )
        failpoint("worker.running")
        return job

    def _may_be_published(self, job: Job) -> bool:
        """Tell whether a crash came after a job's result was made; it is too late then to cancel it."""
        return job.error_kind is None and self._files.result(job).exists()
