"""Lines that moved between two looks: the same line a little further on, or on ground that moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

import numpy as np

from daemon.pipeline.lines import Line, height_of
from daemon.pipeline.records import Box
from daemon.pipeline.regions import Quad, direction, spans

SURE = 0.9
"""Two readings of at least this confidence that differ are two texts; else the line may only be hard to read."""
SIZE_SHIFT = 0.5
"""Heights of a line by which its width and height may differ where it was found again."""
SIZE_SHARE = 0.1
"""Share of them by which they may differ whatever the height, as in a zoom."""
MOST_MOVED = 12.0
"""Heights of a line that it may move between two looks."""
MOST_MOVED_UNLIKE = 1.0
"""The same of a line that is hard to read and was read as something else: further away it is another line."""
ALIKE = 0.5
"""Least similarity of two readings of one line that is hard to read."""

Pair = tuple[Line, Line]


def may_be_one(old: Line, new: Line) -> bool:
    """Tell whether two lines are alike in size and not far from each other."""
    along = direction(old.region.outline)
    one, other = spans(old.region.outline, along), spans(new.region.outline, along)
    length, tall = one[2] - one[0], one[3] - one[1]
    longer, taller = abs(other[2] - other[0] - length), abs(other[3] - other[1] - tall)
    alike = longer <= max(SIZE_SHIFT * tall, SIZE_SHARE * length) and taller <= SIZE_SHIFT * tall
    return alike and _distance(old.region.box, new.region.box) <= MOST_MOVED * tall


def pairs(old: Sequence[Line], new: Sequence[Line]) -> list[Pair]:
    """Return which lines, all read, are the same before and after; each line is in one pair at most.

    A line that looks the same in both did not move: what changed its place in between may have hidden it.

    Those that are read alike come first, then those that a reading leaves in doubt; nearer ones before others.
    """
    ranked = sorted(
        (_text(a) != _text(b), _distance(a.region.box, b.region.box), at, to)
        for at, a in enumerate(old)
        for to, b in enumerate(new)
        if a is not b and may_be_one(a, b) and not _are_two(a, b)
    )
    found: dict[int, int] = {}
    for _, _, at, to in ranked:
        if at not in found and to not in found.values():
            found[at] = to
    return [(old[at], new[to]) for at, to in found.items()]


def between(pair: Pair, share: float) -> Line:
    """Return the line of a pair at a time between them, where it has got to if it moves evenly.

    Args:
        pair: The line before and after.
        share: Of the time between them that has gone by.
    """
    old, new = pair
    nearer = old if share < 0.5 else new
    x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(old.region.box, new.region.box, strict=True))
    quad, outline = (_between(a, b, share) for a, b in zip(_corners(old), _corners(new), strict=True))
    return replace(nearer, region=replace(nearer.region, box=(x1, y1, x2, y2), quad=quad, outline=outline))


def _corners(line: Line) -> tuple[Quad, Quad]:
    return line.region.quad, line.region.outline


def _between(old: Quad, new: Quad, share: float) -> Quad:
    """Return corners on their way; which is the first can differ, as with a line that turns."""
    turned = min((np.roll(new, by, axis=0) for by in range(4)), key=lambda quad: float(np.abs(quad - old).sum()))
    return np.asarray(old + (turned - old) * share, np.float32)


def _are_two(old: Line, new: Line) -> bool:
    if _text(old) == _text(new):
        return False
    if all(line.reading and line.reading.confidence >= SURE for line in (old, new)):
        return True
    far = _distance(old.region.box, new.region.box) > MOST_MOVED_UNLIKE * height_of(old)
    return far and SequenceMatcher(None, _text(old), _text(new)).ratio() < ALIKE


def _text(line: Line) -> str:
    return line.reading.text if line.reading else ""


def _distance(one: Box, other: Box) -> float:
    across, down = one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]
    return max(abs(across), abs(down)) / 2
