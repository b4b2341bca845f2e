"""How much two boxes have in common; each is x1, y1, x2 and y2 in pixels."""

from __future__ import annotations

from collections.abc import Sequence


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection of two boxes over their union, from 0 to 1."""
    both = _common(one, other)
    return both / (_area(one) + _area(other) - both) if both else 0.0


def inside(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection of two boxes over the smaller of them, from 0 to 1."""
    both = _common(one, other)
    return both / min(_area(one), _area(other)) if both else 0.0


def _common(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
