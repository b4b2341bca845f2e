"""Make a JPEG of a picture."""

from __future__ import annotations

import cv2

from daemon.errors import PermanentError
from daemon.pipeline.records import Image

QUALITY = 92


def narrowed(image: Image, width: int) -> Image:
    """Return a picture that is at most so many pixels across; 0 means as it is."""
    if not width or image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


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
