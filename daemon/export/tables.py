"""Tables: JSON Lines, and CSV (RFC 4180, with a byte order mark for Excel)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from daemon.export.source import ExportSource
from daemon.export.wording import cell, plain

BLOCK_BYTES = 1 << 16
BOM = "\ufeff".encode()
DETECTIONS = ("frame_index", "timestamp_s", "class", "confidence", "x1", "y1", "x2", "y2")
SPAN = ("start_s", "end_s", "first_frame", "last_frame")
TEXTS = (*SPAN, "reads", "confidence", "x1", "y1", "x2", "y2", "text")
TRACKS = ("track_id", "class", *SPAN, "boxes", "confidence", "best_frame", "x1", "y1", "x2", "y2")

Row = tuple[object, ...]


def jsonl(source: ExportSource) -> Iterator[bytes]:
    """Yield a line for each frame, as the result has it; with a filter, without what is not wanted."""
    request = source.request
    filtered = bool(request.classes or request.min_confidence)
    for frame in source.frames():
        if not filtered:
            yield frame.line.rstrip(b",\n") + b"\n"
            continue
        record = json.loads(frame.line.rstrip(b",\n"))
        record["result"] = source.filtered_result(frame)
        yield json.dumps(record, sort_keys=True, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def csv_detections(source: ExportSource) -> Iterator[bytes]:
    """Yield a row for each detection."""
    return _csv(DETECTIONS, _detections(source, cell))


def csv_texts(source: ExportSource) -> Iterator[bytes]:
    """Yield a row for each text."""
    return _csv(
        TEXTS,
        ((*(text[name] for name in TEXTS[:6]), *text["bbox"], cell(text["text"])) for text in source.texts()),
    )


def csv_tracks(source: ExportSource) -> Iterator[bytes]:
    """Yield a row for each track; its box is the one that was detected with the most confidence."""
    least = source.request.min_confidence
    return _csv(
        TRACKS,
        (
            (track["track_id"], cell(track["class"]), *(track[name] for name in TRACKS[2:9]), *track["best_bbox"])
            for track in source.tracks()
            if track["confidence"] >= least
        ),
    )


def plain_csv_detections(source: ExportSource) -> Iterator[bytes]:
    """Yield a row for each detection, for a program that reads on: as it is, and without a byte order mark."""
    return _csv(DETECTIONS, _detections(source, plain), b"")


def _detections(source: ExportSource, wording: Callable[[str], str]) -> Iterator[Row]:
    words: dict[str, str] = {}
    for frame in source.frames():
        at = frame.moment
        for found in frame.objects:
            name = words.get(found.class_name)
            if name is None:
                name = words[found.class_name] = wording(found.class_name)
            yield (at.frame_index, at.time_s, name, found.confidence, *found.box)


def _csv(head: tuple[str, ...], rows: Iterable[Row], mark: bytes = BOM) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    buffer.write(mark.decode())
    writer.writerow(head)
    for row in rows:
        writer.writerow(row)
        if buffer.tell() > BLOCK_BYTES:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is in an open file."""
    while block := file.read(BLOCK_BYTES):
        yield block


def lines_of(items: Iterable[str]) -> Iterator[bytes]:
    """Yield texts as the entries of a JSON or XML list, in blocks; each brings its own separator."""
    waiting: list[str] = []
    size = 0
    for item in items:
        waiting.append(item)
        size += len(item)
        if size > BLOCK_BYTES:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()
