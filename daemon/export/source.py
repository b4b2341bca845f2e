"""ExportSource: a finished result and what is derived from it, read as a stream, with the filters of a request."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from daemon.derive.document import AnalysedFrame, DamagedDocument, FinishedDocument, FoundObject, parsed
from daemon.derive.files import READ
from daemon.errors import StorageError
from daemon.export_formats import ExportRequest
from daemon.pipeline.video_limits import Limits

TAIL_BYTES = 16_000_000
"""More than what stands behind the frames can be."""
HEAD_LINES = 100
USUAL = Limits()
_FRAMES = b'"results": ['
_END = b"\n],\n"
_DAMAGED = "The texts and tracks of the result are damaged and are made again; try again."


class NothingExported(StorageError):
    """The result does not have what a format needs; its text says what."""


class DerivedDamaged(StorageError):
    """What was derived from the result is damaged, or does not fit it; it has to be derived again."""


@dataclass(frozen=True)
class TrackedObject:
    """A detection that belongs to a track."""

    track_id: int
    class_name: str
    """Of the track."""
    found: FoundObject


class ExportSource:
    """What a writer writes about.

    Args:
        document: The result document.
        derived: The folder with what is derived from it.
        request: What goes into the export.
        scratch: A folder for files without a name.
        name: Of the video.
        video: The video itself, which may have been deleted.
        limits: What a video may be that is decoded.
    """

    def __init__(
        self,
        document: Path,
        derived: Path,
        request: ExportRequest,
        scratch: Path,
        name: str,
        video: Path = Path(),
        limits: Limits = USUAL,
    ) -> None:
        self.document = document
        self.video = video
        self.limits = limits
        self.request = request
        self.scratch = scratch
        self.name = name
        self._derived = derived
        self._classes = frozenset(request.classes)

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """The members of the document but for its frames; only its ends are read.

        Raises:
            DamagedDocument: it is not one.
        """
        with _opened(self.document) as file:
            head = b""
            for _ in range(HEAD_LINES):
                line = file.readline(TAIL_BYTES)
                head += line
                if line.startswith(_FRAMES):
                    break
            file.seek(max(len(head) - 1, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = file.read()
        try:
            about = json.loads(head + tail[tail.rindex(_END) + 1 :])
            del about["results"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedDocument("The stored result is not a result document.") from error
        return dict(about)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in pixels.

        Raises:
            NothingExported: the document does not say.
        """
        video = self.about.get("video")
        width, height = (video.get(name) if isinstance(video, dict) else None for name in ("width", "height"))
        if type(width) is not int or type(height) is not int or width < 1 or height < 1:
            raise NothingExported("The result does not say how large the picture is, which this format needs.")
        return width, height

    @property
    def fps(self) -> float:
        """Frames per second going by the container; 25 where it does not say."""
        video = self.about.get("video")
        fps = video.get("fps") if isinstance(video, dict) else None
        return float(fps) if isinstance(fps, int | float) and 0 < fps < 100_000 else 25.0

    @property
    def stride(self) -> int:
        """Every how many frames one was analysed."""
        options = self.about.get("options")
        stride = options.get("frame_stride") if isinstance(options, dict) else None
        return stride if type(stride) is int and stride > 0 else 1

    def all_frames(self) -> Iterator[AnalysedFrame]:
        """Yield the analysed frames, not filtered.

        Raises:
            DamagedDocument: the document is not whole, or a frame is malformed.
        """
        yield from FinishedDocument(self.document).frames()

    def frames(self) -> Iterator[AnalysedFrame]:
        """Yield the analysed frames of the wanted time, with the wanted objects and lines of text."""
        for frame in self.all_frames():
            if self.in_time(frame.moment.time_s):
                yield self.filtered(frame)

    def filtered(self, frame: AnalysedFrame) -> AnalysedFrame:
        """Return a frame with the wanted objects and lines of text."""
        if not self._classes and not self.request.min_confidence:
            return frame
        least = self.request.min_confidence
        texts = [text for text in frame.texts if text.confidence >= least]
        objects = [found for found in frame.objects if self.wants(found.class_name, found.confidence)]
        return replace(frame, objects=objects, texts=texts)

    def filtered_result(self, frame: AnalysedFrame) -> dict[str, Any]:
        """Return what the document says of a frame, with the wanted detections and lines of text."""
        result: dict[str, Any] = parsed(frame.line)["result"]
        if not self._classes and not self.request.min_confidence:
            return result
        least = self.request.min_confidence
        result["detections"] = [
            found for found in result["detections"] if self.wants(found["class"], found["confidence"])
        ]
        if "text_blocks" in result:
            texts = [text for text in result["text_blocks"] if text["confidence"] >= least]
            result["text_blocks"], result["text"] = texts, "\n".join(text["text"] for text in texts)
        return result

    def wants(self, class_name: str, confidence: float) -> bool:
        """Tell whether an object is to be exported."""
        return confidence >= self.request.min_confidence and (not self._classes or class_name in self._classes)

    def in_time(self, time_s: float) -> bool:
        """Tell whether what is shown at a time is to be exported."""
        return self.request.from_s <= time_s and (self.request.to_s is None or time_s < self.request.to_s)

    def overlaps(self, start_s: float, end_s: float) -> bool:
        """Tell whether what is shown from a time to another is to be exported."""
        return end_s > self.request.from_s and (self.request.to_s is None or start_s < self.request.to_s)

    def texts(self) -> Iterator[Mapping[str, Any]]:
        """Yield the texts in order of their beginning, as ``texts.json`` has them."""
        for text in self._list("texts", "texts"):
            if text["confidence"] >= self.request.min_confidence and self.overlaps(text["start_s"], text["end_s"]):
                yield text

    def all_tracks(self) -> Iterator[Mapping[str, Any]]:
        """Yield the tracks, not filtered."""
        return self._list("tracks", "tracks")

    def tracks(self) -> Iterator[Mapping[str, Any]]:
        """Yield the tracks of wanted classes in order of their beginning, as ``tracks.json`` has them."""
        for track in self.all_tracks():
            if (not self._classes or track["class"] in self._classes) and self.overlaps(
                track["start_s"], track["end_s"]
            ):
                yield track

    def tracked_frames(self) -> Iterator[tuple[AnalysedFrame, list[TrackedObject]]]:
        """Yield all analysed frames, each with the wanted objects that belong to a track; others are left out.

        Raises:
            DamagedDocument: the document is not whole.
            DerivedDamaged: what was derived does not fit it.
        """
        classes = {track["track_id"]: track["class"] for track in self.all_tracks()}
        numbered = self._list("tracks", "frames")
        following = next(numbered, None)
        for frame in self.all_frames():
            ids: list[int | None] = []
            if following is not None and following["frame_index"] == frame.moment.frame_index:
                ids, following = following["track_ids"], next(numbered, None)
            if len(ids) != len(frame.objects):
                raise DerivedDamaged(_DAMAGED)
            wanted = self.in_time(frame.moment.time_s)
            yield (
                frame,
                [
                    TrackedObject(track_id, classes[track_id], found)
                    for track_id, found in zip(ids, frame.objects, strict=True)
                    if wanted and track_id is not None and self.wants(classes[track_id], found.confidence)
                ],
            )

    def _list(self, kind: str, name: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list in a derived file, which has one a line."""
        with _opened(self._derived / f"{kind}.json") as file:
            start = f'"{name}": ['.encode()
            for line in file:
                if line.startswith(start):
                    break
            for line in file:
                if line.startswith(b"]"):
                    return
                try:
                    yield json.loads(line.rstrip(b",\n"))
                except ValueError as error:
                    raise DerivedDamaged(_DAMAGED) from error
        raise DerivedDamaged(_DAMAGED)


class ClassIds:
    """Numbers for classes in order of their first detection, the same in every export of a result.

    Args:
        first: The number of the first.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self.names: list[str] = []
        """In order of their numbers."""
        self._ids: dict[str, int] = {}

    def see(self, frame: AnalysedFrame) -> None:
        """Number the classes of a frame, before anything is filtered."""
        for found in frame.objects:
            if found.class_name not in self._ids:
                self.of(found.class_name)

    def of(self, name: str) -> int:
        """Return the number of a class."""
        if name not in self._ids:
            self._ids[name] = self._first + len(self.names)
            self.names.append(name)
        return self._ids[name]


def frame_name(frame_index: int) -> str:
    """Return what the picture of a frame is called, without an ending."""
    return f"frame_{frame_index:06d}"


def number(value: float) -> str:
    """Return a number with three decimals at most, and none where it is whole."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, READ), "rb")
