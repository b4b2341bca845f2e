"""Clips of the other containers to be damaged, and files in them that try to reach what is outside."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from tests.container_clips import OTHERS, in_container
from tests.odd_clips import moving

MORE = (
    ("avi", "dvvideo", (720, 576), "yuv420p"),
    ("avi", "mjpeg", (96, 64), "yuvj420p"),
    ("avi", "msmpeg4v2", (96, 64), "yuv420p"),
    ("avi", "ffv1", (96, 64), "yuv420p"),
    ("matroska", "ffv1", (96, 64), "yuv420p"),
    ("matroska", "mpeg4", (96, 64), "yuv420p"),
    ("matroska", "libx265", (96, 64), "yuv420p"),
    ("mpegts", "libx265", (96, 64), "yuv420p"),
    ("asf", "wmv1", (96, 64), "yuv420p"),
    ("asf", "msmpeg4", (96, 64), "yuv420p"),
)
"""Muxers and encoders beside those of ``KINDS``; nothing here writes VC-1, WMV 9 and VP6."""


def sources(folder: Path) -> list[bytes]:
    """Make a small clip of each container and codec that can be written."""
    made = [
        in_container(folder / f"{kind}-{sound}", kind, count=6, size=(96, 64), sound=sound).read_bytes()
        for kind in OTHERS
        for sound in (False, True)
    ]
    for number, (muxer, codec, size, pix_fmt) in enumerate(MORE):
        path = folder / f"more-{number}"
        with av.open(str(path), "w", format=muxer) as output:
            stream: Any = output.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
            stream.options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            for picture in moving(4, size):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                output.mux(stream.encode(frame.reformat(format=pix_fmt)))
            output.mux(stream.encode(None))
        made.append(path.read_bytes())
    return made


def element(kind: str, content: bytes, size: int | None = None) -> bytes:
    """Return an EBML element; its size is told in eight bytes."""
    return bytes.fromhex(kind) + struct.pack(">Q", (1 << 56) | (len(content) if size is None else size)) + content


def contents(folder: Path, canary: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Yield what each crafted file is called and holds; see ``crafted.contents``."""
    url, path = f"http://127.0.0.1:{port}/a.mp4".encode(), str(canary).encode()
    mkv = in_container(folder / "a.mkv", "mkv", count=4, size=(64, 48)).read_bytes()
    header, segment = mkv[: mkv.index(b"\x18\x53\x80\x67")], mkv[mkv.index(b"\x18\x53\x80\x67") + 12 :]
    links = b"".join(element(kind, path) for kind in ("3c83ab", "3e83bb"))  # PrevFilename, NextFilename
    links += b"".join(element(kind, b"\7" * 16) for kind in ("3cb923", "3eb923"))  # PrevUID, NextUID
    chapter = element("b6", element("73c4", b"\1") + element("91", b"\0") + element("6e67", b"\7" * 16))
    chapters = element("1043a770", element("45b9", element("45dd", b"\1") + chapter))
    attached = element("61a7", element("466e", path) + element("4660", b"text/uri-list") + element("465c", url))
    linked = element("1549a966", links) + chapters + element("1941a469", attached)
    yield "linked matroska", header + element("18538067", linked + segment)
    yield "deep matroska", header + element("18538067", deep_elements(50_000))
    yield "endless matroska", header + element("18538067", b"", (1 << 56) - 1) + b"\x1f\x43\xb6\x75\xff" * 100_000
    yield "matroska of huge sizes", header + element("18538067", element("1654ae6b", b"", 1 << 50))
    yield "matroska of many tracks", header + element("18538067", element("1654ae6b", element("ae", b"") * 50_000))
    yield (
        "matroska attachment of claimed size",
        header + element("18538067", element("1941a469", element("61a7", element("465c", b"", 1 << 40)))),
    )
    avi = in_container(folder / "a.avi", "avi", count=4, size=(64, 48)).read_bytes()
    yield "avi of many streams", avi.replace(b"strl", b"strl" + b"LIST\4\0\0\0strl" * 5000, 1)
    yield "avi index of nonsense", avi[: avi.index(b"idx1") + 8] + b"\xff" * 500_000
    yield "avi that names another", avi[:12] + chunk(b"LIST", b"INFO" + chunk(b"ISRF", path + b"\0")) + avi[12:]
    wmv = in_container(folder / "a.wmv", "wmv", count=4, size=(64, 48)).read_bytes()
    yield "asf with a script command", asf_with_script(wmv, url)
    yield "asf redirector", b"[Reference]\r\nRef1=" + url + b"\r\nRef2=file://" + path + b"\r\n"
    yield "asx redirector", b"<asx version='3.0'><entry><ref href='" + url + b"'/></entry></asx>"
    flv = in_container(folder / "a.flv", "flv", count=4, size=(64, 48)).read_bytes()
    yield "flv of nothing but metadata", flv[:13] + (b"\x12\0\0\0\0\0\0\0\0\0\0" + b"\0\0\0\x0b") * 100_000
    ts = in_container(folder / "a.ts", "ts", count=4, size=(64, 48)).read_bytes()
    yield "ts with a playlist in it", ts + f"\n#EXTM3U\n#EXTINF:1,\nfile://{canary}\n".encode() * 10 + ts
    yield "ts of program tables alone", ts[: 2 * 188] * 5000
    yield "ts of noise", b"".join(b"G" + bytes([n % 256]) * 187 for n in range(5000))
    yield "ps of noise", b"\x00\x00\x01\xba" + bytes(range(256)) * 500
    for number, data in enumerate((mkv, avi, wmv, flv, ts)):
        yield f"two containers in one file {number}", data + (mkv, avi, wmv, flv, ts)[number - 1]


def deep_elements(depth: int) -> bytes:
    """Clusters in block groups in clusters; the sizes are unknown."""
    return b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff\xa0\x01\xff\xff\xff\xff\xff\xff\xff" * depth


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a RIFF chunk."""
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def asf_with_script(clip: bytes, url: bytes) -> bytes:
    """Add a script command object that opens an address (ASF specification, section 3.6)."""
    text, kind = (url.decode() + "\0").encode("utf-16-le"), "URL".encode("utf-16-le")
    command = struct.pack("<16xHHH", 1, 1, len(kind) // 2) + kind
    command += struct.pack("<IHH", 0, 0, len(text) // 2) + text
    body = bytes.fromhex("301afb1e620bd011a39b00a0c90348f6") + struct.pack("<Q", 24 + len(command)) + command
    size, count = struct.unpack_from("<QI", clip, 16)
    return clip[:16] + struct.pack("<QI", size + len(body), count + 1) + clip[28:30] + body + clip[30:]
