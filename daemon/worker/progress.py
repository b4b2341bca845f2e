"""ProgressRecorder: how far the running job is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from daemon.errors import StoreError
from daemon.logs import LogOnce
from daemon.pipeline.records import Progress
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)

NOTE_SECONDS = 0.5
"""Time between two notes of progress in the job store."""


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


class ProgressRecorder:
    """Keeps the progress of the running job in memory, and in its record twice a second.

    Args:
        store: Keeps the records.
        clock: Monotonic time in seconds.
    """

    def __init__(self, store: JobStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._job_id = ""
        self._begun = self._noted = 0.0
        self._log_once = LogOnce(log)
        self.running: Running | None = None
        """The job that is being worked on, from its first progress on."""

    def begin(self, job_id: str) -> None:
        """Expect the progress of a job."""
        self.running = None
        self._job_id = job_id
        self._begun = self._noted = self._clock()

    def report(self, progress: Progress) -> None:
        """Take in how far the job is. That it cannot be recorded is not an error."""
        first = progress.frames_processed if self.running is None else self.running.first_frames
        self.running = Running(self._job_id, self._begun, progress, first)
        now = self._clock()
        if now - self._noted >= NOTE_SECONDS and not self._store.problem:
            self._noted = now
            self._note(progress)

    def end(self) -> None:
        """Nothing is being worked on any more."""
        self.running = None

    def _note(self, progress: Progress) -> None:
        try:
            self._store.note(
                self._job_id,
                durable=False,
                frames_processed=progress.frames_processed,
                frames_total=progress.frames_total,
            )
            self._log_once.solved()
        except StoreError as error:
            self._log_once(f"Progress cannot be recorded: {error}")
