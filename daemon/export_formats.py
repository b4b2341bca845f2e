"""The formats that results are exported to; settings, CLI, HTTP, page and documents take them from here.

``daemon/export/writers.py`` has what writes each.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from daemon.errors import BadOptions
from daemon.unknown_names import no_such

VERSION = 1
"""Of what the writers write; with another one, exports are made again."""
MOST_CLASSES, MOST_CLASS_LETTERS = 100, 200
"""Of one export."""
MOST_SECONDS = 100_000_000.0
"""Of a time in a video."""


class Content(StrEnum):
    """What a format holds."""

    DETECTIONS = "detections"
    """What was detected in each frame."""
    TRACKS = "tracks"
    """Objects over time."""
    TEXTS = "texts"
    """Texts over time."""
    FRAMES = "frames"
    """Detections and lines of text, frame by frame."""


@dataclass(frozen=True)
class ExportFormat:
    """One format."""

    name: str
    """In settings, addresses and commands."""
    title: str
    ending: str
    """What is put behind the video's name."""
    media_type: str
    content: Content
    used_by: str
    """Programs that read it."""
    draws: bool = False
    """Whether it is drawn on the video, which has to be there still; takes as long as the video, and much room."""

    @property
    def derived(self) -> str | None:
        """What has to be derived from the result first: ``texts``, ``tracks``, or None."""
        return str(self.content) if self.content in (Content.TEXTS, Content.TRACKS) else None

    @property
    def has_classes(self) -> bool:
        """Whether a choice of classes means something."""
        return self.content is not Content.TEXTS

    def to_record(self) -> dict[str, Any]:
        """Return what programs are told of it."""
        return {
            "format": self.name,
            "title": self.title,
            "ending": self.ending,
            "media_type": self.media_type,
            "content": self.content,
            "used_by": self.used_by,
        }


CSV, JSON, XML, ZIP = "text/csv; charset=utf-8", "application/json", "application/xml", "application/zip"
PARQUET, SUBRIP = "application/vnd.apache.parquet", "application/x-subrip"
DETECTIONS, TRACKS, TEXTS = Content.DETECTIONS, Content.TRACKS, Content.TEXTS

_ALL = (
    ExportFormat("jsonl", "JSON Lines", ".jsonl", "application/x-ndjson", Content.FRAMES, "pandas, jq, DuckDB"),
    ExportFormat("csv", "CSV, detections", ".csv", CSV, DETECTIONS, "Excel, pandas, DuckDB"),
    ExportFormat("csv-texts", "CSV, texts", ".texts.csv", CSV, TEXTS, "Excel, pandas, DuckDB"),
    ExportFormat("csv-tracks", "CSV, tracks", ".tracks.csv", CSV, TRACKS, "Excel, pandas, DuckDB"),
    ExportFormat("parquet", "Parquet, detections", ".parquet", PARQUET, DETECTIONS, "pandas, DuckDB, Spark"),
    ExportFormat("coco", "COCO, instances", ".coco.json", JSON, DETECTIONS, "pycocotools, FiftyOne, CVAT"),
    ExportFormat("coco-results", "COCO, results", ".coco-results.json", JSON, DETECTIONS, "pycocotools (loadRes)"),
    ExportFormat("cvat", "CVAT for video 1.1", ".cvat.xml", XML, TRACKS, "CVAT"),
    ExportFormat("cvat-images", "CVAT for images 1.1", ".cvat-images.xml", XML, DETECTIONS, "CVAT"),
    ExportFormat("yolo", "YOLO labels", ".yolo.zip", ZIP, DETECTIONS, "Ultralytics, CVAT, FiftyOne"),
    ExportFormat("mot", "MOT Challenge", ".mot.zip", ZIP, TRACKS, "motmetrics, TrackEval, CVAT"),
    ExportFormat("labelstudio", "Label Studio tasks", ".labelstudio.json", JSON, TRACKS, "Label Studio"),
    ExportFormat("srt", "SubRip subtitles", ".srt", SUBRIP, TEXTS, "players, ffmpeg"),
    ExportFormat("vtt", "WebVTT subtitles", ".vtt", "text/vtt; charset=utf-8", TEXTS, "browsers, players"),
    ExportFormat("ass", "ASS subtitles", ".ass", "text/x-ssa; charset=utf-8", TEXTS, "mpv, VLC, ffmpeg"),
    ExportFormat(
        "annotated", "Annotated video", ".annotated.mp4", "video/mp4", Content.FRAMES, "players, browsers", draws=True
    ),
)
FORMATS: Mapping[str, ExportFormat] = {each.name: each for each in _ALL}
CONF_FORMATS = frozenset({"yolo"})
"""Formats that hold the confidences only if that is asked for, because most programs refuse them."""


class BadExport(BadOptions):
    """An export was asked for that there is not; ``errors`` has a sentence for each parameter that is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = dict(errors)


@dataclass(frozen=True)
class ExportRequest:
    """A format, and what of the result goes into it."""

    format: str
    classes: tuple[str, ...] = ()
    """Only these; empty means all."""
    min_confidence: float = 0.0
    from_s: float = 0.0
    """From this time of the video on."""
    to_s: float | None = None
    """Up to this time, which does not belong to it."""
    conf: bool = False
    """Write confidences although the format usually has none."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Check values that came from outside.

        Raises:
            BadExport: there is no such format, or it does not have what is asked for.
        """
        request = cls(**{**values, "classes": tuple(sorted(set(values.get("classes") or ())))})
        if errors := request._errors():
            raise BadExport(errors)
        return request

    @property
    def kind(self) -> ExportFormat:
        """The format."""
        return FORMATS[self.format]

    def _errors(self) -> dict[str, str]:
        if self.format not in FORMATS:
            return {"format": no_such("format", self.format, list(FORMATS))}
        errors = {}
        if self.classes and not self.kind.has_classes:
            errors["classes"] = f"{self.format} holds texts, which have no classes."
        if len(self.classes) > MOST_CLASSES or any(len(name) > MOST_CLASS_LETTERS for name in self.classes):
            errors["classes"] = f"classes must be {MOST_CLASSES} names of {MOST_CLASS_LETTERS} letters at most."
        if not (math.isfinite(self.min_confidence) and 0 <= self.min_confidence <= 1):
            errors["min_confidence"] = "min_confidence must be a number from 0 to 1."
        if not 0 <= self.from_s <= MOST_SECONDS:
            errors["from_s"] = f"from_s must be a number of seconds from 0 to {MOST_SECONDS:g}."
        if self.to_s is not None and not self.from_s < self.to_s <= MOST_SECONDS:
            errors["to_s"] = "to_s must be a number of seconds greater than from_s."
        if self.conf and self.format not in CONF_FORMATS:
            errors["conf"] = f"conf is for {', '.join(sorted(CONF_FORMATS))}."
        return errors

    def key(self, size_bytes: int, mtime_ns: int) -> str:
        """Return a name for what this makes of a result of that size and time."""
        parts = [VERSION, size_bytes, mtime_ns, asdict(self)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """Return the JSON that ``from_json`` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a request that another process wrote.

        Raises:
            BadExport: it is not one.
        """
        try:
            return cls.of(json.loads(text))
        except (ValueError, TypeError, AttributeError) as error:
            raise BadExport({"format": "That is not a request for an export."}) from error


def file_name(source_name: str, kind: ExportFormat) -> str:
    """Return what an export is called, after its video."""
    return source_name.rpartition("/")[2] + kind.ending


def formats_in(given: Any) -> tuple[str, ...]:
    """Return the formats that somebody names, each once.

    Args:
        given: A list of names, or a text with commas between them.

    Raises:
        ValueError: it is neither, or one is not known; the message says which was meant, perhaps.
    """
    names = [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError("Name formats, with commas between them or as a list, such as csv and srt.")
    for name in names:
        if name not in FORMATS:
            raise ValueError(no_such("format", name, list(FORMATS)))
    return tuple(dict.fromkeys(names))


def known_formats(names: list[str]) -> list[str]:
    """Return what a setting names, each once.

    Raises:
        ValueError: as ``formats_in``.
    """
    try:
        return list(formats_in(names))
    except ValueError as error:
        raise ValueError(f"exports: {error}") from error
