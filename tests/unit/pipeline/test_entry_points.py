"""Where decoding may begin is told by what is in a coded frame, and by nothing that a container says of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.pipeline.entry_points import entry_rule
from tests.odd_clips import packets_of
from tests.range_clips import STRUCTURES

GROUPS = {"usual": 12, "ts": 12, "hevc": 20, "vp9": 20, "mpeg-4": 12, "mpeg2.ts": 12, "mkv": 12, "webm": 12}


@pytest.mark.parametrize("clip", GROUPS)
def test_the_first_frame_of_each_group_is_one_and_no_other_is(tmp_path: Path, clip: str) -> None:
    packets, stream, container = packets_of(STRUCTURES[clip](tmp_path / "a.mp4"))
    context = stream.codec_context
    rule = entry_rule(context.codec.canonical_name, bytes(context.extradata or b""))
    assert rule is not None
    entries = [number for number, packet in enumerate(packets) if rule(bytes(packet))]
    container.close()
    assert entries == list(range(0, len(packets), GROUPS[clip]))


def annex_b(*units: int) -> bytes:
    return b"".join(b"\0\0\0\1" + bytes([unit, 0x80]) for unit in units)


def with_lengths(*units: int) -> bytes:
    return b"".join((2).to_bytes(4, "big") + bytes([unit, 0x80]) for unit in units)


AVC1 = bytes([1, 100, 0, 30, 0xFF])


@pytest.mark.parametrize(
    ("codec", "extradata", "data", "expected"),
    [
        ("h264", b"", annex_b(9, 0x67, 0x68, 6, 0x65), True),
        ("h264", b"", annex_b(9, 0x67, 0x68, 6, 0x41, 0x65), False),
        ("h264", AVC1, with_lengths(6, 0x65), True),
        ("h264", AVC1, with_lengths(6, 0x61, 0x65), False),
        ("hevc", b"", annex_b(0x40, 0x26), True),  # an IDR picture
        ("hevc", b"", annex_b(0x40, 0x2A), True),  # a CRA picture
        ("hevc", b"", annex_b(0x40, 0x02), False),
        ("vp9", b"", b"\x82\x49\x83\x42", True),
        ("vp9", b"", b"\x86\x00", False),  # a frame between
        ("vp9", b"", b"\x88\x00", False),  # an old frame is shown again
        ("vp9", b"", b"\x80\x49", False),  # a key frame that is hidden
        ("av1", b"", b"\x12\x00\x0a\x02\x00\x00\x32\x02\x10\x00", True),
        ("av1", b"", b"\x12\x00\x32\x02\x10\x00", False),  # without a sequence header
        ("av1", b"", b"\x12\x00\x0a\x02\x00\x00\x32\x02\x30\x00", False),
        ("mjpeg", b"", b"\xff\xd8", True),
    ],
)
def test_headers_are_read(codec: str, extradata: bytes, data: bytes, expected: bool) -> None:
    rule = entry_rule(codec, extradata)
    assert rule is not None
    assert rule(data) is expected


def test_in_a_codec_that_is_not_known_decoding_begins_nowhere() -> None:
    assert entry_rule("wmv2", b"") is None


@pytest.mark.parametrize(
    ("codec", "unit", "picture"),
    [("h264", annex_b(9), annex_b(0x65)), ("av1", b"\x12\x00", b"\x0a\x02\x00\x00\x32\x02\x10\x00")],
)
def test_a_frame_of_millions_of_units_is_not_read_through(codec: str, unit: bytes, picture: bytes) -> None:
    rule = entry_rule(codec, b"")
    assert rule is not None
    assert rule(unit * 900 + picture)
    assert not rule(unit * 2000 + picture)
    begun = time.process_time()
    assert not rule(unit * 5_000_000)
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video"])
@pytest.mark.parametrize("extradata", [b"", b"\1", bytes([1] * 40)])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0\1",
        b"\0\0\1\xb6",
        b"\0\0\1\0",
        b"\0\0\1\0\0",
        b"\xff" * 9,
        b"\0" * 9,
        b"\x12",
        b"\x0a\xff",
        b"\2",
    ],
)
def test_broken_content_is_never_an_error(codec: str, extradata: bytes, data: bytes) -> None:
    rule: Callable[[bytes], Any] | None = entry_rule(codec, extradata)
    assert rule is not None
    assert rule(data) in (True, False)
