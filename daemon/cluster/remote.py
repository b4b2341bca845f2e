"""RemoteProcess: a pipeline process on a machine of the cluster; a slot uses it as it does one of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daemon.cluster.driver_process import DriverProcess
from daemon.errors import DropframeError, MachineError, ModelError, NodeLost, ResourceUnavailable
from daemon.pipeline.client import Ready, seconds_of
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest

WEIGHTS_SECONDS = 5.0
"""Time between two looks of an idle slot whether there are other weights."""


class RemoteProcess:
    """Speaks to the pipeline process of one slot; see ``PipelineProcess``.

    Args:
        driver: Reaches it.
        number: Of the slot.
    """

    starts_for_work = False
    """What is due waits until a machine has been found and the process is up."""

    def __init__(self, driver: DriverProcess, number: int) -> None:
        self._driver, self._number = driver, number
        self._due = 0.0

    @property
    def ready(self) -> Ready | None:
        """What is loaded."""
        return self._driver.ready(self._number)

    @property
    def is_up(self) -> bool:
        """Whether there is one whose models are loaded."""
        return self.ready is not None

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> Ready:
        """Have a place found for it, wait until it is up, and have it look for other weights.

        Raises:
            JobError: it cannot be started; there may be no cluster, or it cannot use the weights. Nothing that keeps
                others from being started.
        """
        ready, now = self.ready, time.monotonic()
        if ready is not None and now < self._due:
            return ready
        self._due = now + WEIGHTS_SECONDS
        try:
            self._call("start", {}, should_stop=should_stop)
        except (MachineError, ModelError) as error:  # of one machine; others may do
            raise ResourceUnavailable(str(error)) from error
        if (ready := self.ready) is None:
            raise ResourceUnavailable("The slot has ended.")
        return ready

    def plan(
        self, request: RunRequest, path: Path, should_stop: Callable[[], bool] = lambda: False, least_parts: int = 1
    ) -> bool:
        """See ``PipelineProcess.plan``."""
        how = {"request": request.to_record(), "plan_path": str(path), "least_parts": least_parts}
        return bool(self._call("plan", how, should_stop=should_stop)["planned"])

    def run_part(
        self,
        request: PartRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """See ``PipelineProcess.run_part``."""
        return seconds_of(self._call("part", {"request": request.to_record()}, on_progress, should_stop))

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RunReport:
        """See ``PipelineProcess.run``."""
        return RunReport(**self._call("run", {"request": request.to_record()}, on_progress, should_stop))

    def resident_bytes(self) -> int:
        """Return the memory that it holds."""
        return self._driver.memory(self._number)

    def close(self) -> None:
        """End it."""
        self._driver.release(self._number)

    def _call(
        self,
        kind: str,
        wanted: Mapping[str, Any],
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Mapping[str, Any]:
        if kind != "start" and not self.is_up:
            raise NodeLost("The slot has ended.")  # after it was given this, and before it could begin
        try:
            return self._driver.call(self._number, kind, wanted, on_progress, should_stop)
        except DropframeError as error:
            if kind == "start" or isinstance(error, NodeLost):
                self.close()  # the next attempt may be on another machine
            raise
