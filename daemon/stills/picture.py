"""Draw what was found in a frame, and make a JPEG of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2

from daemon.errors import PermanentError
from daemon.pipeline.records import Image

QUALITY = 92
COLOURS = ("#4cc38a", "#f0b254", "#5b9bff", "#ff7b80", "#c792ea", "#2bd4d9", "#e5e510", "#ff9e64")
"""Of classes, as the page has them."""
TEXT_COLOUR = "#ffffff"
LABEL_PART, LEAST_LABEL = 40, 11
"""Letters are so many times smaller than the shorter side of the picture, but not smaller than that, in pixels."""
MOST_LABEL = 60
"""Letters of a label."""

Colour = tuple[int, int, int]


def narrowed(image: Image, width: int) -> Image:
    """Return a picture that is at most so many pixels across; 0 means as it is."""
    if not width or image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


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
        _box(image, found["bbox"], scale, _colour(COLOURS[found.get("class_id", 0) % len(COLOURS)]), label)
    for block in texts:
        _box(image, block["bbox"], scale, _colour(TEXT_COLOUR), block["text"])


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
    if not label:
        return
    shown = "".join(letter if letter.isprintable() else " " for letter in label[:MOST_LABEL])
    font = cv2.FontFace("sans")
    _, _, wide, _ = cv2.getTextSize((width, height), shown, (0, 0), font, size)
    base = max(size + 2, top - 3)
    cv2.rectangle(image, (left, base - size - 2), (left + wide + 6, base + 4), colour, cv2.FILLED)
    cv2.putText(image, shown, (left + 3, base), (0, 0, 0), font, size)


def encode(image: Image) -> bytes:
    """Return a picture as JPEG.

    Raises:
        PermanentError: it is larger than a JPEG can be.
    """
    full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    try:
        is_done, data = cv2.imencode(".jpg", image, options)
    except cv2.error:
        is_done = False
    if not is_done:
        raise PermanentError("The picture is larger than a JPEG can be; ask for a width.")
    return data.tobytes()
