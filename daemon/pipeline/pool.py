"""PipelinePool: several pipeline processes of this machine; a long video is shared among them, part by part.

Each slot is a warm pipeline process on cores of its own. What cannot be cut runs in one piece, in the first slot. The
document is the same to the byte either way.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from daemon.errors import Interrupted, PipelineDied, PipelineStalled, TransientError
from daemon.pipeline.client import PipelineProcess, Ready
from daemon.pipeline.frame_index import NotExact
from daemon.pipeline.parts import PartDamaged, join, part_facts
from daemon.pipeline.plans import PARTS, PartPlan, PlanDamaged
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
PART_TRIES = 3
"""Tries at a part, the first included."""


class Slot:
    """A pipeline process and the one thread that starts and asks it.

    The kernel ends a child with the thread that started it, so that thread has to live as long as the slot.

    Args:
        settings: Handed to the process.
        cores: Numbers of the cores that it keeps to.
    """

    def __init__(self, settings: Settings, cores: Sequence[int]) -> None:
        self.process = PipelineProcess(settings, cores)
        self._thread = ThreadPoolExecutor(1, "slot")

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call a function in the slot's thread."""
        return self._thread.submit(function, *arguments)

    def close(self) -> None:
        """End the process; what its thread waits for fails then."""
        self.process.close()
        self._thread.shutdown(cancel_futures=True)


class PipelinePool:
    """Keeps several pipeline processes and runs one job at a time on all of them.

    Args:
        settings: Handed to every process.
        slots: How many there are; the cores are dealt out among them.
    """

    def __init__(self, settings: Settings, slots: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        shares = [cores[number::slots] for number in range(slots)]
        self._slots = [Slot(settings, share or cores) for share in shares]

    @property
    def ready(self) -> Ready | None:
        """What is loaded, once the first slot has started."""
        return self._slots[0].process.ready

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> Ready:
        """Start the slots that are not up; raises what ``PipelineProcess.start`` does."""
        first, *_ = [done.result() for done in [slot.submit(slot.process.start, should_stop) for slot in self._slots]]
        return first

    def resident_bytes(self) -> int:
        """Return the memory that all slots hold."""
        return sum(slot.process.resident_bytes() for slot in self._slots)

    def close(self) -> None:
        """End all slots and everything that they started."""
        for slot in self._slots:
            slot.close()

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RunReport:
        """Run one request on all slots and wait for its end; raises what ``PipelineProcess.run`` does."""
        folder = request.output_path.with_name(request.output_path.name + PARTS)
        plan_path, begun = folder / "plan", time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if (plan := self._plan(request, plan_path, should_stop)) is not None:
                run = _SharedRun(plan, plan_path, request, on_progress, should_stop)
                run.on(self._slots)
                report = run.joined(begun)
                shutil.rmtree(folder, ignore_errors=True)
                return report
        except NotExact as why:
            log.info("%s: it is run in one piece, as %s", request.file_path.name, why)
        shutil.rmtree(folder, ignore_errors=True)
        first = self._slots[0]
        return first.submit(first.process.run, request, on_progress, should_stop).result()

    def _plan(self, request: RunRequest, path: Path, should_stop: Callable[[], bool]) -> PartPlan | None:
        """Return the plan of an earlier attempt, or a new one; None if the video is to be run in one piece."""
        with suppress(OSError, PlanDamaged):
            return PartPlan.load(path)
        first = self._slots[0]
        planned = first.submit(first.process.plan, request, path, should_stop).result()
        return PartPlan.load(path) if planned else None


class _SharedRun:
    """One job that several slots work on."""

    def __init__(
        self,
        plan: PartPlan,
        plan_path: Path,
        request: RunRequest,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._plan, self._plan_path, self._request = plan, plan_path, request
        self._on_progress, self._should_stop = on_progress, should_stop
        self._paths = [plan_path.with_name(f"{number:06}") for number in range(len(plan))]
        self._due = deque(number for number in range(len(plan)) if not self._is_made(number))
        self._tries: Counter[int] = Counter()
        self._frames = {n: plan.frames_of(n) for n in range(len(plan)) if n not in self._due}
        self._steps: Counter[int] = Counter()
        self._stage_seconds: Counter[str] = Counter()
        self._failed = threading.Event()
        self._lock = threading.Lock()

    def _is_made(self, number: int) -> bool:
        try:
            part_facts(self._plan, number, self._paths[number])
        except PartDamaged:
            return False
        return True

    def on(self, slots: Sequence[Slot]) -> None:
        """Have all parts made; raises what the first one raises that fails for good."""
        works = [slot.submit(self._work, slot.process) for slot in slots]
        wait(works)
        for error in filter(None, [work.exception() for work in works]):
            if not isinstance(error, Interrupted) or self._should_stop():
                raise error

    def _work(self, slot: PipelineProcess) -> None:
        while (number := self._next()) is not None:
            try:
                self._make(slot, number)
            except (PipelineDied, PipelineStalled) as error:
                with self._lock:
                    self._tries[number] += 1
                    if self._tries[number] >= PART_TRIES:
                        self._failed.set()
                        raise
                    self._due.appendleft(number)
                log.warning("a part of %s is made again: %s", self._request.file_path.name, error)
            except BaseException:
                self._failed.set()
                raise

    def _next(self) -> int | None:
        with self._lock:
            return self._due.popleft() if self._due and not self._failed.is_set() else None

    def _make(self, slot: PipelineProcess, number: int) -> None:
        request = PartRequest(self._plan_path, number, self._request.file_path, self._paths[number])

        def told(progress: Progress) -> None:
            with self._lock:
                self._frames[number] = max(self._frames.get(number, 0), progress.frames_processed)
                self._steps[number] = max(self._steps[number], progress.steps)
                whole = Progress(sum(self._frames.values()), self._plan.frames_total, sum(self._steps.values()))
                self._on_progress(whole)

        seconds = slot.run_part(request, told, lambda: self._should_stop() or self._failed.is_set())
        with self._lock:
            self._frames[number] = self._plan.frames_of(number)
            self._stage_seconds.update(seconds)

    def joined(self, begun: float) -> RunReport:
        """Make the document of the parts, and say how the run went."""
        try:
            summary = join(self._plan, self._paths, self._request.output_path)
        except PartDamaged as error:
            self._paths[error.number].unlink(missing_ok=True)
            raise TransientError(str(error)) from error
        return RunReport(
            frames_processed=summary["frame_count"],
            frames_total=self._plan.frames_total,
            sha256=self._plan.source["sha256"],
            size_bytes=self._plan.source["size_bytes"],
            device=self._plan.device,
            summary={name: value for name, value in summary.items() if name != "texts"},
            stage_seconds={name: round(seconds, 3) for name, seconds in self._stage_seconds.items()},
            wall_seconds=round(time.monotonic() - begun, 3),
        )
