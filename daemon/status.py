"""Status: what the daemon says of itself, put together from its parts and written as the heartbeat."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from daemon import __version__
from daemon.errors import DropframeError
from daemon.fs.identity import shown
from daemon.fs.space import DiskGuard, free_bytes
from daemon.ingest.consumer import InboxConsumer
from daemon.ingest.intake import Intake
from daemon.ipc import health
from daemon.ipc.health import SILENT_SECONDS, Heartbeat, OutboxBeat, RunningBeat, StoreBeat
from daemon.jobs import utc_now
from daemon.logs import LogOnce
from daemon.pipeline.auto_pull import AutoPull
from daemon.pipeline.executor import Executor
from daemon.queue import QueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.threads import join
from daemon.webhooks.notifications import Notifications
from daemon.worker.outbox import Outbox
from daemon.worker.progress import Running
from daemon.worker.worker import JobWorker

log = logging.getLogger(__name__)

OUTBOX_SECONDS = 2.0
"""Time between two looks at the outbox."""
JOIN_SECONDS = 0.2
"""Time that a look at the outbox gets to end at shutdown."""


class OutboxMonitor:
    """Looks at the outbox every few seconds, in a thread of its own: a share that hangs holds up nothing else.

    Args:
        outbox: Knows whether its folder is the one that it was.
        folder: Its folder.
        clock: Monotonic time in seconds.
    """

    def __init__(self, outbox: Outbox, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._outbox = outbox
        self._folder = folder
        self._clock = clock
        self._asked_at: float | None = None
        self._last = OutboxBeat()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)
        self._log_once = LogOnce(log)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End looking; a look that does not come back is not waited for."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def health(self) -> OutboxBeat:
        """Return how the outbox is; callable from any thread, and never waits for it."""
        asked_at = self._asked_at
        silent = 0.0 if asked_at is None else self._clock() - asked_at
        if silent < SILENT_SECONDS:
            return self._last
        return OutboxBeat(False, f"The outbox {shown(str(self._folder))} has not answered for {silent:.0f} s.")

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:
                log.exception("Looking at the outbox goes on after an unexpected error")
            self._stopping.wait(OUTBOX_SECONDS)

    def step(self) -> None:
        """Look once."""
        self._asked_at = self._clock()
        try:
            self._outbox.check()
            free_bytes(self._folder)
            self._last = OutboxBeat(True)
            self._log_once.solved()
        except OSError as error:
            problem = f"The outbox {shown(str(self._folder))} cannot be used: {error.strerror}."
            self._last = OutboxBeat(False, problem)
            self._log_once(problem)
        finally:
            self._asked_at = None


class Status:
    """Puts the heartbeat together and writes it.

    Args:
        settings: Of the home.
        store: Says whether it can be written.
        queue: Says how many jobs wait.
        consumer: Says how watching the inbox goes.
        intake: Says whether intake is paused.
        worker: Says what runs, and what was done since the start.
        pipeline: Says which models are loaded, and how each of several pipeline processes is.
        outbox: Says whether results can be published.
        auto_pull: Says how fetching weights goes.
        notifications: Says how telling others of events goes.
        result_store: Says how copying results to object storage goes.
        inbox_store: Says how taking videos from there goes.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        queue: QueueService,
        consumer: InboxConsumer,
        intake: Intake,
        worker: JobWorker,
        pipeline: Executor,
        outbox: OutboxMonitor,
        auto_pull: AutoPull,
        notifications: Notifications,
        result_store: Callable[[], StoreBeat] = StoreBeat,
        inbox_store: Callable[[], StoreBeat] = StoreBeat,
    ) -> None:
        self._notifications = notifications
        self._auto_pull = auto_pull
        self._result_store = result_store
        self._inbox_store = inbox_store
        self._data_dir = settings.data_dir
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._store = store
        self._queue = queue
        self._consumer = consumer
        self._intake = intake
        self._worker = worker
        self._pipeline = pipeline
        self._outbox = outbox
        self._started_at = utc_now()

    def write(self, state: str) -> None:
        """Write the heartbeat; a disk that fails keeps nothing from being taken in, run or ended.

        Args:
            state: ``running`` or ``stopping``.
        """
        try:
            health.write(self._data_dir, self.heartbeat(state))
        except (OSError, DropframeError) as error:
            log.debug("the heartbeat cannot be written: %s", error)

    def heartbeat(self, state: str) -> Heartbeat:
        """Return what is so now; while models load, ``running`` is told as ``starting``."""
        ready, running = self._pipeline.ready, self._worker.running
        totals = {**self._worker.totals, **self._notifications.totals}
        return Heartbeat(
            updated_at=utc_now(),
            state=state if ready or state != "running" else "starting",
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            device=ready.device if ready else None,
            models=tuple(ready.models) if ready else (),
            weights_note=self._auto_pull.note,
            weights_percent=self._auto_pull.percent,
            inbox=self._consumer.health(),
            outbox=self._outbox.health(),
            result_store=self._result_store(),
            inbox_store=self._inbox_store(),
            receivers=self._notifications.health(),
            paused=self._intake.short_of_space() or self._store.problem,
            queue_length=self._queue.size(),
            running=_beat(running) if running else None,
            running_besides=tuple(map(_beat, self._worker.running_besides)),
            slots=tuple(self._pipeline.slots()),
            free_bytes=self._disk.free(),
            min_free_bytes=self._disk.least,
            counters={name: int(total) for name, total in totals.items() if not name.endswith("_seconds")},
            stage_seconds_total={
                name.removesuffix("_seconds"): round(total, 3)
                for name, total in totals.items()
                if name.endswith("_seconds")
            },
        )


def _beat(running: Running) -> RunningBeat:
    return RunningBeat(
        running.job_id,
        running.progress.frames_processed,
        running.progress.frames_total,
        round(running.frames_per_second(time.monotonic()), 2),
    )
