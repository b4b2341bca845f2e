"""JobWorker: take one job, run it, record how it ended."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daemon.errors import (
    Cancelled,
    DropframeError,
    Interrupted,
    JobError,
    MachineError,
    PermanentError,
    ResourceUnavailable,
    SourceChanged,
    StorageError,
    StoreError,
    TransientError,
)
from daemon.failpoints import failpoint
from daemon.fs.atomic import fsync_folder
from daemon.fs.identity import shown
from daemon.fs.space import FULL, free_bytes
from daemon.fs.storage import StorageService
from daemon.ingest.intake import Intake
from daemon.jobs import ErrorKind, Job, JobStatus, output_key, utc_now, why_no_retry
from daemon.pipeline.client import RunRequest
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.results import recorded_facts
from daemon.queue import QueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox

log = logging.getLogger(__name__)

UNAVAILABLE_SECONDS = 10.0
"""Wait before a job is tried again that a full disk or an absent outbox held up."""
NOTE_SECONDS = 0.5
"""Time between two notes of progress in the job store."""
CANCELLED = "Cancelled while it was running."
IDLE_SECONDS = 1.0
"""Longest wait of the loop when nothing wakes it."""
PAUSE_SECONDS = 0.1
"""Shortest wait of the loop: a job that is due but may not run, for want of space, costs no more than this."""
WARM_SECONDS = 60.0
"""Time between two attempts to start a pipeline process that does not start, while there is nothing to run."""
PARTIAL_ENDINGS = (".part", ".checkpoint")
"""What the pipeline keeps beside a result document that is not finished."""
OWED = "owed_errors"
"""Storage folder of empty files, one for each failed job whose error the outbox does not have yet."""


class PipelineRunner(Protocol):
    """What the worker needs of the pipeline process."""

    def start(self, should_stop: Callable[[], bool] = ...) -> object:
        """Start it if it is not up; see ``PipelineProcess.start``."""

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = ...,
        should_stop: Callable[[], bool] = ...,
    ) -> RunReport:
        """Run one request; see ``PipelineProcess.run``."""


@dataclass(frozen=True)
class Running:
    """The job that is being worked on."""

    job_id: str
    since: float
    """Monotonic time in seconds."""
    progress: Progress
    first_frames: int
    """Frames that an earlier attempt had finished."""

    def frames_per_second(self, now: float) -> float:
        """Return the speed of this attempt."""
        return (self.progress.frames_processed - self.first_frames) / max(now - self.since, 1e-6)


class JobWorker:
    """Runs jobs one after the other.

    Args:
        store: Keeps the records.
        queue: Says which job is next.
        storage: Keeps videos and result documents.
        intake: Knows whether a stored video was written to, and puts such a one back.
        pipeline: Does the work.
        outbox: Gets results and errors.
        settings: Attempts and waits.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        store: JobStore,
        queue: QueueService,
        storage: StorageService,
        intake: Intake,
        pipeline: PipelineRunner,
        outbox: Outbox,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._queue = queue
        self._storage = storage
        self._intake = intake
        self._pipeline = pipeline
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._cancel_lock = threading.Lock()
        self._cancelled: str | None = None
        self._current: str | None = None
        self._astray: dict[str, DropframeError] = {}
        self._owed = self._still_owed()
        self._owed_due = 0.0
        self._warm_due = 0.0
        self.running: Running | None = None
        """The job that is being worked on."""
        self.totals: dict[str, float] = {}
        """Since the start: ``jobs_completed``, ``jobs_failed``, ``frames``, and busy seconds a stage."""

    # Called from other threads.

    def wake(self) -> None:
        """Say that the queue has something new."""
        self._woken.set()

    def stop(self) -> None:
        """End ``run_forever``; a job that is running goes back to the queue."""
        self._stopping.set()
        self._woken.set()

    def cancel(self, job_id: str) -> bool:
        """End a job that waits or runs, as failed by a person's wish.

        Returns:
            Whether it was there to be cancelled; False for a job that has ended.

        Raises:
            UnknownJob: there is no such job.
        """
        with self._cancel_lock:
            if self._current == job_id:
                self._cancelled = job_id
                return True
            job = self._store.get(job_id)
            if job.status is not JobStatus.PENDING:
                return False
            if self._may_be_published(job):
                return False
            self._queue.remove(job_id)
            self._fail(job, ErrorKind.CANCELLED, "Cancelled before it started.")
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
            finished_at=None,
            frames_processed=0,
        )
        # Should retention have taken the video just now, the worker finds that it is gone and says so.
        self._queue.enqueue(job_id, job.sequence)
        self.wake()
        return True

    # The loop.

    def run_forever(self) -> None:
        """Run jobs until ``stop`` is called. No failure ends it."""
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                if self.run_once():
                    continue
                self._keep_warm()
            except Exception:
                log.exception("the worker goes on after an error")
                self._stopping.wait(IDLE_SECONDS)
            due = self._queue.next_due()
            wait = IDLE_SECONDS if due is None else due - self._clock()
            self._woken.wait(min(IDLE_SECONDS, max(PAUSE_SECONDS, wait)))

    def _keep_warm(self) -> None:
        """Have the models loaded for the next job, also when the last one took the pipeline process with it."""
        now = self._clock()
        if now < self._warm_due or self._stopping.is_set():
            return
        self._warm_due = now + WARM_SECONDS
        try:
            self._pipeline.start(self._stopping.is_set)
            self._warm_due = 0.0
        except DropframeError as error:
            if not isinstance(error, Interrupted):
                log.warning("the pipeline could not be started again yet: %s", error)

    def run_once(self, now: float | None = None) -> bool:
        """Run the job that is due, if there is one.

        Args:
            now: Monotonic time in seconds; the present if not given.

        Returns:
            Whether there was one.
        """
        now = self._clock() if now is None else now
        if self._store.problem:
            return False  # nothing that is done now could be recorded
        in_order = self._find_astray(now)
        self._publish_errors(now)
        if not in_order or self.short_of_space() is not None:
            return False  # the queue keeps its order until there is room
        job_id = self._queue.dequeue(now)
        if job_id is None:
            return False
        try:
            with self._cancel_lock:
                job = self._store.find(job_id)
                if job is None or job.status is not JobStatus.PENDING:
                    return True
                self._current, self._cancelled = None if self._may_be_published(job) else job_id, None
            self._run(job, now)
        except (StoreError, OSError) as error:
            log.warning("job %s is put right when the job store can be used again: %s", job_id, error)
            self._astray[job_id] = ResourceUnavailable(f"The data folder could not be used: {error}")
        except Exception as error:
            log.exception("job %s ended with an unexpected error", job_id)
            self._astray[job_id] = TransientError(f"Running it ended with an unexpected {type(error).__name__}.")
        finally:
            with self._cancel_lock:
                self._current = None
                self.running = None
        self._find_astray(now)
        self._publish_errors(now)
        return True

    def _find_astray(self, now: float) -> bool:
        """Put right a job that an unexpected error left reading as running, or in no queue.

        Returns:
            False if the store does not let us just now.
        """
        for job_id, reason in list(self._astray.items()):
            try:
                job = self._store.find(job_id)
                if job is not None and job.status is JobStatus.RUNNING:
                    self._end_without_result(job, reason, now)
                elif job is not None and job.status is JobStatus.PENDING:
                    self._queue.enqueue(job_id, job.sequence, now + UNAVAILABLE_SECONDS)
            except (StoreError, OSError) as error:
                log.debug("job %s cannot be put right yet: %s", job_id, error)
                return False
            del self._astray[job_id]
        return True

    def short_of_space(self) -> str | None:
        """Return a sentence if the data disk is too full to run a job, else None."""
        least = self._settings.min_free_bytes
        try:
            free = free_bytes(self._settings.data_dir)
        except OSError as error:
            return f"Running is paused: the data folder cannot be used ({error.strerror})."
        if free < least:
            return f"Running is paused: less than {least} bytes are free on the data disk (min_free_bytes)."
        return None

    # One job.

    def _run(self, job: Job, now: float) -> None:
        job = self._store.move(
            job.job_id,
            JobStatus.RUNNING,
            attempts=job.attempts + 1,
            started_at=utc_now(),
            error_kind=None,
            error_message=None,
        )
        failpoint("worker.running")
        try:
            self._check_source(job)
            changes = self._analyse(job)
            failpoint("worker.analysed")
            self._publish(job)
            failpoint("worker.published")
        except (JobError, MachineError) as error:
            self._end_without_result(job, error, now)
        else:
            self._store.move(
                job.job_id,
                JobStatus.COMPLETED,
                output_path=output_key(job.job_id),
                finished_at=utc_now(),
                **changes,
            )
            failpoint("worker.completed")
            self._count("jobs_completed")
            log.info("Job %s is completed: %s", job.job_id, shown(self._outbox.path(job).name))

    def _end_without_result(self, job: Job, error: DropframeError, now: float) -> None:
        """Record what an attempt that gave no result means for its job."""
        with self._cancel_lock:
            cancelled = self._cancelled == job.job_id
            self._current = None
        if cancelled:  # a promise made, whatever else happened at the same time
            self._fail(job, ErrorKind.CANCELLED, CANCELLED)
        elif isinstance(error, SourceChanged):
            self._run_again_as_it_is_now(job, str(error), now)
        elif isinstance(error, PermanentError):
            self._fail(job, ErrorKind.PERMANENT, str(error))
        elif isinstance(error, Interrupted) or self._stopping.is_set():  # the child is ended together with us
            self._store.move(job.job_id, JobStatus.PENDING, attempts=job.attempts - 1)
            self._queue.enqueue(job.job_id, job.sequence)
        elif isinstance(error, ResourceUnavailable | MachineError):
            self._wait(job, error, UNAVAILABLE_SECONDS, now, counted=False)
        else:
            self._try_again(job, error, now)

    def _try_again(self, job: Job, error: DropframeError, now: float) -> None:
        """Make a job wait for its next attempt, or fail it after the last."""
        if job.attempts < self._settings.max_attempts:
            self._wait(job, error, self._settings.retry_seconds * 2 ** (job.attempts - 1), now, counted=True)
            return
        tried = f"{error} It was tried {job.attempts} times." if job.attempts > 1 else str(error)
        self._fail(job, ErrorKind.TRANSIENT, tried)

    def _check_source(self, job: Job) -> None:
        try:
            if not self._intake.unchanged(job):
                raise SourceChanged(
                    "The video was written to after it had been taken in; it is run again as it is now."
                )
        except FileNotFoundError as error:
            raise PermanentError("The stored video is gone from the data folder; drop or submit it again.") from error
        except OSError as error:
            raise ResourceUnavailable(f"The stored video cannot be read: {error.strerror}.") from error

    def _analyse(self, job: Job) -> dict[str, Any]:
        """Make the result document unless an earlier attempt did; return what the record gets to know."""
        document = self._storage.path(output_key(job.job_id))
        if document.exists():
            try:
                facts = recorded_facts(document)
                if (job.device or "").startswith(facts["device"]):
                    del facts["device"]  # noted before the result was to be published, with the GPU's number
                return facts
            except (ValueError, LookupError, TypeError):
                log.warning("The result of job %s is damaged and is made anew", job.job_id)
                document.unlink()
        begun = self._clock()
        first: int | None = None
        noted = begun

        def note(progress: Progress) -> None:
            nonlocal first, noted
            first = progress.frames_processed if first is None else first
            self.running = Running(job.job_id, begun, progress, first)
            now = self._clock()
            if now - noted >= NOTE_SECONDS and not self._store.problem:
                noted = now
                try:
                    self._store.note(
                        job.job_id,
                        durable=False,
                        frames_processed=progress.frames_processed,
                        frames_total=progress.frames_total,
                    )
                except StoreError as error:
                    log.warning("progress could not be noted: %s", error)

        request = RunRequest(
            file_path=self._storage.path(job.input_path),
            pipeline_id=job.pipeline_id,
            frame_stride=job.options.frame_stride,
            max_frames=job.options.max_frames,
            output_path=document,
            source_name=job.source_name,
        )
        report = self._pipeline.run(request, note, self._should_stop)
        for name, seconds in report.stage_seconds.items():
            self._count(f"{name}_seconds", seconds)
        self._count("frames", report.frames_processed)
        log.info(
            "Job %s: %d frames in %.1f s; busy seconds %s",
            job.job_id,
            report.frames_processed,
            report.wall_seconds,
            report.stage_seconds,
        )
        facts = {
            "frames_processed": report.frames_processed,
            "frames_total": report.frames_total,
            "sha256": report.sha256,
            "size_bytes": report.size_bytes,
            "device": report.device,
            "summary": report.summary,
        }
        self._check_source(job)
        self._store.note(job.job_id, **facts)  # before publishing: a later attempt only publishes
        return facts

    def _publish(self, job: Job) -> None:
        with self._cancel_lock:
            if self._cancelled == job.job_id:
                raise Cancelled(CANCELLED)
            self._current = None  # from here on it is too late to cancel
        try:
            with self._storage.load_file(output_key(job.job_id)) as document:
                self._outbox.publish(job, document, self._stopping.is_set)
        except StorageError as error:
            raise ResourceUnavailable(f"The result cannot be published: {error}") from error
        except OSError as error:
            raise ResourceUnavailable(
                f"The outbox cannot be written ({error.strerror}); the result is kept and published when it can."
            ) from error

    def _may_be_published(self, job: Job) -> bool:
        """Tell whether a crash came after a job's result was made; it is too late then to cancel it."""
        return job.error_kind is None and self._storage.path(output_key(job.job_id)).exists()

    def _run_again_as_it_is_now(self, job: Job, reason: str, now: float) -> None:
        self._discard(job)
        try:
            renewed = self._intake.put_back(job, reason)
        except SourceChanged:  # somebody still writes
            self._wait(job, ResourceUnavailable(reason), UNAVAILABLE_SECONDS, now, counted=False)
            return
        except OSError as error:
            waits = ResourceUnavailable(f"{reason} It could not be put back: {error.strerror}.")
            self._wait(job, waits, UNAVAILABLE_SECONDS, now, counted=False)
            return
        if renewed is None:
            self._fail(job, ErrorKind.PERMANENT, reason)
        else:
            self._store.move(job.job_id, JobStatus.PENDING, attempts=job.attempts - 1)
            self._queue.enqueue(job.job_id, job.sequence)

    def _wait(self, job: Job, error: DropframeError, seconds: float, now: float, *, counted: bool) -> None:
        """Make a job pending again for a later attempt."""
        attempts = job.attempts if counted else job.attempts - 1
        changes = {"attempts": attempts, "error_kind": ErrorKind.TRANSIENT, "error_message": str(error)}
        try:
            self._store.move(job.job_id, JobStatus.PENDING, **changes)
        except StoreError as failed:
            if getattr(failed.__cause__, "errno", None) not in FULL:
                raise
            self._discard_partial(job)  # the disk may be full of it, and the record comes first
            self._store.move(job.job_id, JobStatus.PENDING, **changes)
        log.warning("Job %s waits %.0f s: %s", job.job_id, seconds, error)
        self._queue.enqueue(job.job_id, job.sequence, max(now, self._clock()) + seconds)

    def _fail(self, job: Job, kind: ErrorKind, message: str) -> None:
        self._discard(job)
        self._note_owed(job.job_id)  # first, so that no kill comes between
        job = self._store.move(
            job.job_id, JobStatus.FAILED, error_kind=kind, error_message=message, finished_at=utc_now()
        )
        self._count("jobs_failed")
        log.warning("Job %s failed (%s): %s", job.job_id, kind, message)
        self._owed[job.job_id] = None
        self._owed_due = 0.0

    def _still_owed(self) -> dict[str, str | None]:
        """Return the failed jobs whose errors an earlier daemon could not publish."""
        folder = self._storage.path(OWED)
        return dict.fromkeys(sorted(p.name for p in folder.glob("[!.]*"))) if folder.is_dir() else {}

    def _note_owed(self, job_id: str) -> None:
        try:
            self._storage.save_file(io.BytesIO(), f"{OWED}/{job_id}")
        except OSError as error:  # it is owed all the same until the daemon ends
            log.warning("that the error of job %s is owed cannot be noted: %s", job_id, error.strerror)

    def _publish_errors(self, now: float) -> None:
        """Put the errors of failed jobs into the outbox; what cannot be put there is tried again later."""
        if not self._owed or now < self._owed_due:
            return
        self._owed_due = now + UNAVAILABLE_SECONDS
        for job_id, said in list(self._owed.items()):
            if self._stopping.is_set():
                return
            try:
                job = self._store.find(job_id)
                if job is not None and job.status is JobStatus.FAILED:
                    self._outbox.publish_error(job)
                self._storage.delete_file(f"{OWED}/{job_id}")
                del self._owed[job_id]
            except (OSError, StoreError) as error:
                why = str(error)
                if why != said:
                    self._owed[job_id] = why
                    log.warning("the error of job %s cannot be put into the outbox yet: %s", job_id, why)
                if isinstance(error, FileNotFoundError | StoreError):  # all of it is away, for the others too
                    return

    def _discard(self, job: Job) -> None:
        """Remove the result, whole or partial, of a job that will not have one, or another one."""
        document = self._storage.path(output_key(job.job_id))
        self._remove(document)
        self._discard_partial(job)
        with suppress(OSError):  # or a power cut could bring it back, and it would be taken for that of the next run
            fsync_folder(document.parent)

    def _discard_partial(self, job: Job) -> None:
        document = self._storage.path(output_key(job.job_id))
        for ending in PARTIAL_ENDINGS:
            self._remove(Path(f"{document}{ending}"))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # in the way of nothing: a retry removes it again
            log.warning("%s cannot be removed: %s", path.name, error.strerror)

    def _should_stop(self) -> bool:
        return self._stopping.is_set() or self._cancelled is not None

    def _count(self, name: str, amount: float = 1) -> None:
        self.totals[name] = self.totals.get(name, 0) + amount
