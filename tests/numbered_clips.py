"""Clips of which each frame carries its own number, as text and as a bar code, and a marker that moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.pipeline.video import Video
from tests.clips import TIME_BASE
from tests.derived_documents import frame, write_document
from tests.odd_clips import set_edits, set_matrix

Picture = NDArray[np.uint8]
Turn = Callable[[Picture], Picture]

SIZE = (320, 180)
BITS = 10
MARKER = (235, 40, 235)
"""RGB of the marker, which nothing else in a picture has."""
MARKER_PX = 36


def numbered(number: int) -> Picture:
    """Draw the picture of a number, as it is to be seen: RGB."""
    width, height = SIZE
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 1] = np.linspace(30, 70, width, dtype=np.uint8)
    cv2.putText(picture, str(number), (8, height - 48), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (250, 250, 250), 3)
    x, y = 12 + number * 7 % (width - MARKER_PX - 24), 24 + number * 3 % 40
    picture[y : y + MARKER_PX, x : x + MARKER_PX] = MARKER
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        picture[height - 36 :, left:right] = 235 if number >> bit & 1 else 20
    return picture


def number_in(picture: Picture) -> int:
    """Read the bar code."""
    height, width = picture.shape[:2]
    row = picture[height - 24 : height - 12].mean(axis=(0, 2))
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > 128)


def marker_in(picture: Picture) -> list[float]:
    """Find the marker in a BGR picture; x1, y1, x2, y2."""
    blue, green, red = (picture[..., n].astype(int) for n in range(3))
    rows, columns = np.nonzero((blue > 150) & (red > 150) & (green < 110))
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


def make_numbered(
    path: Path,
    times: Sequence[float],
    *,
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1),
    to_coded: Turn = lambda picture: picture,
    aspect: Fraction | None = None,
    edits: Sequence[tuple[int, int]] = (),
    codec: str = "libx264",
    b_frames: int = 2,
) -> Path:
    """Write a clip.

    Args:
        path: Where to put it.
        times: When each frame is shown, in seconds.
        matrix: By which a player turns or mirrors what is stored.
        to_coded: What is stored of the picture that is to be seen.
        aspect: Width and height of a stored pixel.
        edits: The edit list, if it is to be another than the encoder's.
        codec: An encoder.
        b_frames: Most in a row.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = output.add_stream(codec, rate=25)
        first = to_coded(numbered(0))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = TIME_BASE
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        stream.options = {"crf": "16", "preset": "ultrafast", "g": "30", "bf": str(b_frames)}
        if codec == "libx265":
            stream.options |= {"x265-params": f"log-level=none:bframes={b_frames}"}
            stream.codec_context.codec_tag = "hvc1"
        for number, shown in enumerate(times):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(to_coded(numbered(number))), format="rgb24")
            picture.pts, picture.time_base = round(shown / TIME_BASE), TIME_BASE
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    set_matrix(path, *matrix)
    return set_edits(path, *edits) if edits else path


def analyse(clip: Path, document: Path) -> list[int]:
    """Write the result of a detector that sees the marker, with the times and pictures of the pipeline's own decoder.

    Returns:
        The number that each frame of the document carries.
    """
    video = Video(clip)
    records, numbers = [], []
    try:
        for found in video.frames():
            number = number_in(found.image)
            box = marker_in(found.image)
            seen = {"bbox": box, "class": "marker", "class_id": 0, "confidence": 0.9}
            low = [6.0, SIZE[1] - 80.0, 90.0, SIZE[1] - 44.0]
            line = {"bbox": low, "confidence": 0.98, "text": f"NUMBER {number // 40}"}
            records.append(frame(found.index, round(found.timestamp_s, 6), [line], [seen]))
            numbers.append(number)
        info = video.info
    finally:
        video.close()
    about = {"width": info.width, "height": info.height, "fps": info.fps, "duration_s": info.duration_s}
    write_document(document, records, video=about)
    return numbers


def even(frames: int, rate: Fraction) -> list[float]:
    """Return the times of an even frame rate."""
    return [float(number / rate) for number in range(frames)]


def uneven(*parts: tuple[int, float]) -> list[float]:
    """Return the times of parts that follow each other: frames and frames a second of each."""
    times, now = [], 0.0
    for frames, rate in parts:
        for _ in range(frames):
            times.append(round(now, 6))
            now += 1 / rate
    return times
