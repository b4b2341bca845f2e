"""Files made by hand to hurt: each has a name that says what it tries."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from tests.clips import make_clip

FTYP = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"


def box(kind: bytes, content: bytes = b"") -> bytes:
    """Return one box."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def patched(data: bytes, kind: bytes, offset: int, value: bytes) -> bytes:
    """Return the data with bytes put after a box's type, which must be there."""
    at = data.index(kind) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


def number(value: int) -> bytes:
    """Return a field of four bytes."""
    return struct.pack(">I", value)


def with_data_reference(clip: bytes, target: str) -> bytes:
    """Let the sample data come from another file: a dref entry that is not "in this file" (14496-12, 8.7.2)."""
    at = clip.index(b"dref") - 4
    size = struct.unpack_from(">I", clip, at)[0]
    entry = box(b"url ", b"\0\0\0\0" + target.encode() + b"\0")
    reference = box(b"dref", b"\0\0\0\0\0\0\0\1" + entry)
    grown = bytearray(clip[:at] + reference + clip[at + size :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        where = grown.index(kind) - 4
        struct.pack_into(">I", grown, where, struct.unpack_from(">I", grown, where)[0] + len(reference) - size)
    return bytes(grown)


def reference_movie(target: str) -> bytes:
    """A QuickTime movie that is nothing but the name of another (rmra, rmda, rdrf)."""
    rdrf = box(b"rdrf", b"\0\0\0\0url " + number(len(target) + 1) + target.encode() + b"\0")
    return FTYP + box(b"moov", box(b"rmra", box(b"rmda", rdrf))) + box(b"mdat", bytes(100))


def nested(kind: bytes, depth: int) -> bytes:
    """Boxes in boxes; all sizes are right."""
    total = 8 * depth
    return b"".join(struct.pack(">I4s", total - 8 * level, kind) for level in range(depth))


def headers(clip: bytes, late_index: bytes, moved: bytes) -> Iterator[tuple[str, bytes]]:
    """Lies in an index. The clips: index first, index last, of fragments."""
    for value in (0, 1, 0xFFFFFFFF):
        yield f"time scale {value}", patched(clip, b"mdhd", 12, number(value))
        yield f"duration {value}", patched(clip, b"mdhd", 16, number(value))
        yield f"movie duration {value}", patched(clip, b"mvhd", 16, number(value))
        yield f"frame duration {value}", patched(clip, b"stts", 12, number(value))
        yield f"frame count {value}", patched(clip, b"stts", 8, number(value))
        yield f"times table of {value}", patched(clip, b"stts", 4, number(value))
        yield f"size table of {value}", patched(clip, b"stsz", 8, number(value))
        yield f"one size {value}", patched(clip, b"stsz", 4, number(value))
        yield f"chunk table of {value}", patched(clip, b"stco", 4, number(value))
        yield f"chunk at {value}", patched(clip, b"stco", 8, number(value))
        yield f"frames a chunk {value}", patched(clip, b"stsc", 12, number(value))
        yield f"descriptions {value}", patched(clip, b"stsd", 4, number(value))
    yield "stated size 65535", patched(clip, b"avc1", 24, b"\xff\xff\xff\xff")
    yield "stated size 0", patched(clip, b"avc1", 24, b"\0\0\0\0")
    yield "unknown codec", clip.replace(b"avc1", b"zzzz")
    yield "another codec", clip.replace(b"avc1", b"hvc1")
    yield "no codec settings", clip.replace(b"avcC", b"free")
    yield "encrypted", clip.replace(b"avc1", b"encv")
    yield "index packed", late_index.replace(b"mvhd", b"cmov", 1)
    yield "fragment sizes", patched(moved, b"trun", 4, number(0x7FFFFFFF))
    yield "fragment offset", patched(moved, b"tfhd", 8, b"\xff" * 8)
    yield "two indexes", clip + clip[clip.index(b"moov") - 4 : clip.index(b"mdat") - 4]
    yield "index only", FTYP + clip[clip.index(b"moov") - 4 : clip.index(b"mdat") - 4] + box(b"mdat")


def structures() -> Iterator[tuple[str, bytes]]:
    """Boxes that are wrong as such."""
    media = box(b"mdat", bytes(100))
    yield "deep boxes", FTYP + nested(b"moov", 50_000) + media
    yield "deep tracks", FTYP + box(b"moov", nested(b"trak", 50_000)) + media
    yield "deep metadata", FTYP + box(b"moov", nested(b"udta", 20_000)) + media
    yield "many boxes", FTYP + box(b"free") * 200_000 + box(b"moov") + media
    yield "many tracks", FTYP + box(b"moov", box(b"trak") * 100_000) + media
    yield "overlapping boxes", FTYP + struct.pack(">I4s", 16, b"moov") + struct.pack(">I4s", 90, b"trak") + media
    yield "64 bit size", FTYP + b"\0\0\0\1moov" + struct.pack(">Q", 1 << 63) + media
    yield "size too small", FTYP + b"\0\0\0\4moov" + media
    yield "endless box", FTYP + b"\0\0\0\0moov" + media
    yield "empty index", FTYP + box(b"moov") + media
    yield "noise in the index", FTYP + box(b"moov", np.random.default_rng(1).bytes(5000)) + media
    yield "noise", FTYP + np.random.default_rng(2).bytes(5000)
    yield "only a beginning", FTYP
    yield "twelve bytes", FTYP[:12]
    yield "nothing", b""
    yield "zeros", bytes(10_000)


def other_formats(folder: Path, canary: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Pictures, playlists and other containers."""
    picture = np.zeros((48, 64, 3), np.uint8)
    for ending in (".jpg", ".png", ".bmp", ".tiff", ".webp"):
        yield f"picture{ending}", cv2.imencode(ending, picture)[1].tobytes()
    yield "gif", b"GIF89a\1\0\1\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\4\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    yield "flic", struct.pack("<IHHHHH", 128, 0xAF12, 5, 64, 48, 8) + bytes(200)
    for ending, codec in (("matroska", "libx264"), ("avi", "mpeg4"), ("flv", "libx264"), ("mpegts", "libx264")):
        path = folder / f"other.{ending}"
        with av.open(str(path), "w", format=ending) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        yield ending, path.read_bytes()
    yield "ffconcat", f"ffconcat version 1.0\nfile {canary}\n".encode()
    yield "ffconcat behind a file type", FTYP + f"\nffconcat version 1.0\nfile {canary}\n".encode()
    lines = f"#EXTM3U\n#EXTINF:1,\nfile://{canary}\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
    yield "m3u8", lines.encode()
    yield "sdp", f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n".encode()
    yield "dash", f"<MPD><Period><BaseURL>http://127.0.0.1:{port}/</BaseURL></Period></MPD>".encode()
    yield "reference movie to a file", reference_movie(f"file://{canary}")
    yield "reference movie to a server", reference_movie(f"http://127.0.0.1:{port}/a.mp4")
    yield "svg", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{canary}"/></svg>'.encode()
    yield "zip", b"PK\3\4" + bytes(100)
    yield "program", Path("/proc/self/exe").read_bytes()[:10_000]
    yield "script", b"#!/bin/sh\ntouch /tmp/owned\n"


def contents(folder: Path, canary: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Yield what each crafted file is called and holds.

    Args:
        folder: For what has to be made on the way.
        canary: A whole video outside of all folders, which nothing may open.
        port: Of a server on this machine, to which nothing may connect.
    """
    small = make_clip(folder / "small.mp4", frames=4, size=(64, 48), faststart=True).read_bytes()
    late = make_clip(folder / "late.mp4", frames=4, size=(64, 48)).read_bytes()
    moved = make_clip(folder / "moved.mp4", frames=4, size=(64, 48), fragmented=True).read_bytes()
    yield from headers(small, late, moved)
    yield from structures()
    yield from other_formats(folder, canary, port)
    yield "data reference to a file", with_data_reference(small, f"file://{canary}")
    yield "data reference to a server", with_data_reference(small, f"http://127.0.0.1:{port}/a.mp4")
    yield "sound only", make_clip(folder / "sound.mp4", frames=10, audio=True, video=False).read_bytes()
    yield "8192 pixels", make_clip(folder / "bomb.mp4", frames=1, size=(8192, 8192)).read_bytes()
    yield "a frame at the limit", make_clip(folder / "large.mp4", frames=2, size=(6000, 5990)).read_bytes()
    yield "one pixel high", make_clip(folder / "flat.mp4", frames=3, size=(640, 2)).read_bytes()
    yield "1000 frames a second", make_clip(folder / "fast.mp4", frames=50, size=(64, 48), fps=1000).read_bytes()
    seconds = tuple(30_000.0 * n for n in range(4))
    yield "a day long", make_clip(folder / "day.mp4", frames=4, size=(64, 48), pts_seconds=seconds).read_bytes()


def special_files(inbox: Path, canary: Path) -> dict[str, Callable[[], object]]:
    """Return what makes the things that are no files, or not only ours, by name."""

    def bind(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))

    def sparse(path: Path) -> None:
        path.write_bytes(FTYP)
        os.truncate(path, 10 << 40)

    makers: dict[str, Callable[[Path], object]] = {
        "pipe.mp4": os.mkfifo,
        "socket.mp4": bind,
        "device.mp4": lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 9)),
        "link.mp4": lambda path: path.symlink_to(canary),
        "link to a folder": lambda path: path.symlink_to(canary.parent),
        "link to a device.mp4": lambda path: path.symlink_to("/dev/zero"),
        "link to itself.mp4": lambda path: path.symlink_to(path),
        "folder.mp4": lambda path: path.mkdir(),
        "sparse.mp4": sparse,
    }
    return {name: lambda name=name, make=make: make(inbox / name) for name, make in makers.items()}  # type: ignore[misc]
