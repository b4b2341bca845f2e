"""FinishedDocument: a finished result document read frame by frame, in constant memory.

What is read was written by a pipeline process that any video may have led astray, imported from another service, or
damaged since: everything is checked, and what does not fit is refused with a sentence.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic_core import from_json

from daemon.derive.files import AGAIN, READ
from daemon.errors import StorageError

LINE_BYTES = 16_000_000
"""Most bytes of a line: a frame, or what stands before and behind the frames."""
HEAD_LINES = 100
"""The frames begin within so many lines."""
RESULTS = b'"results": ['
FRAME = b'{"frame_index"'


class DamagedDocument(StorageError):
    """The result document is not one, or not whole, or has no times; what can be derived from it is nothing."""


class Moment(NamedTuple):
    """One analysed frame."""

    position: int
    """Its place among the analysed frames, from 0."""
    frame_index: int
    """Its place in the video, from 0."""
    time_s: float
    """When it is shown, in seconds."""


Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


class FoundObject(NamedTuple):
    """One detection."""

    box: Box
    class_name: str
    confidence: float


class FoundText(NamedTuple):
    """One line of text."""

    box: Box
    text: str
    confidence: float


@dataclass(frozen=True)
class AnalysedFrame:
    """One frame of the document."""

    moment: Moment
    objects: list[FoundObject]
    """As in the document, highest confidence first."""
    texts: list[FoundText]
    """In reading order."""
    line: bytes = b""
    """As it stands in the document."""


class FinishedDocument:
    """A result document; ``frames`` goes through it once.

    Args:
        path: The document.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self.about: Mapping[str, Any] = {}
        """All members but ``results``, once the last frame has been read."""
        self.size_bytes = 0
        """Of the document, once the last frame has been read."""
        self._status: os.stat_result | None = None

    @property
    def sha256(self) -> str:
        """Of the document's bytes, once the last frame has been read."""
        return self._hash.hexdigest()

    def frames(self) -> Iterator[AnalysedFrame]:
        """Yield the frames in order.

        Raises:
            DamagedDocument: it is not a whole result document, or a frame is malformed or has no time.
            OSError: it cannot be read.
        """
        descriptor = os.open(self._path, READ)
        with os.fdopen(descriptor, "rb") as file:
            self._status = os.fstat(descriptor)
            before = self._head(file)
            position, last_index = 0, -1
            while (line := self._line(file)).startswith(FRAME):
                frame = _frame(line, position)
                if frame.moment.frame_index <= last_index:
                    raise DamagedDocument(f"Frame {frame.moment.frame_index} of the result document is out of order.")
                position, last_index = position + 1, frame.moment.frame_index
                yield frame
            self._tail(file, before, line)

    def is_still_there(self) -> bool:
        """Tell whether the document at the path is the one that was read."""
        now, read = os.stat(self._path, follow_symlinks=False), self._status
        identity = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
        return read is not None and all(getattr(now, name) == getattr(read, name) for name in identity)

    def frame_seconds(self) -> float:
        """Return how long an analysed frame lasts, going by the container; 1 where it does not say. Read to the end."""
        try:
            fps = _number(self.about["video"]["fps"])
            return _number(self.about["options"]["frame_stride"]) / fps if fps > 0 else 1.0
        except (KeyError, TypeError, ValueError):
            return 1.0

    def _line(self, file: BinaryIO) -> bytes:
        line = file.readline(LINE_BYTES)
        if not line:
            raise DamagedDocument(f"The result document ends early; {AGAIN}.")
        if not line.endswith(b"\n"):
            if len(line) < LINE_BYTES:
                raise DamagedDocument(f"The result document ends in the middle of a line; {AGAIN}.")
            raise DamagedDocument(f"A line of the result document has more than {LINE_BYTES} bytes.")
        self._hash.update(line)
        self.size_bytes += len(line)
        return line

    def _head(self, file: BinaryIO) -> bytes:
        head = b""
        for _ in range(HEAD_LINES):
            line = self._line(file)
            head += line
            if len(head) > LINE_BYTES or not head.startswith(b"{"):
                break
            if line.startswith(RESULTS):
                return head
        raise DamagedDocument("The stored result is not a result document.")

    def _tail(self, file: BinaryIO, head: bytes, line: bytes) -> None:
        tail = [line]
        while line := file.readline(LINE_BYTES):
            self._hash.update(line)
            self.size_bytes += len(line)
            tail.append(line)
            if len(tail) > HEAD_LINES:
                raise DamagedDocument("Behind its frames the result document has more than there can be.")
        try:
            about = json.loads(head + b"".join(tail))
            del about["results"]
            self.about = about
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DamagedDocument(f"The end of the result document is damaged; {AGAIN}.") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def parsed(line: bytes) -> Any:
    """Return what a line of a document says, without the comma behind it.

    Raises:
        ValueError, RecursionError: it is not JSON.
    """
    content = line.rstrip(b",\n")
    try:
        return from_json(content, allow_inf_nan=False)  # three times as fast
    except ValueError:  # it is not, or half a character is in it
        return json.loads(content, parse_constant=_no_constant)


def _frame(line: bytes, position: int) -> AnalysedFrame:
    try:
        record = parsed(line)
        if "timestamp_s" not in record:
            raise DamagedDocument(
                "The frames of this result have no times, because the service that it was imported from recorded none; "
                "run the video again."
            )
        moment = Moment(position, int(record["frame_index"]), _number(record["timestamp_s"]))
        result = record["result"]
        objects = [
            FoundObject(_box(found["bbox"]), _text(found["class"]), _number(found["confidence"]))
            for found in result["detections"]
        ]
        texts = [
            FoundText(_box(found["bbox"]), _text(found["text"]), _number(found["confidence"]))
            for found in result.get("text_blocks", ())
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedDocument(f"Frame number {position + 1} of the result document is malformed.") from error
    return AnalysedFrame(moment, objects, texts, line)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _number(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    number = float(value)
    if isinstance(value, str | bool) or not math.isfinite(number):
        raise ValueError("not a number")
    return number


def _box(value: Any) -> Box:
    x1, y1, x2, y2 = value
    if type(x1) is type(y1) is type(x2) is type(y2) is float and math.isfinite(x1 + y1 + x2 + y2):
        return x1, y1, x2, y2
    return _number(x1), _number(y1), _number(x2), _number(y2)
