"""Take the fields of interlaced frames apart, by FFmpeg's filter."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter


class _Fields:
    """Takes the two fields of interlaced frames apart, one picture a frame; other frames pass as they are.

    Args:
        frame: The first frame; all must have its size and format.

    Raises:
        FFmpegError, ValueError: it cannot be done with such frames.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self.kind = _kind(frame)
        self._times: deque[float | None] = deque()
        self._graph = graph = av.filter.Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        fields = graph.add("yadif", mode="send_frame", parity="auto", deint="interlaced")
        graph.link_nodes(source, fields, graph.add("buffersink")).configure()

    def push(self, frame: av.VideoFrame | None) -> Iterator[tuple[av.VideoFrame, float | None]]:
        """Take a frame in, or None at the end; yield those that are done, with their times in seconds."""
        if frame is not None:
            self._times.append(frame.time)
        self._graph.vpush(frame)
        while True:
            try:
                done = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield done, self._times.popleft()


def progressive(frames: Iterator[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, float | None]]:
    """Yield frames and their times; from the first interlaced one on, with the fields taken apart."""
    fields: _Fields | None = None
    for frame in frames:
        if fields is not None and fields.kind != _kind(frame):
            yield from fields.push(None)
            fields = None
        if fields is None and frame.interlaced_frame:
            fields = _fields(frame)
        if fields is None:
            yield frame, frame.time
        else:
            yield from fields.push(frame)
    if fields is not None:
        yield from fields.push(None)


def _fields(frame: av.VideoFrame) -> _Fields | None:
    try:
        return _Fields(frame)
    except (av.FFmpegError, ValueError):  # too small, or of a format that the filter does not take
        return None


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
