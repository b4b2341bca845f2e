"""Lines: where text stands in each frame of a batch, and which of it was seen before.

Looking is dear, so it is done at full size on a few frames of a batch only (``full_looks``). The frames between are
explained from those around them: a place that looks as it did in one of the two holds the lines that it held there.
Only a frame with a place that looks like neither is looked at, too: at half the size, if the lines that move are tall
enough to be seen so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.pipeline.changes import Patch, cut, differs, differs_at, differs_within, thumbnail, union
from daemon.pipeline.overlap import spread
from daemon.pipeline.readings import Reading
from daemon.pipeline.records import Box, Image
from daemon.pipeline.regions import Region, RegionFinder, enclosing

LOOK_SECONDS = 0.2
"""Longest time between two looks at full size while anything changes: what is shown for that long is seen."""
CLOCK_SLACK = 0.001
"""Seconds by which the times of frames may be rounded."""

EDGE_SHIFT = 0.35
"""How far a region's edges may move, in heights of its line, and still be the same line: regions found anew
jitter by a pixel or two, while a character more moves an edge by half a height."""

SAME_PLACE = 0.5
"""Share of the smaller of two boxes that lies in the other, above which they are the same text."""

Thumbnail = NDArray[Any]


@dataclass(eq=False)
class Line:
    """A region, what it looked like when it was read, and what was read."""

    region: Region
    seen: Patch
    """What it looked like, with the room around it into which its edges may move."""
    image: Image | None
    """The frame in which it is to be read; None once it was."""
    reading: Reading | None = field(default=Reading("", 0.0))
    """None if the engine gave it up."""


@dataclass
class Look:
    """A frame of which the lines are known."""

    thumbnail: Thumbnail
    lines: list[Line]


@dataclass
class Between:
    """A frame between two looks with places that look like neither."""

    at: int
    kept: list[Line]
    """Lines of the places that do."""
    moved: list[Line]
    """Lines of the other places."""


class LineFinder:
    """Finds the lines of a video's frames, batch by batch.

    Args:
        finder: Finds regions.
    """

    def __init__(self, finder: RegionFinder) -> None:
        self._finder = finder
        self.new_segment()

    def new_segment(self) -> None:
        """Forget everything."""
        self._last: Look | None = None
        """The last frame of the batch before."""
        self._looked: Thumbnail | None = None
        """The last frame in which regions were looked for at full size."""
        self._time: float | None = None

    def __call__(self, images: Sequence[Image], times: Sequence[float]) -> list[list[Line]]:
        """Return the lines of each frame of a batch; those with an ``image`` are new and to be read.

        Args:
            images: Of one size.
            times: Of the frames, seconds.
        """
        thumbnails = spread(thumbnail, images)
        looks = self._look(images, thumbnails, full_looks(times, self._time))
        between: list[Between] = []
        lines: list[list[Line]] = [[]] * len(images)
        before = self._last
        start = 0
        for at, look in looks.items():
            for place in range(start, at):
                assert before is not None  # the first frame of all is looked at
                found = explained(place, images[place], thumbnails[place], before, look)
                lines[place] = found.kept
                between += [found] if found.moved else []
            lines[at], before, start = look.lines, look, at + 1
        self._look_between(images, thumbnails, between, lines)
        self._last, self._time = before, times[-1]
        return lines

    def _look(self, images: Sequence[Image], thumbnails: Sequence[Thumbnail], places: Sequence[int]) -> dict[int, Look]:
        changed = [at for at in places if self._changed(thumbnails[at])]
        found = dict(zip(changed, self._finder([images[at] for at in changed]), strict=True))
        looks: dict[int, Look] = {}
        known = self._last.lines if self._last else []
        for at in places:
            if at in found:
                known = [_line(region, images[at], thumbnails[at], known) for region in found[at]]
            looks[at] = Look(thumbnails[at], known)
        return looks

    def _look_between(
        self,
        images: Sequence[Image],
        thumbnails: Sequence[Thumbnail],
        between: Sequence[Between],
        lines: list[list[Line]],
    ) -> None:
        """Look at frames that are not explained, and fill in their lines."""
        least = self._finder.least_quick_height(images[0])
        # Small lines that cannot be read are not worth a look at full size each time they move.
        small = self._last is not None and any(
            line.reading and line.reading.text and _height(line) < least for line in self._last.lines
        )
        closely = [small and any(_height(line) < least for line in each.moved) for each in between]
        for quick in (False, True):
            some = [each for each, close in zip(between, closely, strict=True) if close is not quick]
            for each, regions in zip(some, self._finder([images[e.at] for e in some], quick=quick), strict=True):
                known = [*each.moved, *(lines[each.at - 1] if each.at else [])]
                lines[each.at] = each.kept + [
                    _line(region, images[each.at], thumbnails[each.at], known)
                    for region in regions
                    if not any(same_place(region.box, line.region.box) for line in each.kept)
                ]

    def _changed(self, now: Thumbnail) -> bool:
        if self._looked is not None and not differs(self._looked, now):
            return False
        self._looked = now
        return True


def full_looks(times: Sequence[float], last: float | None) -> list[int]:
    """Return which frames of a batch are looked at at full size, if they changed: the last one always.

    Args:
        times: Of the batch's frames, seconds.
        last: Time of the last one looked at; None at the start of a segment, the first frame of which is looked at.
    """
    places = []
    for at, now in enumerate(times):
        if at + 1 == len(times) or last is None or times[at + 1] - last > LOOK_SECONDS + CLOCK_SLACK:
            places.append(at)
            last = now
    return places


def explained(at: int, image: Image, now: Thumbnail, before: Look, after: Look) -> Between:
    """Tell which lines of the looks before and after a frame it shows, and which may be other ones now."""
    if not differs(now, after.thumbnail):
        return Between(at, after.lines, [])
    found = Between(at, [], [])
    for old, new in places_of(before.lines, after.lines):
        box = _around([*old, *new])
        if not differs_at(before.thumbnail, now, image, box):
            found.kept += old
        elif not differs_at(after.thumbnail, now, image, box):
            found.kept += new
        else:
            found.moved += {id(line): line for line in [*old, *new]}.values()
    return found


def places_of(before: Sequence[Line], after: Sequence[Line]) -> list[tuple[list[Line], list[Line]]]:
    """Put lines before and after that stand in one place together."""
    places: list[tuple[Box, list[Line], list[Line]]] = []
    for which, line in [(0, line) for line in before] + [(1, line) for line in after]:
        box = read_box(line.region)
        own: tuple[list[Line], list[Line]] = ([], [])
        own[which].append(line)
        apart = []
        for place in places:
            if _touch(box, place[0]):
                box = union(box, place[0])
                own = (place[1] + own[0], place[2] + own[1])
            else:
                apart.append(place)
        places = [*apart, (box, *own)]
    return [(old, new) for _, old, new in places]


def _line(region: Region, image: Image, now: Thumbnail, known: Sequence[Line]) -> Line:
    """Return the known line that a region holds unchanged, or else a new one."""
    box = region.box
    for line in known:
        other = line.region.box
        shift = EDGE_SHIFT * (other[3] - other[1])
        if all(abs(a - b) <= shift for a, b in zip(box, other, strict=True)):
            both = union(read_box(line.region), read_box(region))  # a sign may have come at either end
            if not differs_within(line.seen, now, image, both):
                return line
    return Line(region, cut(now, image, with_margin(read_box(region))), image)


def read_box(region: Region) -> Box:
    """Return the upright box around all that is read of a region: its letters and the room at its ends."""
    return union(region.box, enclosing(region.quad))


def with_margin(box: Box) -> Box:
    """Return a box with the room into which a line's edges may move."""
    room = 2 * EDGE_SHIFT * (box[3] - box[1])
    return box[0] - room, box[1] - room, box[2] + room, box[3] + room


def same_place(one: Box, other: Box) -> bool:
    """Tell whether two boxes are the same text, or one of them a part of it."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width > 0 and height > 0 and width * height > SAME_PLACE * smaller


def _touch(one: Box, other: Box) -> bool:
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def _around(lines: Sequence[Line]) -> Box:
    box = read_box(lines[0].region)
    for line in lines[1:]:
        box = union(box, read_box(line.region))
    return box


def _height(line: Line) -> float:
    """Return how tall the letters are: a line's shorter side, whichever way it runs."""
    quad = line.region.quad
    return float(min(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[3] - quad[0])))
