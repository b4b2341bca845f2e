"""PipelineProcess: the parent's end of the pipeline process. It outlives whatever happens to the child."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon import errors
from daemon.errors import (
    DropframeError,
    Interrupted,
    JobError,
    MachineError,
    PipelineDied,
    PipelineStalled,
    ResourceUnavailable,
)
from daemon.fs.identity import shown
from daemon.pipeline.machine import machine_memory, sixty_percent
from daemon.pipeline.patience import Patience
from daemon.pipeline.pipeline_child import PipelineChild
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.pipeline.seams import NotExact
from daemon.pipeline.weights_watch import Seen, WeightsWatch
from daemon.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Time between two looks at a running child: its memory, and whether it should stop."""


@dataclass(frozen=True)
class Ready:
    """What a child says once its models are loaded."""

    device: str
    """``cpu`` or ``cuda:N``."""
    models: list[dict[str, Any]]
    """ModelInfo records, for a 1280x720 video."""
    gpu: str | None = None
    """Name of the GPU, if it is one."""
    gpus: int = 0
    """How many there are."""
    node: str | None = None
    """Name of the machine, if it is one of a cluster."""
    abilities: str = ""
    """Of its processor (``machine.abilities``), where machines may differ."""
    calibration: str = ""
    """See ``LoadedModels.calibration``."""

    @property
    def kind(self) -> str:
        """Names all on which bytes of a document may hang; those of one kind may make parts of the same document."""
        return json.dumps([self.models, self.calibration, self.gpu, self.abilities])


class ModelsRefused(Exception):
    """A child says that it cannot load its models; ``error`` says why."""

    def __init__(self, error: DropframeError) -> None:
        super().__init__(str(error))
        self.error = error


class PipelineProcess:
    """Keeps one pipeline process, starting it when needed.

    Args:
        settings: Handed to the child; time and memory limits are kept here.
        cores: Numbers of the processor's cores that the child keeps to; all that there are if not given.
        memory_limit: Bytes of memory above which it is ended; what the settings say if not given.
        turn: Held while other weights are loaded beside those in use, which takes twice the memory; while somebody
            else holds it, what is loaded stays in use.
    """

    lanes = 1
    starts_for_work = True
    """What is due may be given to one that is not up, which is started for it."""

    def __init__(
        self,
        settings: Settings,
        cores: Sequence[int] | None = None,
        memory_limit: int | None = None,
        turn: threading.Lock | None = None,
    ) -> None:
        self._settings = settings
        self._cores = cores
        self._turn = turn or threading.Lock()
        self._child: PipelineChild | None = None
        self._was_ready = False
        self._weights = WeightsWatch(settings)
        self._memory_limit = memory_limit or settings.memory_limit_bytes or sixty_percent(machine_memory())
        self.on_room: Callable[[], None] = lambda: None
        """Never called: whoever runs one job at a time knows when it has ended."""
        self.ready: Ready | None = None
        """What is loaded, once a child has started."""

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> Ready:
        """Start the child if it is not up, and wait until its models are loaded.

        One that is up is replaced if other weights have been put in place since; should they be unusable, it stays.

        Raises:
            MachineError: the device, the text engine or a library is missing.
            ModelError: the weights cannot be used.
            PipelineDied: the child ended while it loaded.
            ResourceUnavailable: no process can be started now, or it is refused though a child was ready before.
            PipelineStalled: it did not get ready within ``start_seconds``.
            Interrupted: ``should_stop`` said so.
        """
        if self.ready is not None and self.is_up:
            if (seen := self._weights.changed()) is None or not self._turn.acquire(blocking=False):
                return self.ready
            try:
                return self._exchange(self.ready, seen, should_stop)
            finally:
                self._turn.release()
        self.close()
        seen = self._weights.now()
        try:
            self._child, self.ready = self._load(should_stop)
        except ModelsRefused as refused:
            error = refused.error
            if self._was_ready:  # it worked before: somebody is exchanging weights, so it is not the job's fault
                raise ResourceUnavailable(f"The pipeline cannot be started again just now: {error}") from error
            raise error from None
        self._weights.loaded(seen)
        self._was_ready = True
        return self.ready

    def _exchange(self, before: Ready, seen: Seen, should_stop: Callable[[], bool]) -> Ready:
        """Load other weights beside the child that is up, so that one is up whatever happens."""
        self._weights.loaded(seen)
        try:
            child, ready = self._load(should_stop)
        except Interrupted:
            raise
        except (DropframeError, ModelsRefused) as error:
            name = shown(Path(seen[0]).name)
            log.warning("%s cannot be used, so what was loaded before stays in use: %s", name, error)
            return before
        self.close()
        self._child, self.ready = child, ready
        log.info("%s is used from now on", shown(Path(seen[0]).name))
        return ready

    def _load(self, should_stop: Callable[[], bool]) -> tuple[PipelineChild, Ready]:
        """Start a child and wait until its models are loaded; raises what ``start`` does, and ModelsRefused."""
        try:
            child = PipelineChild(self._settings, self._cores)
        except OSError as failed:  # too many processes, too little memory, or its program is being exchanged
            raise ResourceUnavailable(f"The pipeline process cannot be started: {failed.strerror}.") from failed
        deadline = time.monotonic() + self._settings.start_seconds
        try:
            while (answer := child.answer(LOOK_SECONDS)) is None:
                if should_stop():
                    raise Interrupted("Dropframe is stopping.")
                if time.monotonic() > deadline:
                    raise PipelineStalled(
                        f"The models were not loaded within {self._settings.start_seconds:.0f} s (start_seconds)."
                    )
                self._check_memory(child)
            if answer["kind"] == "refused":
                raise ModelsRefused(error_of(answer))
        except BaseException:
            child.kill()
            raise
        what = {name: answer[name] for name in ("device", "models", "gpu", "gpus", "calibration")}
        return child, Ready(**what)

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_placed: Callable[[], None] = lambda: None,
    ) -> RunReport:
        """Run one request and wait for its end; ``on_placed`` is called at once.

        Raises:
            JobError: the run ended without a result; the kind says why. After PipelineDied and
                PipelineStalled the next run gets a fresh child.
            MachineError: a child could not be started.
        """
        on_placed()
        return RunReport(**self._call("run", request.to_record(), on_progress, should_stop))

    def plan(
        self,
        request: RunRequest,
        path: Path,
        should_stop: Callable[[], bool] = lambda: False,
        least_parts: int = 1,
    ) -> bool:
        """Have a video cut into parts.

        Args:
            request: The run that is wanted.
            path: Where the plan appears; one that is there already is kept if it still holds.
            should_stop: As in ``run``.
            least_parts: How many parts there should be, if there are as many segments.

        Returns:
            Whether there is a plan; False if the video is to be run in one piece.

        Raises:
            JobError, MachineError: as ``run``.
        """
        how = {"plan_path": str(path), "group_seconds": self._settings.group_seconds, "least_parts": least_parts}
        answer = self._call("plan", {**request.to_record(), **how}, lambda progress: None, should_stop)
        return bool(answer["planned"])

    def run_part(
        self,
        request: PartRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Have a part made with what is loaded, whatever weights there are now; see ``PartService.run_part``.

        Raises:
            NotExact: the video is to be run in one piece.
            JobError, MachineError: as ``run``.
        """
        return seconds_of(self._call("part", request.to_record(), on_progress, should_stop))

    def _call(
        self,
        kind: str,
        wanted: Mapping[str, Any],
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> Mapping[str, Any]:
        if kind != "part" or not self.is_up:
            self.start(should_stop)
        child = self._child
        if child is None:
            raise PipelineDied("The pipeline process was ended.")
        patience = Patience(self._settings)
        child.send(kind=kind, **wanted)
        try:
            while True:
                answer = child.answer(LOOK_SECONDS)
                patience.looked()
                if answer is None:
                    self._check_memory(child)
                elif answer["kind"] == "progress":
                    progress = Progress(answer["frames_processed"], answer["frames_total"], answer["steps"])
                    patience.progressed(progress.steps)
                    on_progress(progress)
                elif answer["kind"] == "done":
                    report: Mapping[str, Any] = answer["report"]
                    return report
                else:
                    raise error_of(answer)
                if not patience.stopping and should_stop():
                    patience.stopping = True
                    child.send(kind="stop")
                patience.check()
        except BaseException as error:  # also what on_progress raises
            if not child.answered_last or isinstance(error, PipelineDied):  # it is still at work, or dead
                self.close()
            raise

    def _check_memory(self, child: PipelineChild) -> None:
        if child.resident_bytes() > self._memory_limit:
            raise PipelineDied(
                f"The pipeline used more than {self._memory_limit / 1e9:.1f} GB of memory on this video and was "
                "ended (memory_limit_bytes)."
            )

    @property
    def is_up(self) -> bool:
        """Whether there is a child whose models are loaded."""
        child = self._child
        return child is not None and self.ready is not None and child.alive

    def resident_bytes(self) -> int:
        """Return the memory that the child holds, 0 without one."""
        child = self._child
        return 0 if child is None else child.resident_bytes()

    def has_room(self) -> bool:
        """Return True: it is asked between two jobs."""
        return True

    def slots(self) -> tuple[()]:
        """Return nothing, as there is only this one process."""
        return ()

    def close(self) -> None:
        """End the child and everything that it started; safe to call from any thread."""
        child, self._child, self.ready = self._child, None, None
        if child is not None:
            child.kill()


def seconds_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the busy seconds of each stage that a pipeline process reports of a part.

    Raises:
        NotExact: it says that the video is to be run in one piece.
    """
    if report["not_exact"] is not None:
        raise NotExact(report["not_exact"])
    return dict(report["stage_seconds"])


def error_of(answer: Mapping[str, Any]) -> errors.DropframeError:
    """Return the error that an answer names; one that counts as an attempt if it is not one of ours."""
    kind = getattr(errors, answer["error"], errors.TransientError)
    if not issubclass(kind, JobError | MachineError):
        kind = errors.TransientError
    error: errors.DropframeError = kind(answer["message"])
    return error
