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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import markup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from daemon import __version__, heartbeat, spool
from daemon.errors import (
    BadOptions,
    DropframeError,
    IllegalMove,
    MachineError,
    ModelError,
    SettingsError,
    StoreError,
    UnknownJob,
)
from daemon.filesystem import keep_standard_files_open, shown
from daemon.job_reader import JobReader
from daemon.jobs import Job, JobSource, JobStatus, Options, timestamp
from daemon.migrations import SCHEMA_VERSION
from daemon.settings import CONFIG_FILE, Settings
from daemon.spool import TicketKind
from daemon.storage import LocalStorageService
from daemon.tokens import Rights, new_token, toml_line

OK, FAILED, USAGE, UNKNOWN, WRONG_STATE, MACHINE = range(6)
POLL_SECONDS = 0.2

app = typer.Typer(
    help="Drop a video into a folder, get what is in every frame as one JSON file.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 no such job, 4 wrong state, 5 machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="Weights: what is used, fetch official ones, prepare them.", no_args_is_help=True)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(config_app, name="config")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Home = Annotated[Path | None, typer.Option(help="Folder with inbox, outbox and data (default: the current folder).")]
Weights = Annotated[Path | None, typer.Option(help="Object weights, an Ultralytics .pt.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
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


def say(console: Console, text: str) -> None:
    """Print a line that must stop nothing when it cannot be written, because the log's disk is full."""
    try:
        console.print(text, soft_wrap=True)
    except OSError:  # what could not be written would be tried again at the very end, and change the exit code
        name = "stderr" if console.stderr else "stdout"
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


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


def escape(text: str) -> str:
    """Return text that rich prints as it is, whatever a file name or a video's text holds."""
    return markup.escape(shown(text))


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
    home: Home = None,
    weights: Weights = None,
    device: Device = None,
    host: Annotated[str | None, typer.Option(help="Address of the HTTP sidecar.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the HTTP sidecar.")] = None,
) -> None:
    """Start Dropframe: the daemon and the HTTP sidecar; one that dies is started again. Ctrl-C ends both."""
    from daemon.supervise import supervise

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
def daemon(home: Home = None, weights: Weights = None, device: Device = None) -> None:
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
    home: Home = None,
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
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Submit videos. Works while the daemon is down: the jobs wait in the spool.

    With --wait the exit code is 1 if a job failed.
    """
    settings = load(home)
    from daemon.pipeline.pipelines import get_pipeline

    pipeline_id = get_pipeline(pipeline or settings.default_pipeline).pipeline_id
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
        err.print("The daemon is not running; the jobs start when it does (dropframe run).")
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
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first, and what waits in the inbox."""
    settings = load(home)
    found = known_jobs(settings, status)[-limit:][::-1]
    if as_json:
        show_json([job.to_record() for job in found])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("job", "status", "frames", "name", "note"):
        table.add_column(column, overflow="fold", no_wrap=column in ("job", "status"))
    for job in found:
        frames = f"{job.frames_processed}/{job.frames_total}" if job.frames_total else ""
        table.add_row(job.job_id[:8], job.status, frames, escape(job.source_name), escape(job.error_message or ""))
    out.print(table)
    beat = heartbeat.read(settings.data_dir)
    if beat is None or not daemon_alive(settings):
        err.print("The daemon is not running.")
        return
    for file in beat.inbox["waiting"]:
        out.print(
            escape(f"waits in the inbox: {file['name']} ({file['age_s']:.0f} s): {file['why']}"),
            soft_wrap=True,
        )
    if beat.paused:
        err.print(escape(beat.paused), soft_wrap=True)


@app.command()
def status(job_id: JobId, home: Home = None, as_json: AsJson = False) -> None:
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
    home: Home = None,
    as_json: Annotated[bool, typer.Option("--json", help="As always: the result is JSON.")] = False,
) -> None:
    """Print a completed job's result document (JSON)."""
    settings = load(home)
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
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Put failed jobs back into the queue."""
    settings = load(home)
    if (job_id is None) == (not all_failed):
        raise SettingsError("Name one job, or say --all-failed.")
    failed = [job for job in known_jobs(settings, JobStatus.FAILED) if not job.source_removed_at]
    chosen = failed if job_id is None else [find_job(settings, job_id)]
    for job in chosen:
        if job.status is not JobStatus.FAILED:
            raise IllegalMove(f"Job {job.job_id} is {job.status}; only a failed job can be retried.")
        if job.source_removed_at:
            raise IllegalMove(f"The video of job {job.job_id} is not kept any more; drop or submit it again.")
    for job in chosen:
        spool.request(spool_dir(settings), TicketKind.RETRY, job.job_id)
    if as_json:
        show_json([job.to_record() for job in chosen])
    else:
        out.print(f"{len(chosen)} to be tried again.")


@app.command()
def cancel(
    job_ids: Annotated[list[str], typer.Argument(help="Ids, or their first characters.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """End jobs that wait or run; they read as failed, with the reason cancelled."""
    settings = load(home)
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


@app.command("import-jobs")
def import_jobs(
    dump: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A dump of the table: CSV or JSON.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of relative paths in the dump (default: the dump's own).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Take over the job table of another service (docs/migration.md). The daemon must not run.

    A second time changes nothing. The exit code is 1 if a row was refused; the others are taken over.
    """
    from daemon.import_jobs import import_jobs as take_over
    from daemon.import_jobs import printable

    report = take_over(dump, load(home), base, dry_run)
    if as_json:
        show_json({**asdict(report), "unused": sorted(report.unused)})
    else:
        for line in printable(report, dry_run):
            out.print(escape(line), soft_wrap=True)
    if report.refused:
        raise typer.Exit(FAILED)


@app.command()
def downgrade(
    schema: Annotated[int, typer.Option(help="Schema version to go back to.")] = SCHEMA_VERSION - 1,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write the job store as an older Dropframe reads it, before that is installed. The daemon must not run."""
    from daemon.store import JobStore

    settings = load(home)
    with JobStore.open(settings.data_dir) as store:
        count = len(store.jobs())
        store.downgrade(schema)
    if as_json:
        show_json({"jobs": count, "schema_version": schema})
        return
    out.print(f"{count} jobs are in schema version {schema} now; jobs.v{SCHEMA_VERSION}.json is what was there before.")


# The machine.


@app.command()
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Remove what the retention settings (keep_…) do not keep. The daemon does it by itself once an hour."""
    from daemon import retention

    settings = load(home)
    with reading(settings) as reader:
        found = retention.plan(settings, reader.find, datetime.now(UTC))
    if found and not dry_run:
        found = retention.clean_without_daemon(settings)
    if as_json:
        show_json([{**asdict(kept), "name": shown(kept.name), "since": timestamp(kept.since)} for kept in found])
        return
    for kept in found:
        out.print(escape(f"{kept.kind} {kept.name}, {kept.size_bytes} bytes, since {timestamp(kept.since)}"))
    if not retention.wanted(settings):
        err.print("Everything is kept: no keep setting is set (dropframe config show).")
    total = sum(kept.size_bytes for kept in found)
    err.print(f"{len(found)} {'to be removed' if dry_run else 'removed'}, {total / 1e6:.1f} MB.")


@app.command()
def doctor(home: Home = None, weights: Weights = None, device: Device = None, as_json: AsJson = False) -> None:
    """Check folders, disk, libraries, models, device and the job store; say what to do about each problem."""
    from daemon.selftest import all_checks

    settings = load(home, weights=weights, device=device)
    checks = []
    for check in all_checks(settings):
        checks.append(check)
        if not as_json:
            mark = "[green]ok[/]  " if check.ok else "[red]FAIL[/]"
            out.print(f"{mark} {check.name}: {escape(check.sentence)}", soft_wrap=True)
    if as_json:
        show_json([asdict(check) for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


@app.command()
def health(home: Home = None) -> None:
    """Say whether the daemon does its work, for monitors: exit code 0 if so, 1 if not."""
    settings = load(home)
    problem = heartbeat.problem(heartbeat.read(settings.data_dir), settings, datetime.now(UTC))
    out.print(escape(problem or "The daemon does its work."), soft_wrap=True)
    if problem:
        raise typer.Exit(FAILED)


@models_app.command("list")
def models_list(home: Home = None, weights: Weights = None, as_json: AsJson = False) -> None:
    """Show which weights are used for what, and which official ones can be pulled."""
    from daemon.pipeline.models import bundled_weights, find_weights, finds_own_regions
    from daemon.pull import OFFICIAL

    settings = load(home, weights=weights)
    found = find_weights(settings)
    regions = bundled_weights() if finds_own_regions(settings, objects=found is not None) else None
    if as_json:
        used = {
            role: None if w is None else {"name": w.name, "path": str(w.path), "sha256": w.sha256}
            for role, w in (("objects", found), ("text_regions", regions))
        }
        show_json({**used, "official": sorted(OFFICIAL)})
        return
    out.print(
        f"objects: {escape(str(found.path))} (sha256 {found.sha256[:12]}…)" if found else "objects: none",
        soft_wrap=True,
    )
    if regions:
        out.print(f"text regions: {regions.name}, which comes with Dropframe (sha256 {regions.sha256[:12]}…)")
    else:
        out.print("text regions: RapidOCR's detector")
    out.print(f"text: {'Tesseract' if settings.text_engine == 'tesseract' else 'RapidOCR'}")
    out.print(f"can be pulled: {', '.join(sorted(OFFICIAL))}  (dropframe models pull NAME)")


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="yolo26n, yolo11n or yolov8n.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fetch official object weights into data/models/, with their checksum pinned. Goes on where it stopped."""
    from daemon.pull import pull

    settings = load(home)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars:
        bar = bars.add_task(name, total=None)
        path = pull(name, settings, lambda done, total: bars.update(bar, completed=done, total=total))
    if as_json:
        show_json({"path": str(path)})
        return
    out.print(f"{escape(str(path))} is in place; it is used from the next start on.", soft_wrap=True)


@models_app.command("export")
def models_export(home: Home = None, weights: Weights = None, as_json: AsJson = False) -> None:
    """Prepare the object weights for the CPU now; otherwise the first start does it."""
    from daemon.pipeline.models import export, find_weights
    from daemon.pipeline.pipelines import NO_WEIGHTS

    settings = load(home, weights=weights)
    found = find_weights(settings)
    if found is None:
        raise ModelError(NO_WEIGHTS)
    folder = export(found, settings).xml.parent
    if as_json:
        show_json({"path": str(folder)})
        return
    out.print(f"{escape(str(folder))} is ready.", soft_wrap=True)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Who will use it: letters, digits, '.', '_' and '-'.")],
    rights: Annotated[Rights, typer.Option(help="read, or submit as well.")] = Rights.READ,
) -> None:
    """Make an API token for the HTTP sidecar. It is shown once; only its checksum is kept, in the settings."""
    secret, made = new_token(name, rights)
    out.print(f"Give this to {escape(name)}; it cannot be shown again:\n  {secret}", soft_wrap=True)
    out.print(f"Add this to the list tokens in {CONFIG_FILE}, then start the sidecar again:", soft_wrap=True)
    out.print(escape(f"  {toml_line([made])}"), soft_wrap=True)


@config_app.command("show")
def config_show(home: Home = None, as_json: AsJson = False) -> None:
    """Show every setting in force."""
    values = load(home).model_dump(mode="json")
    if as_json:
        show_json(values)
        return
    for name, value in values.items():
        out.print(escape(f"{name} = {json.dumps(value)}"), soft_wrap=True)


# What the commands share.


def load(home: Path | None, **flags: Any) -> Settings:
    """Read the settings; paths in flags are relative to the current folder, as people mean them."""
    if flags.get("weights") is not None:
        flags["weights"] = Path(flags["weights"]).resolve()
    return Settings.load(home=home, **flags)


def as_flags(values: dict[str, Any]) -> list[str]:
    """Return flags for another of our processes."""
    return [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]


def spool_dir(settings: Settings) -> Path:
    """Return the folder of tickets."""
    return settings.data_dir / "spool"


def show_json(value: Any) -> None:
    """Print JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def daemon_alive(settings: Settings) -> bool:
    """Tell whether a daemon has given a sign of life lately."""
    return heartbeat.of_running_daemon(settings.data_dir) is not None


@contextmanager
def reading(settings: Settings) -> Iterator[JobReader]:
    """Open the job store for reading, up to date."""
    with JobReader(settings.data_dir) as reader:
        reader.refresh()
        yield reader


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
    from daemon.outbox import Outbox

    out.print(escape(f"completed {job.source_name}: {Outbox(settings.outbox_dir).path(job)}"), soft_wrap=True)
