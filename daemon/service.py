"""The daemon: startup, main_loop, shutdown. It owns the job store and puts the parts together."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from daemon import __version__
from daemon.errors import DropframeError, Interrupted, JobError, MachineError, ModelError, StoreError, UnknownJob
from daemon.fs import mounts
from daemon.fs.atomic import sweep
from daemon.fs.space import free_bytes
from daemon.fs.storage import LocalStorageService
from daemon.ingest.consumer import InboxConsumer
from daemon.ingest.intake import Intake
from daemon.ipc import health, spool
from daemon.ipc.health import Heartbeat, longest_scan_age_seconds
from daemon.ipc.spool import Ticket, TicketKind
from daemon.ipc.systemd import notify
from daemon.jobs import ErrorKind, JobStatus, utc_now
from daemon.pipeline.client import PipelineProcess, Ready
from daemon.pipeline.pipelines import all_pipelines
from daemon.preflight import require_machine
from daemon.queue import InMemoryQueueService
from daemon.retention import Retention
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from daemon.worker.worker import OWED, JobWorker

log = logging.getLogger(__name__)

SPOOL_SECONDS = 0.25
"""Time between two looks into the spool."""
HEARTBEAT_SECONDS = 1.0
"""Time between two signs of life."""
ERROR_SECONDS = 1.0
"""Wait after acting on tickets went wrong."""
INBOX_SECONDS = 1.0
"""Time that watching the inbox gets to end at shutdown."""
STOP_SECONDS = 7.0
"""Time that the worker gets to end at shutdown."""
LEAVE_SECONDS = 9.0
"""Time after which shutdown is given up and the process ends as it is."""
LEFTOVER_SECONDS = 60.0
"""Age at which an unfinished file in the data folder was left by a process that was killed."""
EXPORT_SECONDS = 3600.0
"""The same for an exported model: ``dropframe doctor`` may be making one, which takes minutes."""


class DaemonService:
    """Watches, takes in and runs jobs until it is told to stop.

    Args:
        settings: Everything.
        on_ready: Called once, from another thread, when the models are loaded.
    """

    def __init__(self, settings: Settings, on_ready: Callable[[Ready], None] = lambda ready: None) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._asked_to_stop = False
        self._leaving = threading.Timer(LEAVE_SECONDS, leave)
        self._leaving.daemon = True
        self._stop_copying: Callable[[], None] = lambda: None
        self._fatal: DropframeError | None = None
        self._grumbled: str | None = None
        self._started_at = utc_now()
        self._spool_due = self._heartbeat_due = 0.0

    def stop(self) -> None:
        """End ``main_loop`` soon, and a copy that it is in the middle of. Safe to call from a signal handler."""
        # An event must not be set by a signal handler that interrupts the same: both would wait for its lock
        # for ever. A plain attribute has none, and lets only the first call through to the event behind
        # _stop_copying. The main thread looks at it several times a second.
        if self._asked_to_stop:
            return
        self._asked_to_stop = True
        self._stop_copying()

    def run(self) -> None:
        """Start up, work until ``stop``, shut down.

        Raises:
            MachineError: a folder, a device or a library is not usable; nothing was changed.
            ModelError: the weights are not usable.
            StoreError: the job store cannot be opened.
        """
        with contextlib.ExitStack() as stack:
            self.startup(stack)
            self.main_loop()
        if self._fatal is not None:
            raise self._fatal

    def startup(self, stack: contextlib.ExitStack) -> None:
        """Open everything, mend what a crash left, begin to watch and to work; ``stack`` gets what undoes it."""
        settings = self._settings
        stack.callback(self._leaving.cancel)  # the last of all
        for sentence in require_machine(settings):
            log.warning("%s", sentence)
        pipelines = frozenset(all_pipelines())
        if settings.default_pipeline not in pipelines:
            raise MachineError(
                f"default_pipeline is {settings.default_pipeline!r}; there are {', '.join(sorted(pipelines))}."
            )
        self.store = stack.enter_context(JobStore.open(settings.data_dir))
        if self.store.recovered_from:
            log.warning("%s", self.store.recovered_from)
        with contextlib.suppress(OSError):  # of a disk that is full just now; the next start writes it down
            mounts.remember(settings.data_dir, (settings.inbox_dir, settings.outbox_dir))
        self.queue = InMemoryQueueService()
        storage = LocalStorageService(settings.data_dir)
        self.taking_in = InboxConsumer(settings)
        self.intake = Intake(
            settings, self.store, self.queue, storage, pipelines, while_copying=self.taking_in.answered
        )
        self._stop_copying = self.intake.stop
        if self._asked_to_stop:
            self.intake.stop()
        self._sweep()
        self.pipeline = PipelineProcess(settings)
        known_mount = mounts.known(settings.data_dir, settings.outbox_dir)
        self._outbox = Outbox(settings.outbox_dir, self.store.jobs(), known_mount)
        self.worker = JobWorker(self.store, self.queue, storage, self.intake, self.pipeline, self._outbox, settings)
        self.retention = Retention(settings, self.store, self._outbox)
        self._recover(storage)
        self.taking_in.start(self.intake, self.worker.wake)
        self._thread = threading.Thread(target=self._work, name="worker")
        self._thread.start()
        stack.callback(self.shutdown)

    def _sweep(self) -> None:
        """Remove what killed processes left in the data folder; the worker's thread does the outbox."""
        data = self._settings.data_dir
        for folder in (data, data / "video_jobs", data / OWED):
            sweep(folder, LEFTOVER_SECONDS)
        sweep(data / "models" / "exported", EXPORT_SECONDS, re.compile(r"\.export-.*"))

    def _recover(self, storage: LocalStorageService) -> None:
        self.intake.recover()
        if self.store.recovered_from:
            self.intake.reconcile()
        for job in self.store.jobs(JobStatus.RUNNING):
            self.store.move(job.job_id, JobStatus.PENDING)
            self.queue.enqueue(job.job_id, job.sequence)  # without its video, too: the worker fails it, saying so
        for job in self.store.jobs(JobStatus.PENDING):
            if storage.path(job.input_path).exists():
                self.queue.enqueue(job.job_id, job.sequence)

    def _work(self) -> None:
        # The child is started from this thread, which lives as long as the daemon: the signal that ends a
        # child with its parent comes when the thread that started it ends.
        try:
            self._on_ready(self.pipeline.start(lambda: self._asked_to_stop))
            self._heartbeat_due = 0.0  # so that nobody is told for another second that it is starting
        except (MachineError, ModelError) as error:
            self._fatal = error
            self.stop()
            return
        except Interrupted:
            return
        except JobError as error:
            log.error("the pipeline could not be started yet and is tried again: %s", error)
        except Exception:
            log.exception("the pipeline could not be started yet and is tried again")
        self._outbox.sweep(lambda: self._asked_to_stop)
        self.worker.run_forever()

    def main_loop(self) -> None:
        """Act on tickets and give a sign of life until ``stop``."""
        while not self._asked_to_stop:
            try:
                self.step(time.monotonic())
                self._grumbled = None
                for name, alive in (("worker", self._thread.is_alive()), ("inbox", self.taking_in.alive)):
                    if not alive and not self._asked_to_stop:
                        self._fatal = DropframeError(f"The {name} thread has ended; the log says why. Start again.")
                        self.stop()
            except (OSError, StoreError) as error:
                self._grumble(f"acting on tickets goes on after an error: {error}")
                time.sleep(ERROR_SECONDS)
            except Exception:
                log.exception("acting on tickets goes on after an unexpected error")
                time.sleep(ERROR_SECONDS)
            due = min(self._spool_due, self._heartbeat_due)
            time.sleep(max(0.0, due - time.monotonic()))

    def step(self, now: float) -> None:
        """Do once what is due.

        Args:
            now: Monotonic time in seconds.

        Raises:
            StoreError: the job store cannot be written just now; nothing is lost.
            OSError: a folder cannot be used just now; nothing is lost.
        """
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + HEARTBEAT_SECONDS
            self._sign_of_life("running")
            if self._is_well():
                notify("READY=1", "WATCHDOG=1")
        self.store.mend()
        if now >= self._spool_due:
            self._spool_due = now + SPOOL_SECONDS
            for ticket in self.intake.take_tickets():
                self._handle_ticket(ticket)
            if self.queue.size():
                self.worker.wake()
        self.retention.step(now)
        self._compact_when_idle()

    def _handle_ticket(self, ticket: Ticket) -> None:
        try:
            if ticket.kind is TicketKind.RETRY:
                granted = self.worker.retry(ticket.job_id)
            else:
                self.worker.cancel(ticket.job_id)
                job = self.store.get(ticket.job_id)
                if not job.ended:
                    return  # the ticket stays until then, so that the wish outlives us
                granted = job.error_kind is ErrorKind.CANCELLED
            log.info("Job %s: %s %s", ticket.job_id, ticket.kind, "granted" if granted else "came too late")
        except UnknownJob:
            log.warning("a ticket to %s names the unknown job %s", ticket.kind, ticket.job_id)
        spool.done(self.intake.spool_dir, ticket)

    def _compact_when_idle(self) -> None:
        if self.worker.running is None and self.queue.size() == 0:
            self.store.compact_if_worthwhile()

    def shutdown(self) -> None:
        """End watching and working; a running job goes back to the queue.

        Should a folder hang, the process ends without waiting for it: the job store and all files are as safe
        as when it is killed.
        """
        self._leaving.start()
        self._asked_to_stop = True
        self.worker.stop()
        self.intake.stop()
        self._sign_of_life("stopping")
        notify("STOPPING=1")
        inbox_answers = self.taking_in.stop(INBOX_SECONDS)
        self.retention.shutdown()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.error("the worker does not end; the pipeline is killed")
        self.pipeline.close()
        self._thread.join()
        if not inbox_answers:
            log.warning("the inbox does not answer; Dropframe ends without waiting for it")

    def _grumble(self, sentence: str) -> None:
        """Log a problem once, however often it comes in a row."""
        if sentence != self._grumbled:
            self._grumbled = sentence
            log.warning("%s", sentence)

    def _is_well(self) -> bool:
        """Tell whether a new start would mend nothing; for an inbox or a disk that is away it would not."""
        return self._thread.is_alive() and not self.taking_in.is_stuck(longest_scan_age_seconds(self._settings))

    def _sign_of_life(self, state: str) -> None:
        try:
            health.write(self._settings.data_dir, self._beat(state))
        except (OSError, DropframeError) as error:  # a sick disk must keep nothing from being taken in, run or ended
            log.debug("the heartbeat cannot be written: %s", error)

    def _beat(self, state: str) -> Heartbeat:
        health = self.taking_in.health()
        running = self.worker.running
        now = time.monotonic()
        ready = self.pipeline.ready
        totals = dict(self.worker.totals)
        return Heartbeat(
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            updated_at=utc_now(),
            state=state if ready or state != "running" else "starting",
            device=ready.device if ready else None,
            models=ready.models if ready else [],
            inbox={
                "mode": health.mode,
                "file_system": health.file_system,
                "online": health.online,
                "last_good_scan_age_s": health.scan_age_seconds,
                "canary_age_s": health.canary_age_seconds,
                "waiting_count": health.waiting_count,
                "waiting": [
                    {"name": w.path, "size_bytes": w.size_bytes, "age_s": w.age_seconds, "why": w.why}
                    for w in health.waiting
                ],
                "overflows": health.overflows,
                "problem": health.problem,
            },
            paused=self.intake.short_of_space() or self.worker.short_of_space() or self.store.problem,
            queue_length=self.queue.size(),
            oldest_wait_s=self._oldest_wait_s(),
            running=None
            if running is None
            else {
                "job_id": running.job_id,
                "frames_processed": running.progress.frames_processed,
                "frames_total": running.progress.frames_total,
                "frames_per_second": round(running.frames_per_second(now), 2),
            },
            free_bytes=free_bytes(self._settings.data_dir),
            min_free_bytes=self._settings.min_free_bytes,
            counters={k: int(v) for k, v in totals.items() if not k.endswith("_seconds")},
            stage_seconds_total={
                k.removesuffix("_seconds"): round(v, 3) for k, v in totals.items() if k.endswith("_seconds")
            },
        )

    def _oldest_wait_s(self) -> float | None:
        first = self.queue.first()
        job = self.store.find(first) if first else None
        if job is None:
            return None
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(job.created_at)).total_seconds())


def leave() -> None:
    """End the process at once, whatever its threads wait for."""
    log.error("Dropframe could not end in time, probably because a folder does not answer; it leaves at once")
    logging.shutdown()
    os._exit(1)
