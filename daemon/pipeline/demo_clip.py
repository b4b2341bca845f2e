"""make_demo: five seconds of video drawn by Dropframe itself, for those who have no video at hand."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from daemon.pipeline.records import Image

WIDTH, HEIGHT = 960, 540
FPS = 10
SECONDS = 5
TITLE = "DROPFRAME DEMO"
WHITE, BLACK, RED, ORANGE = (255, 255, 255), (20, 20, 20), (190, 20, 30), (230, 120, 30)  # RGB


def make_demo(path: Path) -> Path:
    """Write the clip as MP4: a traffic sign that moves, a ball that bounces, two clocks and a line of text.

    Args:
        path: Where to; an existing file is replaced.

    Returns:
        The path.

    Raises:
        OSError: it cannot be written.
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for index in range(SECONDS * FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(index / FPS), format="rgb24")))
        container.mux(stream.encode())
    return path


def draw(seconds: float) -> Image:
    """Return the picture at a time: RGB, of height, width and 3."""
    picture: Image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0] = np.linspace(120, 190, HEIGHT, dtype=np.uint8)[:, None]
    picture[..., 1] = np.linspace(170, 205, HEIGHT, dtype=np.uint8)[:, None]
    picture[..., 2] = np.linspace(225, 200, HEIGHT, dtype=np.uint8)[:, None]
    cv2.rectangle(picture, (0, 440), (WIDTH, HEIGHT), (95, 100, 95), -1)
    _sign(picture, int(170 + 60 * seconds), 250, 95)
    _clock(picture, 790, 200, 110, seconds)
    cv2.circle(picture, (560, int(405 - 150 * abs(math.sin(2 * seconds)))), 34, ORANGE, -1, cv2.LINE_AA)
    _write(picture, TITLE, 40, 70, 1.6)
    _write(picture, f"00:0{seconds:.1f}", 700, 500, 1.6)
    return picture


def _sign(picture: Image, x: int, y: int, radius: int) -> None:
    cv2.rectangle(picture, (x - 7, y), (x + 7, 470), (120, 120, 120), -1)
    for size, colour in ((radius, WHITE), (radius - 8, RED)):
        angles = [math.pi / 8 + corner * math.pi / 4 for corner in range(8)]
        corners = [(x + size * math.cos(angle), y + size * math.sin(angle)) for angle in angles]
        cv2.fillPoly(picture, [np.array(corners, np.int32)], colour, cv2.LINE_AA)
    _write(picture, "STOP", x - 66, y + 20, 1.7, WHITE)


def _clock(picture: Image, x: int, y: int, radius: int, seconds: float) -> None:
    for size, colour in ((radius, BLACK), (radius - 9, WHITE)):
        cv2.circle(picture, (x, y), size, colour, -1, cv2.LINE_AA)
    for hour in range(1, 13):
        angle = hour * math.pi / 6
        left = x + int(0.74 * radius * math.sin(angle)) - (11 if hour < 10 else 20)
        _write(picture, str(hour), left, y - int(0.74 * radius * math.cos(angle)) + 9, 0.8)
    for turns, length, width in ((10.15 / 12, 0.45, 8), (0.15, 0.62, 5), (seconds / 60, 0.66, 2)):
        angle = 2 * math.pi * turns
        end = (x + int(length * radius * math.sin(angle)), y - int(length * radius * math.cos(angle)))
        cv2.line(picture, (x, y), end, BLACK, width, cv2.LINE_AA)


def _write(picture: Image, text: str, x: int, y: int, scale: float, colour: tuple[int, int, int] = BLACK) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, round(2 * scale), cv2.LINE_AA)
