"""Patience: how long a run may take, stand still, and go on after it was asked to stop."""

from __future__ import annotations

import time

from daemon.errors import Interrupted, PermanentError, PipelineStalled
from daemon.settings import Settings

FROZEN_SECONDS = 2.0
"""A look that took longer means that the machine, or this process, was suspended; no job is to blame for that time."""
STOP_SECONDS = 4.0
"""Time that a child gets to stop by itself before it is killed."""


class Patience:
    """How long a run may take, stand still, and go on after it was asked to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._begun = self._moved = self._now = time.monotonic()
        self._steps = -1
        self._stopping_since: float | None = None

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stopping_since is not None

    @stopping.setter
    def stopping(self, _: bool) -> None:
        self._stopping_since = self._now

    def looked(self) -> None:
        """Note that the child was looked at."""
        before, self._now = self._now, time.monotonic()
        gap = self._now - before
        if gap > FROZEN_SECONDS:  # this process stood still, and the child most likely too
            self._begun, self._moved = self._begun + gap, self._moved + gap

    def progressed(self, steps: int) -> None:
        """Note how far the run has come."""
        if steps != self._steps:
            self._steps, self._moved = steps, self._now

    def check(self) -> None:
        """Raise what ends a run that takes too long.

        Raises:
            Interrupted: it was asked to stop and did not.
            PipelineStalled: no frame came.
            PermanentError: the whole took too long.
        """
        if self._stopping_since is not None and self._now - self._stopping_since > STOP_SECONDS:
            raise Interrupted("The pipeline did not stop in time and was ended.")
        stall, most = self._settings.stall_seconds, self._settings.max_job_seconds
        if self._now - self._moved > stall:
            raise PipelineStalled(f"No frame came for {stall:.0f} s, so the pipeline was ended (stall_seconds).")
        if self._now - self._begun > most:
            raise PermanentError(f"The job took longer than {most:.0f} s (max_job_seconds).")
