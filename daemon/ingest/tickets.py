"""TicketIntake: the submissions in the spool become jobs."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import replace

from daemon.errors import BadOptions
from daemon.failpoints import failpoint
from daemon.fs.identity import identity_of
from daemon.fs.storage import StorageService
from daemon.ingest.claims import Claims, failure
from daemon.ingest.model import Blocked, Outcome, Taken
from daemon.ipc import spool
from daemon.ipc.spool import Ticket, TicketKind
from daemon.jobs import Claim, Job, JobStatus, Options
from daemon.logs import LogOnce
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.unknown_names import no_such

log = logging.getLogger(__name__)


class TicketIntake:
    """Makes a job of each submission; its ticket is removed once its video is stored.

    Args:
        settings: Where the spool is, and the pipeline of a ticket that names none.
        store: Keeps the jobs.
        storage: Keeps the videos.
        claims: On the videos in the spool.
        known_pipelines: Ids that a ticket may name.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        storage: StorageService,
        claims: Claims,
        known_pipelines: frozenset[str],
    ) -> None:
        self._spool_dir = settings.spool_dir
        self._default_pipeline = settings.default_pipeline
        self._store = store
        self._storage = storage
        self._claims = claims
        self._pipelines = known_pipelines
        self._by_name = settings.outbox_names == "name"
        self._log_blocked: dict[str, LogOnce] = defaultdict(lambda: LogOnce(log))

    def take(self, paused: bool) -> list[Ticket]:
        """Make jobs of the submissions, unless that is paused.

        Returns:
            The cancel and retry tickets that can be acted on, oldest first.

        Raises:
            StoreError: the job store cannot be written; the tickets stay.
            OSError: the spool cannot be read.
        """
        self._report(self._claims.recover_if_unsure())
        found = spool.tickets(self._spool_dir)
        submissions = [ticket for ticket in found if ticket.kind is TicketKind.SUBMIT]
        others = [ticket for ticket in found if ticket.kind is not TicketKind.SUBMIT]
        if paused:
            waiting = {ticket.job_id for ticket in submissions}
            return [ticket for ticket in others if ticket.job_id not in waiting]
        if submissions:
            self._take(submissions)
        return others

    def _take(self, submissions: list[Ticket]) -> None:
        new: dict[str, Ticket] = {}
        jobs: list[Job] = []
        for ticket in submissions:
            known = self._store.find(ticket.job_id)
            if known is not None:
                if known.ended or self._storage.path(known.input_path).exists():
                    spool.done(self._spool_dir, ticket)
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
    """Return jobs whose results are to have the names of their videos in the outbox.

    Args:
        jobs: Of submissions.
        taken: Names that are given already, folded: some shares take two for one that differ in case alone. It grows.
    """
    found = []
    for job in jobs:
        name = job.source_name.rpartition("/")[2].replace("\0", "")
        if name in ("", ".", ".."):
            name = job.job_id
        if name.casefold() in taken:
            name += f"~{job.job_id[:8]}"
        taken.add(name.casefold())
        found.append(replace(job, outbox_name=name))
    return found
