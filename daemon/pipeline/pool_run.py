"""PoolRun: one job of a pool. It is planned, made part by part on all slots that are free, and joined."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from daemon.errors import Interrupted, NodeLost, PermanentError, PipelineDied, PipelineStalled
from daemon.failpoints import failpoint
from daemon.fs.identity import identity_of
from daemon.pipeline.board import Board, Unit
from daemon.pipeline.parts import PartDamaged, join, part_facts
from daemon.pipeline.patience import FROZEN_SECONDS
from daemon.pipeline.plans import PartPlan, PlanDamaged
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.pipeline.seams import NotExact
from daemon.pipeline.slot_process import SlotProcess
from daemon.settings import Settings

log = logging.getLogger(__name__)

PART_TRIES = 2
"""Tries at a part that ends its process, before the video is run in one piece."""
MOST_LOST = 8
"""Machines that may be lost with a piece of work, one after the other, before its job waits and lets others go ahead.

None may have what it takes, such as room for a large video."""
PARTS_A_SLOT = 2
"""Parts for each slot that is free, so that all end at about the same time."""
LOOK_SECONDS = 0.25
"""Time between two looks whether the job is to end."""
STOPPED = "The run was stopped."
PLAN = "plan-"
"""What the name of a plan begins with; the rest names the file of which it is one, should that be changed."""
ONE_PIECE = "one-piece"
"""Name of the file that says that a video is to be run in one piece, whatever a plan says."""


class KindGone(Exception):
    """No slot is left of the kind that a video's parts were begun with."""


class PartSums:
    """What is known of all parts together; safe to use from any thread.

    Args:
        plan: Of the video.
        made: The parts that an earlier attempt has made.
    """

    def __init__(self, plan: PartPlan, made: Collection[int]) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._frames = {number: plan.frames_of(number) for number in made}
        self._steps: Counter[int] = Counter()
        self._seconds: Counter[str] = Counter()

    def progressed(self, number: int, progress: Progress) -> Progress:
        """Note how far a part is; return how far all are."""
        with self._lock:
            self._frames[number] = progress.frames_processed
            self._steps[number] = progress.steps
            return Progress(sum(self._frames.values()), self._plan.frames_total, self._steps.total())

    def made(self, number: int, stage_seconds: dict[str, float]) -> Progress:
        """Note that a part is made; return how far all are."""
        with self._lock:
            self._seconds.update(stage_seconds)
            steps = self._steps[number] + 1
        return self.progressed(number, Progress(self._plan.frames_of(number), self._plan.frames_total, steps))

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Busy seconds of each stage."""
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}


class PoolRun:
    """Runs one request.

    Args:
        settings: How long a job may take.
        board: Gets what slots are to do.
        job: Number of the job, in the order of the starts.
        request: What is to be run.
        on_progress: Called about twice a second by one thread at a time; the frames never get fewer.
        should_stop: Asked again and again.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        job: int,
        request: RunRequest,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._board, self._job, self._request = board, job, request
        self._on_progress, self._asked_to_stop = on_progress, should_stop
        self._begun = self._looked = time.monotonic()
        self._worked = 0.0
        """Seconds in which a slot was at work for the job."""
        self._most_seconds = settings.max_job_seconds
        self._failed = threading.Event()
        """Set when what slots still do for the job is of no use any more."""
        self._lock = threading.Lock()
        self._frames = 0
        self._tries: Counter[int] = Counter()
        """By the number of the part."""
        self._lost: Counter[int] = Counter()
        """Machines, by the number of the part."""
        self._under_way: list[Unit] = []
        self._folder = request.parts

    def run(self, on_placed: Callable[[], None]) -> RunReport:
        """Run it; raises what ``PipelineProcess.run`` does."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._plan_path = self._folder / f"{PLAN}{version_of(self._request.file_path)}"
        report: RunReport | None = None
        while report is None:
            try:
                report = self._in_parts_or_one_piece(on_placed)
            except KindGone as why:
                log.info("%s: its parts are made anew, as %s", self._request.file_path.name, why)
                self._begin_anew()
            except NotExact as why:
                log.info("%s: it is run in one piece, as %s", self._request.file_path.name, why)
                report = self._in_one_piece_after_all()
        shutil.rmtree(self._folder, ignore_errors=True)
        return report

    def _begin_anew(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(exist_ok=True)
        self._failed.clear()
        self._tries.clear()

    def _in_parts_or_one_piece(self, on_placed: Callable[[], None]) -> RunReport:
        unit = self._unit(-1, lambda process: self._begin(process, on_placed))
        self._have_done([unit])
        kind, report = unit.result.result()
        return report or self._in_parts(self._load_plan(), kind, on_placed)

    def _in_one_piece_after_all(self) -> RunReport:
        self._begin_anew()
        (self._folder / ONE_PIECE).touch()  # so that an attempt after this one does not begin with parts again
        unit = self._unit(-1, self._in_one_piece)
        self._have_done([unit])
        report: RunReport = unit.result.result()
        return report

    # In a slot.

    def _begin(self, process: SlotProcess, on_placed: Callable[[], None]) -> tuple[str | None, RunReport | None]:
        """Plan it. If it is to be run in one piece, run it; else return the kind of process that parts need."""
        document = self._request.output_path
        checkpoint = document.with_name(document.name + ".checkpoint")
        one_piece = checkpoint.exists() or (self._folder / ONE_PIECE).exists()  # that is how it was begun
        least_parts = PARTS_A_SLOT * (1 + self._board.idle())
        if not one_piece and process.plan(self._request, self._plan_path, self._should_stop, least_parts):
            failpoint("pool.planned")
            return process.ready.kind if process.ready else None, None
        on_placed()
        return None, self._in_one_piece(process)

    def _in_one_piece(self, process: SlotProcess) -> RunReport:
        return process.run(self._request, self._progressed, self._should_stop)

    def _make(self, process: SlotProcess, number: int, sums: PartSums) -> None:
        request = PartRequest(self._plan_path, number, self._request.file_path, self._path(number))
        seconds = process.run_part(request, lambda p: self._progressed(sums.progressed(number, p)), self._should_stop)
        self._progressed(sums.made(number, seconds))
        failpoint("pool.made")

    def _progressed(self, progress: Progress) -> None:
        with self._lock:
            self._frames = max(self._frames, progress.frames_processed)
            self._on_progress(replace(progress, frames_processed=self._frames))

    def _should_stop(self) -> bool:
        return self._failed.is_set() or self._asked_to_stop()

    # In parts.

    def _in_parts(self, plan: PartPlan, kind: str | None, on_placed: Callable[[], None]) -> RunReport:
        paths = [self._path(number) for number in range(len(plan))]
        made = {number for number, path in enumerate(paths) if _is_made(plan, number, path)}
        sums = PartSums(plan, made)
        due = [number for number in range(len(plan)) if number not in made]
        units = [self._unit(number, partial(self._make, number=number, sums=sums), kind) for number in due]
        self._have_done(units, on_placed)
        summary = self._join(plan, paths)
        failpoint("pool.joined")
        return RunReport(
            frames_processed=summary["frame_count"],
            frames_total=plan.frames_total,
            sha256=plan.source["sha256"],
            size_bytes=plan.source["size_bytes"],
            device=plan.device,
            summary={name: value for name, value in summary.items() if name != "texts"},
            stage_seconds=sums.stage_seconds,
            wall_seconds=round(time.monotonic() - self._begun, 3),
        )

    def _join(self, plan: PartPlan, paths: Sequence[Path]) -> dict[str, Any]:
        try:
            return join(plan, paths, self._request.output_path)
        except PartDamaged as error:
            paths[error.number].unlink(missing_ok=True)
            raise

    def _load_plan(self) -> PartPlan:
        try:
            return PartPlan.load(self._plan_path)
        except PlanDamaged:
            self._plan_path.unlink(missing_ok=True)
            raise

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}"

    # On the board.

    def _unit(self, number: int, work: Callable[[SlotProcess], Any], kind: str | None = None) -> Unit:
        return Unit((self._job, number), work, kind, self._request.file_path.stem)

    def _have_done(self, units: Iterable[Unit], on_placed: Callable[[], None] = lambda: None) -> None:
        """Have units done, and wait for the end of all; raises the first error that makes the others useless."""
        for unit in units:
            self._put(unit)
        on_placed()
        error: BaseException | None = None
        while self._under_way:
            self._count_time()
            wait([unit.result for unit in self._under_way], LOOK_SECONDS, FIRST_COMPLETED)
            error = error or self._why_to_end()
            for unit in [unit for unit in self._under_way if unit.result.done()]:
                self._under_way.remove(unit)
                error = error or self._error_of(unit)
            if error is not None:
                self._failed.set()
                for unit in self._board.withdraw(self._job):
                    self._under_way.remove(unit)
        if error is not None:
            raise error

    def _count_time(self) -> None:
        """Count time since the last look in which somebody worked, and this process did not stand still."""
        passed, self._looked = time.monotonic() - self._looked, time.monotonic()
        if any(unit.result.running() for unit in self._under_way):
            self._worked += min(passed, FROZEN_SECONDS)

    def _put(self, unit: Unit) -> None:
        self._under_way.append(unit)
        self._board.put(unit)

    def _why_to_end(self) -> Exception | None:
        if self._worked > self._most_seconds:
            return PermanentError(f"The job took longer than {self._most_seconds:.0f} s (max_job_seconds).")
        if self._board.has_orphans(self._job):
            return KindGone("no slot has what they were begun with, other weights or another machine")
        return Interrupted(STOPPED) if self._asked_to_stop() else None

    def _error_of(self, unit: Unit) -> BaseException | None:
        """Return why a unit failed; None also if it is done once more, as it has lost its process or its machine."""
        if unit.result.cancelled():
            return Interrupted(STOPPED)
        error, number = unit.result.exception(), unit.place[1]
        if isinstance(error, NodeLost) and not self._failed.is_set() and self._lost[number] < MOST_LOST:
            self._lost[number] += 1
            log.warning("a piece of work for %s is given to another slot: %s", unit.job_id, error)
            unit.result = Future()  # of the same unit, whose result somebody may wait for
            self._put(unit)
            return None
        if number < 0 or not isinstance(error, PipelineDied | PipelineStalled):
            return error
        self._tries[number] += 1
        if self._tries[number] >= PART_TRIES:
            return NotExact(f"part {number} has ended {PART_TRIES} processes")
        log.warning("part %d of %s is made again: %s", number, unit.job_id, error)
        self._put(self._unit(number, unit.work, unit.kind))
        return None


def version_of(video: Path) -> str:
    """Return what names the content of a file, as long as nobody writes to it."""
    try:
        identity = identity_of(video.stat()).lasting
    except FileNotFoundError:
        return "none"  # whoever opens it says so
    return hashlib.sha256(str(identity).encode()).hexdigest()[:16]


def _is_made(plan: PartPlan, number: int, path: Path) -> bool:
    try:
        part_facts(plan, number, path)
    except PartDamaged:
        return False
    return True
