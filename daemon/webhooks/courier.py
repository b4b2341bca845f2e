"""Courier: tells one receiver of its events, in a thread of its own: its trouble holds up nobody else."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any

from daemon.errors import DropframeError
from daemon.ipc.receivers import ReceiverBeat
from daemon.jobs import timestamp
from daemon.logs import LogOnce
from daemon.store.outgoing_events import OutgoingEvents, Row
from daemon.threads import join
from daemon.webhooks.delivery import Delivery, DeliveryEnd, Receiver
from daemon.webhooks.due_events import DueEvents
from daemon.webhooks.event import Event

log = logging.getLogger(__name__)

WAITS: tuple[float, ...] = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0)
"""Seconds after each failed attempt at an event; after the last it is given up, about two days after the first."""
MOST_PAUSE_SECONDS = 600.0
"""A receiver that fails is asked again at least so often, with one event or another."""
MOST_WAIT_SECONDS = 86_400.0
JITTER = 0.2
"""Waits are longer by up to this share, so that events that failed together do not come together again."""
IDLE_SECONDS = 60.0
STORE_SECONDS = 10.0
"""Until it is gone on after the store could not be written."""


class Courier:
    """Delivers what its receiver is owed, oldest first, and again later what could not be delivered.

    What is owed is in the store; here is only which event is due when.

    Args:
        receiver: Who is told.
        events: Of the store.
        clock: Monotonic time in seconds.
        now: The time, aware.
        jitter: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        receiver: Receiver,
        events: OutgoingEvents,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.receiver = receiver
        self._events = events
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self.delivered = self.failed_attempts = 0
        """Since the start."""
        self._new: SimpleQueue[tuple[str, Row | None] | None] = SimpleQueue()
        """With no row an event is gone. None stands for: all that waits is due now."""
        self._due = DueEvents()
        self._unnoted: dict[str, Delivery] = {}
        """Deliveries that ended and that the store could not be told of: they are not repeated until it can."""
        self._given_up: set[str] = set()
        self._failing: set[str] = set()
        """Some events whose attempts failed since the last one that did not: the more, the longer the pause. So one
        event that a receiver always refuses holds up the others for seconds."""
        self._paused_until = -math.inf
        self._problem: str | None = None
        self.off_since = events.off_since(receiver.key)
        """Since when its receiver is switched off, ISO 8601 UTC; None if it is not."""
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"events-{receiver.key}", daemon=True)
        self._trouble = LogOnce(log)
        self._store_trouble = LogOnce(log)

    def start(self) -> None:
        """Begin with what was owed when the daemon ended."""
        self.load()
        self._thread.start()

    def stop(self) -> None:
        """Have an attempt that is going on end, and the thread; what is owed is still owed."""
        self._stopping.set()
        self._woken.set()
        self.receiver.abort()

    def join(self, seconds: float) -> None:
        """Wait so long for the end of the thread."""
        join(self._thread, seconds)

    def load(self) -> None:
        """Look up in the store what is owed."""
        for event_id, row in self._events.owed_to(self.receiver.key).items():
            self._expect(event_id, row)

    def hear(self, event_id: str, row: Row | None) -> None:
        """Know of an event that is new, or to be sent again, or gone (None); from any thread, and never waits."""
        if row is None or self.receiver.key in row["owed"]:
            self._new.put((event_id, row))
            self._woken.set()

    def ask_at_once(self) -> None:
        """Tell the receiver of all that waits now, though it has just failed or is switched off; from any thread.

        Raises:
            StoreError: it cannot be noted that it is switched on.
        """
        self._events.switch_on(self.receiver.key)
        self.off_since = None
        self._new.put(None)
        self._woken.set()

    def health(self) -> ReceiverBeat:
        """Return how it goes; callable from any thread."""
        times = self._due.times()
        return ReceiverBeat(
            key=self.receiver.key,
            name=self.receiver.name,
            waiting=len(times),
            oldest=min(times, default=None),
            given_up=len(self._given_up),
            off_since=self.off_since,
            problem=self._problem,
        )

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self.step(self._clock())
                self._store_trouble.solved()
            except (OSError, DropframeError) as error:
                self._store_trouble(f"Events for {self.receiver.name} cannot be noted just now: {error}")
                wait = STORE_SECONDS
            except Exception:
                log.exception("Telling %s of events goes on after an unexpected error", self.receiver.name)
                wait = STORE_SECONDS
            if wait > 0:
                self._woken.wait(min(wait, IDLE_SECONDS))
                self._woken.clear()

    def step(self, now: float) -> float:
        """Deliver one event, if one is due.

        Args:
            now: Monotonic time in seconds.

        Returns:
            The seconds until the next one is due.

        Raises:
            StoreError: the store cannot be written just now; it is noted later how the delivery ended.
        """
        self._take_new()
        first = None if self.off_since is not None else self._due.first()
        if first is None:
            return IDLE_SECONDS
        event_id, due = first
        if (wait := max(due, self._paused_until) - now) > 0:
            return wait
        self._handle(event_id)
        return 0.0

    def _handle(self, event_id: str) -> None:
        """Deliver an event, if it is still owed."""
        row = self._events.find(event_id)
        state = row["owed"].get(self.receiver.key) if row is not None else None
        if row is None or state is None or "given_up" in state:
            self._expect(event_id, row)
            return
        if (delivery := self._unnoted.get(event_id)) is None:
            delivery = self._unnoted[event_id] = self._deliver(Event.from_row(event_id, row))
        self._apply(event_id, row, state, delivery)
        self._unnoted.pop(event_id, None)

    def _take_new(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                new = self._new.get_nowait()
                if new is None:
                    self._paused_until = -math.inf
                    self._due.make_all_due(self._clock())
                elif new[1] is not None or self._events.find(new[0]) is None:
                    self._expect(*new)

    def _expect(self, event_id: str, row: Row | None) -> None:
        """Take an event up as its row says, whatever was known of it; without a row it is gone."""
        self._due.remove(event_id)
        self._given_up.discard(event_id)
        self._unnoted.pop(event_id, None)
        state = row["owed"].get(self.receiver.key) if row is not None else None
        if row is None or state is None:
            return
        if "given_up" in state:
            self._given_up.add(event_id)
            return
        wait = 0.0
        if "due" in state:  # by a clock that may have been set back since
            wait = (datetime.fromisoformat(state["due"]) - self._now()).total_seconds()
        wait = min(max(0.0, wait), MOST_WAIT_SECONDS * (1 + JITTER))
        self._due.put(event_id, row["time"], self._clock() + wait)

    def _deliver(self, event: Event) -> Delivery:
        try:
            return self.receiver.deliver(event)
        except Exception:  # perhaps of this event alone
            log.exception("%s could not be told of an event for a reason that nobody expected", self.receiver.name)
            return Delivery(DeliveryEnd.AGAIN, "Something unexpected went wrong; the daemon's log says what.")

    # What follows from an attempt.

    def _apply(self, event_id: str, row: Row, state: Mapping[str, Any], delivery: Delivery) -> None:
        if delivery.end is DeliveryEnd.DONE:
            self._events.note(event_id, self.receiver.key, None)
            self._due.remove(event_id)
            self.delivered += 1
            self._is_well()
            return
        if self._stopping.is_set() and delivery.end is DeliveryEnd.AGAIN:
            return  # we have ended it ourselves; it is as it was
        self._problem = delivery.problem
        self._trouble(f"{self.receiver.name} ({self.receiver.key}) could not be told of an event: {delivery.problem}")
        if delivery.end is DeliveryEnd.GONE:
            self._switch_off()
        elif delivery.end is DeliveryEnd.FINAL:
            self._give_up(event_id, state, delivery.problem)
        else:
            self._wait(event_id, row, state, delivery)
        self.failed_attempts += 1

    def _is_well(self) -> None:
        self._failing.clear()
        self._paused_until = -math.inf
        self._problem = None
        if self._trouble.solved():
            log.info("%s (%s) is told of events again.", self.receiver.name, self.receiver.key)

    def _wait(self, event_id: str, row: Row, state: Mapping[str, Any], delivery: Delivery) -> None:
        """Have an event delivered again later, and ask the receiver for a while for nothing else either."""
        attempts = state.get("attempts", 0)
        asked = min(delivery.after_seconds or 0.0, MOST_WAIT_SECONDS)
        if len(self._failing) < len(WAITS):
            self._failing.add(event_id)
        pause = min(WAITS[len(self._failing) - 1], MOST_PAUSE_SECONDS)
        now = self._clock()
        self._paused_until = now + max(asked, self._jittered(pause))
        if attempts >= len(WAITS):
            self._give_up(event_id, state, delivery.problem)
            return
        wait = max(asked, self._jittered(WAITS[attempts]))
        due = timestamp(self._now() + timedelta(seconds=wait))
        self._events.note(
            event_id, self.receiver.key, {"attempts": attempts + 1, "due": due, "problem": delivery.problem}
        )
        self._due.put(event_id, row["time"], now + wait)

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + JITTER * self._jitter())

    def _give_up(self, event_id: str, state: Mapping[str, Any], problem: str) -> None:
        attempts = state.get("attempts", 0) + 1
        given_up = {"attempts": attempts, "problem": problem, "given_up": timestamp(self._now())}
        self._events.note(event_id, self.receiver.key, given_up)
        self._due.remove(event_id)
        self._given_up.add(event_id)
        log.warning(
            "%s (%s) is not told of event %s any more: %s", self.receiver.name, self.receiver.key, event_id, problem
        )

    def _switch_off(self) -> None:
        off_since = timestamp(self._now())
        self._events.switch_off(self.receiver.key, off_since)
        self.off_since = off_since
        name, key = self.receiver.name, self.receiver.key
        log.warning("%s (%s) is switched off; dropframe webhooks resend switches it on again.", name, key)
