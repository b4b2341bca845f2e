"""Commands that ask something of jobs: retry, cancel, delete. The daemon does it, now or when it runs again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from daemon.cli.common import HomeOption, JsonOption, err, escape, load_existing, out, show_json
from daemon.cli.lookup import KnownJobs, known_jobs
from daemon.errors import IllegalMove, SettingsError
from daemon.ipc import spool
from daemon.ipc.ticket import TicketKind
from daemon.jobs import ErrorKind, Job, JobStatus, why_no_retry
from daemon.public_job import state_of

app = typer.Typer()

WHICH = "Ids of jobs, their first characters, or names of videos."
LISTED = 10
"""Jobs that are named before they are deleted; the others are only counted."""


def may_be_retried(job: Job) -> bool:
    """Tell whether a job is tried again together with all that failed: one that a person cancelled is not."""
    return job.error_kind is not ErrorKind.CANCELLED and not why_no_retry(vars(job))


def failed_jobs(known: KnownJobs) -> list[Job]:
    """Return all failed jobs."""
    return known.select(lambda record: bool(record["status"] == JobStatus.FAILED))


@app.command()
def retry(
    jobs: Annotated[list[str] | None, typer.Argument(help=WHICH)] = None,
    all_failed: Annotated[
        bool, typer.Option("--all-failed", help="Retry every failed job that can be, but for cancelled ones.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put failed jobs back into the queue."""
    settings = load_existing(home)
    if (not jobs) == (not all_failed):
        raise SettingsError("Name at least one job, or pass --all-failed.")
    with known_jobs(settings) as known:
        chosen = [known.find(job) for job in jobs or ()]
        for found in chosen:
            if why := why_no_retry(vars(found)):
                raise IllegalMove(f"Job {found.job_id} is {state_of(vars(found))}; {why}.")
        failed = failed_jobs(known) if all_failed else []
        chosen += filter(may_be_retried, failed)
        spool.request(settings.spool_dir, TicketKind.RETRY, *(found.job_id for found in chosen))
        if as_json:
            show_json([known.public(found) for found in chosen])
            return
    out.print(f"{counted(len(chosen))} queued for retry.")
    if left_out := len(failed) - len(chosen) if all_failed else 0:
        err.print(f"{counted(left_out)} left out: cancelled, refused, or without a video.")


@app.command()
def cancel(
    jobs: Annotated[list[str], typer.Argument(help=WHICH)], home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Cancel waiting or running jobs. To programs they end as failed, with the reason cancelled."""
    settings = load_existing(home)
    with known_jobs(settings) as known:
        chosen = [known.find(job) for job in jobs]
        for found in chosen:
            if found.ended:
                ended = "been cancelled" if state_of(vars(found)) == ErrorKind.CANCELLED else str(found.status)
                raise IllegalMove(f"Job {found.job_id} has already {ended}.")
        spool.request(settings.spool_dir, TicketKind.CANCEL, *(found.job_id for found in chosen))
        if as_json:
            show_json([known.public(found) for found in chosen])
            return
    for found in chosen:
        out.print(f"{found.job_id} is being cancelled.")


@app.command()
def delete(
    jobs: Annotated[list[str] | None, typer.Argument(help=WHICH)] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="Delete every failed or cancelled job.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete jobs with their videos and results, in the outbox too. One that runs has to be cancelled first."""
    settings = load_existing(home)
    if (not jobs) == (not all_failed):
        raise SettingsError("Name at least one job, or pass --all-failed.")
    with known_jobs(settings) as known:
        chosen = failed_jobs(known) if all_failed else [known.find(job) for job in jobs or ()]
        for found in chosen:
            if found.status is JobStatus.RUNNING:
                raise IllegalMove(f"Job {found.job_id} is running; cancel it first, and delete it once it has ended.")
        if not yes:
            confirm(chosen)
        spool.request(settings.spool_dir, TicketKind.DELETE, *(found.job_id for found in chosen))
        if as_json:
            show_json([known.public(found) for found in chosen])
            return
    out.print(f"{counted(len(chosen))} {'is' if len(chosen) == 1 else 'are'} being deleted.")


def confirm(chosen: list[Job]) -> None:
    """Ask a person whether jobs are to be deleted; end the command if not.

    Raises:
        SettingsError: nobody is there to be asked.
    """
    if not chosen:
        return
    if not sys.stdin.isatty():
        raise SettingsError("Deleting cannot be undone; pass --yes where nobody can be asked.")
    for found in chosen[:LISTED]:
        err.print(f"{found.job_id}  {state_of(vars(found)):9}  {escape(found.source_name)}", soft_wrap=True)
    if len(chosen) > LISTED:
        err.print(f"… and {len(chosen) - LISTED} more")
    typer.confirm(f"Delete {counted(len(chosen))} with videos and results?", abort=True, err=True)


def counted(count: int) -> str:
    """Return a number of jobs in words."""
    return f"{count} {'job' if count == 1 else 'jobs'}"
