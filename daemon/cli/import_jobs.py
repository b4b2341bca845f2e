"""``dropframe import-jobs``: take over the job table of another service from a dump of it.

A finished job becomes history, with its result where the dump holds or names one; a job that waited or ran becomes
a submission like any other. The job store has one owner, so this is done while no daemon runs. Reading a dump a
second time changes nothing: a job that is known already is left as it is. docs/migration.md has the tables.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.errors import BadOptions, DropframeError
from daemon.fs.atomic import atomic_write
from daemon.fs.storage import LocalStorageService
from daemon.ipc import spool
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, Options, input_key, output_key, timestamp
from daemon.pipeline.pipelines import get_pipeline
from daemon.pipeline.results import MOST_TEXTS, SCHEMA, dumps
from daemon.settings import Settings
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("job_id", "id", "uuid"),
    "status": ("status", "state"),
    "pipeline": ("pipeline_id", "pipeline"),
    "video": ("input_path", "file_path", "video_path", "path", "file"),
    "name": ("source_name", "original_filename", "filename", "file_name"),
    "created": ("created_at", "created", "submitted_at"),
    "updated": ("updated_at", "updated", "finished_at", "completed_at"),
    "error": ("error_message", "error", "message"),
    "result": ("results", "result", "result_json", "results_path", "result_path", "output_path"),
    "options": ("options",),
    "frame_stride": ("frame_stride",),
    "max_frames": ("max_frames",),
}
"""What each fact of a job may be called in a dump; the first column that has a value counts."""

STATUSES: Mapping[str, JobStatus] = {
    **dict.fromkeys(("pending", "queued", "created", "submitted", "waiting"), JobStatus.PENDING),
    **dict.fromkeys(("running", "processing", "started", "in_progress"), JobStatus.PENDING),
    **dict.fromkeys(("completed", "complete", "done", "finished", "success", "succeeded"), JobStatus.COMPLETED),
    **dict.fromkeys(("failed", "failure", "error"), JobStatus.FAILED),
    **dict.fromkeys(("cancelled", "canceled"), JobStatus.FAILED),
}
"""What becomes of a job by its status in the dump. One that ran when the dump was made begins anew."""

IDS = uuid.uuid5(uuid.NAMESPACE_URL, "dropframe:import-jobs")
"""Ids that are no UUIDs become UUIDs below this one, the same each time."""

_KNOWN = {name for names in COLUMNS.values() for name in names}


class Refused(DropframeError):
    """A row that cannot be taken over; the text says why."""


@dataclass(frozen=True)
class Row:
    """One job of a dump."""

    line: int
    """Where it begins in the file, from 1."""
    values: Mapping[str, Any]

    def fact(self, name: str) -> Any:
        """Return the value of the first column of a fact that has one, or None."""
        given = (self.values.get(column) for column in COLUMNS[name])
        return next((value for value in given if value not in (None, "")), None)


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
        self._spool = settings.data_dir / "spool"
        self._base = base
        self._dry_run = dry_run
        self._report = report
        self._history: list[Job] = []
        self._queued: list[tuple[Job, Path]] = []

    def read(self, find: Callable[[str], Job | None], dump: Path) -> None:
        """Read every row; what can be taken over waits for ``write``, results excepted, which are stored."""
        lines: dict[str, int] = {}
        for row in _rows(dump, self._report):
            self._report.unused |= set(row.values) - _KNOWN
            try:
                given = row.fact("id")
                if not isinstance(given, str | int):
                    raise Refused("It has no job id.")
                job_id = _job_id(str(given))
                if job_id in lines:
                    raise Refused(f"Its job id came in line {lines[job_id]} already.")
                lines[job_id] = row.line
                pair = (str(given), job_id)
                if find(job_id) or (self._spool / f"{job_id}.submit.json").exists():
                    self._report.known.append(pair)
                    continue
                job = self._job(row, job_id)
                if job.ended:
                    self._history.append(self._with_result(row, job))
                    self._report.history.append(pair)
                else:
                    self._queued.append((job, self._video(row)))
                    self._report.queued.append(pair)
            except DropframeError as error:
                self._report.refused.append((row.line, str(error)))

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
            )

    def _job(self, row: Row, job_id: str) -> Job:
        word = str(row.fact("status") or "").strip().lower().rpartition(".")[2]  # JobStatus.completed
        if word not in STATUSES:
            raise Refused(f"Its status {word!r} is unknown; known are {', '.join(STATUSES)}.")
        status = STATUSES[word]
        pipeline_id = _text(row.fact("pipeline") or self._default_pipeline)
        if status is JobStatus.PENDING:
            get_pipeline(pipeline_id)
        created = _moment(row, "created")
        updated = max(created, _moment(row, "updated")) if row.fact("updated") else created
        video = row.fact("video")
        job = Job(
            job_id,
            status=status,
            pipeline_id=pipeline_id,
            input_path=input_key(job_id),
            created_at=created,
            updated_at=updated,
            source=JobSource.HTTP,
            source_name=_text(row.fact("name") or (Path(str(video)).name if video else f"{job_id}.mp4")),
            options=_options(row),
            finished_at=updated if status is not JobStatus.PENDING else None,
        )
        if status is not JobStatus.FAILED:
            return job
        kind = ErrorKind.CANCELLED if word.startswith("cancel") else ErrorKind.PERMANENT
        reason = row.fact("error") or "It ended without a result in the service that it was imported from."
        # Its video stays where it is, so nobody can try it again here.
        return replace(job, error_kind=kind, error_message=_text(reason), source_removed_at=updated)

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
        document, summary = result_document(job, _frames(self._load(value)))
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


def result_document(job: Job, frames: list[Any]) -> tuple[bytes, dict[str, Any]]:
    """Return frames of another service as a result document, and its summary; what is not known is null or left out.

    Raises:
        Refused: they cannot be read as frames.
    """
    classes: Counter[str] = Counter()
    texts: dict[str, None] = {}
    left_out: set[str] = set()
    lines: list[str] = []
    last = -1
    for frame in frames:
        try:
            record = _frame_record(frame, left_out)
            line = dumps(record)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise Refused(f"Frame {len(lines) + 1} of its result cannot be read: {error}.") from error
        if record["frame_index"] <= last:
            raise Refused(f"Frame {len(lines) + 1} of its result has no greater frame_index than the one before.")
        last = record["frame_index"]
        lines.append(line)
        classes.update(d["class"] for d in record["result"]["detections"])
        for text in record["result"]["text"].splitlines():
            if len(texts) < MOST_TEXTS:
                texts.setdefault(text)
    warnings = ["This result was imported from another service; what that did not record is missing."]
    if left_out:
        warnings.append(f"Not taken over from its frames: {', '.join(sorted(left_out))}.")
    summary = {
        "classes": dict(classes),
        "detection_count": classes.total(),
        "frame_count": len(lines),
        "frames_decoded": len(lines),
        "frames_expected": None,
        "frames_failed": 0,
        "frames_missing": 0,
        "frames_unread": 0,
        "texts": list(texts),
        "warnings": warnings,
    }
    options = {"frame_stride": job.options.frame_stride, "max_frames": job.options.max_frames}
    source = {"name": job.source_name, "sha256": None, "size_bytes": None}
    video = dict.fromkeys(("codec", "duration_s", "fps", "frame_count", "height", "width"))
    text = (
        f'{{\n"models": [],\n"options": {dumps(options)},\n"pipeline_id": {dumps(job.pipeline_id)},\n"results": [\n'
        + ",\n".join(lines)
        + f'\n],\n"schema": {dumps(SCHEMA)},\n"source": {dumps(source)},\n"summary": {dumps(summary)},\n'
        f'"video": {dumps(video)}\n}}\n'
    )
    return text.encode("utf-8", "backslashreplace"), summary


def _frame_record(frame: Any, left_out: set[str]) -> dict[str, Any]:
    """Return one entry of ``results``; note the keys that have no place in it."""
    result = frame["result"]
    index = frame["frame_index"]
    if type(index) is not int or index < 0:
        raise ValueError("frame_index is no whole number of 0 or more")
    left_out |= (set(frame) - {"frame_index", "timestamp_s", "result"}) | (
        set(result) - {"detections", "text", "text_blocks"}
    )
    text = result.get("text") or ""
    if not isinstance(text, str):
        raise ValueError("text is no text")
    time = frame.get("timestamp_s")
    return {
        "frame_index": index,
        **({} if time is None else {"timestamp_s": float(time)}),
        "result": {
            "detections": [_detection(found) for found in result.get("detections") or []],
            "text": text,
            "text_blocks": [_text_block(found) for found in result.get("text_blocks") or []],
        },
    }


def _detection(found: Any) -> dict[str, Any]:
    names = ("class", "class_name", "label", "name")
    name = next((found[key] for key in names if isinstance(found.get(key), str)), None)
    if name is None:
        raise ValueError("a detection names no class")
    class_id = found.get("class_id")
    return {
        "bbox": _box(found),
        "class": name,
        **({} if class_id is None else {"class_id": int(class_id)}),
        "confidence": _share(found.get("confidence", found.get("score"))),
    }


def _text_block(found: Any) -> dict[str, Any]:
    return {"bbox": _box(found), "confidence": _share(found["confidence"]), "text": str(found["text"])}


def _box(found: Any) -> list[float]:
    box = [round(float(edge), 1) for edge in found.get("bbox", found.get("box"))]
    if len(box) != 4:
        raise ValueError("a box has not four numbers")
    return box


def _share(value: Any) -> float:
    share = round(float(value), 4)
    if not 0 <= share <= 1:
        raise ValueError("a confidence is not between 0 and 1")
    return share


def _frames(value: Any) -> list[Any]:
    """Find the list of frames in what a service kept as its result."""
    while isinstance(value, dict):
        value = value.get("results", value.get("frames"))
    if not isinstance(value, list):
        raise Refused("Its result holds no list of frames, as results or frames.")
    return value


def _job_id(given: str) -> str:
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return str(uuid.uuid5(IDS, given))


def _text(value: Any) -> str:
    """Return a text that can be written as UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _moment(row: Row, fact: str) -> str:
    """Return a time as the store writes it; one without a zone is taken for UTC."""
    value = row.fact(fact)
    try:
        if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?", value):
            moment = datetime.fromisoformat(value.strip())
            return timestamp(moment.replace(tzinfo=moment.tzinfo or UTC))
        return timestamp(datetime.fromtimestamp(float(value), UTC))
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise Refused(f"{value!r} in {' or '.join(COLUMNS[fact])} is no time.") from error


def _options(row: Row) -> Options:
    given = row.fact("options") or {}
    try:
        if isinstance(given, str):
            given = json.loads(given)
        values = dict(given)
        for name in ("frame_stride", "max_frames"):
            if (value := row.fact(name)) is not None:
                values[name] = int(value)
        return Options.from_mapping(values)
    except (BadOptions, TypeError, ValueError) as error:
        raise Refused(f"Its options cannot be read: {error}") from error


# Reading a dump.


def _rows(dump: Path, report: Report) -> Iterator[Row]:
    """Yield the rows that can be read, and report the others."""
    try:
        text = dump.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        report.refused.append((1, f"The file is not UTF-8 ({error.reason} at byte {error.start})."))
        return
    yield from (_json_rows if text.lstrip().startswith(("[", "{")) else _csv_rows)(text, report)


def _json_rows(text: str, report: Report) -> Iterator[Row]:
    decoder = json.JSONDecoder()
    gap = re.compile(r"[\s,]*")
    place, line = gap.match(text).end(), 1  # type: ignore[union-attr] # it matches everywhere
    line += text.count("\n", 0, place)
    array = text[place] == "["
    place += array
    while True:
        begin = gap.match(text, place).end()  # type: ignore[union-attr]
        line += text.count("\n", place, begin)
        if begin == len(text) or (array and text[begin] == "]"):
            break
        try:
            values, place = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else "it is too deep"
            report.refused.append((line, f"It is not JSON: {what}. Nothing after it was read."))
            return
        if isinstance(values, dict):
            yield Row(line, values)
        else:
            report.refused.append((line, "It is no JSON object."))
        line += text.count("\n", begin, place)
    if array and begin == len(text):
        report.refused.append((line, "The array does not end; the dump is cut off here."))


def _csv_rows(text: str, report: Report) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # results stand in a field
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            report.refused.append((line, f"It is not CSV: {error}. Nothing after it was read."))
            return
        if values is None:
            return
        if not values:
            continue
        if header is None:
            header = [name.strip().lower() for name in values]
        elif len(values) != len(header):
            report.refused.append((line, f"It has {len(values)} fields, and the header has {len(header)}."))
        else:
            yield Row(line, dict(zip(header, values, strict=True)))


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
