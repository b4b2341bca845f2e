"""SlotProcess: the pipeline process of a slot, on this machine or on another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from daemon.pipeline.client import Ready
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest


class SlotProcess(Protocol):
    """What slots need of a pipeline process; see ``PipelineProcess``."""

    starts_for_work: bool

    @property
    def ready(self) -> Ready | None:
        """What is loaded, once it is."""

    @property
    def is_up(self) -> bool:
        """Whether its models are loaded."""

    def start(self, should_stop: Callable[[], bool] = ...) -> Ready:
        """Start it if it is not up."""

    def plan(
        self, request: RunRequest, path: Path, should_stop: Callable[[], bool] = ..., least_parts: int = ...
    ) -> bool:
        """Have a video cut into parts."""

    def run_part(
        self,
        request: PartRequest,
        on_progress: Callable[[Progress], None] = ...,
        should_stop: Callable[[], bool] = ...,
    ) -> dict[str, float]:
        """Have a part made."""

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = ...,
        should_stop: Callable[[], bool] = ...,
    ) -> RunReport:
        """Run one request."""

    def resident_bytes(self) -> int:
        """Return the memory that it holds."""

    def close(self) -> None:
        """End it; safe to call from any thread."""
