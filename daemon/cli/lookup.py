"""Jobs as the commands see them: those of the job store, and submissions that wait in the spool."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from daemon.cli.common import err, escape, reading
from daemon.errors import UnknownJob
from daemon.fs.identity import shown
from daemon.ipc import health, spool
from daemon.jobs import Job, JobStatus
from daemon.settings import Settings
from daemon.store.job_reader import JobReader

POLL_SECONDS = 0.2
MOST_CANDIDATES = 10
"""Jobs that are listed when a name or the beginning of an id fits several."""


def daemon_alive(settings: Settings) -> bool:
    """Tell whether a daemon runs in this home."""
    return health.of_running_daemon(settings.data_dir) is not None


def known_jobs(
    settings: Settings,
    status: JobStatus | None = None,
    *,
    wanted: Callable[[Mapping[str, Any]], bool] = lambda record: True,
    newest: int | None = None,
) -> list[Job]:
    """Return jobs in order of arrival, those whose ticket still waits in the spool last.

    Args:
        settings: Of the home.
        status: Only those in this state.
        wanted: Only those whose record this is true of.
        newest: At most so many, the newest.
    """
    waiting = spooled(settings)  # looked at first: a ticket leaves the spool after its job is in the store

    def fits(record: Mapping[str, Any]) -> bool:
        return status in (None, record["status"]) and wanted(record)

    with reading(settings) as reader:
        found = reader.select(fits, newest)
        found += [job for job in waiting if reader.find(job.job_id) is None and fits(vars(job))]
    return found if newest is None else found[-newest:]


def spooled(settings: Settings) -> list[Job]:
    """Return the submissions that the daemon has not taken yet; they read as pending."""
    return [ticket.to_job() for ticket in spool.pending_submissions(settings.spool_dir)]


def find_job(settings: Settings, text: str) -> Job:
    """Return the job whose id begins like this, or if there is none, the one of this name.

    Raises:
        UnknownJob: there is none, or there are several, which are printed.
    """
    found = known_jobs(settings, wanted=lambda record: record["job_id"].startswith(text))
    found = found or known_jobs(settings, wanted=lambda record: record["source_name"] == text)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownJob(f"No job is named {shown(text)!r} or has an id that begins with it.")
    for job in found[: -MOST_CANDIDATES - 1 : -1]:
        err.print(f"{job.job_id}  {job.status:9}  {escape(job.source_name)}", soft_wrap=True)
    if len(found) > MOST_CANDIDATES:
        err.print(f"… and {len(found) - MOST_CANDIDATES} more")
    raise UnknownJob(f"More than one job fits {shown(text)!r}; name one by its id.")


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
            promised = {ticket.job_id for ticket in spool.pending_submissions(settings.spool_dir)}
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
                        state=str(job.status),
                    )
            ended = {job_id: job for job_id, job in known.items() if job is not None and job.ended}
            if len(ended) == len(ids):
                return ended
            sleep(POLL_SECONDS)
