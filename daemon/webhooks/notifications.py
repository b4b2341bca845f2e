"""Notifications: have receivers told of what happens to jobs and dropped files."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.errors import DropframeError
from daemon.ipc.receivers import ReceiverBeat
from daemon.ipc.rejected_list import RejectedRecord
from daemon.jobs import Job, timestamp
from daemon.logs import LogOnce
from daemon.public_job import to_public
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.store.outgoing_events import Row
from daemon.threads import join
from daemon.webhooks import resend
from daemon.webhooks.command import CompletedCommand
from daemon.webhooks.courier import Courier
from daemon.webhooks.delivery import Receiver
from daemon.webhooks.endpoint import Endpoint
from daemon.webhooks.event import Event
from daemon.webhooks.resend import ALL, UNDELIVERED, ResendRequest

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
"""Time between two looks at what is asked for."""
FORGET_SECONDS = 3600.0
"""Time between two looks for events that need not be remembered any more."""
KEEP_DAYS = 30
"""So long an event that was given up can be sent again."""
JOIN_SECONDS = 1.0
"""Time that the threads get to end at shutdown; one that looks up a name can be cut off."""


class Notifications:
    """Every receiver has a courier; without receivers nothing is noted and no thread runs.

    Made before the first job can end, as events are noted in the commits that end jobs.

    Args:
        settings: Who is told.
        store: Keeps the events.
        receivers: Who is told; those of the settings by ``receivers_of``.
    """

    def __init__(self, settings: Settings, store: JobStore, receivers: list[Receiver]) -> None:
        self._spool_dir = settings.spool_dir
        self._store = store
        self._couriers = {receiver.key: Courier(receiver, store.events) for receiver in receivers}
        store.events.make = self._events_of
        store.events.heard = self._hear
        self._forget_in = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="notifications", daemon=True)
        self._log_once = LogOnce(log)

    def start(self) -> None:
        """Begin to deliver."""
        if self._couriers:
            for courier in self._couriers.values():
                courier.start()
            self._thread.start()

    def stop(self) -> None:
        """End all attempts; what is owed stays in the store."""
        self._stopping.set()
        for courier in self._couriers.values():
            courier.stop()
        deadline = time.monotonic() + JOIN_SECONDS
        join(self._thread, JOIN_SECONDS)
        for courier in self._couriers.values():
            courier.join(deadline - time.monotonic())

    # What happens.

    def rejected(self, records: Iterable[RejectedRecord]) -> None:
        """Note that files were rejected; noting it again does no harm.

        Raises:
            StoreError: the store cannot be written.
        """
        rows: dict[str, Row] = {}
        for record in records:
            rows |= self._addressed(Event.of_rejected(record))
        self._store.events.add(rows)

    def _events_of(self, job: Job) -> Mapping[str, Row]:
        return self._addressed(Event.of_job(job))

    def _addressed(self, event: Event) -> Mapping[str, Row]:
        """Return the row of an event, by its id; nothing if nobody wants to hear of it."""
        keys = [
            key
            for key, courier in self._couriers.items()
            if event.type in courier.receiver.types and courier.off_since is None
        ]
        return {event.event_id: event.to_row(keys)} if keys else {}

    def _hear(self, rows: Mapping[str, Row | None]) -> None:
        for event_id, row in rows.items():
            for courier in self._couriers.values():
                courier.hear(event_id, row)

    # How it goes.

    def health(self) -> tuple[ReceiverBeat, ...]:
        """Return how it goes with each receiver; callable from any thread."""
        return tuple(courier.health() for courier in self._couriers.values())

    @property
    def totals(self) -> Mapping[str, float]:
        """What was done since the start: ``events_delivered`` and ``event_attempts_failed``."""
        if not self._couriers:
            return {}
        couriers = self._couriers.values()
        return {
            "events_delivered": sum(courier.delivered for courier in couriers),
            "event_attempts_failed": sum(courier.failed_attempts for courier in couriers),
        }

    # What is asked for.

    def _loop(self) -> None:
        while not self._stopping.wait(STEP_SECONDS):
            try:
                self.step(datetime.now(UTC))
                self._log_once.solved()
            except (OSError, DropframeError) as error:
                self._log_once(f"Sending events again goes on after an error: {error}")
            except Exception:
                log.exception("Sending events again goes on after an unexpected error")

    def step(self, now: datetime) -> None:
        """Do what is asked for, and forget what is old.

        Args:
            now: The time, aware.

        Raises:
            StoreError: the store cannot be written just now; it is tried again.
            OSError: the same of the spool.
        """
        for request in resend.asked_for(self._spool_dir):
            count = self._resend(request)
            resend.done(self._spool_dir, request)
            log.info("%d events are sent again, as somebody has asked for it.", count)
        self._forget_in -= STEP_SECONDS
        if self._forget_in <= 0:
            self._forget_in = FORGET_SECONDS
            told = [key for key, courier in self._couriers.items() if courier.off_since is None]
            self._hear(dict.fromkeys(self._store.events.forget(timestamp(now - timedelta(days=KEEP_DAYS)), told)))

    def _resend(self, request: ResendRequest) -> int:
        """Send events again now, and with them what waits, also to receivers that are switched off; return how many."""
        found: set[str] = set()
        for key, courier in self._couriers.items():
            if request.receiver not in (ALL, key):
                continue
            rows = self._undelivered(key) if request.what == UNDELIVERED else self._ended(request.what, courier)
            self._store.events.add(rows)
            courier.ask_at_once()
            found.update(rows)
        return len(found)

    def _undelivered(self, key: str) -> dict[str, Row]:
        owed = self._store.events.owed_to(key)
        given_up = {event_id: row for event_id, row in owed.items() if "given_up" in row["owed"][key]}
        return {event_id: {**row, "owed": {key: {}}} for event_id, row in given_up.items()}

    def _ended(self, job_id: str, courier: Courier) -> dict[str, Row]:
        job = self._store.find(job_id)
        if job is None or not job.ended:
            return {}
        event = Event.of_job(job)
        wanted = event.type in courier.receiver.types
        return {event.event_id: event.to_row([courier.receiver.key])} if wanted else {}


def receivers_of(settings: Settings, store: JobStore, source: str, outbox_path: Callable[[Job], str]) -> list[Receiver]:
    """Return those who are told, by the settings.

    Args:
        settings: Of the home.
        store: Knows the jobs.
        source: What tells of events, a URI.
        outbox_path: Where a job's result is published.
    """

    def record(job_id: str) -> dict[str, Any] | None:
        job = store.find(job_id)
        if job is None:
            return None
        result = str(settings.data_dir / job.output_path) if job.output_path else None
        return {**to_public(job.to_record()), "result_path": result, "outbox_path": outbox_path(job)}

    receivers: list[Receiver] = [Endpoint(webhook, source) for webhook in settings.webhooks]
    if settings.on_completed:
        command = CompletedCommand(settings.on_completed, settings.on_completed_seconds, settings.home, record)
        receivers.append(command)
    return receivers
