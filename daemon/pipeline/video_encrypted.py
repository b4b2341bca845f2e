"""Whether the pictures of a file of another kind than MP4 are encrypted, by what its parts say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from daemon.container_checks import HEAD_BYTES, ts_packet
from daemon.containers import Container

LOOKED_AT_BYTES = 4 << 20
"""Of the beginning of a file: its header, or some thousands of packets."""

SEGMENT, TRACKS, TRACK, TRACK_TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0x83
ENCODINGS, ENCODING, ENCODING_TYPE = 0x6D80, 0x6240, 0x5033
PICTURES, ENCRYPTION = b"\1", b"\1"
"""Ids and values of Matroska (RFC 9559)."""

ASF_PROTECTED = tuple(
    bytes.fromhex(guid)
    for guid in (
        "fbb31122 23bd d211 b4b7 00a0c955fc6e",
        "14e68a29 2226 174c b935 dae07ee9289c",
        "33850543 8169 e649 9b74 ad12cb86d58c",
    )
)
"""The objects of content encryption in an ASF header: the plain, the extended and the advanced one."""


def is_encrypted(path: Path, kind: Container, stream_id: int) -> bool:
    """Tell whether the pictures of a stream are encrypted.

    Args:
        path: The file.
        kind: What it is.
        stream_id: What FFmpeg calls the id of the stream: the PID of a transport stream, say.

    Raises:
        OSError: it cannot be read.
    """
    look = {"matroska": _matroska, "mpegts": _mpeg_ts, "mpeg": _mpeg_ps, "asf": _asf}.get(kind.demuxer)
    if look is None:
        return False
    with path.open("rb") as file:
        return look(file.read(LOOKED_AT_BYTES), stream_id)


def _matroska(head: bytes, stream_id: int) -> bool:
    return any(
        kind == ENCRYPTION
        for segment in _parts(head, SEGMENT)
        for tracks in _parts(segment, TRACKS)
        for track in _parts(tracks, TRACK)
        if PICTURES in _parts(track, TRACK_TYPE)
        for encodings in _parts(track, ENCODINGS)
        for encoding in _parts(encodings, ENCODING)
        for kind in _parts(encoding, ENCODING_TYPE)
    )


def _parts(data: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the contents of the elements of one id, as far as they are there."""
    at = 0
    while at < len(data):
        width = 9 - data[at].bit_length()
        digits = 9 - data[at + width].bit_length() if at + width < len(data) else 9
        start = at + width + digits
        if width > 4 or digits > 8 or start > len(data):
            return
        size = int.from_bytes(data[at + width : start], "big") & ((1 << 7 * digits) - 1)
        end = len(data) if size == (1 << 7 * digits) - 1 else start + size
        if int.from_bytes(data[at : at + width], "big") == wanted:
            yield data[start:end]
        at = end


def _mpeg_ts(head: bytes, pid: int) -> bool:
    length, sync = ts_packet(head[:HEAD_BYTES]) or (188, 0)
    scrambled = [
        head[at + 3] & 0x80 > 0
        for at in range(sync, len(head) - 3, length)
        if (head[at + 1] & 0x1F) << 8 | head[at + 2] == pid and head[at + 3] & 0x10
    ]
    return 2 * sum(scrambled) > len(scrambled)


def _mpeg_ps(head: bytes, stream_id: int) -> bool:
    start, at, scrambled = bytes((0, 0, 1, stream_id & 0xFF)), -1, []
    while 0 <= (at := head.find(start, at + 1)) < len(head) - 6:
        if head[at + 6] & 0xC0 == 0x80:  # not so in MPEG-1, which cannot be scrambled
            scrambled.append(head[at + 6] & 0x30 > 0)
    return 2 * sum(scrambled) > len(scrambled)


def _asf(head: bytes, stream_id: int) -> bool:
    header = head[: int.from_bytes(head[16:24], "little")]
    return any(guid in header for guid in ASF_PROTECTED)
