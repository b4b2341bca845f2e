"""TrackBook: the objects of a video, each with what is known of it, and which detection is of which object."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from daemon.derive.document import AnalysedFrame, FoundObject, Moment

LEAST_BOXES = 2
"""An object that was detected once, in one frame, is not a track."""
NOBODY = -1


class _Object:
    """What is known of one object so far."""

    __slots__ = ("best", "best_frame", "boxes", "classes", "confidence", "end_s", "first", "last")

    def __init__(self, found: FoundObject, moment: Moment) -> None:
        self.first = self.last = moment
        self.end_s = moment.time_s
        self.boxes = 0
        self.confidence = 0.0
        self.classes: Counter[str] = Counter()
        self.best, self.best_frame = found, moment.frame_index

    def add(self, found: FoundObject, moment: Moment) -> None:
        self.last = moment
        self.boxes += 1
        self.confidence += found.confidence
        self.classes[found.class_name] += 1
        if found.confidence > self.best.confidence:
            self.best, self.best_frame = found, moment.frame_index

    def to_record(self, track_id: int) -> dict[str, Any]:
        return {
            "best_bbox": list(self.best.box),
            "best_frame": self.best_frame,
            "boxes": self.boxes,
            "class": self.classes.most_common(1)[0][0],
            "confidence": round(self.confidence / self.boxes, 4),
            "end_s": self.end_s,
            "first_frame": self.first.frame_index,
            "last_frame": self.last.frame_index,
            "start_s": self.first.time_s,
            "track_id": track_id,
        }


class TrackBook:
    """Collects tracks frame by frame.

    Args:
        scratch: An open file for the numbers of all detections; 8 bytes each.
        update: Numbers the detections of the next frame, as ByteTracker does.
    """

    def __init__(self, scratch: BinaryIO, update: Callable[[list[FoundObject], float], list[int | None]]) -> None:
        self._scratch = scratch
        self._update = update
        self._objects: dict[int, _Object] = {}
        self._ids: dict[int, int] = {}
        self._now: list[int] = []
        self._new: list[int] = []
        self._previous: Moment | None = None
        self._step_s = 0.0

    def add(self, frame: AnalysedFrame) -> None:
        """Take the next frame."""
        moment = frame.moment
        if self._previous is not None:
            self._step_s = max(0.0, moment.time_s - self._previous.time_s)
            self._end_at(moment.time_s)
        numbers = self._update(frame.objects, moment.time_s)
        new = []
        for number, found in zip(numbers, frame.objects, strict=True):
            if number is not None:
                if number not in self._objects:
                    self._objects[number] = _Object(found, moment)
                    new.append(number)
                self._objects[number].add(found, moment)
        self._forget_those_seen_once(new)
        self._now = [number for number in numbers if number is not None]
        self._previous = moment
        row = [moment.frame_index, len(numbers), *(NOBODY if n is None else n for n in numbers)]
        self._scratch.write(array("q", row).tobytes())

    def _end_at(self, time_s: float) -> None:
        for number in self._now:
            if number in self._objects:
                self._objects[number].end_s = time_s

    def _forget_those_seen_once(self, new: list[int]) -> None:
        """An object that is not seen again in the frame after its first is gone; so memory holds tracks alone."""
        for number in self._new:
            if self._objects[number].boxes < LEAST_BOXES:
                del self._objects[number]
        self._new = new if self._previous is not None else []  # of the first frame's it may come back later

    def tracks(self, only_step_s: float = 1.0) -> Iterator[dict[str, Any]]:
        """Yield the tracks in order of their first frame, at the end of the video.

        Args:
            only_step_s: How long a frame lasts if there is only one.
        """
        if self._previous is not None:
            self._end_at(round(self._previous.time_s + (self._step_s or only_step_s), 6))
        for number in sorted(self._objects):
            if self._objects[number].boxes >= LEAST_BOXES:
                self._ids[number] = len(self._ids) + 1
                yield self._objects[number].to_record(self._ids[number])

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yield, after ``tracks``, each frame with an object: the track of each detection, None where it has none."""
        self._scratch.seek(0)
        while head := self._scratch.read(16):
            frame_index, count = array("q", head)
            numbers = array("q", self._scratch.read(8 * count))
            ids = [self._ids.get(number) for number in numbers]
            if any(ids):
                yield {"frame_index": frame_index, "track_ids": ids}
