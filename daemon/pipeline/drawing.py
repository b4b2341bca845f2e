"""Draw on a picture what was found in it, as the page does."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import cv2

from daemon.pipeline.records import Image

log = logging.getLogger(__name__)

COLOURS = ("#4cc38a", "#f0b254", "#5b9bff", "#ff7b80", "#c792ea", "#2bd4d9", "#e5e510", "#ff9e64")
"""Of classes, as the page has them."""
TEXT_COLOUR = "#ffffff"
LABEL_PART, LEAST_LABEL = 40, 11
"""Letters are so many times smaller than the shorter side of the picture, but not smaller than that, in pixels."""
MOST_LABEL = 60
"""Letters of a label."""

Colour = tuple[int, int, int]


def draw(image: Image, result: Mapping[str, Any], scale: float) -> None:
    """Draw detections and lines of text, as the page does.

    Args:
        image: Is drawn into.
        result: Of the frame, from the document.
        scale: Pixels of the picture for each of the document.
    """
    texts = result.get("text_blocks", ())
    read = [block["bbox"] for block in texts]
    for found in reversed(result["detections"]):  # the surest last, above the others
        name = found["class"]
        label = "" if name == "text" and found["bbox"] in read else f"{name} {round(found['confidence'] * 100)} %"
        _box(image, found["bbox"], scale, _colour(COLOURS[_number(found.get("class_id")) % len(COLOURS)]), label)
    for block in texts:
        _box(image, block["bbox"], scale, _colour(TEXT_COLOUR), block["text"])


def _number(class_id: Any) -> int:
    return class_id if isinstance(class_id, int) else 0  # results of other services may have none


def _colour(code: str) -> Colour:
    red, green, blue = bytes.fromhex(code[1:])
    return blue, green, red


def _box(image: Image, box: list[float], scale: float, colour: Colour, label: str) -> None:
    height, width = image.shape[:2]
    left, top, right, bottom = (
        round(min(max(edge * scale, 0), most)) for edge, most in zip(box, (width, height) * 2, strict=True)
    )
    size = max(LEAST_LABEL, min(width, height) // LABEL_PART)
    line = max(1, math.ceil(size / 10))
    cv2.rectangle(image, (left, top), (right, bottom), colour, line)
    font = _font() if label else None
    if font is None:
        return
    shown = "".join(letter if letter.isprintable() else " " for letter in label[:MOST_LABEL])
    _, _, wide, _ = cv2.getTextSize((width, height), shown, (0, 0), font, size)
    base = max(size + 2, top - 3)
    cv2.rectangle(image, (left, base - size - 2), (left + wide + 6, base + 4), colour, cv2.FILLED)
    cv2.putText(image, shown, (left + 3, base), (0, 0, 0), font, size)


@cache
def _font() -> cv2.FontFace | None:
    """Return the font that OpenCV brings along; None where it was built without one, and labels are left out."""
    try:
        font = cv2.FontFace("sans")
    except (cv2.error, AttributeError):
        font = None
    if font is None or not font.getName():
        log.warning("OpenCV has no font, so boxes are drawn without labels; install opencv-python-headless anew.")
        return None
    return font
