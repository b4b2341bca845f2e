"""Intake: a dropped file or a ticket becomes a stored video, a job and a queue entry, exactly once.

The job record is the claim. It is made first and says which content at which path it is for; then the file is
moved to a name made of the job's id. So after a crash each record either has its video, or names the file to
fetch, or names one that is not there any more and is dropped: the next scan sees what is there.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.errors import BadOptions, Interrupted, Rejected, SourceChanged
from daemon.failpoints import failpoint
from daemon.fs import mounts
from daemon.fs.folders import Folders
from daemon.fs.identity import from_claim, identity_of, shown, to_claim
from daemon.fs.moves import free_name, move_file
from daemon.fs.space import TRANSIENT_DISK_ERRORS, free_bytes
from daemon.fs.storage import StorageService
from daemon.ingest import quarantine
from daemon.ingest.claims import Claims, failure, sync
from daemon.ingest.model import Dropped
from daemon.ingest.options_file import read_options
from daemon.ingest.stability import OPTIONS_SUFFIX
from daemon.ipc import spool
from daemon.ipc.spool import Ticket, TicketKind
from daemon.jobs import (
    Claim,
    Job,
    JobSource,
    JobStatus,
    Options,
    input_key,
    is_job_id,
    new_job_id,
)
from daemon.queue import QueueService
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Taken:
    """What became of a batch of dropped files."""

    jobs: tuple[Job, ...] = ()
    """The new jobs, queued, in order."""
    rejected: tuple[tuple[Dropped, str], ...] = ()
    """Moved to the rejected files, with the reason."""
    left: tuple[tuple[Dropped, str], ...] = ()
    """Left in the inbox until their content changes, with the reason: for ``Inbox.leave``."""
    paused: str | None = None
    """Why nothing was taken in, if nothing was; the files come again."""


class Intake:
    """Takes files in.

    One thread calls ``take``, another may call ``take_tickets``: an inbox on a share that hangs holds up no
    submission. ``stop``, ``unchanged`` and ``put_back`` are called by any; all else before those threads start.

    Args:
        settings: Folders and limits.
        store: Keeps the jobs, and with them the claims.
        queue: Gets each new job.
        storage: Keeps the videos; must be on a local disk.
        known_pipelines: Ids that a folder or a ticket may name.
        clock: Seconds since 1970, for reason files and the age of leftovers.
        while_copying: Called again and again during a copy, which may take minutes.
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
    ) -> None:
        self._settings = settings
        self._store = store
        self._queue = queue
        self._storage = storage
        self._pipelines = known_pipelines
        self._clock = clock
        self._while_copying = while_copying
        self._stopping = threading.Event()
        self.spool_dir = settings.data_dir / "spool"
        self._announcing = threading.Lock()
        self._announced: str | None = None
        self._dropped = Claims(settings.inbox_dir, True, store, queue, storage, clock, self._end_copy)
        self._submitted = Claims(self.spool_dir, False, store, queue, storage, clock, self._stopping.is_set)

    def stop(self) -> None:
        """End a copy that is going on; what it copied stays in the inbox."""
        self._stopping.set()

    def _end_copy(self) -> bool:
        self._while_copying()
        return self._stopping.is_set()

    # Dropped files.

    def take(self, batch: Sequence[Dropped]) -> Taken:
        """Make each whole file a job and set the others aside; fetch first what an earlier call, or process, did not.

        A file that was exchanged, or could not be moved, is in none of the lists: it stays and comes again.

        Raises:
            StoreError: the job store cannot be written; the files stay and come again.
        """
        fetched = [] if self.short_of_space() else self._dropped.recover_if_unsure()
        already = self._dropped.held | {job.claim.identity.lasting for job in fetched if job.claim}
        batch = [dropped for dropped in batch if dropped.identity.lasting not in already]
        left: list[tuple[Dropped, str]] = []
        refused: list[tuple[Dropped, str]] = []
        wanted: list[tuple[Dropped, Job]] = []
        for dropped in batch:
            if self._dropped.was_left_behind(dropped.identity):
                left.append((dropped, "It was taken in; it is still here because it could not be removed."))
                continue
            try:
                if dropped.reason is not None:
                    raise Rejected(dropped.reason)
                wanted.append((dropped, self._job_for(dropped)))
            except Rejected as error:
                refused.append((dropped, str(error)))
            except OSError as error:
                self._dropped.grumble(dropped.path, f"{shown(dropped.path)} cannot be read: {error.strerror}.")
        outcomes = [(dropped, reason, self.reject(dropped, reason)) for dropped, reason in refused]
        left += [(dropped, f"{reason} {problem}") for dropped, reason, problem in outcomes if problem]
        done = tuple((dropped, reason) for dropped, reason, problem in outcomes if not problem)
        paused = self.short_of_space() if wanted else None
        if paused or not wanted:
            return Taken(tuple(fetched), done, tuple(left), paused)
        jobs = self._dropped.record(list(self._with_room(wanted)))
        failpoint("intake.recorded")
        return Taken((*fetched, *self._dropped.fetch_all(jobs)), done, tuple(left))

    def _with_room(self, wanted: Sequence[tuple[Dropped, Job]]) -> Iterator[Job]:
        """Leave out what has to be copied and for which the data disk has no room; it stays and comes again."""
        data, least = self._settings.data_dir, self._settings.min_free_bytes
        room = free_bytes(data) - least
        device = os.stat(data).st_dev
        for dropped, job in wanted:
            if dropped.identity.device != device:
                if dropped.identity.size > room:
                    self._dropped.grumble(
                        dropped.path,
                        f"{shown(dropped.path)} waits: with its {dropped.identity.size} bytes {data} would have less "
                        f"than {least} bytes free (setting min_free_bytes). Make room; it is taken in by itself.",
                    )
                    continue
                room -= dropped.identity.size
            yield job

    def reject(self, dropped: Dropped, reason: str) -> str | None:
        """Move a file to ``rejected/`` and write the reason beside it.

        Returns:
            None, or a sentence why it could not be moved and stays where it is. None, too, if it stays and comes
            again: it was exchanged, or the disk does not let us just now.
        """
        when = datetime.fromtimestamp(self._clock(), UTC)
        try:
            place = quarantine.set_aside(self._settings.inbox_dir, dropped, reason, when, self._end_copy)
        except (SourceChanged, FileNotFoundError, Interrupted):
            return None  # exchanged or removed: what is there now is looked at anew
        except OSError as error:
            problem = f"It could not be moved to the rejected files: {error.strerror or error}."
            sentence = f"{shown(dropped.path)} stays in the inbox: {reason} {problem}"
            if error.errno in TRANSIENT_DISK_ERRORS:
                self._dropped.grumble(dropped.path, sentence)
                return None
            log.warning("%s", sentence)
            return problem
        log.info("%s was rejected and is now %s: %s", shown(dropped.path), shown(place), reason)
        return None

    def _job_for(self, dropped: Dropped) -> Job:
        first, slash, _ = dropped.path.partition("/")
        pipeline_id = first if slash else self._settings.default_pipeline
        if pipeline_id not in self._pipelines:
            raise Rejected(self._unknown_pipeline(pipeline_id))
        job_id = new_job_id()
        return Job(
            job_id,
            pipeline_id=pipeline_id,
            input_path=input_key(job_id),
            source=JobSource.INBOX,
            source_name=os.fsencode(dropped.path).decode("utf-8", "backslashreplace"),
            options=read_options(self._settings.inbox_dir, dropped.companion) if dropped.companion else Options(),
            size_bytes=dropped.identity.size,
            claim=Claim(to_claim(dropped.path), dropped.identity, companion=dropped.companion is not None),
        )

    def _unknown_pipeline(self, pipeline_id: str) -> str:
        return (
            f"There is no pipeline {shown(pipeline_id)!r}; the folders that choose one are "
            f"{', '.join(sorted(self._pipelines))}. Drop it into one of them, or into the inbox itself."
        )

    # Tickets.

    def take_tickets(self) -> list[Ticket]:
        """Make jobs of the submissions in the spool.

        Returns:
            The cancel and retry tickets, oldest first, to act on and then pass to ``spool.done``.

        Raises:
            StoreError: the job store cannot be written; the tickets stay.
            OSError: the spool cannot be read.
        """
        self._submitted.recover_if_unsure()
        found = spool.tickets(self.spool_dir)
        submissions = [t for t in found if t.kind is TicketKind.SUBMIT]
        wishes = [t for t in found if t.kind is not TicketKind.SUBMIT]
        if not submissions:
            return wishes
        if self.short_of_space():
            waiting = {t.job_id for t in submissions}
            return [t for t in wishes if t.job_id not in waiting]
        new: list[tuple[Ticket, Job]] = []
        for ticket in submissions:
            known = self._store.find(ticket.job_id)
            if known is not None:
                if known.ended or self._storage.path(known.input_path).exists():
                    spool.done(self.spool_dir, ticket)
            elif made := self._job_of(ticket):
                new.append((ticket, made))
        jobs = self._submitted.record([job for _, job in new])
        failpoint("tickets.recorded")
        fetched = {job.job_id for job in self._submitted.fetch_all(jobs)}
        for ticket, job in new:
            if job.job_id in fetched:
                spool.done(self.spool_dir, ticket)
        return wishes

    def _job_of(self, ticket: Ticket) -> Job | None:
        """Make the job of a submission, one that has failed if it cannot be run; None if it has no video."""
        try:
            status = os.stat(self.spool_dir / ticket.video_name, follow_symlinks=False)
        except FileNotFoundError:
            spool.set_aside(self.spool_dir, ticket.name, "its video is missing")
            return None
        problem = None
        try:
            Options.from_mapping(ticket.options)
        except BadOptions as error:
            problem = str(error)
        pipeline_id = ticket.pipeline_id or self._settings.default_pipeline
        if pipeline_id not in self._pipelines:
            known = ", ".join(sorted(self._pipelines))
            problem = f"There is no pipeline {pipeline_id!r}; submit it again with one of {known}."
        claim = Claim(ticket.video_name, identity_of(status))
        job = replace(ticket.to_job(), pipeline_id=pipeline_id, size_bytes=status.st_size, claim=claim)
        if problem is None:
            return job
        # Failed from the first moment, so that no crash lets it be run with other options than were asked for.
        log.warning("Job %s failed: %s", job.job_id, problem)
        return replace(job, status=JobStatus.FAILED, **failure(problem, self._clock()))

    # After a crash, and after a video was written to.

    def recover(self) -> list[Job]:
        """Finish or undo what a crash interrupted; called once at start, before the first scan.

        Dropped files that were claimed and not fetched are left to the first ``take``: a copy may take minutes.

        Returns:
            The jobs whose video was fetched now; they are in the queue.

        Raises:
            StoreError: the job store cannot be written.
        """
        videos = self._storage.path(input_key("x")).parent
        videos.mkdir(parents=True, exist_ok=True)
        self.spool_dir.mkdir(parents=True, exist_ok=True)
        for leftover in videos.glob(".*.part"):
            leftover.unlink(missing_ok=True)
        self._dropped.recover(fetching=False)
        return self._submitted.recover()

    def reconcile(self) -> list[Job]:
        """Make jobs of stored videos that no record knows; for after the job store was restored from damage.

        Returns:
            The new jobs; they are in the queue. Where a video came from is lost: its name and pipeline too.

        Raises:
            StoreError: the job store cannot be written.
        """
        lost = []
        for path in sorted(self._storage.path(input_key("x")).parent.glob("*.mp4")):
            job_id = path.stem
            status = os.stat(path, follow_symlinks=False)
            if not (is_job_id(job_id) and stat.S_ISREG(status.st_mode)) or self._store.find(job_id) is not None:
                continue
            lost.append(
                Job(
                    job_id,
                    pipeline_id=self._settings.default_pipeline,
                    input_path=input_key(job_id),
                    source=JobSource.CLI,
                    source_name=path.name,
                    size_bytes=status.st_size,
                    claim=Claim(path.name, identity_of(status)),
                )
            )
        jobs = self._submitted.record(lost)
        for job in jobs:
            log.warning("Job %s was lost with the damage; it is run again as %s.", job.job_id, job.source_name)
            self._submitted.enqueue(job)
        return jobs

    def unchanged(self, job: Job) -> bool:
        """Tell whether a job's stored video is still what was taken in; the worker asks before it publishes.

        Raises:
            OSError: the stored video cannot be looked at.
        """
        if job.claim is None:
            return True
        now = os.stat(self._storage.path(job.input_path), follow_symlinks=False)
        then = job.claim.identity
        # A copy has another inode; size and mtime are the same.
        return (now.st_size, now.st_mtime_ns) == (then.size, then.mtime_ns)

    def put_back(self, job: Job, reason: str) -> Job | None:
        """Return a video that was written to after it was taken in, so that it is run again as it is now.

        Call it before the job's record is changed: should the process die in between, ``recover`` drops it.

        Returns:
            None if the file is in the inbox again, where it settles like any other and becomes a new job; the
            caller ends this one. For an upload or ``dropframe submit`` the same job with its claim renewed,
            because its id was promised: the caller makes it pending again.

        Raises:
            OSError: it cannot be moved; it stays stored.
            StoreError: the job store cannot be written.
        """
        stored = self._storage.path(job.input_path)
        identity = identity_of(os.stat(stored, follow_symlinks=False))
        log.info("Job %s: %s", job.job_id, reason)
        if job.source is not JobSource.INBOX or job.claim is None:
            path = job.claim.path if job.claim else stored.name
            return self._store.note(job.job_id, claim=Claim(path, identity))
        folder, _, name = from_claim(job.claim.path).rpartition("/")
        if mounts.away(self._settings.data_dir, self._settings.inbox_dir):
            raise OSError(errno.ENODEV, "the inbox is offline")
        with Folders(self._settings.inbox_dir) as inbox, Folders(stored.parent) as videos:
            inbox.get("")  # if it is missing, it is not made anew: that would not be where people look
            target = inbox.get(folder, make=True)
            options = f"{job.job_id}{OPTIONS_SUFFIX}"
            has_options = (stored.parent / options).exists()
            free = free_name(name, target, also=(OPTIONS_SUFFIX,) if has_options else ())
            if has_options:
                seen = identity_of(os.stat(options, dir_fd=videos.get(""), follow_symlinks=False))
                move_file(options, videos.get(""), free + OPTIONS_SUFFIX, target, seen)
            failpoint("put_back.options")
            move_file(stored.name, videos.get(""), free, target, identity)
            failpoint("put_back.moved")
            sync(inbox)
            sync(videos)
        return None

    def short_of_space(self) -> str | None:
        """Return why nothing is taken in at the moment, or None. Callable from any thread; a change is logged."""
        data, least = self._settings.data_dir, self._settings.min_free_bytes
        paused = None
        try:
            if free_bytes(data) < least:
                paused = (
                    f"Taking in is paused: {data} has less than {least} bytes free (setting min_free_bytes). "
                    "Make room; it goes on by itself."
                )
        except OSError as error:
            paused = f"Taking in is paused: {data} cannot be used ({error.strerror})."
        with self._announcing:
            if paused and not self._announced:
                log.warning("%s", paused)
            elif self._announced and not paused:
                log.info("Taking in goes on.")
            self._announced = paused
        return paused
