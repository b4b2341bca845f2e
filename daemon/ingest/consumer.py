"""InboxConsumer: the thread in which the inbox is watched and dropped files become jobs.

The inbox may be on a share that hangs, so that a call into it comes back minutes later or never, and a large file
from another disk takes minutes to copy. Both hold up this thread and nothing else: submissions, running jobs and
the heartbeat go on, and since when the folder has not answered can be told from outside.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from daemon.errors import StoreError
from daemon.fs.identity import shown
from daemon.ingest.claims import text_of
from daemon.ingest.inbox import Inbox
from daemon.ingest.intake import Intake
from daemon.ingest.model import Blocked, Dropped, Outcome, Taken
from daemon.ipc.health import SILENT_SECONDS, InboxBeat
from daemon.logs import LogOnce
from daemon.settings import Settings
from daemon.threads import join

log = logging.getLogger(__name__)

ERROR_SECONDS = 1.0
"""Wait after intake went wrong."""


class InboxConsumer:
    """Watches the inbox and takes in what is whole, in a thread of its own.

    Args:
        settings: Where the inbox is.
        clock: Monotonic time in seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = settings.inbox_dir
        self._clock = clock
        self._woken = threading.Event()
        self._stopping = False
        self._begun: float | None = None
        self._answered = 0.0
        self._log_error = LogOnce(log)
        self._thread: threading.Thread | None = None
        self.inbox = Inbox(settings, self._woken.set, clock, self.answered)

    def start(self, intake: Intake, on_jobs: Callable[[], None]) -> None:
        """Begin to watch and to take in.

        Args:
            intake: What makes jobs of files.
            on_jobs: Called when there are new ones.

        Raises:
            OSError: the inbox cannot be made.
            MachineError: another Dropframe has it.
        """
        # A daemon thread: one that a share holds must not keep the process.
        thread = threading.Thread(target=self._loop, args=(intake, on_jobs), name="inbox", daemon=True)
        try:
            self.inbox.startup()
            thread.start()
        except RuntimeError:  # too many threads just now
            self.inbox.shutdown()
            raise
        self._thread = thread

    def stop(self, seconds: float) -> bool:
        """End the thread.

        Args:
            seconds: How long to wait for it.

        Returns:
            Whether it has ended; if not, a call into the inbox has not come back.
        """
        self._stopping = True
        self._woken.set()
        join(self._thread, seconds)
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def answered(self) -> None:
        """Note that the inbox has answered just now."""
        self._answered = self._clock()
        self.inbox.refresh_ownership()

    def is_stuck(self, longest_seconds: float) -> bool:
        """Tell whether a new start may help: the thread is dead, or the inbox answers and its last good scan is old."""
        return not self.alive or self.inbox.is_stuck(longest_seconds, self._now())

    def health(self) -> InboxBeat:
        """Return how watching goes; callable from any thread, and never waits for the inbox."""
        health = self.inbox.health(self._now())
        silent = 0.0 if self._begun is None else self._clock() - self._answered
        if silent < SILENT_SECONDS:
            return health
        return replace(health, online=False, problem=f"The inbox {self._root} has not answered for {silent:.0f} s.")

    def _now(self) -> float:
        # For ages time stands still during a step: a scan that is late because of a long copy is not late.
        return self._begun or self._clock()

    def _loop(self, intake: Intake, on_jobs: Callable[[], None]) -> None:
        while True:
            self._woken.clear()
            if self._stopping:  # looked at after clearing: stop() sets it and then wakes us
                break
            wait = ERROR_SECONDS
            try:
                self.step(self._clock(), intake, on_jobs)
                self._log_error.solved()
                wait = self.inbox.next_due(self._clock())
            except (OSError, StoreError) as error:
                self._log_error(f"Intake goes on after an error: {error}")
            except Exception:
                log.exception("Intake goes on after an unexpected error")
            self._woken.wait(wait)
        self.inbox.shutdown()

    def step(self, now: float, intake: Intake, on_jobs: Callable[[], None]) -> None:
        """Do once what is due.

        Args:
            now: Monotonic time in seconds.
            intake: What makes jobs of files.
            on_jobs: Called when there are new ones.

        Raises:
            StoreError: the job store cannot be written just now; nothing is lost.
            OSError: a folder cannot be used just now; nothing is lost.
        """
        self.answered()
        self._begun = now
        try:
            dropped = self.inbox.poll(now)
            if not self.inbox.online:
                return
            outcomes = self._take(dropped, intake)
            self.inbox.acknowledge(outcomes)
            jobs = [outcome.job for outcome in outcomes if isinstance(outcome, Taken)]
            for job in jobs:
                log.info("Job %s: %s was taken in", job.job_id, shown(job.source_name))
            if jobs:
                on_jobs()
        finally:
            self._begun = None

    def _take(self, dropped: list[Dropped], intake: Intake) -> list[Outcome]:
        try:
            return intake.take(dropped)
        except (OSError, StoreError) as error:
            retry_at = self._clock() + ERROR_SECONDS
            self.inbox.acknowledge(
                Blocked(file, f"It cannot be taken in: {text_of(error)}", retry_at) for file in dropped
            )
            raise
