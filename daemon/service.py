"""The daemon: startup, main_loop, shutdown. It owns the job store and puts the parts together."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable

from daemon.cluster.choice import make_executor
from daemon.deletion import Deletion
from daemon.errors import DropframeError, Interrupted, JobError, MachineError, ModelError, StoreError
from daemon.follow_ups import FollowUps
from daemon.fs import mounts
from daemon.fs.atomic import TEMPORARY, sweep
from daemon.fs.space import FULL, DiskGuard
from daemon.fs.storage import LocalStorageService
from daemon.ingest.consumer import InboxConsumer
from daemon.ingest.intake import Intake
from daemon.ingest.put_back import ClaimedSources
from daemon.ipc.health import longest_scan_age_seconds
from daemon.ipc.partial_uploads import PartialUploads
from daemon.ipc.spool_sweep import sweep as sweep_spool
from daemon.ipc.systemd import notify
from daemon.jobs import JobStatus
from daemon.logs import LogOnce
from daemon.objects.inbox_store import InboxStore
from daemon.pipeline.auto_pull import AutoPull
from daemon.pipeline.client import Ready
from daemon.pipeline.models import UNFINISHED
from daemon.pipeline.pipelines import all_pipelines
from daemon.preflight import require_machine
from daemon.queue import InMemoryQueueService
from daemon.rejections import Rejections
from daemon.retention import Retention
from daemon.settings import Settings
from daemon.status import OutboxMonitor, Status
from daemon.store.job_store import JobStore
from daemon.threads import join
from daemon.worker.job_files import sweep_parts
from daemon.worker.outbox import Outbox
from daemon.worker.requests import JobRequests
from daemon.worker.worker import JobWorker

log = logging.getLogger(__name__)

SPOOL_SECONDS = 0.25
"""Time between two looks into the spool."""
SLICE_SECONDS = 0.1
"""Longest time that submissions, and then requests, are dealt with at a time, however many wait."""
PAUSE_SECONDS = 0.02
"""Time between two looks into the spool while more waits there than a slice of time is enough for."""
SWEEP_SECONDS = 60.0
"""Time between two removals of what killed submitters left in the spool."""
HEARTBEAT_SECONDS = 1.0
"""Time between two heartbeats."""
ERROR_SECONDS = 1.0
"""Wait after acting on tickets went wrong."""
INBOX_SECONDS = 1.0
"""Time that watching the inbox gets to end at shutdown."""
STOP_SECONDS = 7.0
"""Time after which the worker is not waited for any more at shutdown, however long the others took."""
FORCE_EXIT_SECONDS = 9.0
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
        self._force_exit = threading.Timer(FORCE_EXIT_SECONDS, force_exit)
        self._force_exit.daemon = True
        self._stop_copying: Callable[[], None] = lambda: None
        self._fatal: DropframeError | None = None
        self._log_once = LogOnce(log)
        self._thread = threading.Thread(target=self._work, name="worker")
        self._spool_due = self._sweep_due = self._heartbeat_due = 0.0

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

    # Startup.

    def startup(self, stack: contextlib.ExitStack) -> None:
        """Open everything, mend what a crash left, begin to watch and to work; ``stack`` gets what undoes it."""
        stack.callback(self._force_exit.cancel)  # the last of all
        for sentence in require_machine(self._settings):
            log.warning("%s", sentence)
        pipelines = pipeline_ids(self._settings)
        self.store = stack.enter_context(JobStore.open(self._settings.data_dir))
        if self.store.recovered_from:
            log.warning("%s", self.store.recovered_from)
        self._make_parts(pipelines)
        try:
            self._recover()
        except StoreError as error:
            if getattr(error.__cause__, "errno", None) not in FULL:
                raise
            raise MachineError(
                f"{error} What was interrupted is to be put right; make room, then start again."
            ) from error
        stack.callback(self.shutdown)  # should one part not start, those that did are stopped
        self.consumer.start(self.intake, self.worker.wake)
        self._outbox_monitor.start()
        self.follow_ups.start()
        stack.enter_context(self.inbox_store)
        announce, others = self.follow_ups.notifications.rejected, self.inbox_store.rejected
        stack.enter_context(Rejections(self._settings, self._outbox, announce=announce, others=others))
        self._thread.start()

    def _make_parts(self, pipelines: frozenset[str]) -> None:
        settings = self._settings
        with contextlib.suppress(OSError):  # of a disk that is full just now; the next start writes it down
            mounts.remember(settings.data_dir, (settings.inbox_dir, settings.outbox_dir))
        self.queue = InMemoryQueueService()
        self._storage = LocalStorageService(settings.data_dir)
        self.consumer = InboxConsumer(settings)
        self.intake = Intake(
            settings, self.store, self.queue, self._storage, pipelines, while_copying=self.consumer.answered
        )
        self.consumer.inbox.is_kept = self.intake.kept.knows
        self._stop_copying = self.intake.stop
        if self._asked_to_stop:
            self.intake.stop()
        sweep_leftovers(settings)
        self.pipeline = make_executor(settings, self.store.find, lambda job_id: self.inbox_store.entry_of(job_id))
        known_mount = mounts.known(settings.data_dir, settings.outbox_dir)
        self._outbox = Outbox(settings.outbox_dir, self.store.jobs(), known_mount)
        self._outbox_monitor = OutboxMonitor(self._outbox, settings.outbox_dir)
        sources = ClaimedSources(settings, self.store, self._storage)
        self.worker = JobWorker(self.store, self.queue, self._storage, sources, self.pipeline, self._outbox, settings)
        self.pipeline.on_room = self.worker.wake
        disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self.requests = JobRequests(
            self.store, self._storage, self.worker, settings.spool_dir, disk, self.intake.written_anew
        )
        self.retention = Retention(settings, self.store, self._outbox)
        self.follow_ups = FollowUps(settings, self.store, self._outbox, self.worker.completed, self.worker.owed)
        self.deletion = Deletion(settings, self.store, self._storage, self._outbox, self.follow_ups.forget)
        self.inbox_store = InboxStore(settings, self.store, pipelines)
        self.auto_pull = AutoPull(settings)
        self.status = Status(
            settings,
            self.store,
            self.queue,
            self.consumer,
            self.intake,
            self.worker,
            self.pipeline,
            self._outbox_monitor,
            self.auto_pull,
            self.follow_ups.notifications,
            self.follow_ups.result_store.beat,
            self.inbox_store.beat,
        )

    def _recover(self) -> None:
        self.intake.recover()
        if self.store.recovered_from:
            self.intake.reconcile()
        for job in self.store.jobs(JobStatus.RUNNING):
            self.store.move(job.job_id, JobStatus.PENDING)
            self.queue.enqueue(job.job_id, job.sequence)  # without its video, too: the worker fails it, saying so
        pending = self.store.jobs(JobStatus.PENDING)
        for job in pending:
            if self._storage.path(job.input_path).exists():
                self.queue.enqueue(job.job_id, job.sequence)
        sweep_parts(self._settings.videos_dir, [job.job_id for job in pending] if self.pipeline.lanes > 1 else [])

    def _work(self) -> None:
        # The child is started from this thread, which lives as long as the daemon: the signal that ends a
        # child with its parent comes when the thread that started it ends.
        self.auto_pull.start()
        self.auto_pull.wait(lambda: self._asked_to_stop)
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
            log.error("The pipeline could not be started yet and is tried again: %s", error)
        except Exception:
            log.exception("The pipeline could not be started yet and is tried again")
        self._outbox.sweep(lambda: self._asked_to_stop)
        self.worker.run_forever()

    # Main loop.

    def main_loop(self) -> None:
        """Act on tickets and write the heartbeat until ``stop``."""
        while not self._asked_to_stop:
            try:
                self.step(time.monotonic())
                self._log_once.solved()
                self._check_threads()
            except (OSError, StoreError) as error:
                self._log_once(f"Acting on tickets goes on after an error: {error}")
                time.sleep(ERROR_SECONDS)
            except Exception:
                log.exception("Acting on tickets goes on after an unexpected error")
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
            self.status.write("running")
            if self._is_well():
                notify("READY=1", "WATCHDOG=1")
        self.store.mend()
        if now >= self._spool_due:
            self._spool_due = now + SPOOL_SECONDS
            tickets = self.intake.take_tickets(time.monotonic() + SLICE_SECONDS)
            self.requests.carry_out(tickets, time.monotonic() + SLICE_SECONDS)
            if time.monotonic() > now + SLICE_SECONDS:  # a slice was not enough
                self._spool_due = time.monotonic() + PAUSE_SECONDS
            if self.queue.size():
                self.worker.wake()
        if now >= self._sweep_due:
            self._sweep_due = now + SWEEP_SECONDS
            spool_dir, keep_seconds = self._settings.spool_dir, self._settings.upload_keep_hours * 3600
            removed = sweep_spool(spool_dir, time.time())
            if removed := removed + PartialUploads(spool_dir).sweep(time.time(), keep_seconds):
                log.info("Removed %d files of submissions that were never finished", removed)
        self.retention.step(now)
        self.deletion.step(now)
        if self.worker.running is None and self.queue.size() == 0:
            self.store.compact_if_worthwhile()

    def _check_threads(self) -> None:
        for name, alive in (("worker", self._thread.is_alive()), ("inbox", self.consumer.alive)):
            if not alive and not self._asked_to_stop:
                self._fatal = DropframeError(f"The {name} thread has ended; the log says why. Start Dropframe again.")
                self.stop()

    def _is_well(self) -> bool:
        """Tell whether a new start would mend nothing; for an inbox or a disk that is away it would not."""
        return self._thread.is_alive() and not self.consumer.is_stuck(longest_scan_age_seconds(self._settings))

    # Shutdown.

    def shutdown(self) -> None:
        """End watching and working; a running job goes back to the queue. What was not started is left out.

        Should a folder hang, the process ends without waiting for it: the job store and all files are as safe
        as when it is killed.
        """
        begun = time.monotonic()
        self._force_exit.start()
        self._asked_to_stop = True
        self.worker.stop()
        self.intake.stop()
        self.status.write("stopping")
        notify("STOPPING=1")
        inbox_answers = self.consumer.stop(INBOX_SECONDS)
        self.retention.shutdown()
        self.follow_ups.stop()
        self.auto_pull.stop()
        self.deletion.shutdown()
        self._outbox_monitor.stop()
        join(self._thread, begun + STOP_SECONDS - time.monotonic())
        if self._thread.is_alive():
            log.error("The worker has not ended; killing the pipeline")
        self.pipeline.close()
        join(self._thread)
        if not inbox_answers:
            log.warning("The inbox does not answer; Dropframe ends without waiting for it")


def pipeline_ids(settings: Settings) -> frozenset[str]:
    """Return the ids of all pipelines.

    Raises:
        MachineError: the default pipeline is not one of them.
    """
    found = frozenset(all_pipelines())
    if settings.default_pipeline not in found:
        known = ", ".join(sorted(found))
        raise MachineError(f"default_pipeline is {settings.default_pipeline!r}; the pipelines are {known}.")
    return found


def sweep_leftovers(settings: Settings) -> None:
    """Remove what killed processes left in the data folder, but for the spool; the worker's thread does the outbox."""
    for folder in (settings.data_dir, settings.videos_dir):
        sweep(folder, LEFTOVER_SECONDS)
    unfinished = re.compile(rf"{re.escape(UNFINISHED)}.*|{TEMPORARY.pattern}")
    sweep(settings.models_dir / "exported", EXPORT_SECONDS, unfinished)


def force_exit() -> None:
    """End the process at once, whatever its threads wait for."""
    log.error("Dropframe could not end in time, probably because a folder does not answer; forcing it to exit")
    logging.shutdown()
    os._exit(1)
