"""Lanes: the jobs that are under way. A single lane attempts its job in the worker's thread, others in their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from daemon.jobs import Job
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import RunRequest
from daemon.worker.attempt import Attempt, PipelineRunner
from daemon.worker.control import RunControl, RunControls
from daemon.worker.outcomes import UNAVAILABLE_SECONDS, Outcome, Retry
from daemon.worker.progress import Running
from daemon.worker.recorder import OutcomeRecorder

MakeAttempt = Callable[[PipelineRunner, RunControl], Attempt]


class Placing:
    """A pipeline that also says when it knows what a job needs.

    Args:
        pipeline: Does the work.
        on_placed: Called then.
    """

    def __init__(self, pipeline: PipelineRunner, on_placed: Callable[[], None]) -> None:
        self._pipeline = pipeline
        self._on_placed = on_placed
        self.lanes = pipeline.lanes
        self.has_room = pipeline.has_room
        self.start = pipeline.start

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_placed: Callable[[], None] = lambda: None,
    ) -> RunReport:
        """See ``Executor.run``."""

        def placed() -> None:
            self._on_placed()
            on_placed()

        return self._pipeline.run(request, on_progress, should_stop, placed)


class Lane:
    """Has one job attempted at a time.

    Args:
        pipeline: Does the work.
        control: Of the job.
        make_attempt: Makes what attempts it.
        wake: Called when another job may be begun, or an outcome be recorded.
    """

    def __init__(
        self, pipeline: PipelineRunner, control: RunControl, make_attempt: MakeAttempt, wake: Callable[[], None]
    ) -> None:
        self._wake = wake
        self.control = control
        self.attempt = make_attempt(Placing(pipeline, self._placed), control)
        self.job: Job | None = None
        """The job whose outcome is not recorded yet."""
        self.outcome: Outcome | None = None
        """How its attempt ended, once it has."""
        self.is_starting = False
        """Whether it is not known yet what the job needs."""
        self._thread: threading.Thread | None = None

    def attempt_here(self, job: Job) -> Outcome:
        """Attempt a job in this thread; return how that ended."""
        return self.attempt.run(job)

    def attempt_beside(self, job: Job) -> None:
        """Attempt a job in a thread."""
        self.job, self.outcome, self.is_starting = job, None, True
        self._thread = threading.Thread(target=self._work, args=(job,), name=f"job-{job.job_id[:8]}")
        try:
            self._thread.start()
        except RuntimeError:  # too many threads just now
            self._thread = None
            self._end(Retry(UNAVAILABLE_SECONDS, counted=False, text="No thread could be started for the job."))

    def wait(self) -> None:
        """Wait until the attempt has ended, if there is one."""
        if self._thread is not None:
            self._thread.join()

    def vacate(self) -> None:
        """Be free for another job."""
        self.wait()
        self.job = self.outcome = self._thread = None

    def _work(self, job: Job) -> None:
        outcome: Outcome = Retry(UNAVAILABLE_SECONDS, counted=False, text="The attempt ended without an outcome.")
        try:
            outcome = self.attempt.run(job)
        finally:
            self._end(outcome)

    def _placed(self) -> None:
        self.is_starting = False
        self._wake()

    def _end(self, outcome: Outcome) -> None:
        self.outcome, self.is_starting = outcome, False
        self._wake()


class Lanes:
    """All lanes.

    Args:
        pipeline: Does the work, and says how many there are.
        controls: One for each.
        make_attempt: Makes what attempts jobs.
        wake: Called when there is something to do.
    """

    def __init__(
        self, pipeline: PipelineRunner, controls: RunControls, make_attempt: MakeAttempt, wake: Callable[[], None]
    ) -> None:
        self._pipeline = pipeline
        self._all = [Lane(pipeline, control, make_attempt, wake) for control in controls.each]

    @property
    def is_single(self) -> bool:
        """Whether there is one job at a time, attempted in the worker's thread."""
        return len(self._all) == 1

    @property
    def running(self) -> list[Running]:
        """The jobs that are being worked on, in the order of their starts."""
        progress = (lane.attempt.progress.running for lane in self._all)
        return sorted((each for each in progress if each is not None), key=lambda each: each.since)

    def free(self) -> Lane | None:
        """Return a lane for the next job; None while there is no room for it, or one before it may still need that."""
        if self.is_single:
            return self._all[0]
        if any(lane.is_starting for lane in self._all) or not self._pipeline.has_room():
            return None
        return next((lane for lane in self._all if lane.job is None), None)

    def record_ended(self, recorder: OutcomeRecorder, now: float) -> None:
        """Record how attempts have ended that were made beside this thread; their lanes are free then.

        Args:
            recorder: Records it, or keeps it until it can.
            now: Monotonic time in seconds.
        """
        ended = [lane for lane in self._all if lane.job is not None and lane.outcome is not None]
        recorder.apply_all([(lane.job, lane.outcome) for lane in ended if lane.job and lane.outcome], now)
        for lane in ended:
            if lane.job is not None:
                lane.control.close(lane.job.job_id)
            lane.vacate()

    def wait(self) -> None:
        """Wait until all attempts have ended."""
        for lane in self._all:
            lane.wait()
