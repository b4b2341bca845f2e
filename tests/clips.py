"""make_clip: small real MP4 files for tests, made with PyAV and kept for the session."""

from __future__ import annotations

import atexit
import functools
import hashlib
import math
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

TIME_BASE = Fraction(1, 12_800)
SAMPLE_RATE = 48_000
BEGINNING = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\x08moov" + b"\0\0\0\0mdat"
"""What a video without pictures begins with: it is whole, whatever comes after it."""


def make_clip(
    path: Path,
    *,
    frames: int = 10,
    size: tuple[int, int] = (320, 240),
    fps: float = 25,
    codec: str = "libx264",
    ten_bit: bool = False,
    text: str | tuple[str, ...] | None = None,
    b_frames: int = 0,
    gop: int = 12,
    faststart: bool = False,
    fragmented: bool = False,
    pts_seconds: tuple[float, ...] | None = None,
    rotation: int = 0,
    audio: bool = False,
    video: bool = True,
    crf: int = 23,
) -> Path:
    """Write a clip of a rectangle and a circle that move over a gradient.

    Args:
        path: Where to put it; its folders are made.
        frames: Number of video frames.
        size: Width and height in pixels.
        fps: Frames per second; ignored where ``pts_seconds`` is given.
        codec: ``libx264``, ``libx265`` or another video encoder.
        ten_bit: 10 bits a sample (yuv420p10le) instead of 8.
        text: Written on every frame; several are for one frame each, the last for all that follow.
        b_frames: Most B-frames in a row.
        gop: Frames between key frames.
        faststart: The index comes first instead of last.
        fragmented: An MP4 of fragments.
        pts_seconds: When each frame is shown: a variable frame rate.
        rotation: Degrees, a multiple of 90, that a player turns the picture counter-clockwise.
        audio: Add a sine tone of the same length.
        video: Have a video track at all.
        crf: Quality, 0 to 51, lower is better.

    Returns:
        The path.
    """
    made = _made(
        frames,
        size,
        fps,
        codec,
        ten_bit,
        text,
        b_frames,
        gop,
        faststart,
        fragmented,
        pts_seconds,
        rotation,
        audio,
        video,
        crf,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, path)
    return path


def draw_frame(index: int, size: tuple[int, int], text: str | None = None) -> NDArray[np.uint8]:
    """Draw one frame of ``make_clip`` as RGB, of height, width and 3."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(40, 120, width, dtype=np.uint8)
    picture[..., 1] = np.linspace(60, 100, height, dtype=np.uint8)[:, None]
    x = (index * 5) % max(1, width - width // 4)
    cv2.rectangle(picture, (x, height // 2), (x + width // 4, height // 2 + height // 5), (220, 30, 30), -1)
    center = (width // 2, int(height * (0.5 + 0.3 * math.sin(index / 5))))
    cv2.circle(picture, center, max(2, height // 12), (40, 90, 230), -1)
    if text:
        scale = max(0.4, width / 500)
        cv2.putText(
            picture,
            text,
            (width // 20, height // 5),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (255, 255, 255),
            max(1, round(scale * 2)),
            cv2.LINE_AA,
        )
    return picture


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dropframe-clips-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _made(
    frames: int,
    size: tuple[int, int],
    fps: float,
    codec: str,
    ten_bit: bool,
    text: str | tuple[str, ...] | None,
    b_frames: int,
    gop: int,
    faststart: bool,
    fragmented: bool,
    pts_seconds: tuple[float, ...] | None,
    rotation: int,
    audio: bool,
    video: bool,
    crf: int,
) -> Path:
    key = repr((frames, size, fps, codec, ten_bit, text, b_frames, gop, faststart, fragmented))
    key += repr((pts_seconds, rotation, audio, video, crf))
    path = _folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.mp4"
    flags = ["+faststart"] if faststart else []
    if fragmented:
        flags = ["+frag_keyframe+empty_moov+default_base_moof"]
    with av.open(str(path), "w", format="mp4", options={"movflags": flags[0]} if flags else {}) as container:
        streams: dict[str, Any] = {}
        if video:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p10le" if ten_bit else "yuv420p"
            stream.codec_context.time_base = TIME_BASE
            stream.time_base = TIME_BASE
            stream.options = {"crf": str(crf), "preset": "ultrafast", "g": str(gop), "bf": str(b_frames)}
            if codec == "libx265":
                stream.options |= {"x265-params": f"log-level=none:bframes={b_frames}:keyint={gop}"}
                stream.codec_context.codec_tag = "hvc1"
            streams["video"] = stream
        if audio:
            streams["audio"] = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index in range(frames if video else 0):
            line = text[min(index, len(text) - 1)] if isinstance(text, tuple) else text
            frame = av.VideoFrame.from_ndarray(draw_frame(index, size, line), format="rgb24")
            shown = pts_seconds[index] if pts_seconds else index / fps
            frame.pts, frame.time_base = round(shown / TIME_BASE), TIME_BASE
            container.mux(streams["video"].encode(frame))
        if audio:
            add_tone(container, streams["audio"], frames / fps)
        for stream in streams.values():
            container.mux(stream.encode(None))
    if rotation:
        _rotate(path, rotation, size)
    return path


def add_tone(container: Any, stream: Any, seconds: float) -> None:
    wave = np.sin(np.arange(int(seconds * SAMPLE_RATE)) * 440 * 2 * np.pi / SAMPLE_RATE).astype(np.float32)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        container.mux(stream.encode(frame))


def _rotate(path: Path, degrees: int, size: tuple[int, int]) -> None:
    """Write the rotation into the display matrix of the first track (ISO/IEC 14496-12, section 8.3.2)."""
    width, height = size
    matrices = {
        90: (0, -1, 1, 0, 0, width),
        180: (-1, 0, 0, -1, width, height),
        270: (0, 1, -1, 0, height, 0),
    }
    a, b, c, d, x, y = matrices[degrees % 360]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version 0: flags, times and ids, then layer to volume
    for position, value in enumerate((a << 16, b << 16, 0, c << 16, d << 16, 0, x << 16, y << 16, 1 << 30)):
        data[at + 4 * position : at + 4 * position + 4] = (value & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)
