"""The ``dropframe`` command. Output for people by default, ``--json`` for programs.

Exit codes: 0 done; 1 it was tried and failed (a job failed, a check is not ok); 2 wrong usage or settings;
3 no such job; 4 the job is in the wrong state; 5 this machine or home cannot be used as set up.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from daemon import __version__
from daemon.cli import admin
from daemon.cli.common import (
    FAILED,
    MACHINE,
    UNKNOWN,
    USAGE,
    WRONG_STATE,
    DeviceOption,
    HomeOption,
    JsonOption,
    WeightsOption,
    err,
    escape,
    load,
    load_existing,
    out,
    reading,
    say,
    show_json,
)
from daemon.errors import (
    BadOptions,
    DropframeError,
    IllegalMove,
    MachineError,
    ModelError,
    Rejected,
    SettingsError,
    StoreError,
    UnknownJob,
)
from daemon.fs.identity import shown
from daemon.fs.storage import LocalStorageService
from daemon.ipc import health, spool
from daemon.ipc.process import keep_standard_files_open
from daemon.ipc.spool import TicketKind
from daemon.jobs import Job, JobSource, JobStatus, Options, why_no_retry
from daemon.mp4 import HEAD_BYTES, submission_problem
from daemon.settings import Settings
from daemon.store.job_reader import JobReader

POLL_SECONDS = 0.2

app = typer.Typer(
    help="Drop a video into a folder, get what is in every frame as one JSON file.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 no such job, 4 wrong state, 5 machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(admin.app)

JobId = Annotated[str, typer.Argument(help="The job's id, or its first characters.")]


def main() -> None:
    """Run the command line; every error of ours becomes one sentence and an exit code."""
    keep_standard_files_open()
    try:
        app()
    except DropframeError as error:
        say(err, f"[bold red]dropframe:[/] {escape(str(error))}")
        sys.exit(exit_code(error))
    except OSError as error:
        say(err, f"[bold red]dropframe:[/] {escape(str(error))}")
        sys.exit(MACHINE)


def exit_code(error: DropframeError) -> int:
    """Return the exit code that goes with an error."""
    codes: list[tuple[type[DropframeError], int]] = [
        (SettingsError, USAGE),
        (BadOptions, USAGE),
        (UnknownJob, UNKNOWN),
        (IllegalMove, WRONG_STATE),
        (MachineError, MACHINE),
        (ModelError, MACHINE),
        (StoreError, MACHINE),
    ]
    return next((code for kind, code in codes if isinstance(error, kind)), FAILED)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"dropframe {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


# Running.


@app.command()
def run(
    home: HomeOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    host: Annotated[str | None, typer.Option(help="Address of the HTTP sidecar.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the HTTP sidecar.")] = None,
) -> None:
    """Start Dropframe: the daemon and the HTTP sidecar; one that dies is started again. Ctrl-C ends both."""
    from daemon.cli.supervisor import supervise

    settings = load(home, weights=weights, device=device, host=host, port=port)
    if settings.port:  # 0 is any free one, which the sidecar's log names
        out.print(f"The web page is on http://{escape(settings.host)}:{settings.port}", soft_wrap=True)
    flags = {"home": settings.home, "weights": settings.weights, "device": device}
    sys.exit(
        supervise(
            {
                "daemon": [sys.executable, "-m", "daemon", "daemon", *as_flags(flags)],
                "sidecar": [
                    sys.executable,
                    "-m",
                    "sidecar",
                    *as_flags({"home": settings.home, "host": host, "port": port}),
                ],
            }
        )
    )


@app.command()
def daemon(home: HomeOption = None, weights: WeightsOption = None, device: DeviceOption = None) -> None:
    """Start the daemon alone: watch the inbox, run the jobs. Ctrl-C or SIGTERM ends it within 10 s."""
    settings = load(home, weights=weights, device=device)
    from daemon.pipeline.client import Ready
    from daemon.service import DaemonService

    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )

    def say_ready(ready: Ready) -> None:
        names = ", ".join(f"{m['name']} ({m['role'].replace('_', ' ')}, {m['runtime']})" for m in ready.models)
        if not any(m["role"] == "objects" for m in ready.models):
            names += f"; no object weights, put an Ultralytics .pt into {settings.data_dir / 'models'} for objects"
        say(out, f"Models on {ready.device}: {escape(names)}")

    service = DaemonService(settings, say_ready)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    say(out, f"Drop videos into {escape(str(settings.inbox_dir))}")
    say(out, f"Results appear in {escape(str(settings.outbox_dir))}")
    service.run()


@app.command()
def sidecar(
    home: HomeOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Start the HTTP sidecar alone."""
    settings = load(home, host=host, port=port)
    flags = as_flags({"home": settings.home, "host": host, "port": port})
    os.execv(sys.executable, [sys.executable, "-m", "sidecar", *flags])  # noqa: S606 - no shell


# Jobs.


@app.command()
def submit(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, readable=True, help="Videos; they are copied, the originals stay."),
    ],
    pipeline: Annotated[str | None, typer.Option(help="Pipeline id (default: the setting).")] = None,
    frame_stride: Annotated[int, typer.Option(help="Analyse every n-th frame.", min=1)] = 1,
    max_frames: Annotated[int | None, typer.Option(help="Analyse this many frames at most.", min=1)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress and wait for the end.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit videos. Works while the daemon is down: the jobs wait in the spool.

    With --wait the exit code is 1 if a job failed.
    """
    settings = load_existing(home)
    from daemon.pipeline.pipelines import get_pipeline

    pipeline_id = get_pipeline(pipeline or settings.default_pipeline).pipeline_id
    for file in files:
        with file.open("rb") as opened:
            if problem := submission_problem(opened.read(HEAD_BYTES)):
                raise Rejected(f"{shown(file.name)} was not submitted. {problem}")
    ids = []
    for file in files:
        job_id = spool.submit(
            spool_dir(settings),
            file,
            source=JobSource.CLI,
            source_name=file.name,
            pipeline_id=pipeline_id,
            options=Options(frame_stride, max_frames),
        )
        ids.append(job_id)
        if not as_json:
            out.print(f"{job_id}  {escape(file.name)}", soft_wrap=True)
    if not daemon_alive(settings):
        where = escape(str(settings.home))
        say(err, f"The daemon is not running; the jobs start when it does: dropframe run --home {where}")
    ends = wait_for(settings, ids) if wait else {}
    ended = [ends[job_id] for job_id in ids if job_id in ends]
    if as_json:
        show_json([job.to_record() for job in ended] if wait else [{"job_id": job_id} for job_id in ids])
    for job in ended:
        if not as_json:
            say_end(settings, job)
    if any(job.status is JobStatus.FAILED for job in ended):
        raise typer.Exit(FAILED)


@app.command()
def jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(help="Newest so many.", min=1)] = 20,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first, and what waits in the inbox."""
    settings = load_existing(home)
    found = known_jobs(settings, status)[-limit:][::-1]
    if as_json:
        show_json([job.to_record() for job in found])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("job", "status", "frames", "name", "note"):
        table.add_column(column, overflow="fold", no_wrap=column in ("job", "status"))
    for job in found:
        frames = f"{job.frames_processed}/{job.frames_total}" if job.frames_total else ""
        note = job.error_message or " ".join((job.summary or {}).get("warnings", ()))
        table.add_row(job.job_id[:8], job.status, frames, escape(job.source_name), escape(note))
    out.print(table)
    beat = health.read(settings.data_dir)
    if beat is None or not daemon_alive(settings):
        say(err, f"No daemon is running in {escape(str(settings.home))}.")
        return
    for file in beat.inbox["waiting"]:
        out.print(
            escape(f"waits in the inbox: {file['name']} ({file['age_s']:.0f} s): {file['why']}"),
            soft_wrap=True,
        )
    if beat.paused:
        err.print(escape(beat.paused), soft_wrap=True)


@app.command()
def status(job_id: JobId, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one job."""
    job = find_job(load(home), job_id)
    if as_json:
        show_json(job.to_record())
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in job.to_record().items():
        if name != "claim" and value not in (None, ""):
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            table.add_row(name, escape(shown))
    out.print(table)


@app.command()
def results(
    job_id: JobId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it there, not to the screen.")] = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As always: the result is JSON.")] = False,
) -> None:
    """Print a completed job's result document (JSON)."""
    settings = load_existing(home)
    job = find_job(settings, job_id)
    if job.status is not JobStatus.COMPLETED or job.output_path is None:
        reason = f": {job.error_message}" if job.error_message else "."
        raise IllegalMove(f"Job {job.job_id} is {job.status} and has no result{reason}")
    if job.result_removed_at:
        raise IllegalMove(f"The result of job {job.job_id} was removed by retention at {job.result_removed_at}.")
    with LocalStorageService(settings.data_dir).load_file(job.output_path) as document:
        if output is None:
            shutil.copyfileobj(document, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
        else:
            with output.open("wb") as target:
                shutil.copyfileobj(document, target, 1 << 20)


@app.command()
def retry(
    job_id: Annotated[str | None, typer.Argument(help="The job's id, or its first characters.")] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="Every failed job.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put failed jobs back into the queue."""
    settings = load_existing(home)
    if (job_id is None) == (not all_failed):
        raise SettingsError("Name one job, or say --all-failed.")
    if job_id is None:
        chosen = [job for job in known_jobs(settings, JobStatus.FAILED) if not why_no_retry(vars(job))]
    else:
        chosen = [find_job(settings, job_id)]
    for job in chosen:
        if why := why_no_retry(vars(job)):
            raise IllegalMove(f"Job {job.job_id} is {job.status}; {why}.")
    for job in chosen:
        spool.request(spool_dir(settings), TicketKind.RETRY, job.job_id)
    if as_json:
        show_json([job.to_record() for job in chosen])
    else:
        out.print(f"{len(chosen)} to be tried again.")


@app.command()
def cancel(
    job_ids: Annotated[list[str], typer.Argument(help="Ids, or their first characters.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End jobs that wait or run; they read as failed, with the reason cancelled."""
    settings = load_existing(home)
    chosen = [find_job(settings, job_id) for job_id in job_ids]
    for job in chosen:
        if job.ended:
            raise IllegalMove(f"Job {job.job_id} is {job.status} already.")
    for job in chosen:
        spool.request(spool_dir(settings), TicketKind.CANCEL, job.job_id)
        if not as_json:
            out.print(f"{job.job_id} is being cancelled.")
    if as_json:
        show_json([job.to_record() for job in chosen])


# Jobs as the commands see them.


def as_flags(values: dict[str, Any]) -> list[str]:
    """Return flags for another of our processes."""
    return [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]


def spool_dir(settings: Settings) -> Path:
    """Return the folder of tickets."""
    return settings.data_dir / "spool"


def daemon_alive(settings: Settings) -> bool:
    """Tell whether a daemon has given a sign of life lately."""
    return health.of_running_daemon(settings.data_dir) is not None


def known_jobs(settings: Settings, status: JobStatus | None = None) -> list[Job]:
    """Return jobs in order of arrival, those whose ticket still waits in the spool last."""
    waiting = spooled(settings)  # looked at first: a ticket leaves the spool after its job is in the store
    with reading(settings) as reader:
        found = reader.jobs(status)
        if status in (None, JobStatus.PENDING):
            found += [job for job in waiting if reader.find(job.job_id) is None]
    return found


def spooled(settings: Settings) -> list[Job]:
    """Return the submissions that the daemon has not taken yet; they read as pending."""
    return [
        Job(
            ticket.job_id,
            pipeline_id=ticket.pipeline_id,
            source=ticket.source,
            source_name=ticket.source_name,
            created_at=ticket.created_at,
            updated_at=ticket.created_at,
            size_bytes=ticket.size_bytes,
        )
        for ticket in spool.pending_submissions(spool_dir(settings))
    ]


def find_job(settings: Settings, start: str) -> Job:
    """Return the job whose id begins like this.

    Raises:
        UnknownJob: none does, or several do.
    """
    found = [job for job in known_jobs(settings) if job.job_id.startswith(start)]
    if len(found) != 1:
        raise UnknownJob(f"{'No' if not found else 'More than one'} job has an id that begins with {start!r}.")
    return found[0]


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
            promised = {ticket.job_id for ticket in spool.pending_submissions(spool_dir(settings))}
            reader.refresh()
            known = {job_id: reader.find(job_id) for job_id in ids}
            for job_id, job in known.items():
                if job is None and job_id not in promised:
                    raise UnknownJob(f"Job {job_id} is not there any more; submit the video again.")
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


def say_end(settings: Settings, job: Job) -> None:
    """Print how a job ended."""
    if job.status is JobStatus.FAILED:
        err.print(f"[red]failed[/] {escape(job.source_name)}: {escape(job.error_message or '')}", soft_wrap=True)
        return
    from daemon.worker.outbox import Outbox

    out.print(escape(f"completed {job.source_name}: {Outbox(settings.outbox_dir).path(job)}"), soft_wrap=True)
    for warning in (job.summary or {}).get("warnings", []):
        out.print(f"[yellow]note[/] {escape(warning)}", soft_wrap=True)
