"""Coded frames behind which nothing needs what stood before them: known by their content, not by a flag.

A container's table of key frames can lack entries, name wrong ones, or call a recovery point a key frame whose pictures
still lean on older ones. So each codec's own headers are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

START_CODE = b"\0\0\1"
H264_IDR, H264_SLICES = 5, range(1, 6)
"""Types of NAL units (ITU-T H.264, table 7-1)."""
HEVC_IRAP, HEVC_SLICES = range(16, 22), range(32)
"""The same of ITU-T H.265, table 7-1: BLA, IDR and CRA pictures."""
MPEG4_PICTURE, MPEG2_PICTURE = START_CODE + b"\xb6", START_CODE + b"\0"
MOST_UNITS = 1000
"""Units of a coded frame that are looked at, at most: a hostile one can have millions before its first picture."""
INTRA = 1
"""Type of an intra picture (ITU-T H.262, table 6-12)."""
AV1_SEQUENCE, AV1_FRAMES = 1, (3, 6)
"""Types of OBUs (AV1 specification, section 6.2.2)."""


def entry_rule(codec: str, extradata: bytes) -> Callable[[bytes], bool] | None:
    """Return what tells whether decoding may begin with a coded frame; None for a codec where nothing can.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: What the container says once of all coded frames.
    """
    if codec == "h264":
        return lambda data: _first(_nal_types(data, _length_bytes(extradata, 4), 0, 31), H264_SLICES) == H264_IDR
    if codec == "hevc":
        return lambda data: _first(_nal_types(data, _length_bytes(extradata, 21), 1, 63), HEVC_SLICES) in HEVC_IRAP
    return _RULES.get(codec)


def _first(kinds: Iterator[int], wanted: range) -> int | None:
    return next((kind for kind in kinds if kind in wanted), None)


def _length_bytes(extradata: bytes, place: int) -> int:
    """Return how many bytes say the length of a NAL unit (ISO/IEC 14496-15), 0 where start codes stand instead."""
    if len(extradata) <= place or extradata[0] != 1:
        return 0
    return (extradata[place] & 3) + 1


def _nal_types(data: bytes, length_bytes: int, shift: int, mask: int) -> Iterator[int]:
    at = 0
    for _ in range(MOST_UNITS):
        if length_bytes:
            size, start = int.from_bytes(data[at : at + length_bytes], "big"), at + length_bytes
        else:
            found = data.find(START_CODE, at)
            size, start = 0, found + len(START_CODE) if found >= 0 else len(data)
        if start >= len(data):
            return
        yield data[start] >> shift & mask
        at = start + size


def _mpeg4(data: bytes) -> bool:
    at = data.find(MPEG4_PICTURE) + len(MPEG4_PICTURE)
    return len(MPEG4_PICTURE) <= at < len(data) and data[at] >> 6 == 0


def _mpeg2(data: bytes) -> bool:
    at = data.find(MPEG2_PICTURE) + len(MPEG2_PICTURE) + 1
    return len(MPEG2_PICTURE) < at < len(data) and data[at] >> 3 & 7 == INTRA


def _vp8(data: bytes) -> bool:
    return bool(data) and data[0] & 1 == 0 and data[0] >> 4 & 1 == 1


def _vp9(data: bytes) -> bool:
    """Tell by the uncompressed header (VP9 bitstream specification, section 6.2): a key frame that is shown."""
    if not data or data[0] >> 6 != 2:
        return False
    place = 3 if data[0] >> 4 & 3 != 3 else 2
    show_existing, kind = data[0] >> place & 1, data[0] >> (place - 1) & 1
    shown = data[0] >> (place - 2) & 1
    return (show_existing, kind, shown) == (0, 0, 1)


def _av1(data: bytes) -> bool:
    """Tell whether the first frame is a key frame that is shown, with its sequence header before it."""
    at, is_still = 0, None
    for _ in range(MOST_UNITS):
        if at >= len(data):
            break
        header = data[at]
        kind, at = header >> 3 & 15, at + 1 + (header >> 2 & 1)
        size = len(data) - at
        if header & 2:
            size, at = _leb128(data, at)
        if at >= len(data):
            return False
        if kind == AV1_SEQUENCE:
            is_still = bool(data[at] >> 3 & 1)
        elif kind in AV1_FRAMES:
            return is_still is not None and (is_still or data[at] >> 4 == 0b0001)
        at += size
    return False


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128:
            return value, at + place + 1
    return 0, len(data)


def _any(data: bytes) -> bool:
    return True


_RULES: dict[str, Callable[[bytes], bool]] = {
    "av1": _av1,
    "vp8": _vp8,
    "vp9": _vp9,
    "mpeg4": _mpeg4,
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    **dict.fromkeys(("mjpeg", "prores", "dnxhd", "dvvideo", "png"), _any),
}
