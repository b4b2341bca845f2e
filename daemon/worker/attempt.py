"""Attempt: work on one job once; the outcome is a value."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from daemon.errors import (
    Cancelled,
    JobError,
    MachineError,
    PermanentError,
    ResourceUnavailable,
    SourceChanged,
    StorageError,
    StoreError,
)
from daemon.failpoints import failpoint
from daemon.jobs import Job
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import RunRequest
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.control import RunControl
from daemon.worker.job_files import JobFiles
from daemon.worker.outbox import Outbox
from daemon.worker.outcomes import CANCELLED, Completed, Outcome, outcome_of
from daemon.worker.progress import ProgressNotes, ProgressRecorder

log = logging.getLogger(__name__)


class PipelineRunner(Protocol):
    """What the worker needs of an executor; see ``Executor``."""

    lanes: int

    def has_room(self) -> bool:
        """See ``Executor.has_room``."""

    def start(self, should_stop: Callable[[], bool] = ...) -> object:
        """See ``Executor.start``."""

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = ...,
        should_stop: Callable[[], bool] = ...,
        on_placed: Callable[[], None] = ...,
    ) -> RunReport:
        """See ``Executor.run``."""


class Sources(Protocol):
    """What the worker needs of those who took the videos in."""

    def unchanged(self, job: Job) -> bool:
        """Tell whether a job's stored video is still what was taken in.

        Raises:
            OSError: the stored video cannot be looked at.
        """

    def put_back(self, job: Job, reason: str) -> Job | None:
        """Return a video that was written to after it was taken in, so that it is run again as it is now.

        Returns:
            The job if it is to be run again; None if the video will become a new one, and this one has to end.

        Raises:
            SourceChanged: it is being written to.
            OSError: it cannot be moved; it stays stored.
            StoreError: the job store cannot be written.
        """


class Attempt:
    """Checks a job's video, makes its result and publishes it. Changes nothing of its record but what is known of it.

    Args:
        store: Gets what the result says.
        files: The videos and the result documents.
        sources: Knows whether a stored video was written to.
        pipeline: Does the work.
        outbox: Gets the results.
        control: Says whether the job is to end.
        totals: What was done since the start is added here: ``frames``, and busy seconds a stage.
        settings: The wait after the first attempt that failed and counts; doubled after each further one.
        clock: Monotonic time in seconds.
        notes: Puts the progress into the record, together with that of other attempts; its own if not given.
    """

    def __init__(
        self,
        store: JobStore,
        files: JobFiles,
        sources: Sources,
        pipeline: PipelineRunner,
        outbox: Outbox,
        control: RunControl,
        totals: defaultdict[str, float],
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        notes: ProgressNotes | None = None,
    ) -> None:
        self._store = store
        self._files = files
        self._sources = sources
        self._pipeline = pipeline
        self._outbox = outbox
        self._control = control
        self._totals = totals
        self._retry_seconds = settings.retry_seconds
        self.progress = ProgressRecorder(notes or ProgressNotes(store, clock), clock)

    def run(self, job: Job) -> Outcome:
        """Work on a job that reads as running; return how that ended, whatever happened."""
        self.progress.begin(job.job_id)
        try:
            self._check_source(job)
            facts = self._analyse(job)
            failpoint("worker.analysed")
            self._publish(job)
            failpoint("worker.published")
        except Exception as error:
            if not isinstance(error, JobError | MachineError | StoreError | OSError):
                log.exception("Job %s ended with an unexpected error", job.job_id)
            return outcome_of(error, self._retry_seconds * 2 ** (job.attempts - 1))
        finally:
            self.progress.end()
        return Completed(facts)

    def _check_source(self, job: Job) -> None:
        try:
            if not self._sources.unchanged(job):
                raise SourceChanged(
                    "The video was written to after it had been taken in; it is run again as it is now."
                )
        except FileNotFoundError as error:
            raise PermanentError("The stored video is gone from the data folder; drop or submit it again.") from error
        except OSError as error:
            raise ResourceUnavailable(f"The stored video cannot be read: {error.strerror}.") from error

    def _analyse(self, job: Job) -> dict[str, Any]:
        """Make the result document unless an earlier attempt did; return what the record gets to know."""
        facts = self._files.facts(job)
        if facts is not None:
            self._files.discard_partial(job)  # it was finished, and what led to it may not have been removed yet
            if (job.device or "").startswith(facts["device"]):
                del facts["device"]  # noted before the result was to be published, with the GPU's number
            return facts
        facts = self._run_pipeline(job)
        self._check_source(job)
        self._store.note(job.job_id, **facts)  # before publishing: a later attempt only publishes
        return facts

    def _run_pipeline(self, job: Job) -> dict[str, Any]:
        request = RunRequest(
            file_path=self._files.video(job),
            pipeline_id=job.pipeline_id,
            frame_stride=job.options.frame_stride,
            max_frames=job.options.max_frames,
            output_path=self._files.result(job),
            source_name=job.source_name,
        )
        report = self._pipeline.run(request, self.progress.report, self._control.should_stop)
        self.progress.done()
        self._count(job, report)
        return {
            "frames_processed": report.frames_processed,
            "frames_total": report.frames_total,
            "sha256": report.sha256,
            "size_bytes": report.size_bytes,
            "device": report.device,
            "summary": report.summary,
        }

    def _count(self, job: Job, report: RunReport) -> None:
        with self._control.lock:  # other attempts add to the same
            self._totals["frames"] += report.frames_processed
            for name, seconds in report.stage_seconds.items():
                self._totals[f"{name}_seconds"] += seconds
        log.info(
            "Job %s: %d frames in %.1f s; busy seconds %s",
            job.job_id,
            report.frames_processed,
            report.wall_seconds,
            report.stage_seconds,
        )

    def _publish(self, job: Job) -> None:
        if self._control.close(job.job_id):
            raise Cancelled(CANCELLED)
        try:
            with self._files.open_result(job) as document:
                self._outbox.publish(job, document, self._control.stopping.is_set)
        except StorageError as error:
            raise ResourceUnavailable(f"The result cannot be published: {error}") from error
        except OSError as error:
            raise ResourceUnavailable(
                f"The outbox cannot be written ({error.strerror}); the result is kept and published when it can."
            ) from error
