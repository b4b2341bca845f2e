"""What the top-level boxes say of a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from daemon.mp4 import MAX_BOXES, Completeness, check, first_bytes_problem
from tests.clips import make_clip


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + kind + content


def large_box(kind: bytes, content: bytes) -> bytes:
    return (1).to_bytes(4, "big") + kind + (16 + len(content)).to_bytes(8, "big") + content


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")
MOOV = box(b"moov", b"\0" * 40)
MDAT = box(b"mdat", b"x" * 100)


def judge(data: bytes) -> tuple[Completeness, str, bool]:
    found = check(io.BytesIO(data), len(data))
    return found.completeness, found.reason, found.must_settle


@pytest.mark.parametrize("faststart", [False, True])
def test_a_real_clip_is_whole_wherever_its_index_is(tmp_path: Path, faststart: bool) -> None:
    clip = make_clip(tmp_path / "a.mp4", faststart=faststart)
    assert judge(clip.read_bytes()) == (Completeness.WHOLE, "", False)


def test_a_fragmented_clip_could_go_on_and_must_settle(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", fragmented=True, frames=30)
    assert judge(clip.read_bytes()) == (Completeness.WHOLE, "", True)


@pytest.mark.parametrize("faststart", [False, True])
def test_a_clip_cut_anywhere_is_incomplete(tmp_path: Path, faststart: bool) -> None:
    data = make_clip(tmp_path / "a.mp4", faststart=faststart).read_bytes()
    for length in range(0, len(data), 7):
        assert judge(data[:length])[0] is Completeness.INCOMPLETE, length


def test_a_cut_last_box_says_how_much_is_missing() -> None:
    assert judge((FTYP + MOOV + MDAT)[:-30])[1] == "30 bytes are missing at its end."


def test_only_a_file_type_box_is_incomplete_for_want_of_an_index() -> None:
    assert judge(FTYP)[:2] == (Completeness.INCOMPLETE, "Its index (moov) is not there.")


def test_an_index_without_media_data_is_incomplete() -> None:
    assert judge(FTYP + MOOV)[0] is Completeness.INCOMPLETE


def test_sizes_of_64_bits_are_understood() -> None:
    assert judge(FTYP + large_box(b"mdat", b"x" * 50) + MOOV)[0] is Completeness.WHOLE
    assert judge((FTYP + MOOV + large_box(b"mdat", b"x" * 50))[:-1])[0] is Completeness.INCOMPLETE


def test_a_last_box_without_a_size_reaches_to_the_end_and_must_settle() -> None:
    assert judge(FTYP + MOOV + box(b"mdat", b"x" * 50, size=0)) == (Completeness.WHOLE, "", True)


def test_an_endless_box_before_the_index_hides_it() -> None:
    assert judge(FTYP + box(b"mdat", b"x" * 50, size=0) + MOOV)[0] is Completeness.INCOMPLETE


def test_room_reserved_but_not_written_is_incomplete() -> None:
    assert judge(b"\0" * 5000)[0] is Completeness.INCOMPLETE
    assert judge(FTYP + b"\0" * 5000)[0] is Completeness.INCOMPLETE
    assert judge(FTYP + MOOV + b"\0" * 5000)[0] is Completeness.INCOMPLETE
    assert judge(FTYP + MDAT + b"\0" * 100_000 + MOOV)[0] is Completeness.INCOMPLETE


def test_zeros_after_a_whole_file_are_padding_once_it_has_settled() -> None:
    assert judge(FTYP + MDAT + MOOV + b"\0" * 200_000) == (Completeness.WHOLE, "", True)
    assert judge(FTYP + MDAT + MOOV + b"\0" * 5)[0] is Completeness.INCOMPLETE


def test_other_bytes_after_a_whole_file_are_incomplete() -> None:
    assert judge(FTYP + MOOV + MDAT + b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8")[0] is Completeness.INCOMPLETE


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x1a\x45\xdf\xa3" + b"\0" * 60, "Matroska"),
        (b"RIFF\x10\0\0\0AVI LIST", "AVI"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\2\3", "JPEG"),
        (b"GIF89a" + b"\1" * 20, "GIF"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "playlist"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "playlist"),
        (b"<html><body>not found", "text"),
        (b"these are my notes, not a video", "text"),
        (b"hi", "text"),
        (MOOV + MDAT, "QuickTime"),
        (bytes(range(128, 160)), "does not begin"),
        (box(b"ftyp", b"isom", size=0xFFFFFF) + MOOV, "claims"),
        (box(b"ftyp", b"heic\0\0\0\0") + box(b"meta", b"x" * 20), "picture"),
    ],
)
def test_what_is_no_mp4_is_named(data: bytes, named: str) -> None:
    completeness, reason, _ = judge(data)
    assert completeness is Completeness.NOT_MP4
    assert named in reason
    assert reason.endswith("convert it to MP4 and drop it again.")


def test_first_bytes_of_an_mp4_are_no_problem() -> None:
    assert first_bytes_problem(FTYP) is None
    assert first_bytes_problem(FTYP[:12]) is None


@pytest.mark.parametrize("head", [b"", b"\0" * 16, b"GIF89a", FTYP[:8], b"notes of mine"])
def test_other_first_bytes_are_a_problem(head: bytes) -> None:
    assert first_bytes_problem(head)


def test_a_file_of_nothing_but_small_boxes_ends_the_walk() -> None:
    data = FTYP + box(b"free") * (MAX_BOXES + 1)
    assert judge(data)[0] is Completeness.NOT_MP4


def test_a_huge_file_costs_a_handful_of_reads(tmp_path: Path) -> None:
    path = tmp_path / "huge.mp4"
    with path.open("wb") as file:
        file.write(FTYP + MOOV + (1).to_bytes(4, "big") + b"mdat" + (10 << 40).to_bytes(8, "big"))
        file.truncate(len(FTYP + MOOV) + (10 << 40))

    class Counting(io.FileIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            Counting.reads += 1
            return super().read(size) or b""

    with Counting(path) as counting:
        assert check(counting, path.stat().st_size).completeness is Completeness.WHOLE  # type: ignore[arg-type]
    assert Counting.reads <= 5
