"""Slot: a pipeline process on cores of its own, and the one thread that starts and asks it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from daemon.errors import DropframeError, Interrupted
from daemon.ipc.slots import SlotBeat
from daemon.logs import LogOnce
from daemon.pipeline.board import Board, Unit
from daemon.pipeline.slot_process import SlotProcess

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""Time between two looks of a slot without work: whether its process is up, and whether there are other weights."""
AGAIN_SECONDS = 10.0
"""Time between two attempts to start a process that does not start."""


class Slot:
    """Does one unit after the other, in a thread of its own.

    The kernel ends a child with the thread that started it, so that thread lives as long as the slot.

    Args:
        number: Of the slot, from 0.
        cores: Numbers of the cores that its process keeps to.
        board: Has the units.
        make: Returns the process once it may be started; None until then.
    """

    def __init__(
        self, number: int, cores: tuple[int, ...], board: Board, make: Callable[[int], SlotProcess | None]
    ) -> None:
        self.number = number
        self._cores = cores
        self._board = board
        self._make = make
        self.process: SlotProcess | None = None
        self.looked = threading.Event()
        """Set once it has been tried to start the process."""
        self.error: Exception | None = None
        """Why the process is not up."""
        self._kind: str | None = None
        self._unit: Unit | None = None
        self._since = 0.0
        self._busy = 0.0
        self._ended = 0
        self._due = 0.0
        self._closed = False
        self._not_up = LogOnce(log)
        self._thread = threading.Thread(target=self._loop, name=f"slot-{number}")

    @property
    def is_up(self) -> bool:
        """Whether its process is up."""
        return self.process is not None and self.process.is_up

    @property
    def kind(self) -> str | None:
        """Kind of its process, or of the last one that was up."""
        ready = self.process.ready if self.process else None
        self._kind = ready.kind if ready else self._kind
        return self._kind

    @property
    def may_try(self) -> bool:
        """Whether there is a process at all, which could be started for what is due."""
        return self.process is not None and self.process.starts_for_work

    @property
    def state(self) -> SlotBeat:
        """How it is."""
        unit, process, now = self._unit, self.process, time.monotonic()
        ready = process.ready if process else None
        return SlotBeat(
            number=self.number,
            cores=self._cores,
            device=ready.device if ready else None,
            job_id=unit.job_id if unit else None,
            memory_bytes=process.resident_bytes() if process else 0,
            busy_seconds=round(self._busy + (now - self._since if unit else 0.0), 3),
            ended=self._ended,
            node=ready.node if ready else None,
        )

    def start(self) -> None:
        """Begin to work, once."""
        if not self._thread.is_alive() and not self._board.closed:
            self._thread.start()

    def close(self) -> None:
        """End the process and the thread; what was being done fails."""
        self._closed = True
        if self.process is not None:
            self.process.close()
        if self._thread.ident is not None:
            self._thread.join()
        if self.process is not None:
            self.process.close()  # it may have been about to start another

    def _loop(self) -> None:
        while not self._is_over():
            try:
                if not self.is_up:
                    self._keep_up()
                if (unit := self._board.take(self, IDLE_SECONDS)) is not None:
                    self._do(unit)
                elif self.is_up:
                    self._keep_up()  # there may be other weights, which nothing that is due has to do without
            except Exception:
                log.exception("Slot %d goes on after an unexpected error", self.number)
                time.sleep(IDLE_SECONDS)

    def _is_over(self) -> bool:
        return self._closed or self._board.closed

    def _keep_up(self) -> None:
        """Start the process if it is not up, and exchange it if there are other weights."""
        now = time.monotonic()
        self.process = self.process or self._make(self.number)
        if self.process is None or (now < self._due and not self.is_up):
            return
        try:
            self.process.start(self._is_over)
        except Interrupted:
            return
        except Exception as error:
            self.error, self._due = error, time.monotonic() + AGAIN_SECONDS
            if not isinstance(error, DropframeError):
                log.exception("Slot %d could not be started", self.number)
            self._not_up(f"Slot {self.number} could not be started and is tried again: {error}")
        else:
            self.error = None
            self._not_up.solved()
        finally:
            self.looked.set()

    def _do(self, unit: Unit) -> None:
        assert self.process is not None
        self._unit, self._since = unit, time.monotonic()
        try:
            unit.do(self.process)
        finally:
            self._busy += time.monotonic() - self._since
            self._unit = None
            self._ended += not self.is_up
