"""Makers of clips that cameras, editors and recorders write, and that make_clip does not."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.clips import draw_frame

Picture = NDArray[np.uint8]
PATCHES = (
    (220, 30, 30),
    (30, 200, 40),
    (40, 60, 220),
    (230, 220, 40),
    (200, 60, 200),
    (235, 235, 235),
    (128, 128, 128),
)
"""RGB of the stripes of ``patches``."""


def moving(count: int, size: tuple[int, int] = (320, 240)) -> list[Picture]:
    """Return ``draw_frame``'s first pictures."""
    return [draw_frame(index, size) for index in range(count)]


def patches(size: tuple[int, int] = (448, 96)) -> Picture:
    """Return upright stripes of known colours, RGB."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for index, colour in enumerate(PATCHES):
        picture[:, index * size[0] // len(PATCHES) : (index + 1) * size[0] // len(PATCHES)] = colour
    return picture


def encode(
    path: Path,
    *tracks: Iterable[Picture],
    codecs: Sequence[str] = (),
    pix_fmt: str = "yuv420p",
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write pictures (RGB) into one track each, 25 a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    muxer = {".mov": "mov", ".mkv": "matroska", ".avi": "avi"}.get(path.suffix, "mp4")
    with av.open(str(path), "w", format=muxer, options=container or {}) as output:
        streams: list[tuple[Any, list[Picture]]] = []
        for number, pictures in enumerate(map(list, tracks)):
            codec = codecs[number] if codecs else "libx264"
            stream: Any = output.add_stream(codec, rate=25)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else pix_fmt
            stream.options = options or ({"preset": "ultrafast", "crf": "18"} if codec == "libx264" else {})
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            streams.append((stream, pictures))
        for stream, pictures in streams:
            for picture in pictures:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                output.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            output.mux(stream.encode(None))
    # Run by root, SVT-AV1 puts its caller, and so all that it starts later, before everything else on the machine.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def remuxed(path: Path, packets: Iterable[av.Packet], template: av.VideoStream, movflags: str = "") -> Path:
    """Write packets as they are into a file."""
    with av.open(str(path), "w", format="mp4", options={"movflags": movflags} if movflags else {}) as output:
        stream = output.add_stream_from_template(template)
        for packet in packets:
            packet.stream = stream
            output.mux(packet)
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write the 2x2 part of the display matrix of the first track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16
    for place, value in zip((0, 1, 3, 4), (a, b, c, d), strict=True):
        data[at + 4 * place : at + 4 * place + 4] = struct.pack(">i", value << 16)
    path.write_bytes(data)
    return path


def enable(path: Path, *enabled: bool) -> Path:
    """Set for each track whether it is enabled (tkhd, flag 1)."""
    data = bytearray(path.read_bytes())
    at = -1
    for flag in enabled:
        at = data.index(b"tkhd", at + 1)
        data[at + 7] = data[at + 7] & ~1 | flag
    path.write_bytes(data)
    return path


def hdr(path: Path, transfer: str) -> Path:
    """Write three frames of ``patches`` as HEVC of 10 bits in BT.2020 with ``pq`` or ``hlg``, white at 203 cd/m2."""
    tags = {"pq": "smpte2084", "hlg": "arib-std-b67"}
    light = (patches() / 255.0) ** 2.4
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    signal = {"pq": _pq, "hlg": _hlg}[transfer](light @ to_2020.T * 203)
    deep = np.ascontiguousarray((signal * 65535 + 0.5).astype(np.uint16))
    parameters = f"log-level=none:colorprim=bt2020:transfer={tags[transfer]}:colormatrix=bt2020nc:range=limited"
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = output.add_stream("libx265", rate=25, options={"x265-params": parameters, "crf": "10"})
        stream.height, stream.width = deep.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        stream.codec_context.codec_tag = "hvc1"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(deep, format="rgb48le")
            output.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)))
        output.mux(stream.encode(None))
    return path


def _pq(nits: NDArray[Any]) -> NDArray[Any]:
    power = (np.maximum(nits, 0) / 10_000) ** (2610 / 16384)
    signal: NDArray[Any] = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    return signal


def _hlg(nits: NDArray[Any]) -> NDArray[Any]:
    scene = (np.maximum(nits, 0) / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal: NDArray[Any] = np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    )
    return signal


def interlaced(path: Path, count: int = 12, gop: int = 250) -> Path:
    """Write a bar that moves 8 pixels a field, bottom field first."""
    fields = [_bar(number) for number in range(2 * count)]
    pictures = []
    for first, second in zip(fields[::2], fields[1::2], strict=True):
        woven = first.copy()
        woven[::2] = second[::2]
        pictures.append(woven)
    options = {"preset": "ultrafast", "crf": "12", "flags": "+ilme+ildct", "g": str(gop)}
    return encode(path, pictures, options=options)


def _bar(number: int) -> Picture:
    picture = np.full((192, 320, 3), 60, np.uint8)
    picture[40:150, 20 + 8 * number : 60 + 8 * number] = 220
    return picture


def boxes(*parts: tuple[bytes, bytes]) -> bytes:
    """Return boxes of a type and a content each."""
    return b"".join((8 + len(content)).to_bytes(4, "big") + kind + content for kind, content in parts)


def packets_of(path: Path) -> tuple[list[av.Packet], Any, Any]:
    """Return the coded frames of a clip's first video track, the track, and the open file, to be closed."""
    container = av.open(str(path))
    stream = container.streams.video[0]
    return [packet for packet in container.demux(stream) if packet.dts is not None], stream, container


def not_coded(path: Path, indices: Iterable[int], count: int = 20) -> Path:
    """Write an MPEG-4 clip in which some pictures say no more than that the one before stays (ISO/IEC 14496-2)."""
    source = encode(path.with_suffix(".source.mp4"), moving(count), codecs=["mpeg4"], options={"g": "100"})
    packets, stream, container = packets_of(source)
    made = []
    for index, packet in enumerate(packets):
        if index in set(indices):
            bits = "01" + "0" + "1" + f"{index % 25:05b}" + "1" + "0" + "01111"
            new = av.Packet(b"\0\0\1\xb6" + int(bits, 2).to_bytes(2, "big"))
            new.pts, new.dts, new.time_base, new.duration = packet.pts, packet.dts, packet.time_base, packet.duration
            packet = new
        made.append(packet)
    remuxed(path, made, stream)
    container.close()
    return path


def with_empty_samples(path: Path, count: int, empty: int) -> Path:
    """Write an MPEG-4 clip whose last samples have no bytes."""
    encode(path, moving(count), codecs=["mpeg4"])
    data = bytearray(path.read_bytes())
    table = data.index(b"stsz") + 16
    data[table + 4 * (count - empty) : table + 4 * count] = bytes(4 * empty)
    path.write_bytes(data)
    return path


def set_edits(path: Path, *edits: tuple[int, int]) -> Path:
    """Replace the edit list of the only track by others: (duration in 1/1000 s, time in the media's ticks) each."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") - 4
    old = int.from_bytes(data[at : at + 4], "big")
    entries = b"".join(struct.pack(">IiI", duration, start, 1 << 16) for duration, start in edits)
    new = boxes((b"elst", bytes(4) + len(edits).to_bytes(4, "big") + entries))
    for kind in (b"moov", b"trak", b"edts"):
        size = data.index(kind) - 4
        data[size : size + 4] = (int.from_bytes(data[size : size + 4], "big") + len(new) - old).to_bytes(4, "big")
    data[at : at + old] = new
    path.write_bytes(data)
    return path
