"""A line of text: where it stands, what it looked like, and what was read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.pipeline.changes import Patch, Thumbnail, cut, differs_within, union
from daemon.pipeline.readings import Reading
from daemon.pipeline.records import Box, Image
from daemon.pipeline.regions import Region, enclosing

EDGE_SHIFT = 0.35
"""How far a region's edges may move, in heights of its line, and still be the same line: regions found anew
jitter by a pixel or two, while a character more moves an edge by half a height."""

SIGN_ROOM = 0.5
"""Heights of a line before it in which a sign may come."""

SAME_PLACE = 0.5
"""Share of the smaller of two boxes that lies in the other, above which they are the same text."""


MOST_LOOSE = 1.6
"""How much taller than its parts a line found as a whole may be; what is taller holds several lines."""


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


def line_of(region: Region, image: Image, now: Thumbnail, known: Sequence[Line]) -> Line:
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


def goes_on(box: Box, parts: Sequence[Box]) -> bool:
    """Tell whether a box is the line that others are parts of, and there is more of it than they hold."""
    whole = functools.reduce(union, parts)
    sides, known = ((each[2] - each[0], each[3] - each[1]) for each in (box, whole))
    return max(sides) - max(known) > min(known) and min(sides) < MOST_LOOSE * min(known)


def touch(one: Box, other: Box) -> bool:
    """Tell whether two boxes overlap."""
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def around(lines: Sequence[Line]) -> Box:
    """Return the box around some lines, one at least, with room for a sign before them; behind them there is some."""
    box = read_box(lines[0].region)
    for line in lines:
        left, top, right, bottom = read_box(line.region)
        box = union(box, (left - SIGN_ROOM * height_of(line), top, right, bottom))
    return box


def height_of(line: Line) -> float:
    """Return how tall the letters are: a line's shorter side, whichever way it runs."""
    quad = line.region.quad
    return float(min(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[3] - quad[0])))
