"""TicketIntake: the submissions in the spool become jobs."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from daemon.errors import BadOptions, StoreError
from daemon.failpoints import failpoint
from daemon.fs.identity import identity_of
from daemon.fs.space import FULL
from daemon.fs.storage import StorageService
from daemon.ingest.claims import Claims, failure
from daemon.ingest.model import Blocked, Outcome, Taken
from daemon.ipc import spool
from daemon.ipc.ticket import Ticket, TicketKind
from daemon.ipc.ticket_reader import TicketReader
from daemon.jobs import Claim, ErrorKind, Job, JobStatus, Options, utc_now
from daemon.logs import LogOnce
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.unknown_names import no_such

log = logging.getLogger(__name__)

AT_ONCE = 50
"""Submissions that are recorded in one commit, between two looks at the clock."""
CANCELLED_UNTAKEN = "Cancelled before it was taken in, while the disk was too full; its video was removed to make room."


class TicketIntake:
    """Makes a job of each submission; its ticket is removed once its video is stored.

    Args:
        settings: Where the spool is, and the pipeline of a ticket that names none.
        store: Keeps the jobs.
        storage: Keeps the videos.
        claims: On the videos in the spool.
        known_pipelines: Ids that a ticket may name.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        storage: StorageService,
        claims: Claims,
        known_pipelines: frozenset[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool_dir = settings.spool_dir
        self._default_pipeline = settings.default_pipeline
        self._store = store
        self._storage = storage
        self._claims = claims
        self._pipelines = known_pipelines
        self._by_name = settings.outbox_names == "name"
        self._clock = clock
        self._reader = TicketReader(settings.spool_dir, clock)
        self._log_blocked: dict[str, LogOnce] = defaultdict(lambda: LogOnce(log))

    def take(self, paused: bool, until: float = math.inf) -> list[Ticket]:
        """Make jobs of the submissions, unless that is paused.

        Args:
            paused: The disk is too full for more jobs. Those that a person has cancelled are ended all the same, and
                their videos are removed, for that makes room.
            until: Monotonic time in seconds, after which the rest is left to the next call.

        Returns:
            The requests that can be acted on, oldest first.

        Raises:
            StoreError: the job store cannot be written; the tickets stay.
            OSError: the spool cannot be read.
        """
        self._report(self._claims.recover_if_unsure())
        found = self._reader.read(until)
        if found is None:
            return []
        submissions = [ticket for ticket in found if ticket.kind is TicketKind.SUBMIT]
        requests = [ticket for ticket in found if ticket.kind is not TicketKind.SUBMIT]
        waiting = self._end_unwanted(submissions, requests, paused)
        if not paused:
            waiting = self._take_some(waiting, until)
        held_back = {ticket.job_id for ticket in waiting if self._store.find(ticket.job_id) is None}
        return [ticket for ticket in requests if held_back.isdisjoint(ticket.jobs)]

    def written_anew(self, ticket: Ticket) -> None:
        """Take note that a ticket says something else now."""
        self._reader.forget(ticket)

    def _take_some(self, submissions: list[Ticket], until: float) -> list[Ticket]:
        """Take submissions in until the time is over; return those that are left."""
        for start in range(0, len(submissions), AT_ONCE):
            if start and self._clock() >= until:
                return submissions[start:]
            self._take(submissions[start : start + AT_ONCE])
        return []

    def _end_unwanted(self, submissions: list[Ticket], requests: list[Ticket], paused: bool) -> list[Ticket]:
        """While there is no room, end the submissions that a person has cancelled or deleted; return the others.

        The record comes first, if the disk has room for it. If it has not, the video goes first: until the job is
        recorded, its ticket and the request are both there and say that it was cancelled, whoever is killed when.
        """
        kinds = (TicketKind.CANCEL, TicketKind.DELETE)
        unwanted = {job_id for ticket in requests if ticket.kind in kinds for job_id in ticket.jobs}
        waiting = []
        for ticket in submissions:
            video, known = self._spool_dir / ticket.video_name, self._store.find(ticket.job_id)
            if known is not None and known.ended:  # a kill came before its video was removed
                self._remove(ticket)
                continue
            goes = ticket.job_id in unwanted and (paused or not video.exists())
            if not goes or known is not None:
                waiting.append(ticket)
                continue
            try:
                self._end(ticket)
            except StoreError as error:
                if getattr(error.__cause__, "errno", None) not in FULL:
                    raise
                video.unlink(missing_ok=True)
                failpoint("tickets.freed")
                self._end(ticket)
            failpoint("tickets.ended")
            self._remove(ticket)
        return waiting

    def _remove(self, ticket: Ticket) -> None:
        (self._spool_dir / ticket.video_name).unlink(missing_ok=True)
        spool.done(self._spool_dir, ticket)

    def _end(self, ticket: Ticket) -> None:
        now = utc_now()
        job = replace(
            ticket.to_job(),
            pipeline_id=ticket.pipeline_id or self._default_pipeline,
            status=JobStatus.FAILED,
            error_kind=ErrorKind.CANCELLED,
            error_message=CANCELLED_UNTAKEN,
            unpublished_error=True,
            finished_at=now,
            source_removed_at=now,
        )
        self._store.create([job])
        log.info("Job %s: cancelled before it was taken in; its video was removed.", ticket.job_id)

    def _take(self, submissions: list[Ticket]) -> None:
        new: dict[str, Ticket] = {}
        jobs: list[Job] = []
        for ticket in submissions:
            known = self._store.find(ticket.job_id)
            if known is not None:
                if self._storage.path(known.input_path).exists():
                    spool.done(self._spool_dir, ticket)
            elif self._store.deleted.at(ticket.job_id):  # before it had come
                self._remove(ticket)
            elif job := self._job_of(ticket):
                new[job.job_id] = ticket
                jobs.append(job)
        if self._by_name and jobs:
            jobs = named(jobs, self._store.outbox_names())
        jobs = self._claims.record(jobs)
        failpoint("tickets.recorded")
        for job in self._report(self._claims.fetch_all(jobs)):
            spool.done(self._spool_dir, new[job.job_id])

    def _report(self, outcomes: list[Outcome]) -> list[Job]:
        """Log what is in the way of a submission; return the jobs whose videos are stored."""
        for outcome in outcomes:
            path = outcome.dropped.path
            if isinstance(outcome, Blocked):
                self._log_blocked[path](f"The submitted video {path} stays in the spool: {outcome.reason}")
            else:
                self._log_blocked.pop(path, None)
        return [outcome.job for outcome in outcomes if isinstance(outcome, Taken)]

    def _job_of(self, ticket: Ticket) -> Job | None:
        """Make the job of a submission, one that has failed if it cannot be run; None if it has no video."""
        try:
            status = os.stat(self._spool_dir / ticket.video_name, follow_symlinks=False)
        except FileNotFoundError:
            spool.reject_ticket(self._spool_dir, ticket.name, "its video is missing")
            return None
        pipeline_id = ticket.pipeline_id or self._default_pipeline
        claim = Claim(ticket.video_name, identity_of(status))
        job = replace(ticket.to_job(), pipeline_id=pipeline_id, size_bytes=status.st_size, claim=claim)
        problem = self._problem_with(ticket, pipeline_id)
        if problem is None:
            return job
        # Failed from the first moment, so that no crash lets it be run with other options than were asked for.
        log.warning("Job %s failed: %s", job.job_id, problem)
        return replace(job, status=JobStatus.FAILED, **failure(problem))

    def _problem_with(self, ticket: Ticket, pipeline_id: str) -> str | None:
        if pipeline_id not in self._pipelines:
            return no_such("pipeline", pipeline_id, sorted(self._pipelines))
        try:
            Options.from_mapping(ticket.options)
        except BadOptions as error:
            return str(error)
        return None


def named(jobs: list[Job], taken: set[str]) -> list[Job]:
    """Return jobs whose results are to have the names of their videos in the outbox, unless they have one already.

    Args:
        jobs: Of submissions.
        taken: Names that are given already, folded: some shares take two for one that differ in case alone. It grows.
    """
    found = []
    for job in jobs:
        if job.outbox_name is not None:  # as a dropped file is
            found.append(job)
            continue
        name = job.source_name.rpartition("/")[2].replace("\0", "")
        if name in ("", ".", ".."):
            name = job.job_id
        if name.casefold() in taken:
            name += f"~{job.job_id[:8]}"
        taken.add(name.casefold())
        found.append(replace(job, outbox_name=name))
    return found
