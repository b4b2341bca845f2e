"""What the index of an MP4 (``moov``) says of its tracks: which are encrypted, and where their samples lie.

Boxes as in ISO/IEC 14496-12, protection as in 14496-12 section 8.12 and 23001-7. The file may be hostile: only
headers and the few tables asked for are read, each up to a limit, and what makes no sense is taken for absent.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

MAX_TRACKS = 64
MAX_CHILDREN = 4096
"""Most boxes looked at in one box."""
MAX_TABLE_BYTES = 64_000_000
"""Largest table read: the chunk offsets of days of video."""
PROBED_CHUNKS = 16
"""How many chunks of a track are looked into."""
ZERO_BYTES = 64
"""Coded pictures do not begin or end with so many zeros: sizes, start codes and headers are in them."""
PROTECTED_ENTRIES = frozenset({b"encv", b"drmi"})
VISUAL_ENTRY_BYTES = 78
"""Fixed fields of a visual sample entry, before the boxes in it."""


@dataclass(frozen=True)
class Span:
    """Bytes of a file from ``start`` up to ``end``."""

    start: int
    end: int


@dataclass(frozen=True)
class Track:
    """One track of the index."""

    track_id: int
    is_video: bool
    entry: str
    """The type of its first sample entry, such as ``avc1``."""
    width: int
    """Of coded pictures, in pixels; 0 if the track is not one of pictures."""
    height: int
    encrypted: bool
    table: Span | None
    """The sample table (``stbl``)."""


def tracks(file: BinaryIO, moov: Span) -> list[Track]:
    """Return the tracks of an index.

    Args:
        file: The open file.
        moov: The content of the box ``moov``.

    Raises:
        OSError: it cannot be read.
    """
    boxes = islice((span for kind, span in _boxes(file, moov) if kind == b"trak"), MAX_TRACKS)
    return [track for span in boxes if (track := _track(file, span)) is not None]


def holds_every_sample(file: BinaryIO, moov: Span, size: int) -> bool:
    """Tell whether an index lists samples and all of them lie in a file of ``size`` bytes.

    Raises:
        OSError: it cannot be read.
    """
    ends = [_end_of_samples(file, track.table) for track in tracks(file, moov) if track.table]
    known = [end for end in ends if end != 0]
    return bool(known) and all(end is not None and end <= size for end in known)


def samples_are_zeros(file: BinaryIO, moov: Span) -> bool:
    """Tell whether pictures that an index lists have not been written: bytes of zeros stand in their place.

    The last picture is looked at, and the beginnings of some before it.

    Raises:
        OSError: it cannot be read.
    """
    return any(
        _has_unwritten_samples(file, track.table) for track in tracks(file, moov) if track.is_video and track.table
    )


def is_zero(file: BinaryIO, span: Span) -> bool:
    """Tell whether there are bytes in a span and all of them are zeros."""
    data = read_at(file, span.start, span.end - span.start)
    return bool(data) and not any(data)


def read_at(file: BinaryIO, position: int, count: int) -> bytes:
    """Read bytes from a place in a file; fewer at its end."""
    file.seek(position)
    return file.read(count)


def _has_unwritten_samples(file: BinaryIO, table: Span) -> bool:
    offsets = _offsets(file, table)
    last = _last_sample(file, table, offsets)
    if last is None:
        return False
    step = max(1, len(offsets) // PROBED_CHUNKS)
    begun = [Span(offset, offset + ZERO_BYTES) for offset in offsets[:-1:step] if offset + ZERO_BYTES < last.start]
    tail = Span(max(last.start, last.end - ZERO_BYTES), last.end)
    return any(is_zero(file, span) for span in (tail, *begun) if span.end - span.start >= ZERO_BYTES // 8)


def _track(file: BinaryIO, trak: Span) -> Track | None:
    inside = dict(_boxes(file, trak))
    header = inside.get(b"tkhd")
    media = dict(_boxes(file, inside[b"mdia"])) if b"mdia" in inside else {}
    if header is None or b"minf" not in media:
        return None
    version = _number(file, header.start, 1)
    handler = read_at(file, media[b"hdlr"].start + 8, 4) if b"hdlr" in media else b""
    table = dict(_boxes(file, media[b"minf"])).get(b"stbl")
    entries = list(_entries(file, table)) if table else []
    kind, span = entries[0] if entries else (b"", Span(0, 0))
    is_video = handler == b"vide"
    return Track(
        track_id=_number(file, header.start + (20 if version == 1 else 12), 4),
        is_video=is_video,
        entry=kind.decode("latin-1"),
        width=_number(file, span.start + 24, 2) if is_video and entries else 0,
        height=_number(file, span.start + 26, 2) if is_video and entries else 0,
        encrypted=is_video and any(_is_protected(file, *entry) for entry in entries),
        table=table,
    )


def _entries(file: BinaryIO, table: Span) -> Iterator[tuple[bytes, Span]]:
    description = dict(_boxes(file, table)).get(b"stsd")
    if description is not None:
        yield from islice(_boxes(file, Span(description.start + 8, description.end)), MAX_TRACKS)


def _is_protected(file: BinaryIO, kind: bytes, entry: Span) -> bool:
    if kind in PROTECTED_ENTRIES:
        return True
    inside = dict(_boxes(file, Span(entry.start + VISUAL_ENTRY_BYTES, entry.end)))
    return b"sinf" in inside and b"schm" in dict(_boxes(file, inside[b"sinf"]))


def _offsets(file: BinaryIO, table: Span) -> array[int]:
    inside = dict(_boxes(file, table))
    for kind, width in ((b"stco", 4), (b"co64", 8)):
        if kind in inside:
            start = inside[kind].start
            return _table(file, start + 8, _number(file, start + 4, 4), width, inside[kind].end)
    return array("Q")


def _last_sizes(file: BinaryIO, table: Span) -> array[int] | None:
    """Return the sizes of the last chunk's samples in bytes, or None if they are not told."""
    inside = dict(_boxes(file, table))
    if b"stsz" not in inside or b"stsc" not in inside:
        return None
    sizes, chunks = inside[b"stsz"], inside[b"stsc"]
    runs = _number(file, chunks.start + 4, 4)
    if not runs or chunks.start + 8 + 12 * runs > chunks.end:
        return None
    constant, total = _number(file, sizes.start + 4, 4), _number(file, sizes.start + 8, 4)
    count = min(_number(file, chunks.start + 8 + 12 * (runs - 1) + 4, 4), total)
    if constant:
        return array("Q", [constant]) * count if count * 8 <= MAX_TABLE_BYTES else None
    return _table(file, sizes.start + 12 + 4 * (total - count), count, 4, sizes.end)


def _last_sample(file: BinaryIO, table: Span, offsets: array[int]) -> Span | None:
    sizes = _last_sizes(file, table)
    if not sizes or not offsets:
        return None
    while len(sizes) > 1 and not sizes[-1]:  # empty samples stand for pictures that stay
        sizes.pop()
    end = offsets[-1] + sum(sizes)
    return Span(end - sizes[-1], end)


def _end_of_samples(file: BinaryIO, table: Span) -> int | None:
    """Return where a track's last sample ends; 0 if it has none, None if that is not told."""
    offsets = _offsets(file, table)
    if not offsets:
        return 0
    last = _last_sample(file, table, offsets)
    return None if last is None else max(last.end, max(offsets) + 1)


def _table(file: BinaryIO, start: int, count: int, width: int, end: int) -> array[int]:
    if count * width > MAX_TABLE_BYTES or start + count * width > end:
        return array("Q")
    data = read_at(file, start, count * width)
    values = array("Q" if width == 8 else "I", data[: len(data) // width * width])
    if sys.byteorder == "little":
        values.byteswap()
    return values


def _boxes(file: BinaryIO, span: Span) -> Iterator[tuple[bytes, Span]]:
    """Yield the boxes in a span with where their content is; stop at what is not a box."""
    position = span.start
    for _ in range(MAX_CHILDREN):
        if position + 8 > span.end:
            return
        head = read_at(file, position, 16)
        length, least = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, least = int.from_bytes(head[8:16], "big"), 16
        if length < least or position + length > span.end:
            return
        yield head[4:8], Span(position + least, position + length)
        position += length


def _number(file: BinaryIO, position: int, width: int) -> int:
    return int.from_bytes(read_at(file, position, width), "big")
