"""Serving: what the pipeline process does for each kind of request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from daemon.jobs import Options
from daemon.pipeline.clocks import PROGRESS_SECONDS
from daemon.pipeline.plans import PartPlan, PlanDamaged
from daemon.pipeline.records import Progress
from daemon.pipeline.seams import NotExact
from daemon.pipeline.service import VideoFilePipelineService


class AnswersProgress(Protocol):
    """The pipe to the parent."""

    def send(self, kind: str, **content: Any) -> None:
        """Send one answer."""


class Serving:
    """Answers requests, one after the other.

    Args:
        service: Does the work.
        answers: Gets the progress.
        should_stop: Asked again and again.
    """

    def __init__(
        self, service: VideoFilePipelineService, answers: AnswersProgress, should_stop: Callable[[], bool]
    ) -> None:
        self._service = service
        self._answers = answers
        self._should_stop = should_stop
        self._steps = 0
        self._told = 0.0

    def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what is asked; return the report. Raises whatever goes wrong."""
        does = {"run": self._run, "plan": self._plan, "part": self._part}
        return does[request["kind"]](request)

    def _tell(self, progress: Progress) -> None:
        self._answers.send("progress", **asdict(progress))

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        report = self._service.run_on_file(
            Path(request["file_path"]),
            request["pipeline_id"],
            request["frame_stride"],
            request["max_frames"],
            output_path=Path(request["output_path"]),
            source_name=request["source_name"],
            on_progress=self._tell,
            should_stop=self._should_stop,
        )
        return asdict(report)

    def _plan(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._steps = 0
        path, parts = Path(request["plan_path"]), self._service.parts
        with suppress(OSError, PlanDamaged):
            if parts.still_holds(PartPlan.load(path), Path(request["file_path"])):
                return {"planned": True}
        plan = parts.plan(
            Path(request["file_path"]),
            request["pipeline_id"],
            Options(request["frame_stride"], request["max_frames"]),
            source_name=request["source_name"],
            group_seconds=request["group_seconds"],
            least_parts=request["least_parts"],
            should_stop=self._should_stop,
            on_step=self._step,
        )
        if plan is not None:
            plan.save(path)
        return {"planned": plan is not None}

    def _step(self) -> None:
        self._steps += 1
        if time.monotonic() - self._told > PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._tell(Progress(0, None, self._steps))

    def _part(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            seconds = self._service.parts.run_part(
                PartPlan.load(Path(request["plan_path"])),
                request["number"],
                Path(request["file_path"]),
                Path(request["output_path"]),
                spans=request["spans"],
                on_progress=self._tell,
                should_stop=self._should_stop,
            )
        except NotExact as why:
            return {"not_exact": str(why)}
        return {"not_exact": None, "stage_seconds": seconds}
