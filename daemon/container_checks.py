"""Is a file of another kind than MP4 whole? Answered from its outer parts by a few small reads, as ``mp4`` does it.

The files may be hostile: each walk has an end, and what makes no sense is left for the decoder to judge. A format
without an end, or a recording whose writer went on until it was stopped, can only settle.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import BinaryIO

from daemon.mp4 import Completeness, Structure
from daemon.mp4_index import Span, is_zero, read_at

HEAD_BYTES = 1024
"""Enough of a file to know what it is, also of a transport stream that begins inside a packet."""
LEAST_STREAM_BYTES = 512
MAX_PARTS = 250_000
"""Most parts of a file looked at, which takes a second."""
PROBES = 16
"""In how many places a file is looked into for what has not been written."""
PROBE_BYTES = 64
TAIL_BYTES = 16_384
"""A run of so many zeros at the end of a program stream has not been written; shorter ones are stuffing."""

SETTLED = Structure(Completeness.WHOLE, must_settle=True)
ENDLESS = Structure(Completeness.WHOLE, must_settle=True, is_endless=True)
EXACT = Structure(Completeness.WHOLE)


def _incomplete(reason: str, usable: bool) -> Structure:
    return Structure(Completeness.INCOMPLETE, reason, usable=usable)


def _missing(size: int, end: int, usable: bool) -> Structure:
    return _incomplete(f"{end - size} bytes are missing at its end.", usable)


def _unwritten(position: int, usable: bool = True) -> Structure:
    return _incomplete(f"What follows byte {position} has not been written yet.", usable)


def _begun(size: int) -> Structure:
    return _incomplete(f"It has {size} bytes so far.", usable=False)


def _spread(first: int, count: int) -> Iterator[int]:
    """Yield some numbers from ``first`` on, of ``count``, the last among them."""
    yield from range(first, first + count, max(1, count // PROBES))
    yield first + count - 1


# Matroska (RFC 9559) in EBML (RFC 8794): an element is an id, a size and its content.

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
ELEMENT_BYTES = 12
"""Of the longest id and the longest size."""
FILES = (0x1A45DFA3, SEGMENT)
"""What another film behind the first one begins with."""
UNTIL_NEXT = (SEGMENT, CLUSTER)
"""Elements that may have no size of their own."""


def matroska(file: BinaryIO, size: int) -> Structure:
    """Walk the segment's parts; a cluster without a size is gone through block by block."""
    position, end, cluster, seen = 0, size, None, set()
    is_live = False
    for _ in range(MAX_PARTS):
        if position >= size:
            break
        element = _element(file, position)
        if element is None and position < end:
            if is_zero(file, Span(position, min(end, size, position + PROBE_BYTES))):
                return _unwritten(position, CLUSTER in seen)
            if position + ELEMENT_BYTES > size:
                return _incomplete(f"It ends in the middle of a part, at byte {size}.", CLUSTER in seen)
        if element is None or (position >= end < size and element[0] not in FILES):
            break  # what a camera or an editor put behind the segment
        kind, start, length = element
        seen.add(kind)
        is_live |= length is None
        if kind == CLUSTER:
            cluster = None if length is None else Span(start, start + length)
        if kind == SEGMENT:
            end = size if length is None else start + length
        position = start if kind == SEGMENT or length is None else start + length
    else:
        return SETTLED
    usable = CLUSTER in seen
    if max(position, end) > size:
        return _missing(size, max(position, end), usable)
    if not usable:
        return _incomplete("It has no pictures or sound (cluster).", False)
    if cluster is not None and (hole := _hole_in(file, cluster)) is not None:
        return _unwritten(hole)
    return SETTLED if is_live or end != size else EXACT


def _element(file: BinaryIO, position: int) -> tuple[int, int, int | None] | None:
    """Return an element's id, where its content begins and its size, None if it has none; None if it is not one."""
    head = read_at(file, position, ELEMENT_BYTES)
    width = 9 - head[0].bit_length() if head else 9
    if width > 4 or len(head) <= width:
        return None
    digits = 9 - head[width].bit_length()
    if digits > 8 or len(head) < width + digits:
        return None
    kind = int.from_bytes(head[:width], "big")
    number = int.from_bytes(head[width : width + digits], "big") & ((1 << 7 * digits) - 1)
    unknown = number == (1 << 7 * digits) - 1
    if unknown and kind not in UNTIL_NEXT:
        return None
    return kind, position + width + digits, None if unknown else number


def _hole_in(file: BinaryIO, cluster: Span) -> int | None:
    """Return where in a cluster zeros stand in place of blocks, if they do."""
    position, last = cluster.start, None
    for _ in range(MAX_PARTS):
        if position >= cluster.end:
            break
        element = _element(file, position)
        if element is None or element[2] is None:
            return position if is_zero(file, Span(position, min(cluster.end, position + PROBE_BYTES))) else None
        last = Span(element[1], min(cluster.end, element[1] + element[2]))
        position = last.end
    if (
        last is not None
        and last.end - last.start > PROBE_BYTES
        and is_zero(file, Span(last.end - PROBE_BYTES, last.end))
    ):
        return last.start
    return None


# AVI: RIFF parts; those after the first are called AVIX (OpenDML).

INDEX_ENTRY_BYTES = 16
"""Id, flags, offset and size."""
MAX_CHUNKS = 1000
"""Most chunks of a RIFF part looked at; there are about five."""
AVI_LISTS = (b"LIST", b"RIFF")


def avi(file: BinaryIO, size: int) -> Structure:
    """Walk the RIFF parts, and look at the pictures that the first one's index names."""
    position, parts = 0, 0
    movie = index = None
    while position < size:
        head = read_at(file, position, 12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or parts == MAX_PARTS:
            break
        found = dict(islice(_chunks(file, position + 12, size), MAX_CHUNKS))
        if not parts:
            movie, index = found.get(b"movi"), found.get(b"idx1")
        if length in (0, 0xFFFFFFFF):
            return _incomplete("Its size has not been written: the recording has not ended.", b"movi" in found)
        parts += 1
        end = position + 8 + length
        if end > size:
            return _missing(size, end, movie is not None and movie.start < size)
        position = end + length % 2
    if movie is None:
        return _incomplete("It has no pictures or sound (movi).", False)
    if (hole := _unwritten_picture(file, movie, index)) is not None:
        return _unwritten(hole)
    if index is None and is_zero(file, Span(size - PROBE_BYTES, size)):
        return _unwritten(movie.start)
    return EXACT if parts == 1 and index is not None and position >= size else SETTLED


def _chunks(file: BinaryIO, position: int, size: int) -> Iterator[tuple[bytes, Span]]:
    """Yield the chunks of a RIFF part, lists by their type, with where their content is."""
    while position + 8 <= size:
        head = read_at(file, position, 12)
        kind, length = head[:4], int.from_bytes(head[4:8], "little")
        if kind == b"RIFF" or not kind.strip(b"\0"):
            return
        yield (head[8:12] if kind in AVI_LISTS else kind), Span(position + 8, position + 8 + length)
        position += 8 + length + length % 2


def _unwritten_picture(file: BinaryIO, movie: Span, index: Span | None) -> int | None:
    """Return the place of a chunk that the index names and that is zeros, if one is found."""
    count = (index.end - index.start) // INDEX_ENTRY_BYTES if index else 0
    if index is None or not count:
        return None
    for number in _spread(0, count):
        entry = read_at(file, index.start + number * INDEX_ENTRY_BYTES, INDEX_ENTRY_BYTES)
        if len(entry) < INDEX_ENTRY_BYTES or not any(entry):
            return index.start
        offset = int.from_bytes(entry[8:12], "little")
        places = [base + offset for base in (0, movie.start)]  # writers differ in where they count from
        if all(is_zero(file, Span(place, place + 8)) for place in places):
            return movie.start + offset
    return None


# MPEG transport and program streams (ISO/IEC 13818-1) have no end, so only holes can be seen.

TS_SYNC = 0x47
TS_PACKETS = ((188, 0), (192, 4), (204, 0))
"""Bytes of a packet, and where in it the sync byte is: plain, with a time in front, with parity behind."""
TS_LEAST_PACKETS = 4
"""So many sync bytes tell a stream that begins inside a packet from chance."""


def ts_packet(head: bytes) -> tuple[int, int] | None:
    """Return size and place of the sync byte in the packets that a file begins with; None if it does not.

    A recorder begins anywhere, so the file may as well begin inside a packet. Then more of them have to follow.

    Args:
        head: ``HEAD_BYTES`` of the file, or all there is.
    """
    for size, sync in TS_PACKETS:
        found = head[sync:HEAD_BYTES:size]
        if len(found) > 1 and all(byte == TS_SYNC for byte in found):
            return size, sync
    for size, _ in TS_PACKETS:
        for sync in range(size):
            found = head[sync:HEAD_BYTES:size]
            if len(found) >= TS_LEAST_PACKETS and all(byte == TS_SYNC for byte in found):
                return size, sync
    return None


def mpeg_ts(file: BinaryIO, size: int) -> Structure:
    """Look at some of the packets, the last whole one among them: each begins with a sync byte."""
    packet = ts_packet(read_at(file, 0, HEAD_BYTES))
    if packet is None or size < LEAST_STREAM_BYTES:
        return _begun(size)
    length, sync = packet
    for number in _spread(0, size // length):
        place = number * length
        if is_zero(file, Span(place, place + length)) and read_at(file, place + sync, 1) == b"\0":
            return replace(_unwritten(place), is_endless=True)
    return ENDLESS


def mpeg_ps(file: BinaryIO, size: int) -> Structure:
    """Look at the end."""
    if size < LEAST_STREAM_BYTES:
        return _begun(size)
    tail = max(0, size - TAIL_BYTES)
    if size > TAIL_BYTES and is_zero(file, Span(tail, size)):
        return replace(_unwritten(tail), is_endless=True)
    return ENDLESS


# FLV: tags, each with its size behind it.

FLV_HEADER_BYTES, FLV_TAG_BYTES = 9, 11
FLV_TAGS = (8, 9, 18)
"""Sound, picture, metadata."""
FLV_METADATA_BYTES = 4096


def flv(file: BinaryIO, size: int) -> Structure:
    """Look whether the last tag ends where the file does, and how long the metadata say that it is."""
    told = _flv_size(read_at(file, 0, FLV_METADATA_BYTES))
    usable = size > 2 * FLV_METADATA_BYTES or _flv_walk(file, size) > FLV_HEADER_BYTES + 4
    if told > size:
        return _missing(size, told, usable)
    length = int.from_bytes(read_at(file, size - 4, 4), "big")
    start = size - 4 - length
    if length and start >= FLV_HEADER_BYTES + 4 and _flv_tag(file, start) == length:
        return SETTLED
    end = _flv_walk(file, size)  # some writers put other numbers behind the tags
    if end <= FLV_HEADER_BYTES + 4:
        return _begun(size)
    if end == size or 0 < told <= end:
        return SETTLED
    if is_zero(file, Span(end, min(size, end + PROBE_BYTES))):
        return _unwritten(end, usable)
    return _incomplete(f"It ends in the middle of a part, at byte {size}.", usable)


def _flv_size(head: bytes) -> int:
    at = head.find(b"\0\x08filesize\0")
    number = head[at + 11 : at + 19]
    value: float = struct.unpack(">d", number)[0] if at >= 0 and len(number) == 8 else 0
    return int(value) if 0 < value < 2**62 else 0


def _flv_tag(file: BinaryIO, position: int) -> int:
    """Return the size of the tag at a place, 0 if there is none."""
    head = read_at(file, position, FLV_TAG_BYTES)
    is_tag = len(head) == FLV_TAG_BYTES and head[0] & 0x1F in FLV_TAGS and not any(head[8:11])
    return FLV_TAG_BYTES + int.from_bytes(head[1:4], "big") if is_tag else 0


def _flv_walk(file: BinaryIO, size: int) -> int:
    """Return where the last whole tag ends."""
    position = int.from_bytes(read_at(file, 5, 4), "big") + 4
    for _ in range(MAX_PARTS):
        length = _flv_tag(file, position)
        if not length or position + length + 4 > size:
            break
        position += length + 4
    return position


# ASF: a header, data packets of one size, and indices. Objects have an id of 16 bytes and a size of 8.

ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_HEADER_BYTES, ASF_DATA_BYTES = 30, 50
ASF_MAX_HEADER = 10_000_000
ASF_BROADCAST = 1


def asf(file: BinaryIO, size: int) -> Structure:
    """Compare the file with the size that its header tells, and look at some of its data packets."""
    header = int.from_bytes(read_at(file, 16, 8), "little")
    if header + ASF_DATA_BYTES > size:
        return _missing(size, header + ASF_DATA_BYTES, usable=False)
    properties = _asf_properties(read_at(file, ASF_HEADER_BYTES, min(header, ASF_MAX_HEADER)))
    if properties is None or read_at(file, header, 16) != ASF_DATA:
        return SETTLED
    told, packets, flags, packet_bytes = properties
    if flags & ASF_BROADCAST or not told:
        return ENDLESS
    begun = header + ASF_DATA_BYTES
    if told > size:
        return _missing(size, told, usable=size > begun + packet_bytes)
    if packets and packet_bytes and begun + packets * packet_bytes <= size:
        for number in _spread(0, packets):
            place = begun + number * packet_bytes
            if is_zero(file, Span(place, place + min(PROBE_BYTES, packet_bytes))):
                return _unwritten(place)
    return EXACT if told == size else SETTLED


def _asf_properties(header: bytes) -> tuple[int, int, int, int] | None:
    """Return the file's size, its packets, flags and the size of a packet, as the header tells them."""
    at = header.find(ASF_FILE) + 24
    if at < 24 or len(header) < at + 80:
        return None
    told, packets = struct.unpack_from("<Q8xQ", header, at + 16)
    flags, packet_bytes = struct.unpack_from("<II", header, at + 64)
    return told, packets, flags, packet_bytes
