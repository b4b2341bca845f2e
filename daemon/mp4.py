"""Is a file a whole MP4? Answered from its top-level boxes, so a few small reads do, however large it is.

A box (ISO/IEC 14496-12, section 4.2) starts with a 4-byte big-endian size and a 4-byte type. Size 1 means
that an 8-byte size follows the type; size 0 means that the box reaches to the end of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

MAX_BOXES = 250_000
"""Most boxes looked at: a day of one-second fragments fits, and a hostile file costs under a second."""

MAX_FTYP_BYTES = 4096
"""Largest believable ``ftyp``; real ones have under 100 bytes."""

ZERO_PROBE_BYTES = 65_536
"""How much of each end of a run of zeros is read before the run is believed to be zeros."""

HEAD_BYTES = 512
"""Enough of a file for every signature below."""
NOT_MP4_ADVICE = "Dropframe takes MP4 files; convert it to MP4 and drop it again."

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (0, b"RIFF", "a RIFF file (AVI, WebP or WAV)"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"OggS", "an Ogg file"),
    (0, b"0&\xb2u", "a Windows Media file"),
    (0, b"\x00\x00\x01\xba", "an MPEG program stream"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"ID3", "an MP3 file"),
    (0, b"#EXTM3U", "a playlist"),
    (0, b"ffconcat", "a playlist"),
    (0, b"<", "a text or web page"),
)
"""Offset, bytes and plain name of what is often found under an MP4 name."""

QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
PICTURE_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"jp2 ", b"jpx ", b"crx "})


class Completeness(StrEnum):
    """What the boxes say of a file."""

    WHOLE = "whole"
    """Every box ends where it should, and the index and the media data are there."""

    INCOMPLETE = "incomplete"
    """It begins as an MP4 does, or has not begun yet, and more must come."""

    NOT_MP4 = "not_mp4"
    """No further byte would make it an MP4."""


@dataclass(frozen=True)
class Structure:
    """The answer of ``check``."""

    completeness: Completeness
    reason: str = ""
    """A sentence about what is missing or wrong; empty when whole."""
    must_settle: bool = False
    """Whole as far as it goes, but it could go on: being closed proves nothing, only time does. True for
    fragmented files, a last box without a size, and trailing zeros."""


def first_bytes_problem(head: bytes) -> str | None:
    """Say what is wrong with a file's first bytes, or None if an MP4 can begin like this.

    Args:
        head: At least the first 12 bytes; fewer are taken for all there is.
    """
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if kind == b"ftyp" and len(head) >= 12:
        if size != 1 and not 16 <= size <= MAX_FTYP_BYTES:
            return f"It begins like an MP4, but its first box claims {size} bytes. {NOT_MP4_ADVICE}"
        return None
    if not head:
        return f"It is empty. {NOT_MP4_ADVICE}"
    for offset, signature, name in SIGNATURES:
        if head[offset:].startswith(signature):
            return f"It is {name}, not an MP4. {NOT_MP4_ADVICE}"
    if kind in QUICKTIME_BOXES:
        return f"It is a QuickTime file of an older kind, without a file type box. {NOT_MP4_ADVICE}"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"It is text, not an MP4. {NOT_MP4_ADVICE}"
    return f"It does not begin as an MP4 does. {NOT_MP4_ADVICE}"


def submission_problem(head: bytes) -> str | None:
    """The same as ``first_bytes_problem`` with the advice for what is not dropped but submitted."""
    problem = first_bytes_problem(head)
    return problem and problem.replace("and drop it again", "and submit it again")


def check(file: BinaryIO, size: int) -> Structure:
    """Walk the top-level boxes.

    Args:
        file: The open file, unbuffered for least reading.
        size: Its size in bytes.

    Raises:
        OSError: it cannot be read.
    """
    head = _read(file, 0, 16)
    if len(head) < 12 and (not any(head[:3]) and b"ftyp".startswith(head[4:8])):
        return _incomplete("It is empty." if not head else f"It has {len(head)} bytes so far.")
    if not any(head):
        return _incomplete("Its beginning has not been written yet.")
    problem = first_bytes_problem(head)
    if problem:
        return Structure(Completeness.NOT_MP4, problem)
    return _walk(file, size, brand=head[8:12])


def _walk(file: BinaryIO, size: int, brand: bytes) -> Structure:
    seen: set[bytes] = set()
    position, endless = 0, False
    for _ in range(MAX_BOXES):
        if position == size:
            return _judge(seen, brand, must_settle=endless or b"moof" in seen)
        head = _read(file, position, 16)
        if len(head) < 8:
            return _incomplete(f"It ends in the middle of a box, at byte {size}.")
        length, kind, least = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            if len(head) < 16:
                return _incomplete(f"It ends in the middle of a box, at byte {size}.")
            length, least = int.from_bytes(head[8:16], "big"), 16
        if not any(head[:8]):
            return _padding(file, position, size, seen, brand)
        if not all(32 <= byte < 127 or byte == 0xA9 for byte in kind) or 0 < length < least:
            return _incomplete(f"What follows byte {position} is not part of an MP4.")
        seen.add(kind)
        if length == 0:
            length, endless = size - position, True
        if position + length > size:
            return _incomplete(f"{position + length - size} bytes are missing at its end.")
        position += length
    return Structure(Completeness.NOT_MP4, f"It has more than {MAX_BOXES} parts. {NOT_MP4_ADVICE}")


def _judge(seen: set[bytes], brand: bytes, must_settle: bool) -> Structure:
    if b"moov" not in seen:
        if brand in PICTURE_BRANDS:
            return Structure(Completeness.NOT_MP4, f"It is a picture, not a video. {NOT_MP4_ADVICE}")
        return _incomplete("Its index (moov) is not there.")
    if b"mdat" not in seen:
        return _incomplete("It has an index but no pictures or sound (mdat).")
    return Structure(Completeness.WHOLE, must_settle=must_settle)


def _padding(file: BinaryIO, position: int, size: int, seen: set[bytes], brand: bytes) -> Structure:
    """Judge a file that goes on with zeros.

    A writer that reserves room first leaves them behind, and players do not mind. They are taken for padding
    only after the index and the media data, and then only time can tell that nothing more is written there.
    """
    first = _read(file, position, min(ZERO_PROBE_BYTES, size - position))
    last = _read(file, max(position, size - ZERO_PROBE_BYTES), ZERO_PROBE_BYTES)
    if any(first) or any(last):
        return _incomplete(f"What follows byte {position} has not been written yet.")
    whole = _judge(seen, brand, must_settle=True)
    if whole.completeness is Completeness.INCOMPLETE:
        return _incomplete(f"What follows byte {position} has not been written yet.")
    return whole


def _incomplete(reason: str) -> Structure:
    return Structure(Completeness.INCOMPLETE, reason)


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
