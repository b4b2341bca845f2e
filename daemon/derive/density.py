"""Density: how many objects and lines of text are in each part of a video, for plots."""

from __future__ import annotations

from typing import Any

from daemon.derive.document import AnalysedFrame

SHORTEST_SECONDS = 0.1
"""Length of a bucket of a short video; it doubles until there are few enough."""
MOST_BUCKETS = 1000
MOST_CLASSES = 500
"""Classes that are counted each by itself."""
OTHERS = "(others)"


class Density:
    """Counts frames, objects by class and lines of text in buckets of time."""

    def __init__(self) -> None:
        self._width_s = SHORTEST_SECONDS
        self._frames: list[int] = []
        self._lines: list[int] = []
        self._objects: dict[str, list[int]] = {}

    def add(self, frame: AnalysedFrame) -> None:
        """Count a frame."""
        time_s = max(0.0, frame.moment.time_s)
        while (bucket := int(time_s / self._width_s + 1e-6)) >= MOST_BUCKETS:
            self._double()
        self._count(self._frames, bucket, 1)
        self._count(self._lines, bucket, len(frame.texts))
        for found in frame.objects:
            known = found.class_name in self._objects or len(self._objects) < MOST_CLASSES
            self._count(self._objects.setdefault(found.class_name if known else OTHERS, []), bucket, 1)

    @staticmethod
    def _count(column: list[int], bucket: int, count: int) -> None:
        column.extend([0] * (bucket + 1 - len(column)))
        column[bucket] += count

    def _double(self) -> None:
        self._width_s *= 2
        for column in (self._frames, self._lines, *self._objects.values()):
            column[:] = [sum(column[n : n + 2]) for n in range(0, len(column), 2)]

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form: columns of the same length, with an entry for each bucket from the beginning on."""
        length = len(self._frames)
        filled = {name: [*column, *[0] * (length - len(column))] for name, column in self._objects.items()}
        lines = [*self._lines, *[0] * (length - len(self._lines))]
        return {
            "bucket_s": round(self._width_s, 6),
            "frames": self._frames,
            "objects": dict(sorted(filled.items())),
            "text_lines": lines,
        }
