"""Reading a dump of another service's job table: its rows, and what each says of a job."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.errors import BadOptions, DropframeError
from daemon.jobs import JobStatus, Options, timestamp

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
"""Ids that are not UUIDs become UUIDs below this one, the same each time."""

KNOWN_COLUMNS = frozenset(name for names in COLUMNS.values() for name in names)


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


@dataclass(frozen=True)
class BadRow:
    """A place of the dump that is not a row."""

    line: int
    reason: str
    """In a sentence."""


def read_rows(dump: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of a CSV file with a header, a JSON array of objects, or one JSON object a line.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        text = dump.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield BadRow(1, f"The file is not UTF-8 ({error.reason} at byte {error.start}).")
        return
    yield from (_json_rows if text.lstrip().startswith(("[", "{")) else _csv_rows)(text)


def _json_rows(text: str) -> Iterator[Row | BadRow]:
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
            yield BadRow(line, f"It is not JSON: {what}. Nothing after it was read.")
            return
        if isinstance(values, dict):
            yield Row(line, values)
        else:
            yield BadRow(line, "It is not a JSON object.")
        line += text.count("\n", begin, place)
    if array and begin == len(text):
        yield BadRow(line, "The array does not end; the dump is cut off here.")


def _csv_rows(text: str) -> Iterator[Row | BadRow]:
    csv.field_size_limit(sys.maxsize)  # results stand in a field
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield BadRow(line, f"It is not CSV: {error}. Nothing after it was read.")
            return
        if values is None:
            return
        if not values:
            continue
        if header is None:
            header = [name.strip().lower() for name in values]
        elif len(values) != len(header):
            yield BadRow(line, f"It has {len(values)} fields, and the header has {len(header)}.")
        else:
            yield Row(line, dict(zip(header, values, strict=True)))


def job_id(given: str) -> str:
    """Return the job id for an id of the dump: itself if it is a UUID, else one made of it, the same each time."""
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return str(uuid.uuid5(IDS, given))


def text_of(value: Any) -> str:
    """Return a text that can be written as UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def moment(row: Row, fact: str) -> str:
    """Return a time as the store writes it; one without a zone is taken for UTC.

    Raises:
        Refused: it is not a time.
    """
    value = row.fact(fact)
    try:
        if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?", value):
            moment = datetime.fromisoformat(value.strip())
            return timestamp(moment.replace(tzinfo=moment.tzinfo or UTC))
        return timestamp(datetime.fromtimestamp(float(value), UTC))
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise Refused(f"{value!r} in {' or '.join(COLUMNS[fact])} is not a time.") from error


def options(row: Row) -> Options:
    """Return how a row's job is sampled.

    Raises:
        Refused: a value is not allowed.
    """
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
