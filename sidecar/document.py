"""ResultDocument: where things are in a result document, found without loading it.

The document has one frame a line, each beginning with its ``frame_index``, which grows. So the place of a
frame is found by halving, and a part of the document is some bytes of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from daemon.derive.files import check_whole
from daemon.errors import StorageError

START = b'"results": ['
HEAD_BYTES = 1 << 20
"""The frames begin within this many bytes."""
SCAN_BYTES = 256 << 10
TIME_BYTES = 64
"""A frame's time stands within so many bytes of the end of its line."""
_TIME = re.compile(rb'"timestamp_s": ?(-?[0-9][0-9.eE+-]*)\},?$')
_FRAME = re.compile(rb'\{"frame_index": ?([0-9]+)')


@dataclass(frozen=True)
class ByteRange:
    """Some bytes of the file."""

    start: int
    end: int


@dataclass(frozen=True)
class Excerpt:
    """Some frames of a document."""

    head: ByteRange
    """From after the first brace to the bracket that opens the frames."""
    frames: ByteRange
    """Without the last frame's comma."""
    tail: ByteRange
    """From the bracket that closes the frames to the end."""
    next_frame: int | None
    """Index of the frame that follows, or None."""


class ResultDocument:
    """A result document in an open file, which is the caller's to close.

    Args:
        descriptor: The open file.

    Raises:
        StorageError: it is not a whole result document.
    """

    def __init__(self, descriptor: int) -> None:
        check_whole(descriptor)
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        head = os.pread(descriptor, SCAN_BYTES, 0)
        at = head.find(START)
        if at < 0:
            head = os.pread(descriptor, HEAD_BYTES, 0)
            at = head.find(START)
        if not head.startswith(b"{") or at < 0:
            raise StorageError("The stored result is not a result document.")
        self._frames_start = at + len(START)

    def excerpt(self, from_frame: int, limit: int | None) -> Excerpt:
        """Find the frames from an index on.

        Args:
            from_frame: Least frame index.
            limit: Most frames; None means all that follow.
        """
        end = self._find(lambda line: self._index(line) is not None)
        start = self._find(lambda line: self._comes_before(line, from_frame))
        stop = end if limit is None else self._skip(start, end, limit)
        following = self._index(stop)
        frames = ByteRange(start, start)
        if stop > start:
            last = os.pread(self._descriptor, 2, stop - 2)
            frames = ByteRange(start, stop - (2 if last == b",\n" else 1))
        return Excerpt(ByteRange(1, self._frames_start), frames, ByteRange(end, self.size), following)

    def frame_at(self, seconds: float) -> int:
        """Return the index of the first frame that is shown at a time or later; of none, one more than the last has.

        Raises:
            StorageError: the frames have no times.
        """
        line = self._find(lambda line: self._index(line) is not None and self._time(line) < seconds)
        if (index := self._index(line)) is not None:
            return index
        last = self._find(lambda line: self._index(self._next_line(line) or self.size) is not None)
        return (self._index(last) or 0) + 1

    def _comes_before(self, line: int, frame: int) -> bool:
        index = self._index(line)
        return index is not None and index < frame

    def _time(self, line: int) -> float:
        end = (self._next_line(line) or self.size) - 1
        found = _TIME.search(os.pread(self._descriptor, TIME_BYTES, max(line, end - TIME_BYTES))[: end - line])
        if found is None:
            raise StorageError("The frames of the stored result have no times.")
        return float(found[1])

    def _find(self, is_before: Callable[[int], bool]) -> int:
        """Return where the first line is that does not come before what is looked for."""
        low, high = self._frames_start, self.size
        # A line that begins at or before ``low`` is too early; one that begins at ``high`` or later is not.
        while low < high:
            middle = (low + high) // 2
            line = self._next_line(middle)
            if line is None or line >= self.size:
                high = middle
                continue
            if is_before(line):
                low = line
            else:
                high = middle
        line = self._next_line(low)
        return self.size if line is None else line

    def _next_line(self, position: int) -> int | None:
        """Return where the first line begins after a position."""
        while position < self.size:
            data = os.pread(self._descriptor, SCAN_BYTES, position)
            if not data:
                return None
            at = data.find(b"\n")
            if at >= 0:
                return position + at + 1
            position += len(data)
        return None

    def _index(self, line: int) -> int | None:
        found = _FRAME.match(os.pread(self._descriptor, 64, line))
        return int(found[1]) if found else None

    def _skip(self, position: int, end: int, lines: int) -> int:
        """Return where the line begins that many lines further on, at most ``end``."""
        while position < end and lines > 0:
            data = os.pread(self._descriptor, min(SCAN_BYTES, end - position), position)
            if not data:
                break
            breaks = data.count(b"\n")
            if breaks < lines:
                lines -= breaks
                position += len(data)
                continue
            at = -1
            for _ in range(lines):
                at = data.find(b"\n", at + 1)
            return position + at + 1
        return min(position, end)
