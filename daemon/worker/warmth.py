"""Warmth: the models are loaded for the next job."""

from __future__ import annotations

import logging
from collections.abc import Callable

from daemon.errors import DropframeError, Interrupted
from daemon.logs import LogOnce
from daemon.worker.attempt import PipelineRunner

log = logging.getLogger(__name__)

WARM_SECONDS = 60.0
"""Time between two attempts to start a pipeline process that does not start, while there is nothing to run."""


class Warmth:
    """Has the models loaded for the next job, also when the last one took the pipeline process with it.

    Args:
        pipeline: Is started.
        stopping: Tells whether Dropframe is.
        clock: Monotonic time in seconds.
    """

    def __init__(self, pipeline: PipelineRunner, stopping: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._stopping = stopping
        self._clock = clock
        self._due = 0.0
        self._not_warm = LogOnce(log)

    def keep(self) -> None:
        """Start the pipeline process if it is not up; of several each does so by itself."""
        now = self._clock()
        if self._pipeline.lanes > 1 or now < self._due or self._stopping():
            return
        self._due = now + WARM_SECONDS
        try:
            self._pipeline.start(self._stopping)
            self._due = 0.0
            self._not_warm.solved()
        except Interrupted:
            return
        except DropframeError as error:
            self._not_warm(f"The pipeline could not be started again yet: {error}")
