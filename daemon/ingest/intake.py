"""Intake: a dropped file or a ticket becomes a stored video, a job and a queue entry, exactly once (``claims``)."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from daemon.errors import BadOptions, Interrupted, SourceChanged
from daemon.failpoints import failpoint
from daemon.fs.identity import shown, to_claim
from daemon.fs.space import TRANSIENT_DISK_ERRORS, DiskGuard
from daemon.fs.storage import StorageService
from daemon.ingest.claims import Claims, text_of
from daemon.ingest.folder_pipelines import FolderPipelines
from daemon.ingest.kept import KeptFiles, kept_claim
from daemon.ingest.model import Blocked, Dropped, Ignored, Outcome, Rejected, Taken
from daemon.ingest.options_file import ADVICE, ADVICE_WHERE_FILES_STAY, read_options
from daemon.ingest.quarantine import quarantine
from daemon.ingest.reconcile import reconcile
from daemon.ingest.tickets import TicketIntake
from daemon.ipc.ticket import Ticket
from daemon.jobs import Claim, Job, JobSource, Options, input_key, new_job_id
from daemon.logs import LogOnce
from daemon.queue import QueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)

BLOCKED_SECONDS = 10.0
"""Until a file is tried again that the disk or its options file holds up."""


class Intake:
    """Takes files in.

    One thread calls ``take``, another may call ``take_tickets``: an inbox on a share that hangs holds up no
    submission. ``stop`` is called by any; all else before those threads start.

    Args:
        settings: Folders and limits.
        store: Keeps the jobs, and with them the claims.
        queue: Gets each new job.
        storage: Keeps the videos; must be on a local disk.
        known_pipelines: Ids that a folder or a ticket may name.
        clock: Seconds since 1970, for reason files and the age of leftovers.
        while_copying: Called again and again during a copy, which may take minutes.
        monotonic: Seconds of the clock that ``Blocked.retry_at`` is a time of.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        queue: QueueService,
        storage: StorageService,
        known_pipelines: frozenset[str],
        clock: Callable[[], float] = time.time,
        while_copying: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._storage = storage
        self._folders = FolderPipelines(settings, known_pipelines)
        self._clock = clock
        self._while_copying = while_copying
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self.spool_dir = settings.spool_dir
        self._device = os.stat(settings.data_dir).st_dev
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._announcing = threading.Lock()
        self._log_paused = LogOnce(log)
        self._log_blocked: dict[str, LogOnce] = defaultdict(lambda: LogOnce(log))
        stopping = self._stopping.is_set
        self._keeps = settings.inbox_mode == "keep"
        self.kept = KeptFiles(settings.inbox_dir, store, storage, self._end_copy, settings.rescan_seconds)
        self._dropped = Claims(settings.inbox_dir, True, store, queue, storage, self._end_copy, monotonic, self.kept)
        self._submitted = Claims(self.spool_dir, False, store, queue, storage, stopping, monotonic)
        self._tickets = TicketIntake(settings, store, storage, self._submitted, known_pipelines, monotonic)

    def stop(self) -> None:
        """End a copy that is going on; what it copied stays in the inbox."""
        self._stopping.set()

    def _end_copy(self) -> bool:
        self._while_copying()
        return self._stopping.is_set()

    # Dropped files.

    def take(self, batch: Sequence[Dropped]) -> list[Outcome]:
        """Make each whole file a job and reject the others; fetch first what an earlier call, or process, did not.

        Returns:
            One outcome for each file of the batch, and one for each of those that were fetched first.

        Raises:
            StoreError: the job store cannot be written; the files stay and come again.
            OSError: the folder of stored videos cannot be used; the same.
        """
        paused = self.short_of_space()
        outcomes = [] if paused else self._dropped.recover_if_unsure()
        answered = {(each.dropped.path, each.dropped.identity.lasting) for each in outcomes}
        wanted: list[tuple[Dropped, Job]] = []
        for dropped in batch:
            if (dropped.path, dropped.identity.lasting) in answered:
                continue
            answer = self._judge(dropped, paused)
            if isinstance(answer, Job):
                wanted.append((dropped, answer))
            else:
                outcomes.append(answer)
        outcomes += self._fetch(wanted)
        self._report(outcomes)
        self.kept.forget_gone(self._monotonic())
        return outcomes

    def _judge(self, dropped: Dropped, paused: str | None) -> Job | Outcome:
        """Return the job that a file is to become, or why it is not to become one."""
        try:
            if kept := self.kept.answer(dropped):
                return kept
        except (OSError, SourceChanged, Interrupted) as error:
            return self._blocked(dropped, f"It cannot be compared with what was taken in: {text_of(error)}")
        if answer := self._dropped.answer(dropped):
            return answer
        if dropped.reason is not None:
            return self._reject(dropped, dropped.reason)
        try:
            job = self._job_of(dropped)
        except BadOptions as error:
            # What stays is not looked into again before it changes; its options file may, and it not.
            return self._blocked(dropped, str(error)) if self._keeps else self._reject(dropped, str(error))
        except OSError as error:
            return self._blocked(dropped, f"Its options file cannot be read: {text_of(error)}")
        if kept := self.kept.answer_renamed(dropped, job.pipeline_id):
            return kept
        return self._blocked(dropped, paused) if paused else job

    def _fetch(self, wanted: Sequence[tuple[Dropped, Job]]) -> list[Outcome]:
        """Claim and fetch files, but for those that have to be copied and for which the data disk has no room."""
        if not wanted:
            return []
        outcomes: list[Outcome] = []
        claims: list[Job] = []
        copied_bytes = 0
        for dropped, job in wanted:
            if self._has_to_be_copied(dropped):
                if shortage := self._disk.shortage(copied_bytes + dropped.identity.size):
                    outcomes.append(self._blocked(dropped, f"It has to be copied. {shortage}"))
                    continue
                copied_bytes += dropped.identity.size
            claims.append(job)
        jobs = self._dropped.record(claims)
        failpoint("intake.recorded")
        return outcomes + self._dropped.fetch_all(jobs)

    def _has_to_be_copied(self, dropped: Dropped) -> bool:
        return self._keeps or dropped.identity.device != self._device

    def _blocked(self, dropped: Dropped, reason: str) -> Blocked:
        return Blocked(dropped, reason, self._monotonic() + BLOCKED_SECONDS)

    def _reject(self, dropped: Dropped, reason: str) -> Outcome:
        """Move a file to ``rejected/`` and write the reason beside it; where files stay, only say so."""
        if self._keeps:
            log.info("%s stays in the inbox: %s", shown(dropped.path), reason)
            return Ignored(dropped, reason)
        when = datetime.fromtimestamp(self._clock(), UTC)
        try:
            place = quarantine(self._settings.inbox_dir, dropped, reason, when, self._end_copy)
        except (SourceChanged, FileNotFoundError, Interrupted) as error:
            return Blocked(dropped, f"It could not be rejected: {text_of(error)}", self._monotonic())
        except OSError as error:
            problem = f"{reason} It could not be moved to the rejected files: {text_of(error)}"
            if error.errno in TRANSIENT_DISK_ERRORS:
                return self._blocked(dropped, problem)
            log.warning("%s stays in the inbox: %s", shown(dropped.path), problem)
            return Ignored(dropped, problem)
        log.info("%s was rejected and is now %s: %s", shown(dropped.path), shown(place), reason)
        return Rejected(dropped, reason)

    def _job_of(self, dropped: Dropped) -> Job:
        pipeline_id = self._folders.choose(dropped.path)
        options = Options()
        if dropped.options_path:
            advice = ADVICE_WHERE_FILES_STAY if self._keeps else ADVICE
            options = read_options(self._settings.inbox_dir, dropped.options_path, advice)
        job_id = new_job_id()
        return Job(
            job_id,
            pipeline_id=pipeline_id,
            input_path=input_key(job_id),
            source=JobSource.INBOX,
            source_name=os.fsencode(dropped.path).decode("utf-8", "backslashreplace"),
            options=options,
            size_bytes=dropped.identity.size,
            claim=kept_claim(dropped) if self._keeps else _claim_on(dropped),
        )

    def _report(self, outcomes: Sequence[Outcome]) -> None:
        """Log what is in the way of a file, once; one that has only changed or gone is looked at again at once."""
        now = self._monotonic()
        for outcome in outcomes:
            path = outcome.dropped.path
            if isinstance(outcome, Blocked) and outcome.retry_at > now:
                self._log_blocked[path](f"{shown(path)} stays in the inbox: {outcome.reason}")
            else:
                self._log_blocked.pop(path, None)

    # Tickets.

    def take_tickets(self, until: float = math.inf) -> list[Ticket]:
        """Make jobs of the submissions in the spool.

        Args:
            until: Monotonic time in seconds, after which the rest is left to the next call.

        Returns:
            The requests about jobs, oldest first, to act on and then pass to ``spool.done``.

        Raises:
            StoreError: the job store cannot be written; the tickets stay.
            OSError: the spool cannot be read.
        """
        return self._tickets.take(self.short_of_space() is not None, until)

    def written_anew(self, ticket: Ticket) -> None:
        """Take note that a ticket says something else now."""
        self._tickets.written_anew(ticket)

    # After a crash.

    def recover(self) -> list[Job]:
        """Finish or undo what a crash interrupted; called once at start, before the first scan.

        Dropped files that were claimed and not fetched are left to the first ``take``: a copy may take minutes.

        Returns:
            The jobs whose video was fetched now; they are in the queue.

        Raises:
            StoreError: the job store cannot be written.
        """
        videos = self._settings.videos_dir
        videos.mkdir(parents=True, exist_ok=True)
        self.spool_dir.mkdir(parents=True, exist_ok=True)
        for leftover in videos.glob(".*.part"):
            leftover.unlink(missing_ok=True)
        self._dropped.recover(fetching=False)
        return [outcome.job for outcome in self._submitted.recover() if isinstance(outcome, Taken)]

    def reconcile(self) -> list[Job]:
        """Make jobs of stored videos that no record knows; for after the job store was restored from damage.

        Returns:
            The new jobs; they are in the queue. Where a video came from is lost: its name and pipeline too.

        Raises:
            StoreError: the job store cannot be written.
        """
        return reconcile(self._store, self._storage, self._submitted, self._settings.default_pipeline)

    def short_of_space(self) -> str | None:
        """Return why nothing is taken in at the moment, or None. Callable from any thread; a change is logged."""
        shortage = self._disk.shortage()
        paused = f"Intake is paused. {shortage} It resumes by itself." if shortage else None
        with self._announcing:
            if paused:
                self._log_paused(paused)
            elif self._log_paused.solved():
                log.info("Intake resumes.")
        return paused


def _claim_on(dropped: Dropped) -> Claim:
    if dropped.options_path is None:
        return Claim(to_claim(dropped.path), dropped.identity)
    name = to_claim(dropped.options_path.rpartition("/")[2])
    return Claim(to_claim(dropped.path), dropped.identity, companion=True, options_name=name)
