"""Make of a decoded frame the picture that a player shows: upright, square pixels, one size, common colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from daemon.pipeline.changes import are_equal
from daemon.pipeline.records import Image
from daemon.pipeline.video_hdr import TRANSFERS, ToneMap

LEAST_ASPECT = Fraction(1, 200)
"""A pixel aspect that differs less from 1 is rounding, and changes nothing."""
MOST_ASPECT = 16
"""A pixel aspect over this, or under its inverse, is not believed."""
BT709 = 1
BT2020_NCL = 9
UNSPECIFIED = 2
"""Numbers of colour matrices (ITU-T H.273)."""

HD_LINES = 720
"""Pictures of so many lines whose colour matrix is not told are in BT.709, others in BT.601, as browsers have it."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is brought upright: across the main diagonal, then left to right, then upside down.

    The eight of them are what the 2x2 part of a display matrix can say (ISO/IEC 14496-12, section 8.3.2).
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> Orientation:
        """Take the orientation from a display matrix: nine numbers, row by row; what is askew goes to the nearest.

        It maps the stored point (x, y) to (a x + c y, b x + d y).
        """
        a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def mirrored(self) -> bool:
        """Whether the upright picture is a mirror image of the stored one."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees clockwise that the stored picture is turned, after it was mirrored left to right if it was."""
        if self.transpose:
            return 90 if self.flip_y == self.mirrored else 270
        return 180 if self.flip_y else 0

    def size(self, size: Size) -> Size:
        """Return the upright size of a stored picture."""
        return size[::-1] if self.transpose else size

    def apply(self, image: Image) -> Image:
        """Return the picture upright."""
        code = _CODES[(self.transpose, self.flip_x, self.flip_y)]
        for step in code:
            image = step(image)
        return image


def _flipped(axis: int) -> Any:
    return lambda image: cv2.flip(image, axis)


def _rotated(turn: int) -> Any:
    return lambda image: cv2.rotate(image, turn)


_CODES: dict[tuple[bool, bool, bool], tuple[Any, ...]] = {
    (False, False, False): (),
    (False, True, False): (_flipped(1),),
    (False, False, True): (_flipped(0),),
    (False, True, True): (_rotated(cv2.ROTATE_180),),
    (True, False, False): (cv2.transpose,),
    (True, True, False): (_rotated(cv2.ROTATE_90_CLOCKWISE),),
    (True, False, True): (_rotated(cv2.ROTATE_90_COUNTERCLOCKWISE),),
    (True, True, True): (cv2.transpose, _rotated(cv2.ROTATE_180)),
}


def believed_aspect(aspect: Fraction | None) -> Fraction:
    """Return width by height of a stored pixel; 1 for what is not told, is rounding, or makes no sense."""
    if not aspect or not Fraction(1, MOST_ASPECT) <= aspect <= MOST_ASPECT or abs(aspect - 1) < LEAST_ASPECT:
        return Fraction(1)
    return aspect


def square_pixels(size: Size, aspect: Fraction, most_pixels: int) -> Size:
    """Return the size that a stored picture has in square pixels, as browsers do it.

    The shorter side of a pixel grows, so no detail is lost; if that is over the limit, the other one shrinks.

    Args:
        size: Stored width and height.
        aspect: Width of a pixel by its height.
        most_pixels: Limit of a picture.
    """
    width, height = size
    larger = (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
    if larger[0] * larger[1] <= most_pixels:
        return larger
    smaller = (width, round(height / aspect)) if aspect >= 1 else (round(width * aspect), height)
    return max(1, smaller[0]), max(1, smaller[1])


class Renderer:
    """Turns decoded frames into pictures of one size.

    Args:
        stored: Width and height of the first decoded frame.
        aspect: Width of a stored pixel by its height.
        orientation: How its pictures are brought upright.
        most_pixels: Limit of a picture.
        is_hd_bt709: Whether pictures of ``HD_LINES`` whose matrix is not told are in BT.709.
    """

    def __init__(
        self, stored: Size, aspect: Fraction, orientation: Orientation, most_pixels: int, is_hd_bt709: bool = True
    ) -> None:
        self._stored, self._aspect, self._most_pixels = stored, aspect, most_pixels
        self._orientation = orientation
        self._shown = square_pixels(stored, aspect, most_pixels)
        self._is_bt709 = is_hd_bt709 and self._shown[1] >= HD_LINES
        self._tone_maps: dict[tuple[int, int], ToneMap] = {}

    @property
    def size(self) -> Size:
        """Width and height of every picture that comes."""
        return self._orientation.size(self._shown)

    def render(self, frame: Any) -> Image:
        """Return a decoded frame as an upright BGR picture.

        Args:
            frame: A ``VideoFrame`` of PyAV.
        """
        stored = (frame.width, frame.height)
        if stored == self._stored:
            return np.ascontiguousarray(self._orientation.apply(self._bgr(frame, self._shown)))
        fitted = self._fit(square_pixels(stored, self._aspect, self._most_pixels))
        image = np.zeros((self._shown[1], self._shown[0], 3), np.uint8)
        left, top = (self._shown[0] - fitted[0]) // 2, (self._shown[1] - fitted[1]) // 2
        image[top : top + fitted[1], left : left + fitted[0]] = self._bgr(frame, fitted)
        return np.ascontiguousarray(self._orientation.apply(image))

    def _fit(self, size: Size) -> Size:
        """Return the largest size of the same shape that goes into a picture."""
        scale = min(self._shown[0] / size[0], self._shown[1] / size[1])
        return max(1, min(self._shown[0], round(size[0] * scale))), max(1, min(self._shown[1], round(size[1] * scale)))

    def _bgr(self, frame: Any, size: Size) -> Image:
        width, height = size
        scaling = {"interpolation": "BICUBIC"} if (frame.width, frame.height) != size else {}
        if frame.color_trc not in TRANSFERS:
            matrix = BT709 if self._is_bt709 and frame.colorspace == UNSPECIFIED else None
            image: Image = frame.to_ndarray(
                format="bgr24", width=width, height=height, src_colorspace=matrix, **scaling
            )
            return image
        matrix = frame.colorspace if frame.colorspace != UNSPECIFIED else BT2020_NCL
        deep = frame.to_ndarray(format="bgr48le", width=width, height=height, src_colorspace=matrix, **scaling)
        kind = (frame.color_trc, frame.color_primaries)
        if kind not in self._tone_maps:
            self._tone_maps[kind] = ToneMap(*kind)
        return self._tone_maps[kind](deep)


class RepeatingRenderer:
    """Gives for a frame that equals the one before it the very same picture again, which nobody may draw on.

    Args:
        renderer: Makes the pictures.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._last: tuple[Any, Image] | None = None
        """The frame before, or with several threads one of those before, and its picture."""

    def render(self, frame: Any) -> Image:
        """See Renderer.render; safe to be called from several threads."""
        last = self._last
        image = last[1] if last and is_same(last[0], frame) else self._renderer.render(frame)
        self._last = frame, image
        return image


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two frames of PyAV are the same to the byte, and say the same of their colours."""
    if _colours(one) != _colours(other):
        return False
    planes = zip(_planes(one), _planes(other), strict=True)
    return all(are_equal(ours, theirs) for ours, theirs in planes)


def _colours(frame: Any) -> tuple[Any, ...]:
    kind = (frame.width, frame.height, frame.format.name, len(frame.planes))
    return (*kind, frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)


def _planes(frame: Any) -> list[Image]:
    return [np.frombuffer(plane, np.uint8).reshape(plane.height, -1) for plane in frame.planes]
