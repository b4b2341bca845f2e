"""Board: what slots are to do, first that of the job that was started first."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from daemon.pipeline.slot_process import SlotProcess


@dataclass(eq=False)
class Unit:
    """Something that one slot is to do for a job: plan it, make a part, or run it in one piece."""

    place: tuple[int, int]
    """Of the job, in the order of their starts, and of the unit in its job; what is lower is done first."""
    work: Callable[[SlotProcess], Any]
    kind: str | None = None
    """``Ready.kind`` of the process that has to do it, as of others of the same document; None if any will do."""
    job_id: str = ""
    result: Future[Any] = field(default_factory=Future)

    def do(self, process: SlotProcess) -> None:
        """Do it and keep what comes of it."""
        try:
            value = self.work(process)
        except Exception as error:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)


class Taker(Protocol):
    """What the board needs to know of a slot."""

    @property
    def is_up(self) -> bool:
        """Whether its process is up."""

    @property
    def may_try(self) -> bool:
        """Whether there is a process at all, which could be started."""

    @property
    def kind(self) -> str | None:
        """Kind of its process, or of the last one that was up."""


class Board:
    """Units that are due, and the slots that wait for one; safe to use from any thread.

    A slot whose process is not up gets nothing as long as there are others: a broken one would take job after job.

    Args:
        on_room: Called when there may be room for another job.
        away_seconds: How long slots of a kind may be gone before nobody waits for them any more.
    """

    def __init__(self, on_room: Callable[[], None], away_seconds: float = 0.0) -> None:
        self._changed = threading.Condition()
        self._due: list[Unit] = []
        """In order."""
        self._idle: list[Taker] = []
        """Slots that wait."""
        self._all: set[Taker] = set()
        """Slots that have ever waited."""
        self._up: set[Taker] = set()
        self._on_room = on_room
        self._away_seconds = away_seconds
        self._orphaned: dict[int, float] = {}
        """Since when nobody can do what is due of a job (monotonic seconds)."""
        self.closed = False

    def put(self, unit: Unit) -> None:
        """Have something done; its result says that it was cancelled if all is closed."""
        with self._changed:
            if self.closed:
                unit.result.cancel()
                return
            bisect.insort(self._due, unit, key=lambda other: other.place)
            self._changed.notify_all()

    def take(self, slot: Taker, seconds: float) -> Unit | None:
        """Take what is due first of what a slot can do; None if there is nothing for so long."""
        with self._changed:
            self._all.add(slot)
            (self._up.add if slot.is_up else self._up.discard)(slot)
            unit = self._next(slot)
            if unit is None and not self.closed:
                self._idle.append(slot)
                self._tell_of_room()
                self._changed.wait_for(lambda: self.closed or self._is_due_for(slot), seconds)
                self._idle.remove(slot)
                unit = self._next(slot)
            if unit is not None:
                self._tell_of_room()
            return unit

    def withdraw(self, job: int) -> list[Unit]:
        """Take back, and return, what no slot has taken yet of a job."""
        with self._changed:
            withdrawn = [unit for unit in self._due if unit.place[0] == job]
            self._due = [unit for unit in self._due if unit.place[0] != job]
            self._orphaned.pop(job, None)
            self._tell_of_room()
            return withdrawn

    def has_orphans(self, job: int) -> bool:
        """Tell whether no slot can do what is due of a job: their machine is gone, or they have other weights now."""
        with self._changed:
            due = [unit for unit in self._due if unit.place[0] == job]
            # While none is up, nobody knows what the next one will be.
            if not self._up or all(any(self._fits(unit, slot) for slot in self._all) for unit in due):
                self._orphaned.pop(job, None)
                return False
            now = time.monotonic()
            return now - self._orphaned.setdefault(job, now) >= self._away_seconds

    def has_room(self) -> bool:
        """Tell whether there is a slot that has nothing to do."""
        with self._changed:
            return self._has_room()

    def idle(self) -> int:
        """Return how many slots wait for something to do."""
        with self._changed:
            return len(self._idle)

    def leave(self, slot: Taker) -> None:
        """Count a slot out that takes nothing any more."""
        with self._changed:
            self._all.discard(slot)
            self._up.discard(slot)

    def close(self) -> None:
        """Give nothing out any more; what is due says that it was cancelled."""
        with self._changed:
            self.closed = True
            for unit in self._due:
                unit.result.cancel()
            self._due.clear()
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return any(self._may_take(slot) and not self._is_due_for(slot) for slot in self._idle)

    def _tell_of_room(self) -> None:
        if self._has_room():
            self._on_room()

    def _is_due_for(self, slot: Taker) -> bool:
        return self._may_take(slot) and any(self._fits(unit, slot) for unit in self._due)

    def _next(self, slot: Taker) -> Unit | None:
        if not self._may_take(slot):
            return None
        unit = next((unit for unit in self._due if self._fits(unit, slot)), None)
        if unit is not None:
            self._due.remove(unit)
            unit.result.set_running_or_notify_cancel()
        return unit

    def _may_take(self, slot: Taker) -> bool:
        return slot in self._up or (not self._up and slot.may_try)

    def _fits(self, unit: Unit, slot: Taker) -> bool:
        return unit.kind in (None, slot.kind)
