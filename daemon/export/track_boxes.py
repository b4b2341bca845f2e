"""TrackBoxes: the boxes of a video by track; the result has them by frame, and memory need not hold them."""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from daemon.derive.document import AnalysedFrame, Box
from daemon.export.source import ExportSource, TrackedObject

_RECORD = struct.Struct("<qqd5d")
_AT_ONCE = 1000
"""Records read at a time."""
NEVER = -1
"""In the place of a frame index: no analysed frame follows."""


@dataclass(frozen=True)
class TrackBox:
    """Where an object is in one frame."""

    frame_index: int
    next_frame: int
    """Index of the analysed frame that follows, or NEVER."""
    time_s: float
    confidence: float
    box: Box
    last: bool
    """The object is not in the frame that follows, if one does."""


class TrackBoxes:
    """Boxes in a file, in order of their tracks.

    Args:
        descriptor: The open file.
        starts: Which record is the first of each track, by track id.
        ends: Which is the first behind it.
        frames: How many frames the video has as far as they were analysed.
    """

    def __init__(self, descriptor: int, starts: array[int], ends: array[int], frames: int) -> None:
        self._descriptor = descriptor
        self._starts = starts
        self._ends = ends
        self.frames = frames

    def of(self, track_id: int) -> Iterator[TrackBox]:
        """Yield the boxes of a track in order of time."""
        start, end = self._starts[track_id], self._ends[track_id]
        box: TrackBox | None = None
        for at in range(start, end, _AT_ONCE):
            count = min(_AT_ONCE, end - at)
            for record in _RECORD.iter_unpack(os.pread(self._descriptor, count * _RECORD.size, at * _RECORD.size)):
                frame_index, next_frame, time_s, confidence, x1, y1, x2, y2 = record
                if box is not None:
                    yield replace(box, last=box.next_frame != frame_index)
                box = TrackBox(frame_index, next_frame, time_s, confidence, (x1, y1, x2, y2), True)
        if box is not None:
            yield box


@contextmanager
def boxes_by_track(source: ExportSource) -> Iterator[TrackBoxes]:
    """Sort the wanted boxes by track into a file without a name: counted in a first pass, placed in a second."""
    counts = array("Q", [0])
    for track in source.all_tracks():
        counts.extend([0] * (track["track_id"] + 1 - len(counts)))  # ids are dense and in order
        counts[track["track_id"]] = track["boxes"]
    starts = array("Q", [0])
    for count in counts:
        starts.append(starts[-1] + count)
    ends = array("Q", starts)
    with tempfile.TemporaryFile(dir=source.scratch) as file:
        descriptor, frames = file.fileno(), 0
        for frame, objects, next_frame in _with_next(source):
            frames = frame.moment.frame_index + 1
            for tracked in objects:
                place = ends[tracked.track_id]
                ends[tracked.track_id] += 1
                found = tracked.found
                record = _RECORD.pack(
                    frame.moment.frame_index, next_frame, frame.moment.time_s, found.confidence, *found.box
                )
                os.pwrite(descriptor, record, place * _RECORD.size)
        yield TrackBoxes(descriptor, starts, ends, frames)


def _with_next(source: ExportSource) -> Iterator[tuple[AnalysedFrame, list[TrackedObject], int]]:
    before: tuple[AnalysedFrame, list[TrackedObject]] | None = None
    for frame, objects in source.tracked_frames():
        if before is not None:
            yield (*before, frame.moment.frame_index)
        before = frame, objects
    if before is not None:
        yield (*before, NEVER)
