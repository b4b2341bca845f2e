"""``dropframe import-jobs``: take over the job table of another service from a dump of it.

A finished job becomes history, with its result where the dump holds or names one; a job that waited or ran becomes
a submission like any other. The job store has one owner, so this is done while no daemon runs. Reading a dump a
second time changes nothing: a job that is known already is left as it is. docs/migration.md has the tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.cli import dump as dumps
from daemon.cli.common import FAILED, HomeOption, JsonOption, escape, load, out, show_json
from daemon.cli.dump import KNOWN_COLUMNS, STATUSES, BadRow, Refused, Row
from daemon.cli.imported_results import find_frames, result_document
from daemon.errors import DropframeError
from daemon.fs.atomic import atomic_write
from daemon.fs.storage import LocalStorageService
from daemon.ipc import spool
from daemon.ipc.spool import TicketKind
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, input_key, output_key
from daemon.pipeline.pipelines import get_pipeline
from daemon.settings import Settings
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore

app = typer.Typer()


@app.command("import-jobs")
def import_jobs_command(
    dump: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A dump of the table: CSV or JSON.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder that relative paths in the dump start from (default: the dump's own).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import the job table of another service (docs/migration.md). The daemon must not be running.

    Doing it a second time changes nothing. The exit code is 1 if a row was refused; the others are taken over.
    """
    report = import_jobs(dump, load(home), base, dry_run)
    if as_json:
        show_json({**asdict(report), "unused": sorted(report.unused)})
    else:
        for line in printable(report, dry_run):
            out.print(escape(line), soft_wrap=True)
    if report.refused:
        raise typer.Exit(FAILED)


@dataclass
class Report:
    """What was done, or with ``dry_run`` would be."""

    history: list[tuple[str, str]] = field(default_factory=list)
    """Finished jobs: the id in the dump, the job's id."""
    queued: list[tuple[str, str]] = field(default_factory=list)
    """Jobs that will run."""
    known: list[tuple[str, str]] = field(default_factory=list)
    """Jobs that were there already, and were left as they are."""
    refused: list[tuple[int, str]] = field(default_factory=list)
    """Line and reason of what could not be taken over."""
    unused: set[str] = field(default_factory=set)
    """Columns that mean nothing here."""


def import_jobs(dump: Path, settings: Settings, base: Path | None = None, dry_run: bool = False) -> Report:
    """Take over every job of a dump that can be read.

    Args:
        dump: A CSV file with a header, a JSON array of objects, or one JSON object a line.
        settings: Where the home is.
        base: Folder that relative paths in the dump hang off; the dump's own if not given.
        dry_run: Look only.

    Raises:
        StoreLocked: a daemon runs on this home.
        StoreError: the job store cannot be written; reading the dump again goes on from there.
        OSError: the dump cannot be read, or the home cannot be written.
    """
    report = Report()
    importer = _Importer(settings, base or dump.parent, dry_run, report)
    if dry_run:  # opening the store would make one, or bring an older one up to date
        with JobReader(settings.data_dir) as reader:
            reader.refresh()
            importer.read(reader.find, dump)
        return report
    with JobStore.open(settings.data_dir) as store:
        importer.read(store.find, dump)
        importer.write(store)
    return report


class _Importer:
    def __init__(self, settings: Settings, base: Path, dry_run: bool, report: Report) -> None:
        self._default_pipeline = settings.default_pipeline
        self._storage = LocalStorageService(settings.data_dir)
        self._spool = settings.spool_dir
        self._base = base
        self._dry_run = dry_run
        self._report = report
        self._history: list[Job] = []
        self._queued: list[tuple[Job, Path]] = []

    def read(self, find: Callable[[str], Job | None], dump: Path) -> None:
        """Read every row; what can be taken over waits for ``write``, results excepted, which are stored."""
        lines: dict[str, int] = {}
        for row in dumps.read_rows(dump):
            if isinstance(row, BadRow):
                self._report.refused.append((row.line, row.reason))
                continue
            self._report.unused |= set(row.values) - KNOWN_COLUMNS
            try:
                self._read_row(row, lines, find)
            except DropframeError as error:
                self._report.refused.append((row.line, str(error)))

    def _read_row(self, row: Row, lines: dict[str, int], find: Callable[[str], Job | None]) -> None:
        given = row.fact("id")
        if not isinstance(given, str | int):
            raise Refused("It has no job id.")
        job_id = dumps.job_id(str(given))
        if job_id in lines:
            raise Refused(f"Its job id came in line {lines[job_id]} already.")
        lines[job_id] = row.line
        pair = (str(given), job_id)
        if find(job_id) or (self._spool / spool.ticket_name(job_id, TicketKind.SUBMIT)).exists():
            self._report.known.append(pair)
            return
        job = self._job(row, job_id)
        if job.ended:
            self._history.append(self._with_result(row, job))
            self._report.history.append(pair)
        else:
            self._queued.append((job, self._video(row)))
            self._report.queued.append(pair)

    def write(self, store: JobStore) -> None:
        """Make the jobs."""
        store.create(sorted(self._history, key=lambda job: job.created_at), keep_times=True)
        for job, video in self._queued:
            spool.part_path(self._spool, job.job_id).unlink(missing_ok=True)  # of an import that was killed
            spool.submit(
                self._spool,
                video,
                source=job.source,
                source_name=job.source_name,
                pipeline_id=job.pipeline_id,
                options=job.options,
                job_id=job.job_id,
                created_at=job.created_at,
            )

    def _job(self, row: Row, job_id: str) -> Job:
        word = str(row.fact("status") or "").strip().lower().rpartition(".")[2]  # JobStatus.completed
        if word not in STATUSES:
            raise Refused(f"Its status {word!r} is unknown; known are {', '.join(STATUSES)}.")
        status = STATUSES[word]
        pipeline_id = dumps.text_of(row.fact("pipeline") or self._default_pipeline)
        if status is JobStatus.PENDING:
            get_pipeline(pipeline_id)
        created = dumps.moment(row, "created")
        updated = max(created, dumps.moment(row, "updated")) if row.fact("updated") else created
        video = row.fact("video")
        job = Job(
            job_id,
            status=status,
            pipeline_id=pipeline_id,
            input_path=input_key(job_id),
            created_at=created,
            updated_at=updated,
            source=JobSource.HTTP,
            source_name=dumps.text_of(row.fact("name") or (Path(str(video)).name if video else f"{job_id}.mp4")),
            options=dumps.options(row),
            finished_at=updated if status is not JobStatus.PENDING else None,
        )
        if status is not JobStatus.FAILED:
            return job
        kind = ErrorKind.CANCELLED if word.startswith("cancel") else ErrorKind.PERMANENT
        reason = row.fact("error") or "It ended without a result in the service that it was imported from."
        # Its video stays where it is, so nobody can try it again here.
        return replace(job, error_kind=kind, error_message=dumps.text_of(reason), source_removed_at=updated)

    def _video(self, row: Row) -> Path:
        given = row.fact("video")
        if not isinstance(given, str):
            raise Refused("It has not run yet, and no column names its video.")
        path = self._base / given
        if not path.is_file():
            raise Refused(f"It has not run yet, and its video {path} is not there.")
        return path

    def _with_result(self, row: Row, job: Job) -> Job:
        """Store a finished job's result document; return the job with what it says."""
        value = row.fact("result")
        if job.status is JobStatus.FAILED or value is None:
            return job
        document, summary = result_document(job, find_frames(self._load(value)))
        path = self._storage.path(output_key(job.job_id))
        if path.exists() and path.read_bytes() != document:
            raise Refused(f"Another result is at {path} already.")
        if not self._dry_run:
            with atomic_write(path) as file:
                file.write(document)
        count = summary["frame_count"]
        shown = {name: value for name, value in summary.items() if name != "texts"}
        return replace(
            job, output_path=output_key(job.job_id), frames_processed=count, frames_total=count, summary=shown
        )

    def _load(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            if value.lstrip().startswith(("[", "{")):
                return json.loads(value)
            return json.loads((self._base / value).read_bytes())
        except OSError as error:
            raise Refused(f"Its result {self._base / value} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise Refused(f"Its result is not JSON: {error}.") from error


def printable(report: Report, dry_run: bool) -> list[str]:
    """Return what a person is told, a line each."""
    would = "would be " if dry_run else ""
    lines = [f"line {line}: {reason}" for line, reason in report.refused]
    if report.unused:
        lines.append(f"Columns not used: {', '.join(sorted(map(str, report.unused)))}.")
    lines.append(
        f"{len(report.history)} {would}imported as history, {len(report.queued)} {would}queued, "
        f"{len(report.known)} known already, {len(report.refused)} refused."
    )
    return lines
