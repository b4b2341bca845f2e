"""RemoteProcess: a pipeline process on a machine of the cluster; a slot uses it as it does one of this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daemon.cluster.driver_process import DriverProcess
from daemon.cluster.exchange import Exchange
from daemon.errors import (
    DropframeError,
    MachineError,
    ModelError,
    NodeLost,
    ObjectStoreError,
    ResourceUnavailable,
)
from daemon.pipeline.client import Ready, seconds_of
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.worker.job_files import PARTIAL_ENDINGS

log = logging.getLogger(__name__)

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
        if kind != "start":
            self._require_up()
        try:
            return self._driver.call(self._number, kind, wanted, on_progress, should_stop)
        except DropframeError as error:
            if kind == "start" or isinstance(error, NodeLost):
                self.close()  # the next attempt may be on another machine
            raise

    def _require_up(self) -> None:
        if not self.is_up:
            raise NodeLost("The slot has ended.")  # after it was given this, and before it could begin


class StagedProcess(RemoteProcess):
    """One whose machine shares no folder with this one: what it needs and what it makes goes over object storage.

    Args:
        driver: Reaches it.
        number: Of the slot.
        exchange: Has the objects.
    """

    def __init__(self, driver: DriverProcess, number: int, exchange: Exchange) -> None:
        super().__init__(driver, number)
        self._exchange = exchange

    def plan(
        self, request: RunRequest, path: Path, should_stop: Callable[[], bool] = lambda: False, least_parts: int = 1
    ) -> bool:
        """See ``PipelineProcess.plan``; a slot that is never idle gets other weights here, between two jobs."""
        if self.is_up:
            self.start(should_stop)
        return super().plan(request, path, should_stop, least_parts)

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RunReport:
        """See ``PipelineProcess.run``; an earlier attempt on this machine is not gone on with."""
        report = super().run(request, on_progress, should_stop)
        for ending in PARTIAL_ENDINGS:
            Path(f"{request.output_path}{ending}").unlink(missing_ok=True)
        return report

    def _call(
        self,
        kind: str,
        wanted: Mapping[str, Any],
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Mapping[str, Any]:
        try:
            if kind == "start":
                return self._start(should_stop)
            return self._call_with_objects(kind, wanted, on_progress, should_stop)
        except ObjectStoreError as error:
            raise ResourceUnavailable(str(error)) from error

    def _start(self, should_stop: Callable[[], bool]) -> Mapping[str, Any]:
        models = [model.to_record() for model in self._exchange.models.offered(check=not self.is_up)]
        probe = None if self.is_up else self._exchange.new_key("starts")  # of no job, so deleted at a start at last
        try:
            return super()._call("start", {"models": models, "probe": probe}, should_stop=should_stop)
        finally:
            if probe is not None:
                self._exchange.discard(probe)

    def _call_with_objects(
        self,
        kind: str,
        wanted: Mapping[str, Any],
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> Mapping[str, Any]:
        self._require_up()  # before much is put
        request, exchange = wanted["request"], self._exchange
        video, plan = Path(request["file_path"]), wanted.get("plan_path") or request.get("plan_path")
        target = Path(plan if kind == "plan" else request["output_path"])
        source, key = exchange.source(video, should_stop), exchange.new_key(video.stem)
        objects = {
            "source": vars(source),
            "plan": vars(exchange.plan(Path(plan), video.stem, should_stop)) if plan and Path(plan).exists() else None,
            "make": key,
        }
        report = super()._call(kind, {**wanted, "objects": objects}, on_progress, should_stop)
        if report["made"] is not None:
            exchange.take(key, report["made"], target, should_stop)
        what = f"part {request['number']}" if kind == "part" else kind
        log.info("%s: %d of %d bytes were fetched for: %s", video.stem, report["fetched_bytes"], source.size, what)
        return {name: value for name, value in report.items() if name not in ("made", "fetched_bytes")}
