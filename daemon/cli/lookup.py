"""Jobs as the commands see them: those of the job store, and submissions that wait in the spool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from daemon.cli.common import err, escape, reading
from daemon.errors import UnknownJob
from daemon.fs.identity import shown
from daemon.ipc import health, spool
from daemon.ipc.ticket import TicketKind, ticket_name
from daemon.jobs import Job, JobStatus, is_job_id
from daemon.public_job import RunningFacts, state_of, to_public
from daemon.settings import Settings
from daemon.store.job_reader import JobReader
from daemon.store.paging import Place, cursor_of

POLL_SECONDS = 0.2
MOST_CANDIDATES = 10
"""Jobs that are listed when a name or the beginning of an id fits several."""

Wanted = Callable[[Mapping[str, Any]], bool]


def daemon_alive(settings: Settings) -> bool:
    """Tell whether a daemon runs in this home."""
    return health.of_running_daemon(settings.data_dir) is not None


@contextmanager
def known_jobs(settings: Settings) -> Iterator[KnownJobs]:
    """Open the jobs of a home as they are now."""
    waiting = spooled(settings)  # looked at first: a ticket leaves the spool after its job is in the store
    with reading(settings) as reader:
        yield KnownJobs(reader, waiting, health.read(settings.data_dir))


class KnownJobs:
    """The jobs of a home as they were when it was opened.

    Args:
        reader: Of the job store, up to date.
        waiting: Submissions in the spool, oldest first.
        heartbeat: The daemon's last.
    """

    def __init__(self, reader: JobReader, waiting: list[Job], heartbeat: health.Heartbeat | None) -> None:
        self._reader = reader
        self._heartbeat = heartbeat
        self._waiting = [job for job in waiting if reader.find(job.job_id) is None and not self._deleted(job.job_id)]

    def _deleted(self, job_id: str) -> bool:
        return self._reader.deleted_at(job_id) is not None

    def select(self, wanted: Wanted, newest: int | None = None, after: Place | None = None) -> list[Job]:
        """Return jobs in order of arrival, those whose ticket still waits in the spool last.

        Args:
            wanted: Only those whose record this is true of.
            newest: At most so many, the newest.
            after: Only those that come after the place where a page ended.
        """
        below = None if after is None else self._reader.sequence(after.job_id) or after.sequence or None
        waiting = [job for job in self._waiting if wanted(vars(job))] if below is None else []
        if after is not None and below is None:
            ids = [job.job_id for job in waiting]
            waiting = waiting[: ids.index(after.job_id)] if after.job_id in ids else []
        left = None if newest is None else max(0, newest - len(waiting))
        found = [*self._reader.select(wanted, left, below), *waiting]
        return found if newest is None else found[max(0, len(found) - newest) :]

    def page(self, wanted: Wanted, limit: int, after: Place | None) -> tuple[list[Job], str | None]:
        """Return a page of jobs, newest first, and the cursor of the next one; None on the last page."""
        found = self.select(wanted, limit + 1, after)[::-1]
        return found[:limit], cursor_of(vars(found[limit - 1])) if len(found) > limit else None

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each status."""
        counts = {str(status): count for status, count in self._reader.counts().items()}
        counts[JobStatus.PENDING] += len(self._waiting)
        return counts

    def find(self, text: str) -> Job:
        """Return the job whose id begins like this, or if there is none, the one of this name.

        Raises:
            UnknownJob: there is none, or it was deleted, or there are several, which are printed.
        """
        found = self.select(lambda record: record["job_id"].startswith(text))
        found = found or self.select(lambda record: record["source_name"] == text)
        if len(found) == 1:
            return found[0]
        if not found:
            if is_job_id(text) and (when := self._reader.deleted_at(text)):
                raise UnknownJob(f"Job {text} was deleted at {when}.")
            raise UnknownJob(f"No job is named {shown(text)!r} or has an id that begins with it.")
        for job in found[: -MOST_CANDIDATES - 1 : -1]:
            err.print(f"{job.job_id}  {state_of(vars(job)):9}  {escape(job.source_name)}", soft_wrap=True)
        if len(found) > MOST_CANDIDATES:
            err.print(f"… and {len(found) - MOST_CANDIDATES} more")
        raise UnknownJob(f"More than one job fits {shown(text)!r}; name one by its id.")

    def public(self, job: Job) -> dict[str, Any]:
        """Return a job as programs see it, over HTTP too: the members of a PublicJob."""
        return to_public(job.to_record(), self._queue_position(job), self._running_facts(job))

    def _queue_position(self, job: Job) -> int | None:
        if job.status is not JobStatus.PENDING:
            return None
        ids = [other.job_id for other in self._waiting]
        pending = self._reader.counts()[JobStatus.PENDING]
        return pending + ids.index(job.job_id) if job.job_id in ids else self._reader.queue_position(job.sequence)

    def _running_facts(self, job: Job) -> RunningFacts | None:
        running = self._heartbeat.all_running().get(job.job_id) if self._heartbeat else None
        if job.status is not JobStatus.RUNNING or running is None:
            return None
        return RunningFacts(running.frames_processed, running.frames_total, running.frames_per_second)


def find_job(settings: Settings, text: str) -> Job:
    """Return a job; see ``KnownJobs.find``."""
    with known_jobs(settings) as known:
        return known.find(text)


def spooled(settings: Settings) -> list[Job]:
    """Return the submissions that the daemon has not taken yet; they read as pending."""
    return [ticket.to_job() for ticket in spool.pending_submissions(settings.spool_dir)]


def wait_for(settings: Settings, ids: list[str], sleep: Callable[[float], None] = time.sleep) -> dict[str, Job]:
    """Show progress until every job has ended; return them by id.

    Raises:
        UnknownJob: a job is in neither the spool nor the store any more.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with JobReader(settings.data_dir) as reader, Progress(*columns, console=err) as bars:
        tasks = {job_id: bars.add_task(job_id[:8], total=None, state="pending") for job_id in ids}
        while True:
            promised = {job_id for job_id in ids if _is_promised(settings, job_id)}
            reader.refresh()
            known = {job_id: reader.find(job_id) for job_id in ids}
            for job_id, job in known.items():
                if job is None and job_id not in promised:
                    raise UnknownJob(f"Job {job_id} no longer exists; submit the video again.")
                if job is not None:
                    bars.update(
                        tasks[job_id],
                        description=escape(job.source_name),
                        completed=job.frames_processed,
                        total=job.frames_total,
                        state=state_of(vars(job)),
                    )
            ended = {job_id: job for job_id, job in known.items() if job is not None and job.ended}
            if len(ended) == len(ids):
                return ended
            sleep(POLL_SECONDS)


def _is_promised(settings: Settings, job_id: str) -> bool:
    return (settings.spool_dir / ticket_name(job_id, TicketKind.SUBMIT)).exists()
