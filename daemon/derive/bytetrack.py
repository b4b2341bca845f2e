"""ByteTracker: which detections of one frame after the other are of the same object.

ByteTrack (Zhang et al., 2022, https://arxiv.org/abs/2110.06864) predicts with a Kalman filter where each object goes,
and matches the detections of a frame to that: sure ones first, then unsure ones to objects that would otherwise be
lost. The filter is the paper's, with its weights. As nothing in it couples two of a box's four numbers, it is written
as four filters of a number and its speed: the same result, without the algebra of matrices that are mostly zeros.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence

import lap
import numpy as np
from numpy.typing import NDArray

from daemon.derive.document import Box, FoundObject

BUFFER_SECONDS = 1.2
"""How long an object may be away, and is still the same one."""
SURE, UNSURE = 0.25, 0.1
"""Least confidence of a detection that begins an object, and of one that only goes on with one."""
FIRST_COST, UNSURE_COST, SECOND_BOX_COST = 0.8, 0.5, 0.7
"""Most that a match may cost: of a sure detection, of an unsure one, and of the second one of an object."""
DOUBLE_OVERLAP = 0.85
"""Above this (IoU) an object that is seen and one that is away are the same."""
MOST_PIXELS, LEAST_PIXELS = 1e6, 0.01
"""A box with an edge that is farther out is of no object, nor is one that is narrower or lower."""
BOX_NOISE, SPEED_NOISE = 1 / 20, 1 / 160
"""Standard deviation of a box's place and height, and of their speeds, by its height."""
ASPECT_NOISE, ASPECT_SPEED_NOISE, MEASURED_ASPECT_NOISE = 1e-2, 1e-5, 1e-1
"""The same of its width by its height; and of that as it is measured."""


class _Number:
    """A number that changes at a speed: a Kalman filter.

    Args:
        value: As it was measured.
        noise: Its variance.
        speed_noise: Variance of its speed, which is 0 so far.
    """

    __slots__ = ("_common", "_of_speed", "_of_value", "speed", "value")

    def __init__(self, value: float, noise: float, speed_noise: float) -> None:
        self.value, self.speed = value, 0.0
        self._of_value, self._common, self._of_speed = noise, 0.0, speed_noise

    def predict(self, noise: float, speed_noise: float) -> None:
        """Go one frame on."""
        self.value += self.speed
        self._of_value += 2 * self._common + self._of_speed + noise
        self._common += self._of_speed
        self._of_speed += speed_noise

    def correct(self, measured: float, noise: float) -> None:
        """Take in what was measured."""
        whole = self._of_value + noise
        gain, pull = self._of_value / whole, self._common / whole
        off = measured - self.value
        self.value += gain * off
        self.speed += pull * off
        self._of_speed -= pull * self._common
        self._of_value *= 1 - gain
        self._common *= 1 - gain


class _Detection:
    """A detection that may be of an object, with its place in the list of the frame's."""

    __slots__ = ("aspect", "corners", "height", "place", "score", "x", "y")

    def __init__(self, place: int, score: float, corners: Box) -> None:
        self.place, self.score, self.corners = place, score, corners
        x1, y1, x2, y2 = corners
        self.x, self.y, self.height = (x1 + x2) / 2, (y1 + y2) / 2, y2 - y1
        self.aspect = (x2 - x1) / self.height


class _Object:
    """An object that is followed."""

    __slots__ = ("aspect", "first", "height", "is_away", "is_known", "number", "seen", "x", "y")

    def __init__(self, number: int, found: _Detection, frame: int) -> None:
        self.number = number
        self.first = self.seen = frame
        self.is_known, self.is_away = frame == 1, False
        """Whether it was seen twice, or in the first frame; and whether it was not seen in the last one."""
        place, speed = (2 * BOX_NOISE * found.height) ** 2, (10 * SPEED_NOISE * found.height) ** 2
        self.x, self.y = _Number(found.x, place, speed), _Number(found.y, place, speed)
        self.aspect = _Number(found.aspect, ASPECT_NOISE**2, ASPECT_SPEED_NOISE**2)
        self.height = _Number(found.height, place, speed)

    def predict(self) -> None:
        """Go one frame on."""
        if self.is_away:
            self.height.speed = 0.0
        place, speed = (BOX_NOISE * self.height.value) ** 2, (SPEED_NOISE * self.height.value) ** 2
        for number in (self.x, self.y, self.height):
            number.predict(place, speed)
        self.aspect.predict(ASPECT_NOISE**2, ASPECT_SPEED_NOISE**2)

    def see(self, found: _Detection, frame: int) -> None:
        """Take in where it is seen."""
        noise = (BOX_NOISE * self.height.value) ** 2
        self.x.correct(found.x, noise)
        self.y.correct(found.y, noise)
        self.height.correct(found.height, noise)
        self.aspect.correct(found.aspect, MEASURED_ASPECT_NOISE**2)
        self.seen, self.is_known, self.is_away = frame, True, False

    @property
    def corners(self) -> Box:
        """Its box."""
        x, y, height = self.x.value, self.y.value, self.height.value
        width = self.aspect.value * height
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2


class ByteTracker:
    """Says which detections are of the same object. Deterministic: the same frames give the same numbers."""

    def __init__(self) -> None:
        self._objects: list[_Object] = []
        self._times: deque[float] = deque()
        self._frame = 0
        self._numbers = 0

    def update(self, found: Sequence[FoundObject], time_s: float) -> list[int | None]:
        """Take the next frame.

        Args:
            found: Its detections.
            time_s: When it is shown, in seconds.

        Returns:
            For each detection the number of its object, None where it has none. Numbers grow with the first frame; an
            object that is seen for the first time has one already.
        """
        self._frame += 1
        self._forget_those_gone(time_s)
        numbers: list[int | None] = [None] * len(found)
        sure, unsure = _sorted_out(found)
        known = [each for each in self._objects if each.is_known]
        for each in known:
            each.predict()
        left, sure = self._match(known, sure, FIRST_COST, numbers)
        here, _ = self._match([each for each in left if not each.is_away], unsure, UNSURE_COST, numbers, False)
        for each in here:
            each.is_away = True
        once = [each for each in self._objects if not each.is_known]
        once, sure = self._match(once, sure, SECOND_BOX_COST, numbers)
        self._forget(once)
        for new in sure:
            self._numbers += 1
            numbers[new.place] = self._numbers
            self._objects.append(_Object(self._numbers, new, self._frame))
        self._forget_doubles()
        return numbers

    def _forget_those_gone(self, time_s: float) -> None:
        while self._times and self._times[0] < time_s - BUFFER_SECONDS - 1e-6:
            self._times.popleft()
        oldest = self._frame - max(1, len(self._times)) - 1
        self._objects = [each for each in self._objects if each.seen >= oldest]
        self._times.append(time_s)

    def _match(
        self,
        objects: list[_Object],
        detections: list[_Detection],
        most: float,
        numbers: list[int | None],
        by_score: bool = True,
    ) -> tuple[list[_Object], list[_Detection]]:
        """Give detections to objects, and note their numbers; return the objects and detections that are left."""
        if not objects or not detections:
            return objects, detections
        alike = _overlaps([each.corners for each in objects], [each.corners for each in detections])
        if by_score:
            alike *= np.array([each.score for each in detections])
        _, theirs, ours = lap.lapjv(1 - alike, extend_cost=True, cost_limit=most)
        left = []
        for each, place in zip(objects, theirs.tolist(), strict=True):
            if place < 0:
                left.append(each)
                continue
            each.see(detections[place], self._frame)
            numbers[detections[place].place] = each.number
        return left, [each for each, row in zip(detections, ours.tolist(), strict=True) if row < 0]

    def _forget_doubles(self) -> None:
        """Of one that is seen and one that is away in the same place, forget the one that was followed less long."""
        away = [each for each in self._objects if each.is_away]
        here = [each for each in self._objects if not each.is_away]
        if not away or not here:
            return
        alike = _overlaps([each.corners for each in here], [each.corners for each in away])
        gone = []
        for row, column in np.argwhere(alike > DOUBLE_OVERLAP).tolist():
            one, other = here[row], away[column]
            gone.append(other if one.seen - one.first > other.seen - other.first else one)
        self._forget(gone)

    def _forget(self, gone: Collection[_Object]) -> None:
        if gone:
            numbers = {each.number for each in gone}
            self._objects = [each for each in self._objects if each.number not in numbers]


def _sorted_out(found: Sequence[FoundObject]) -> tuple[list[_Detection], list[_Detection]]:
    """Return the sure and the unsure ones of those that may be of an object."""
    sure: list[_Detection] = []
    unsure: list[_Detection] = []
    for place, each in enumerate(found):
        x1, y1, x2, y2 = each.box
        has_size = x2 - x1 >= LEAST_PIXELS and y2 - y1 >= LEAST_PIXELS
        is_near = x1 >= -MOST_PIXELS and y1 >= -MOST_PIXELS and x2 <= MOST_PIXELS and y2 <= MOST_PIXELS
        if has_size and is_near and each.confidence > UNSURE:
            kind = sure if each.confidence >= SURE else unsure
            kind.append(_Detection(place, min(each.confidence, 1.0), each.box))
    return sure, unsure


def _overlaps(some: Iterable[Box], others: Iterable[Box]) -> NDArray[np.float64]:
    """Return the IoU of each of some boxes with each of others."""
    a, b = np.array(some).T[:, :, None], np.array(others).T[:, None]
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    both = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    alike: NDArray[np.float64] = both / np.maximum(areas - both, 1e-7)
    return alike
