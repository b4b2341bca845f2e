"""A line of text: where it stands, what it looked like, and what was read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from daemon.pipeline.changes import Patch, Thumbnail, cut, differs_within, scaled, union
from daemon.pipeline.readings import Reading
from daemon.pipeline.records import Box, Image
from daemon.pipeline.regions import Quad, Region, direction, enclosing, spans
from daemon.pipeline.shifts import LEAST_LETTERS, looks_alike, shift_of

EDGE_SHIFT = 0.35
"""How far a region's edges may move, in heights of its line, and still be the same line: regions found anew
jitter by a pixel or two, while a character more moves an edge by half a height."""

MOST_TRIED = 8
"""Known lines of the same size, the nearest first, of which it is seen whether one moved to a place."""

READ_FOR_SURE = 0.97
"""A line that moved is read a second time if it was read with less: what ran into it where it was, or the edge of the
picture, may have cost it a letter or an accent."""

LAID_ON_SIDE = 1.5
"""Heights by widths from which on a region is laid on its side to be read (``crop``)."""

SIGN_ROOM = 0.5
"""Heights of a line before it in which a sign may come."""

SAME_PLACE = 0.5
"""Share of the smaller of two outlines that lies in the other, above which they are the same text."""


MOST_LOOSE = 1.6
"""How much taller than its parts a line found as a whole may be; what is taller holds several lines."""


@dataclass(eq=False)
class Writing:
    """What stands in a line, wherever that moves to: what it looked like, and what was read."""

    region: Region
    """Where it stood."""
    seen: Patch
    """What it looked like there, with the room around it into which its edges may move."""
    image: Image | None
    """The frame in which it is to be read; None once it was."""
    reading: Reading | None = field(default=Reading("", 0.0))
    """None if the engine gave it up."""
    on_head: bool = False
    """Whether it was read upside down, from its other end."""
    earlier: Writing | None = None
    """The same in another place, where it was not read for sure."""

    @property
    def is_settled(self) -> bool:
        """Tell whether it need not be read in yet another place."""
        waits = self.image is not None
        return (
            waits or self.earlier is not None or (self.reading is not None and self.reading.confidence >= READ_FOR_SURE)
        )

    def keep_surer(self) -> None:
        """Keep what was read earlier, if that was surer."""
        if self.earlier and self.earlier.reading and self.earlier.reading.confidence > confidence_of(self.reading):
            self.reading, self.on_head = self.earlier.reading, self.earlier.on_head


@dataclass(eq=False)
class Line:
    """A region and what stands in it."""

    region: Region
    seen: Patch
    """What it looks like in this place."""
    writing: Writing

    @property
    def reading(self) -> Reading | None:
        """What was read; None if the engine gave it up."""
        return self.writing.reading


def confidence_of(reading: Reading | None) -> float:
    """Return how sure a reading is; 0 if there is none."""
    return reading.confidence if reading else 0.0


def line_of(region: Region, image: Image, now: Thumbnail, known: Sequence[Line]) -> Line:
    """Return the known line that a region holds unchanged, or one that moved there, or else a new one."""
    for line in known:
        if edges_moved(line.region, region) <= EDGE_SHIFT:
            both = union(read_box(line.region), read_box(region))  # a sign may have come at either end
            if not differs_within(line.seen, now, image, both):
                return line
    writing, seen = _moved_to(region, image, now, known), cut(now, image, with_margin(region))
    if writing is not None and writing.is_settled:
        return Line(region, seen, writing)
    return Line(region, seen, Writing(region, seen, image, earlier=writing))


def _moved_to(region: Region, image: Image, now: Thumbnail, known: Sequence[Line]) -> Writing | None:
    """Return what is known and looks the same in another place."""
    across, down = now.shape[1] / image.shape[1], now.shape[0] / image.shape[0]
    if shorter_side(region.outline) * min(across, down) < LEAST_LETTERS:
        return None
    writings = {id(line.writing): line.writing for line in known}.values()
    ways = [(_way(each.region, region), each) for each in writings]
    alike = [(way, each) for way, each in ways if edges_moved(_by(each.region, way), region) <= EDGE_SHIFT]
    for (x, y), writing in sorted(alike, key=lambda each: max(map(abs, each[0])))[:MOST_TRIED]:
        room = EDGE_SHIFT * shorter_side(region.outline) * max(across, down)
        part = scaled(now, image, read_box(writing.region))
        shift = shift_of(writing.seen, part, now, (x * across, y * down), room)
        if shift is None:
            continue
        x, y = shift[0] / across, shift[1] / down
        if edges_moved(_by(writing.region, (x, y)), region) > EDGE_SHIFT:
            continue
        left, top, right, bottom = read_box(region)
        both = union(read_box(writing.region), (left - x, top - y, right - x, bottom - y))
        if looks_alike(writing.seen, scaled(now, image, both), now, shift):
            return writing
    return None


def _way(one: Region, other: Region) -> tuple[float, float]:
    """Return how far to the right and down the middle of a region is from that of another, in pixels."""
    left, top, right, bottom = (there - here for here, there in zip(one.box, other.box, strict=True))
    return (left + right) / 2, (top + bottom) / 2


def _by(region: Region, way: tuple[float, float]) -> Region:
    """Return a region moved."""
    return replace(region, outline=region.outline + np.asarray(way, np.float32))


def edges_moved(before: Region, after: Region) -> float:
    """Return how far any edge of a line is from where it was, in heights of the line, whichever way that runs."""
    along = direction(before.outline)
    known, found = spans(before.outline, along), spans(after.outline, along)
    return max(abs(a - b) for a, b in zip(known, found, strict=True)) / max(1.0, known[3] - known[1])


def read_box(region: Region) -> Box:
    """Return the upright box around all that is read of a region: its letters and the room at its ends."""
    return union(region.box, enclosing(region.quad))


def with_margin(region: Region) -> Box:
    """Return the box around all that is read of a region, with the room into which the line's edges may move."""
    box, room = read_box(region), 2 * EDGE_SHIFT * shorter_side(region.outline)
    return box[0] - room, box[1] - room, box[2] + room, box[3] + room


def same_place(one: Region, other: Region) -> bool:
    """Tell whether two regions are the same text, or one of them a part of it."""
    if not touch(one.box, other.box):
        return False
    ours, theirs = cv2.convexHull(one.outline), cv2.convexHull(other.outline)
    shared, _ = cv2.intersectConvexConvex(ours, theirs)
    return shared > SAME_PLACE * min(cv2.contourArea(ours), cv2.contourArea(theirs))


def goes_on(region: Region, parts: Sequence[Region]) -> bool:
    """Tell whether a region is the line that others are parts of, and there is more of it than they hold."""
    along = direction(region.outline)
    box, whole = spans(region.outline, along), functools.reduce(union, (spans(part.outline, along) for part in parts))
    sides, known = ((each[2] - each[0], each[3] - each[1]) for each in (box, whole))
    return max(sides) - max(known) > min(known) and min(sides) < MOST_LOOSE * min(known)


def touch(one: Box, other: Box) -> bool:
    """Tell whether two boxes overlap."""
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def around(lines: Sequence[Line]) -> Box:
    """Return the box around some lines, one at least, with room for a sign before them; behind them there is some.

    A line that is turned can begin at either end.
    """
    return functools.reduce(union, map(_with_sign_room, lines))


def _with_sign_room(line: Line) -> Box:
    quad, room = line.region.quad, SIGN_ROOM * height_of(line)
    ahead = direction(quad) * room
    left, top, right, bottom = read_box(line.region)
    return union((left - room, top, right, bottom), union(enclosing(quad - ahead), enclosing(quad + ahead)))


def height_of(line: Line) -> float:
    """Return how tall the letters are: a line's shorter side, whichever way it runs."""
    return shorter_side(line.region.quad)


def way_of(line: Line) -> Quad:
    """Return the direction in which a line is read, shape (2,), of length 1."""
    quad = line.region.quad
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    way = down if np.linalg.norm(down) >= LAID_ON_SIDE * np.linalg.norm(along) else along
    return np.asarray((-way if line.writing.on_head else way) / max(1e-6, float(np.linalg.norm(way))), np.float32)


def shorter_side(quad: Quad) -> float:
    """Return the shorter side of a region, in pixels."""
    return float(min(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[3] - quad[0])))
