"""Clips in each kind of container that is taken."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.clips import add_tone
from tests.odd_clips import Picture, moving

KINDS = {
    "mkv": ("matroska", "libx264", "aac"),
    "webm": ("webm", "libvpx", "libopus"),
    "vp9.webm": ("webm", "libvpx-vp9", None),
    "avi": ("avi", "mpeg4", "mp2"),
    "divx": ("avi", "msmpeg4", None),
    "ts": ("mpegts", "libx264", "aac"),
    "m2ts": ("mpegts", "libx264", "ac3"),
    "mpeg2.ts": ("mpegts", "mpeg2video", "mp2"),
    "mpg": ("mpeg", "mpeg2video", "mp2"),
    "flv": ("flv", "libx264", "aac"),
    "spark.flv": ("flv", "flv", None),
    "wmv": ("asf", "wmv2", "libmp3lame"),
    "mp4": ("mp4", "libx264", "aac"),
}
"""Muxer, encoder of pictures and encoder of sound, by the ending of a name."""
QUALITY = {
    "libx264": {"preset": "ultrafast", "crf": "18"},
    "libvpx": {"b": "800k", "deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "libvpx-vp9": {"b": "800k", "deadline": "realtime", "cpu-used": "8", "threads": "1"},
}
OTHERS = [kind for kind in KINDS if kind != "mp4"]
"""Those that are taken only where the setting ``containers`` is ``all``."""


def in_container(
    path: Path,
    kind: str,
    *,
    count: int = 25,
    size: tuple[int, int] = (160, 120),
    pictures: Iterable[Picture] | None = None,
    sound: bool = False,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    b_frames: int = 0,
) -> Path:
    """Write pictures into a container, 25 a second.

    Args:
        path: Where to put it.
        kind: One of ``KINDS``.
        count: How many of ``moving``'s pictures, if none are given.
        size: Theirs.
        pictures: What to write instead.
        sound: Add a tone.
        aspect: Width of a pixel by its height.
        options: For the encoder of pictures.
        container: Options of the muxer.
        b_frames: Most B-frames in a row.
    """
    muxer, codec, sound_codec = KINDS[kind]
    more = {"mpegts_m2ts_mode": "1"} if kind == "m2ts" else {}
    drawn = list(pictures) if pictures is not None else moving(count, size)
    with av.open(str(path), "w", format=muxer, options=more | (container or {})) as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.height, stream.width = drawn[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        quality = QUALITY.get(codec, {"b": "800k"})
        stream.options = {"g": "12", "bf": str(b_frames), **quality, **(options or {})}
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        tone = output.add_stream(sound_codec, rate=48_000, layout="mono") if sound and sound_codec else None
        for picture in drawn:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            output.mux(stream.encode(frame.reformat(format="yuv420p")))
        if tone is not None:
            add_tone(output, tone, len(drawn) / 25)
        for each in (stream, tone):
            if each is not None:
                output.mux(each.encode(None))
    return path
