"""Is an MP4 whole? Answered from its top-level boxes, so a few small reads do, however large it is.

Where the boxes do not fit the file, or could be there before the pictures are, the index is asked where the
pictures lie (``mp4_index``): what a player can show whole is whole, whatever a camera appended to it.

A box (ISO/IEC 14496-12, section 4.2) starts with a 4-byte big-endian size and a 4-byte type. Size 1 means
that an 8-byte size follows the type; size 0 means that the box reaches to the end of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO

from daemon.mp4_index import ZERO_BYTES, Span, holds_every_sample, is_zero, read_at, samples_are_zeros

MAX_BOXES = 250_000
"""Most boxes looked at: a day of one-second fragments fits, and a hostile file costs under a second."""

REMUX = "ffmpeg -i IN -c copy OUT.mp4"
"""Makes an MP4 without loss."""

MAX_FTYP_BYTES = 4096
"""Largest believable ``ftyp``; real ones have under 100 bytes."""

ZERO_PROBE_BYTES = 65_536
"""How much of each end of a run of zeros is read before the run is believed to be zeros."""

FIRST_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid", b"junk"})
"""What a file may begin with instead of ``ftyp``: QuickTime files do, and some cameras write room first."""
MEDIA_BOXES = frozenset({b"moov", b"moof", b"mdat"})
PICTURE_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"jp2 ", b"jpx ", b"crx "})


class Completeness(StrEnum):
    """What its parts say of a file."""

    WHOLE = "whole"
    """Every part ends where it should, or every picture of the index is there, and none is unwritten."""

    INCOMPLETE = "incomplete"
    """It begins as a video does, or has not begun yet, and more must come."""

    NOT_VIDEO = "not_video"
    """No further byte would make it a video that is taken."""


@dataclass(frozen=True)
class Structure:
    """The answer of ``check``."""

    completeness: Completeness
    reason: str = ""
    """A sentence about what is missing or wrong; empty when whole."""
    must_settle: bool = False
    """Whole as far as it goes, but it could go on: being closed proves nothing, only time does. True for
    fragmented files, a last box without a size, trailing zeros, and bytes after it that are not part of it."""
    is_endless: bool = False
    """Nothing in it would show that its rest is missing, or that it is not: a transport stream, say."""
    usable: bool = False
    """Incomplete, but its index and some of its pictures are there. A file that stays so was cut, by a loss of
    power perhaps: once nothing more can be expected it is worth taking, and the result says what is missing."""
    boxes: frozenset[bytes] = frozenset()
    """The types of the boxes that it holds whole."""
    moov: Span | None = None
    """Where the content of its index is."""


@dataclass
class _Walk:
    """What has been seen of a file, box by box."""

    seen: set[bytes] = field(default_factory=set)
    """Types of the boxes that end within the file."""
    moov: Span | None = None
    fragment: Span | None = None
    """Content of the media data after the last fragment's header, as far as it goes."""
    media_begun: bool = False
    """Whether some of the media data is there, be it cut."""
    endless: bool = False
    """Whether the last box has no size of its own."""

    def add(self, kind: bytes, content: Span, size: int) -> None:
        """Note a box, which may go on after the end of the file."""
        self.media_begun |= kind == b"mdat" and content.start < size
        if kind == b"moof":
            self.fragment = None
        elif kind == b"mdat" and b"moof" in self.seen:
            self.fragment = content
        if content.end <= size:
            self.seen.add(kind)
            self.moov = content if kind == b"moov" else self.moov


def has_file_type(head: bytes) -> bool:
    """Tell whether a file begins with a file type box."""
    return head[4:8] == b"ftyp" and len(head) >= 12


def begins_as_mp4(head: bytes) -> bool:
    """Tell whether an MP4 can begin like this, QuickTime files of the older kind included."""
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    return has_file_type(head) or (kind in FIRST_BOXES and (size == 0 or size == 1 or size >= 8))


def file_type_problem(head: bytes) -> str | None:
    """Say what is wrong with the file type box that a file begins with, if it does and anything is."""
    size = int.from_bytes(head[:4], "big")
    if not has_file_type(head) or size == 1 or 16 <= size <= MAX_FTYP_BYTES:
        return None
    return f"It begins like an MP4, but its first box claims {size} bytes. It is damaged; copy or export it again."


def check(file: BinaryIO, size: int) -> Structure:
    """Walk the top-level boxes of a file that begins as an MP4 does.

    Args:
        file: The open file, unbuffered for least reading.
        size: Its size in bytes.

    Raises:
        OSError: it cannot be read.
    """
    walk, position = _Walk(), 0
    for _ in range(MAX_BOXES):
        if position == size:
            return _judge(file, size, walk, must_settle=walk.endless or b"moof" in walk.seen)
        head = read_at(file, position, 16)
        length, kind, least = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, least = int.from_bytes(head[8:16], "big"), 16
        if len(head) < least:
            return _judge_cut(file, size, walk, f"It ends in the middle of a box, at byte {size}.")
        if not any(head[:8]):
            return _padding(file, position, size, walk)
        if length == 0:
            length, walk.endless = size - position, True
        named = all(32 <= byte < 127 or byte == 0xA9 for byte in kind)
        if length < least or (not named and (walk.endless or position + length > size)):
            return _judge_cut(file, size, walk, f"What follows byte {position} is not part of an MP4.", trailer=True)
        walk.add(kind, Span(position + least, position + length), size)
        position += length
        if position > size:
            missing = f"{position - size} bytes are missing at its end."
            return _judge_cut(file, size, walk, missing, trailer=kind not in MEDIA_BOXES)
    return Structure(Completeness.NOT_VIDEO, f"It has more than {MAX_BOXES} parts; write it anew (`{REMUX}`).")


def _judge(file: BinaryIO, size: int, walk: _Walk, must_settle: bool) -> Structure:
    """Judge a file whose boxes end where it does."""
    if walk.moov is None:
        head = read_at(file, 0, 12)
        if has_file_type(head) and head[8:] in PICTURE_BRANDS:
            return Structure(Completeness.NOT_VIDEO, "It is a picture, not a video.")
        return _incomplete("Its index (moov) is not there.")
    if b"mdat" not in walk.seen and not holds_every_sample(file, walk.moov, size):
        return _incomplete("It has an index but no pictures or sound (mdat).")
    if _is_unwritten(file, walk):
        return _incomplete("Pictures that its index lists have not been written.", walk)
    return _whole(walk, must_settle)


def _judge_cut(file: BinaryIO, size: int, walk: _Walk, fault: str, trailer: bool = False) -> Structure:
    """Judge a file that ends before its last box does, or goes on with what is not a box.

    Args:
        trailer: The fault cannot be the next piece of a film that is cut into fragments.
    """
    if walk.moov is None:
        return _incomplete(fault)
    fragments = b"moof" in walk.seen
    whole = trailer and walk.fragment is not None if fragments else holds_every_sample(file, walk.moov, size)
    if whole and not _is_unwritten(file, walk):
        return _whole(walk, must_settle=True)
    return _incomplete(fault, walk)


def _is_unwritten(file: BinaryIO, walk: _Walk) -> bool:
    """Tell whether room was made for pictures that have not been written, so that the boxes prove nothing."""
    if walk.fragment is not None:
        start, end = walk.fragment.start, walk.fragment.end
        return end - start >= ZERO_BYTES and is_zero(file, Span(end - ZERO_BYTES, end))
    return walk.moov is not None and samples_are_zeros(file, walk.moov)


def _padding(file: BinaryIO, position: int, size: int, walk: _Walk) -> Structure:
    """Judge a file that goes on with zeros.

    A writer that reserves room first leaves them behind, and players do not mind. They are taken for padding
    only after the index and the media data, and then only time can tell that nothing more is written there.
    """
    unwritten = f"What follows byte {position} has not been written yet."
    first = read_at(file, position, min(ZERO_PROBE_BYTES, size - position))
    last = read_at(file, max(position, size - ZERO_PROBE_BYTES), ZERO_PROBE_BYTES)
    if any(first) or any(last):
        return _judge_cut(file, size, walk, unwritten)
    whole = _judge(file, size, walk, must_settle=True)
    if whole.completeness is Completeness.INCOMPLETE:
        return _incomplete(unwritten, walk)
    return whole


def _whole(walk: _Walk, must_settle: bool) -> Structure:
    return Structure(Completeness.WHOLE, must_settle=must_settle, boxes=frozenset(walk.seen), moov=walk.moov)


def _incomplete(reason: str, walk: _Walk | None = None) -> Structure:
    if walk is None or walk.moov is None:
        return Structure(Completeness.INCOMPLETE, reason)
    usable = walk.media_begun
    return Structure(Completeness.INCOMPLETE, reason, usable=usable, boxes=frozenset(walk.seen), moov=walk.moov)
