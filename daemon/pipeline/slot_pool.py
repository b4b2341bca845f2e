"""SlotPool: several jobs on slots, wherever these are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from daemon.ipc.slots import SlotBeat
from daemon.pipeline.board import Board
from daemon.pipeline.client import Ready
from daemon.pipeline.pool_run import PoolRun
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import RunRequest
from daemon.pipeline.slot import Slot
from daemon.settings import Settings


class SlotPool:
    """Runs several jobs; whoever derives from it has the slots.

    Args:
        settings: How long a job may take.
        away_seconds: See ``Board``.
    """

    def __init__(self, settings: Settings, away_seconds: float = 0.0) -> None:
        self._settings = settings
        self.on_room: Callable[[], None] = lambda: None
        """Called from any thread when another job may be begun."""
        self._board = Board(lambda: self.on_room(), away_seconds)
        self._jobs = itertools.count()
        self._slots: list[Slot] = []

    @property
    def ready(self) -> Ready | None:
        """What is loaded, once a slot is up."""
        return next((slot.process.ready for slot in self._slots if slot.process and slot.process.ready), None)

    def has_room(self) -> bool:
        """Tell whether a slot has nothing to do, and no job that has been begun has something for it."""
        return self._board.has_room()

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_placed: Callable[[], None] = lambda: None,
    ) -> RunReport:
        """Run one request and wait for its end; see ``Executor.run``."""
        run = PoolRun(self._settings, self._board, next(self._jobs), request, on_progress, should_stop)
        return run.run(on_placed)

    def slots(self) -> Sequence[SlotBeat]:
        """Return how each slot is."""
        return [slot.state for slot in list(self._slots)]
