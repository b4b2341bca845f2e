"""Commands that submit jobs and look at them: submit, jobs, status, results."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from daemon.cli.common import (
    FAILED,
    INTERRUPTED,
    HomeOption,
    JsonOption,
    err,
    escape,
    load_existing,
    out,
    say,
    show_json,
    writing_output,
)
from daemon.cli.lookup import daemon_alive, find_job, known_jobs, wait_for
from daemon.cli.submit_check import options_for, sort_out
from daemon.derive.files import check_whole
from daemon.errors import IllegalMove, SettingsError, StoredFileMissing
from daemon.fs.identity import shown
from daemon.fs.storage import LocalStorageService
from daemon.ipc import health, rejected_list, spool
from daemon.ipc.health import WaitingBeat
from daemon.ipc.rejected_list import RejectedList
from daemon.jobs import Job, JobSource, JobStatus, Options, output_key
from daemon.public_job import state_of
from daemon.settings import Settings
from daemon.store.paging import Place, place_of

app = typer.Typer()

SHOWN_REJECTED = 10
SHOWN_ALIKE = 10
"""Files that wait for the same reason."""
WHICH = "The job's id, its first characters, or the video's name."


@app.command()
def submit(
    files: Annotated[
        list[Path],
        typer.Argument(help="Videos; they are copied, the originals stay."),
    ],
    pipeline: Annotated[str | None, typer.Option(help="Pipeline id (default: the setting default_pipeline).")] = None,
    frame_stride: Annotated[str, typer.Option(help="Analyse every Nth frame.", metavar="N")] = "1",
    max_frames: Annotated[str | None, typer.Option(help="Analyse at most this many frames.", metavar="N")] = None,
    exports: Annotated[
        str | None,
        typer.Option(help="Also put the results into the outbox in these formats, such as csv,srt.", metavar="FORMATS"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress and wait until the jobs have ended.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit videos. This works while the daemon is down: the jobs wait in the spool.

    A file that cannot be submitted is named, and the others are submitted; the exit code is 1 then. With --wait it is 1
    if a job failed as well.
    """
    settings = load_existing(home)
    pipeline_id = pipeline or settings.default_pipeline
    given = {"frame_stride": frame_stride, "max_frames": max_frames, "exports": exports}
    values = {name: Options.value_in(name, text.strip()) for name, text in given.items() if text is not None}
    options = options_for(pipeline_id, values)
    good, some_bad = sort_out(files, settings.containers)
    ids = []
    for file in good:
        job_id = spool.submit(
            settings.spool_dir,
            file,
            source=JobSource.CLI,
            source_name=file.name,
            pipeline_id=pipeline_id,
            options=options,
        )
        ids.append(job_id)
        if not as_json:
            out.print(f"{job_id}  {escape(file.name)}", soft_wrap=True)
    if ids and not daemon_alive(settings):
        where = escape(str(settings.home))
        say(err, f"The daemon is not running; the jobs start when it does: dropframe run --home {where}")
    if wait:
        show_ends(settings, ids, as_json)
    elif as_json:
        show_json([{"job_id": job_id} for job_id in ids])
    if some_bad:
        raise typer.Exit(FAILED)


def show_ends(settings: Settings, ids: list[str], as_json: bool) -> None:
    """Wait until jobs have ended and show how; exit with 1 if one failed."""
    try:
        ends = wait_for(settings, ids)
    except KeyboardInterrupt:
        where = escape(str(settings.home))
        say(err, f"No longer waiting; the jobs go on. See how they are: dropframe jobs --home {where}")
        raise typer.Exit(INTERRUPTED) from None
    ended = [ends[job_id] for job_id in ids]
    if as_json:
        with known_jobs(settings) as known:
            show_json([known.public(job) for job in ended])
    for job in () if as_json else ended:
        say_end(settings, job)
    if any(job.status is JobStatus.FAILED for job in ended):
        raise typer.Exit(FAILED)


def say_end(settings: Settings, job: Job) -> None:
    """Print how a job ended."""
    if job.status is JobStatus.FAILED:
        state = state_of(vars(job))
        err.print(f"[red]{state}[/] {escape(job.source_name)}: {escape(job.error_message or '')}", soft_wrap=True)
        return
    from daemon.worker.outbox import Outbox

    out.print(escape(f"completed {job.source_name}: {Outbox(settings.outbox_dir).path(job)}"), soft_wrap=True)
    for warning in (job.summary or {}).get("warnings", []):
        out.print(f"[yellow]note[/] {escape(warning)}", soft_wrap=True)


@app.command()
def jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs with this status.")] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs whose video's name contains this.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only jobs of this pipeline.")] = None,
    limit: Annotated[int, typer.Option(help="Show at most N, newest first.", metavar="N", min=1)] = 20,
    cursor: Annotated[str | None, typer.Option(help="The next_cursor of the page before (--json).")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first, the files waiting in the inbox, and the newest rejected ones."""
    settings = load_existing(home)
    place = read_cursor(cursor)

    def wanted(record: Mapping[str, Any]) -> bool:
        named = name is None or name.casefold() in record["source_name"].casefold()
        return named and pipeline in (None, record["pipeline_id"]) and status in (None, record["status"])

    heartbeat = health.of_running_daemon(settings.data_dir)
    with known_jobs(settings) as known:
        found, following = known.page(wanted, limit, place)
        if as_json:
            waiting = [asdict(file) for file in heartbeat.inbox.waiting] if heartbeat else []
            page = {"jobs": [known.public(job) for job in found], "next_cursor": following}
            show_json({**page, "counts": known.counts(), "waiting": waiting})
            return
    show_table(found)
    show_rejected(settings)
    if following:
        err.print(f"… and older ones: --limit {10 * limit} shows more.")
    if heartbeat is None:
        say(err, f"No daemon is running in {escape(str(settings.home))}.")
        return
    show_waiting(heartbeat.inbox.waiting)
    if heartbeat.paused:
        err.print(escape(heartbeat.paused), soft_wrap=True)


def show_waiting(waiting: Sequence[WaitingBeat]) -> None:
    """Print the files that are not jobs yet, a line each, but for many with one reason."""
    seen: Counter[str] = Counter()
    for file in waiting:
        seen[file.why] += 1
        if seen[file.why] <= SHOWN_ALIKE:
            out.print(escape(f"waiting in the inbox: {file.name} ({file.age_s:.0f} s): {file.why}"), soft_wrap=True)
    for why, count in seen.items():
        if count > SHOWN_ALIKE:
            out.print(escape(f"waiting in the inbox: at least {count - SHOWN_ALIKE} more: {why}"), soft_wrap=True)


def show_rejected(settings: Settings) -> None:
    """Print the newest of the files that were not taken in, a line each."""
    rejected = rejected_list.read(settings.data_dir) or RejectedList()
    for file in rejected.present[:SHOWN_REJECTED]:
        out.print(escape(f"rejected {file.rejected_at[:19]}Z: {file.name}: {file.reason}"), soft_wrap=True)
    if rejected.count > SHOWN_REJECTED:
        where = settings.inbox_dir / "rejected"
        out.print(escape(f"{rejected.count - SHOWN_REJECTED} more rejected files are in {where}"), soft_wrap=True)


def read_cursor(cursor: str | None) -> Place | None:
    """Return where the page before ended.

    Raises:
        SettingsError: it is not a cursor.
    """
    try:
        return None if cursor is None else place_of(cursor)
    except ValueError as error:
        raise SettingsError("--cursor must be the next_cursor of the page before.") from error


def show_table(found: list[Job]) -> None:
    """Print jobs, a line each."""
    table = Table(box=None, pad_edge=False)
    for column in ("job", "status", "frames", "name", "note"):
        table.add_column(column, overflow="fold", no_wrap=column in ("job", "status"))
    for job in found:
        frames = f"{job.frames_processed}/{job.frames_total}" if job.frames_total else ""
        note = job.error_message or " ".join((job.summary or {}).get("warnings", ()))
        table.add_row(job.job_id[:8], state_of(vars(job)), frames, escape(job.source_name), escape(note))
    out.print(table)


@app.command()
def status(
    job: Annotated[str, typer.Argument(help=WHICH)], home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show one job."""
    settings = load_existing(home)
    with known_jobs(settings) as known:
        found = known.find(job)
        if as_json:
            show_json(known.public(found))
            return
    record = {**found.to_record(), "status": state_of(vars(found))}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in record.items():
        if name != "claim" and value not in (None, ""):
            table.add_row(name, escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    out.print(table)


@app.command()
def results(
    job: Annotated[str, typer.Argument(help=WHICH)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of the screen.")
    ] = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Has no effect: the result is always JSON.")] = False,
) -> None:
    """Print a completed job's result document (JSON)."""
    settings = load_existing(home)
    found = completed_job(settings, job)
    if output is not None:
        refuse_output(output)
    try:
        document = LocalStorageService(settings.data_dir).load_file(found.output_path or output_key(found.job_id))
    except StoredFileMissing as error:
        raise StoredFileMissing(
            f"The result of job {found.job_id} has been deleted from the data folder; submit the video again."
        ) from error
    with document:
        check_whole(document.fileno())
        if output is None:
            with writing_output():
                shutil.copyfileobj(document, sys.stdout.buffer, 1 << 20)
        else:
            with output.open("wb") as target:
                shutil.copyfileobj(document, target, 1 << 20)


def completed_job(settings: Settings, text: str) -> Job:
    """Return the completed job of an id, its beginning or a name.

    Raises:
        UnknownJob: there is none, or there are several.
        IllegalMove: it has no result, or none any more.
    """
    found = find_job(settings, text)
    if found.status is not JobStatus.COMPLETED or found.output_path is None:
        reason = f": {found.error_message}" if found.error_message else "."
        raise IllegalMove(f"Job {found.job_id} is {state_of(vars(found))} and has no result{reason}")
    if found.result_removed_at:
        raise IllegalMove(f"The result of job {found.job_id} was removed by retention at {found.result_removed_at}.")
    return found


def refuse_output(output: Path) -> None:
    """Look whether a file can be written there.

    Raises:
        SettingsError: its folder does not exist, or it is a folder itself.
    """
    if output.is_dir():
        raise SettingsError(f"{shown(str(output))} is a folder; with --output, name a file.")
    if not output.parent.is_dir():
        raise SettingsError(f"The folder {shown(str(output.parent))} does not exist; make it, or name another file.")
