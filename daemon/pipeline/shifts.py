"""Shifts: how far a part of a picture moved from one frame to another, and whether it looks there as it did.

A camera that pans and credits that scroll move a line of text by fractions of a pixel of the small pictures in which
changes are looked for. So the place is found to a fraction, and what stands there is compared after it was moved back.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.pipeline.changes import CHANGE_THRESHOLD, Patch, Thumbnail

EDGE_ALLOWANCE = 0.15
"""Share of the difference between neighbouring pixels that counts as no change, as moving by part of a pixel softens
edges. The same letters further on differ by 7 % of their contrast in scrolling credits and by 2 % in a pan, another
letter by 20 % and more of what the line's brightness spans, by as little as that where letters are small."""
SPAN_ALLOWANCE = 0.15
"""Share of what brightness spans around a pixel, within a line's height, by which that pixel may differ beyond this: a
faint letter that is another one differs by few levels."""
LEAST_LETTERS = 8.0
"""Pixels of a thumbnail that a line is tall, at least, to be known in another place: of less, letters look alike."""
LEAST_SHIFT = 0.2
"""Pixels of a thumbnail by which something moved, at least: what stands still is compared without an allowance."""
MOST_SEARCHED = 8
"""Pixels of a thumbnail by which a guess may be wrong, in each direction."""
_NEIGHBOURS = np.ones((3, 3), np.uint8)

Part = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels of a thumbnail; the last two are outside."""
Shift = tuple[float, float]
"""How far to the right and down, in pixels of a thumbnail."""


def shift_of(before: Patch, part: Part, now: Thumbnail, guess: Shift, room: float) -> Shift | None:
    """Return how far a part of an earlier thumbnail moved; None if it is nowhere near the guess.

    Args:
        before: What is kept of the earlier one.
        part: Of that thumbnail; in the patch.
        now: The later one.
        guess: How far it may have moved.
        room: By how much that may be wrong.
    """
    left, top, right, bottom = part
    old = before.pixels[top - before.top : bottom - before.top, left - before.left : right - before.left]
    across, down = round(guess[0]), round(guess[1])
    reach = min(MOST_SEARCHED, math.ceil(room) + 1)
    first = max(0, left + across - reach), max(0, top + down - reach)
    around = now[first[1] : bottom + down + reach, first[0] : right + across + reach]
    if around.shape[0] < old.shape[0] or around.shape[1] < old.shape[1] or not old.size:
        return None
    unlike = cv2.matchTemplate(around, old, cv2.TM_SQDIFF)
    _, _, (x, y), _ = cv2.minMaxLoc(unlike)
    return first[0] + x + _vertex(unlike[y], x) - left, first[1] + y + _vertex(unlike[:, x], y) - top


def _vertex(values: NDArray[Any], least: int) -> float:
    """Return where, beside the least of some values, the parabola through it and its neighbours has its vertex."""
    if not 0 < least < len(values) - 1:
        return 0.0
    one, two, three = (float(value) for value in values[least - 1 : least + 2])
    bend = one - 2 * two + three
    return max(-0.5, min(0.5, (one - three) / (2 * bend))) if bend > 0 else 0.0


def looks_alike(before: Patch, part: Part, now: Thumbnail, shift: Shift) -> bool:
    """Tell whether a part of an earlier thumbnail, which moved by a shift, looks as it did."""
    if max(map(abs, shift)) < LEAST_SHIFT:
        return False
    rows, columns = before.pixels.shape[:2]
    left, top = max(part[0], before.left), max(part[1], before.top)
    right, bottom = min(part[2], before.left + columns), min(part[3], before.top + rows)
    if left >= right or top >= bottom:
        return False
    old = before.pixels[top - before.top : bottom - before.top, left - before.left : right - before.left]
    back = np.asarray([[1, 0, left + shift[0]], [0, 1, top + shift[1]]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    new = cv2.warpAffine(now, back, (right - left, bottom - top), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    edges = cv2.subtract(cv2.dilate(old, _NEIGHBOURS), cv2.erode(old, _NEIGHBOURS))
    change = cv2.subtract(cv2.absdiff(old, new), cv2.convertScaleAbs(edges, alpha=EDGE_ALLOWANCE))
    limit = np.clip(_span(old) * SPAN_ALLOWANCE, 1, CHANGE_THRESHOLD)
    return bool((change <= limit).all())


def _span(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return by how much brightness differs around each pixel, no further off than a line is tall."""
    near = np.ones((min(pixels.shape[:2]),) * 2, np.uint8)
    spans: NDArray[Any] = cv2.subtract(cv2.dilate(pixels, near), cv2.erode(pixels, near))
    return spans
