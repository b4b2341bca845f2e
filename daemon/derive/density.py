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
CONFIDENCE_STEPS = 20
"""Equal steps from 0 to 1 in which detections are counted by confidence."""


class ClassCount:
    """What there is of one class in the whole video."""

    def __init__(self) -> None:
        self.frames = 0
        """In which it is."""
        self.most = 0
        """In one frame."""
        self.confidences = [0] * CONFIDENCE_STEPS
        """Detections by confidence; each step has its lower end, the last one has 1 too."""

    def add(self, confidences: list[float]) -> None:
        """Count a frame that has some of it."""
        self.frames += 1
        self.most = max(self.most, len(confidences))
        for confidence in confidences:
            step = int(confidence * CONFIDENCE_STEPS + 1e-9)
            self.confidences[min(CONFIDENCE_STEPS - 1, max(0, step))] += 1

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"confidences": self.confidences, "frames": self.frames, "most": self.most}


class Density:
    """Counts frames, objects by class and lines of text in buckets of time."""

    def __init__(self) -> None:
        self._width_s = SHORTEST_SECONDS
        self._frames: list[int] = []
        self._lines: list[int] = []
        self._objects: dict[str, list[int]] = {}
        self._classes: dict[str, ClassCount] = {}

    def add(self, frame: AnalysedFrame) -> None:
        """Count a frame."""
        time_s = max(0.0, frame.moment.time_s)
        while (bucket := int(time_s / self._width_s + 1e-6)) >= MOST_BUCKETS:
            self._double()
        self._count(self._frames, bucket, 1)
        self._count(self._lines, bucket, len(frame.texts))
        confidences: dict[str, list[float]] = {}
        for found in frame.objects:
            known = found.class_name in self._objects or len(self._objects) < MOST_CLASSES
            name = found.class_name if known else OTHERS
            self._count(self._objects.setdefault(name, []), bucket, 1)
            confidences.setdefault(name, []).append(found.confidence)
        for name, of_class in confidences.items():
            if name not in self._classes:
                self._classes[name] = ClassCount()
            self._classes[name].add(of_class)

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
            "classes": {name: count.to_record() for name, count in sorted(self._classes.items())},
            "frames": self._frames,
            "objects": dict(sorted(filled.items())),
            "text_lines": lines,
        }
