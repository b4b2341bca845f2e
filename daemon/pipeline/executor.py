"""Executor: what stands between the worker and the pipeline processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from daemon.ipc.slots import SlotBeat
from daemon.pipeline.client import Ready
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import RunRequest


class Executor(Protocol):
    """Runs jobs. The document of a job is the same to the byte, whoever runs it."""

    lanes: int
    """Jobs that may be under way at once. With more than one, ``run`` is called from several threads."""
    on_room: Callable[[], None]
    """Called from any thread when there may be room for another job; set by who runs several."""

    @property
    def ready(self) -> Ready | None:
        """What is loaded, once something is."""

    def start(self, should_stop: Callable[[], bool] = ...) -> Ready:
        """Wait until a job can be run; raises what ``PipelineProcess.start`` does."""

    def has_room(self) -> bool:
        """Tell whether another job would be begun at once, as no earlier one wants what is free."""

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = ...,
        should_stop: Callable[[], bool] = ...,
        on_placed: Callable[[], None] = ...,
    ) -> RunReport:
        """Run one request and wait for its end; raises what ``PipelineProcess.run`` does.

        Args:
            request: What is to be run.
            on_progress: Called about twice a second.
            should_stop: Asked again and again.
            on_placed: Called once it is known what the request needs, so that ``has_room`` counts it in.
        """

    def slots(self) -> Sequence[SlotBeat]:
        """Return how each of several pipeline processes is; nothing where there is only the one."""

    def close(self) -> None:
        """End everything that was started."""
