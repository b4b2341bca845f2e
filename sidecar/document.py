"""ResultDocument: where things are in a result document, found without loading it.

The document has one frame a line, each beginning with its ``frame_index``, which grows. So the place of a
frame is found by halving, and a part of the document is some bytes of it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from daemon.errors import StorageError

START = b'"results": ['
HEAD_BYTES = 1 << 20
"""The frames begin within this many bytes."""
SCAN_BYTES = 256 << 10
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
        StorageError: it is not a result document.
    """

    def __init__(self, descriptor: int) -> None:
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
        end = self._find(None)
        start = self._find(from_frame)
        stop = end if limit is None else self._skip(start, end, limit)
        following = self._index(stop)
        frames = ByteRange(start, start)
        if stop > start:
            last = os.pread(self._descriptor, 2, stop - 2)
            frames = ByteRange(start, stop - (2 if last == b",\n" else 1))
        return Excerpt(ByteRange(1, self._frames_start), frames, ByteRange(end, self.size), following)

    def _find(self, wanted: int | None) -> int:
        """Return where the first line is that has at least that frame index; None finds the line after all."""
        low, high = self._frames_start, self.size
        # A line that begins at or before ``low`` is too early; one that begins at ``high`` or later is not.
        while low < high:
            middle = (low + high) // 2
            line = self._next_line(middle)
            if line is None or line >= self.size:
                high = middle
                continue
            index = self._index(line)
            if index is not None and (wanted is None or index < wanted):
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
