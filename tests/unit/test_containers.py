"""What a file is by its first bytes, and whether it is whole, for each kind of container."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest

from daemon.containers import (
    CONTAINERS,
    ENDINGS,
    HEAD_BYTES,
    ISO,
    accepted,
    check,
    container_of,
    first_bytes_problem,
    media_type,
)
from daemon.mp4 import Completeness, Structure
from tests.clips import make_clip
from tests.container_clips import KINDS, OTHERS, in_container

ENDLESS = {"ts", "m2ts", "mpeg2.ts", "mpg"}
"""Kinds that a cut cannot be seen in."""
LINE = "`ffmpeg -i IN -c copy OUT.mp4`"


def judge(data: bytes, containers: str = "all") -> Structure:
    return check(io.BytesIO(data), len(data), containers)


def clip(folder: Path, kind: str, **options: object) -> bytes:
    return in_container(folder / f"a.{kind}", kind, **options).read_bytes()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_clip_is_known_by_its_first_bytes_whatever_its_name(tmp_path: Path, kind: str) -> None:
    data = clip(tmp_path, kind, sound=True)
    container = container_of(data[:HEAD_BYTES])
    assert container is not None
    assert f".{kind.rpartition('.')[2]}" in container.endings
    assert first_bytes_problem(data[:HEAD_BYTES], "all") is None
    assert judge(data).completeness is Completeness.WHOLE


@pytest.mark.parametrize("kind", OTHERS)
def test_another_container_is_refused_with_the_setting_and_the_line_that_makes_an_mp4(
    tmp_path: Path, kind: str
) -> None:
    data = clip(tmp_path, kind)
    for problem in (first_bytes_problem(data[:HEAD_BYTES], "mp4"), judge(data, "mp4").reason):
        assert problem is not None
        assert 'the setting containers = "all"' in problem
        assert problem.endswith(f"({LINE}).")
        assert "onvert" not in problem
        assert "ename" not in problem
    assert judge(data, "mp4").completeness is Completeness.NOT_VIDEO


def test_the_mp4_family_is_taken_under_either_setting(tmp_path: Path) -> None:
    data = clip(tmp_path, "mp4")
    assert first_bytes_problem(data[:HEAD_BYTES], "mp4") is first_bytes_problem(data[:HEAD_BYTES], "all") is None
    assert accepted("mp4") == (ISO,)
    assert set(accepted("all")) == set(CONTAINERS)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"OggS" + bytes(60), "an Ogg file, which Dropframe does not take. Convert it (`ffmpeg -i IN OUT.mp4`)."),
        (b"RIFF\x10\0\0\0WAVEfmt ", "a RIFF file"),
        (b"RIFF\x10\0\0\0moov" + bytes(60), "a RIFF file"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "a playlist, not a video."),
        (b"[Reference]\r\nRef1=http://127.0.0.1/a.asf\r\n", "text, not a video."),
        (b"ffconcat version 1.0\nfile other.mp4\n", "a playlist, not a video."),
        (b"<asx version='3.0'><ref href='a.asf'/></asx>", "a text or web page, not a video."),
        (b"Go to G and then to G. " * 30, "text, not a video."),
        (b"G" + bytes(600), "does not begin as any video"),
        (bytes(range(128, 160)), "does not begin as any video"),
    ],
)
def test_what_is_not_taken_under_all_is_named(head: bytes, said: str) -> None:
    problem = first_bytes_problem(head[:HEAD_BYTES], "all")
    assert problem is not None
    assert said in problem


def test_an_mp4_is_never_told_to_be_converted_or_renamed() -> None:
    broken = (0xFFFFFF).to_bytes(4, "big") + b"ftypisom" + bytes(500)
    for containers in ("mp4", "all"):
        problem = first_bytes_problem(broken, containers)
        assert problem is not None
        assert "copy or export it again" in problem
        assert "onvert" not in problem


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_has_only_begun_is_waited_for(tmp_path: Path, kind: str) -> None:
    data = clip(tmp_path, kind)
    for length in range(5 if kind in ENDLESS else 0, 189):  # a transport packet may begin with anything
        assert judge(data[:length]).completeness is Completeness.INCOMPLETE, length
    assert judge(bytes(4096)).completeness is Completeness.INCOMPLETE


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind not in ENDLESS])
def test_a_cut_clip_is_incomplete_and_usable_once_there_are_pictures(tmp_path: Path, kind: str) -> None:
    data = clip(tmp_path, kind, count=50)
    for length in (*range(200, len(data), 997), len(data) - 1):
        assert judge(data[:length]).completeness is Completeness.INCOMPLETE, length
    found = judge(data[: len(data) * 6 // 10])
    assert found.usable
    assert found.reason
    assert not judge(data[:200]).usable


@pytest.mark.parametrize("kind", OTHERS)
def test_room_made_for_what_has_not_come_is_incomplete(tmp_path: Path, kind: str) -> None:
    """A copy into a file that has its full size from the start."""
    data = clip(tmp_path, kind, count=200)
    for there in (len(data) // 4, len(data) // 2, len(data) * 3 // 4):
        found = judge(data[:there] + bytes(len(data) - there))
        assert (found.completeness, found.usable) == (Completeness.INCOMPLETE, True), there
        assert "has not been written yet" in found.reason or "middle of a part" in found.reason


@pytest.mark.parametrize("kind", ["avi", "divx", "ts", "m2ts", "mpeg2.ts", "wmv"])
def test_a_hole_in_the_middle_is_incomplete(tmp_path: Path, kind: str) -> None:
    data = bytearray(clip(tmp_path, kind, count=100))
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    assert judge(bytes(data)).completeness is Completeness.INCOMPLETE


@pytest.mark.parametrize(
    ("kind", "must_settle"),
    [("mkv", False), ("webm", False), ("avi", False), ("wmv", False), ("flv", True), ("ts", True), ("mpg", True)],
)
def test_only_a_container_that_says_where_it_ends_need_not_settle(tmp_path: Path, kind: str, must_settle: bool) -> None:
    data = clip(tmp_path, kind)
    is_endless = kind in ENDLESS
    assert judge(data) == Structure(Completeness.WHOLE, must_settle=must_settle, is_endless=is_endless)
    if kind != "flv":
        assert judge(data + b"\1\2\3") == Structure(Completeness.WHOLE, must_settle=True, is_endless=is_endless)


def test_a_live_webm_without_sizes_is_whole_once_it_has_settled(tmp_path: Path) -> None:
    data = clip(tmp_path, "webm", count=50, container={"live": "1", "cluster_time_limit": "500"})
    at = data.index(b"\x18\x53\x80\x67")
    assert data[at + 4] == 0x01
    assert not data[at + 5 : at + 12].strip(b"\xff")
    assert judge(data) == Structure(Completeness.WHOLE, must_settle=True)
    assert judge(data[:-3]).completeness is Completeness.INCOMPLETE


def test_a_live_webm_whose_clusters_have_no_size_is_gone_through_block_by_block(tmp_path: Path) -> None:
    data = bytearray(clip(tmp_path, "webm", count=50, container={"live": "1", "cluster_time_limit": "500"}))
    at = -1
    while (at := data.find(b"\x1f\x43\xb6\x75", at + 1)) >= 0:
        width = 9 - data[at + 4].bit_length()
        data[at + 4 : at + 4 + width] = ((1 << 7 * width) - 1 | 1 << 7 * width).to_bytes(width, "big")
    assert judge(bytes(data)) == Structure(Completeness.WHOLE, must_settle=True)
    assert judge(bytes(data[:-3])).completeness is Completeness.INCOMPLETE


def test_a_matroska_of_a_recorder_that_was_stopped_hard_is_waited_for_and_usable(tmp_path: Path) -> None:
    data = bytearray(clip(tmp_path, "mkv", count=50))
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7
    found = judge(bytes(data[: len(data) * 6 // 10]))
    assert (found.completeness, found.usable) == (Completeness.INCOMPLETE, True)


def test_an_avi_whose_recorder_was_stopped_hard_is_waited_for_and_usable(tmp_path: Path) -> None:
    data = bytearray(clip(tmp_path, "avi", count=50))
    data[4:8] = bytes(4)
    found = judge(bytes(data[: len(data) * 6 // 10]))
    assert (found.completeness, found.usable) == (Completeness.INCOMPLETE, True)
    assert "has not ended" in found.reason


def test_an_avi_of_several_parts_is_whole_and_must_settle(tmp_path: Path) -> None:
    data = clip(tmp_path, "avi")
    part = b"RIFF" + (4 + 8 + 4 + 100).to_bytes(4, "little") + b"AVIXLIST" + (104).to_bytes(4, "little") + b"movi"
    assert judge(data + part + b"x" * 100) == Structure(Completeness.WHOLE, must_settle=True)
    assert judge(data + part + b"x" * 50).completeness is Completeness.INCOMPLETE


def test_a_broadcast_asf_says_nothing_of_its_size_and_settles(tmp_path: Path) -> None:
    data = bytearray(clip(tmp_path, "wmv"))
    at = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 24
    data[at + 64] |= 1
    struct.pack_into("<Q", data, at + 16, 0)
    assert judge(bytes(data)) == Structure(Completeness.WHOLE, must_settle=True, is_endless=True)


def test_an_flv_whose_tags_have_wrong_sizes_behind_them_is_gone_through(tmp_path: Path) -> None:
    data = bytearray(clip(tmp_path, "flv"))
    data[-4:] = bytes(4)
    assert judge(bytes(data)) == Structure(Completeness.WHOLE, must_settle=True)


@pytest.mark.parametrize("kind", OTHERS)
def test_damaged_clips_are_judged_without_a_crash(tmp_path: Path, kind: str) -> None:
    whole = clip(tmp_path, kind)
    for seed in range(200):
        rng = random.Random(seed)
        data = bytearray(whole)
        for place in rng.sample(range(12, min(len(data), 2000)), rng.choice([1, 4, 64])):
            data[place] = rng.choice([0, 0xFF, rng.randrange(256)])
        assert judge(bytes(data)).completeness in Completeness


def test_a_hostile_file_of_small_parts_ends_the_walk() -> None:
    assert judge(b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\xec\x80" * 300_000).must_settle
    flv = b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + b"\x12\0\0\0\0\0\0\0\0\0\0\0\0\0\x0b" * 300_000
    assert judge(flv + b"x").completeness is Completeness.INCOMPLETE


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mp4", "video/mp4"),
        ("webm", "video/webm"),
        ("mkv", "video/matroska"),
        ("avi", "video/x-msvideo"),
        ("ts", "video/mp2t"),
        ("flv", "video/x-flv"),
        ("wmv", "video/x-ms-asf"),
    ],
)
def test_the_media_type_goes_by_the_content(tmp_path: Path, kind: str, expected: str) -> None:
    assert media_type(clip(tmp_path, kind)[:HEAD_BYTES]) == expected


def test_no_two_containers_share_an_ending() -> None:
    assert len(set(ENDINGS)) == len(ENDINGS)
    assert all(ending == ending.lower() and ending.startswith(".") for ending in ENDINGS)


def test_a_quicktime_clip_is_an_mp4_to_us(tmp_path: Path) -> None:
    assert container_of(make_clip(tmp_path / "a.mov").read_bytes()[:HEAD_BYTES]) is ISO


@pytest.mark.parametrize("kind", ["ts", "m2ts"])
@pytest.mark.parametrize("cut", [1, 100, 187, 188 + 50])
def test_a_transport_stream_may_begin_inside_a_packet(tmp_path: Path, kind: str, cut: int) -> None:
    data = clip(tmp_path, kind)[cut:]
    found = container_of(data[:HEAD_BYTES])
    assert found is not None
    assert found.demuxer == "mpegts"
    structure = judge(data)
    assert (structure.completeness, structure.is_endless) == (Completeness.WHOLE, True)


def test_a_few_sync_bytes_in_other_data_are_not_a_transport_stream() -> None:
    data = bytearray(random.Random(1).randbytes(HEAD_BYTES))
    data[0] = 1
    data[100] = data[288] = data[476] = 0x47
    assert container_of(bytes(data)) is None
