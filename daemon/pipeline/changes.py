"""What changed between two frames, seen on small copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.pipeline.overlap import spread
from daemon.pipeline.records import Box, Image

THUMBNAIL_SIDE = 360
"""Shorter side, in pixels, of the small picture in which changes are looked for."""

LEAST_THUMBNAIL = 1 / 3
"""Smallest scale of that picture, so that a letter of a large frame still covers some of its pixels."""

CHANGE_THRESHOLD = 8
"""Difference of a thumbnail's pixels (0 to 255, any colour) that counts as a change where the picture is quiet: a digit
of low contrast, or one that differs in colour alone, is above it."""

NOISY_THRESHOLD = 24
"""The same where everything moves a little: coding noise on still text stays below it."""

NOISE_FACTOR = 12
"""Between the two, more than so many times the median difference (and half a level, as differences are whole) is a
change: noise is everywhere, so that the median shows it, and letters are few."""

SAMPLED_ROWS = 32
"""Of so many rows one is compared first: of two frames that differ it nearly always tells."""

UNSEEN = 2
"""Levels (of 256, of any colour) by which no pixel of two frames may differ that count as one picture. Encoders go on
refining a picture in which nothing moves, by so little that nobody sees it; the noise of a camera is more."""

Thumbnail = NDArray[Any]
"""A small copy of a frame, shape (height, width, 3)."""


@dataclass(frozen=True)
class Patch:
    """Part of a thumbnail."""

    pixels: NDArray[Any]
    left: int
    top: int
    """Its place in the thumbnail."""


def thumbnail(image: Image) -> NDArray[Any]:
    """Return a small, softened copy of a frame, for telling what changed."""
    height, width = image.shape[:2]
    scale = min(1.0, max(LEAST_THUMBNAIL, THUMBNAIL_SIDE / min(height, width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: NDArray[Any] = cv2.blur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (3, 3))
    return small


def thumbnails_of(images: Sequence[Image]) -> list[Thumbnail]:
    """Return a thumbnail of each frame, the very same for frames that are one picture."""
    single = {id(image): image for image in images}
    made = dict(zip(single, spread(thumbnail, single.values()), strict=True))
    return [made[id(image)] for image in images]


def union(one: Box, other: Box) -> Box:
    """Return the box around two."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def cut(now: NDArray[Any], image: Image, box: Box) -> Patch:
    """Copy the part of a frame's thumbnail that a box of the frame covers; at least one pixel."""
    left, top, right, bottom = scaled(now, image, box)
    return Patch(now[top:bottom, left:right].copy(), left, top)


def differs_within(before: Patch, now: NDArray[Any], image: Image, box: Box) -> bool:
    """Tell whether a box of a frame looks other than it did; so does one of which not all was kept."""
    left, top, right, bottom = scaled(now, image, box)
    rows, columns = before.pixels.shape[:2]
    if left < before.left or top < before.top or right > before.left + columns or bottom > before.top + rows:
        return True
    old = before.pixels[top - before.top : bottom - before.top, left - before.left : right - before.left]
    return differs(old, now[top:bottom, left:right])


def differs_at(before: NDArray[Any], now: NDArray[Any], image: Image, box: Box) -> bool:
    """Tell whether a box of a frame looks other in two thumbnails."""
    left, top, right, bottom = scaled(now, image, box)
    return differs(before[top:bottom, left:right], now[top:bottom, left:right])


def scaled(now: NDArray[Any], image: Image, box: Box) -> tuple[int, int, int, int]:
    """Return a box of a frame as edges in its thumbnail, at least one pixel apart; the last two are outside."""
    down, across = now.shape[0] / image.shape[0], now.shape[1] / image.shape[1]
    left, top = (
        max(0, min(int(value), most - 1))
        for value, most in ((box[0] * across, now.shape[1]), (box[1] * down, now.shape[0]))
    )
    right, bottom = (
        max(left + 1, min(round(box[2] * across), now.shape[1])),
        max(top + 1, min(round(box[3] * down), now.shape[0])),
    )
    return left, top, right, bottom


def differs(before: NDArray[Any], now: NDArray[Any]) -> bool:
    """Tell whether any pixel of two pictures of one size differs by more than noise."""
    if before is now:
        return False
    difference = cv2.absdiff(before, now)
    most = int(difference.max())
    if most > NOISY_THRESHOLD or most <= CHANGE_THRESHOLD:
        return most > NOISY_THRESHOLD
    return most > NOISE_FACTOR * (float(np.median(difference[::2, ::2])) + 0.5)


def is_same_picture(one: Image, other: Image) -> bool:
    """Tell whether nobody could tell two frames apart."""
    if one.shape != other.shape:
        return False
    if one is other:
        return True
    return all(
        cv2.absdiff(ours, theirs).max() <= UNSEEN
        for ours, theirs in ((one[::SAMPLED_ROWS], other[::SAMPLED_ROWS]), (one, other))
    )


def are_equal(one: Image | None, other: Image | None) -> bool:
    """Tell whether two frames are the same to the byte."""
    if one is None or other is None or one.shape != other.shape:
        return False
    if one is other:
        return True
    return np.array_equal(one[::SAMPLED_ROWS], other[::SAMPLED_ROWS]) and np.array_equal(one, other)
