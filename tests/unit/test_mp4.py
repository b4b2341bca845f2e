"""What the top-level boxes say of a file."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from daemon.containers import check, first_bytes_problem
from daemon.mp4 import MAX_BOXES, Completeness, Structure
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
        (bytes(range(128, 160)), "does not begin"),
        (box(b"ftyp", b"isom", size=0xFFFFFF) + MOOV, "claims"),
        (box(b"ftyp", b"heic\0\0\0\0") + box(b"meta", b"x" * 20), "picture"),
    ],
)
def test_what_is_no_mp4_is_named(data: bytes, named: str) -> None:
    completeness, reason, _ = judge(data)
    assert completeness is Completeness.NOT_VIDEO
    assert named in reason
    assert reason.endswith(".")
    assert "MP4" in reason or named == "picture"


def test_first_bytes_of_an_mp4_are_no_problem() -> None:
    assert first_bytes_problem(FTYP) is None
    assert first_bytes_problem(FTYP[:12]) is None


@pytest.mark.parametrize("head", [b"", b"\0" * 16, b"GIF89a", FTYP[:8], b"notes of mine"])
def test_other_first_bytes_are_a_problem(head: bytes) -> None:
    assert first_bytes_problem(head)


def test_a_file_of_nothing_but_small_boxes_ends_the_walk() -> None:
    data = FTYP + box(b"free") * (MAX_BOXES + 1)
    assert judge(data)[0] is Completeness.NOT_VIDEO


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


# What is whole to a player, though its boxes do not fit the file.


def structure(data: bytes) -> Structure:
    return check(io.BytesIO(data), len(data))


TRAILERS = {
    "3 bytes": b"\1\2\3",
    "3 zeros": bytes(3),
    "a short text": b"VENDOR",
    "what is not a box": b"\x00\x01\x02\x03\x04\x05\x06\x07" + b"\x9f" * 900,
    "a box of a binary type": (40).to_bytes(4, "big") + b"\x01\xf7\x80\x02" + b"q" * 32,
    "a box that claims too much": box(b"free", b"x" * 50, size=4096),
    "camera data with its length at the end": b"\xde\xad\xbe\xef" * 200 + b"8db42d694ccc418790edff439fe026bf",
}


@pytest.mark.parametrize("form", [{"faststart": True}, {"faststart": False}])
@pytest.mark.parametrize("name", TRAILERS)
def test_what_a_camera_appends_does_not_make_a_clip_incomplete(
    tmp_path: Path, name: str, form: dict[str, bool]
) -> None:
    data = make_clip(tmp_path / "a.mp4", audio=True, **form).read_bytes() + TRAILERS[name]
    assert judge(data) == (Completeness.WHOLE, "", name != "a box of a binary type")  # which ends where the file does


@pytest.mark.parametrize("name", ["what is not a box", "a box that claims too much", "a box of a binary type"])
def test_what_is_appended_to_a_clip_of_fragments_does_not_make_it_incomplete(tmp_path: Path, name: str) -> None:
    data = make_clip(tmp_path / "a.mp4", fragmented=True, frames=30).read_bytes() + TRAILERS[name]
    assert judge(data) == (Completeness.WHOLE, "", True)


def test_media_data_that_claims_too_much_is_whole_once_every_sample_is_there(tmp_path: Path) -> None:
    data = bytearray(make_clip(tmp_path / "a.mp4", faststart=True).read_bytes())
    at = data.index(b"mdat") - 4
    data[at : at + 4] = (len(data) * 3).to_bytes(4, "big")
    assert judge(bytes(data)) == (Completeness.WHOLE, "", True)
    assert judge(bytes(data[:-1]))[0] is Completeness.INCOMPLETE


def test_pictures_outside_of_media_data_are_found_by_the_index(tmp_path: Path) -> None:
    data = make_clip(tmp_path / "a.mp4").read_bytes()
    assert judge(data.replace(b"mdat", b"free", 1))[0] is Completeness.WHOLE


# QuickTime files, and others that do not begin with ftyp.


@pytest.mark.parametrize(
    "first", [b"", box(b"wide"), box(b"free", b"x" * 20), box(b"skip", b""), box(b"pnot", b"\0" * 12), MDAT, MOOV]
)
def test_a_film_without_a_file_type_box_is_taken(tmp_path: Path, first: bytes) -> None:
    data = make_clip(tmp_path / "a.mp4").read_bytes()
    length = int.from_bytes(data[:4], "big")
    bare = box(b"free", b"\0" * (length - 8)) + data[length:]  # the samples stay where the index says
    assert judge(bare)[0] is Completeness.WHOLE
    film = first + MOOV + MDAT
    assert first_bytes_problem(film[:512]) is None
    assert judge(film)[0] is Completeness.WHOLE
    assert judge(first + MDAT)[0] is (Completeness.WHOLE if first == MOOV else Completeness.INCOMPLETE)


def test_a_file_type_box_may_come_after_free_room(tmp_path: Path) -> None:
    data = box(b"free", b"\0" * 24) + FTYP + MDAT + MOOV
    assert judge(data) == (Completeness.WHOLE, "", False)
    assert first_bytes_problem(data[:16]) is None


# What was cut, and will not get better.


@pytest.mark.parametrize("form", [{"faststart": True}, {"fragmented": True}])
def test_a_clip_that_was_cut_among_its_pictures_is_incomplete_and_usable(tmp_path: Path, form: dict[str, bool]) -> None:
    data = make_clip(tmp_path / "a.mp4", frames=60, **form).read_bytes()
    found = structure(data[: len(data) * 6 // 10])
    assert (found.completeness, found.usable) == (Completeness.INCOMPLETE, True)
    assert found.reason


def test_a_clip_that_lost_its_index_or_all_its_pictures_is_not_usable(tmp_path: Path) -> None:
    data = make_clip(tmp_path / "a.mp4", frames=60).read_bytes()
    assert not structure(data[: len(data) * 6 // 10]).usable
    data = make_clip(tmp_path / "a.mp4", frames=60, faststart=True).read_bytes()
    assert not structure(data[: data.index(b"mdat") - 4]).usable
    assert not structure(FTYP + MOOV + b"\0" * 5000).usable
    assert structure(FTYP + MOOV + MDAT).usable is False  # whole: it need not wait for that


@pytest.mark.parametrize("written", [0.1, 0.5, 0.9])
def test_room_made_for_pictures_that_have_not_come_is_incomplete(tmp_path: Path, written: float) -> None:
    """A copy into a file that has its full size from the start: the index comes first, zeros where pictures will be."""
    data = make_clip(tmp_path / "a.mp4", frames=60, faststart=True, audio=True).read_bytes()
    media = data.index(b"mdat") + 4
    there = media + int((len(data) - media) * written)
    found = structure(data[:there] + bytes(len(data) - there))
    assert (found.completeness, found.usable) == (Completeness.INCOMPLETE, True)
    assert "have not been written" in found.reason


def test_a_hole_among_the_pictures_is_incomplete(tmp_path: Path) -> None:
    """Some programs fetch the parts of a file out of order."""
    data = bytearray(make_clip(tmp_path / "a.mp4", frames=250, faststart=True, audio=True, crf=1).read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    assert structure(bytes(data)).completeness is Completeness.INCOMPLETE


def test_a_last_fragment_of_zeros_is_incomplete_and_usable(tmp_path: Path) -> None:
    data = make_clip(tmp_path / "a.mp4", fragmented=True, frames=60).read_bytes()
    end = data.rindex(b"mfra") - 4
    for padding in (0, 50_000):
        found = structure(data[: end - 700] + bytes(700 + padding))
        assert (found.completeness, found.usable) == (Completeness.INCOMPLETE, True)


def test_sound_that_falls_silent_is_not_unwritten(tmp_path: Path) -> None:
    """Uncompressed silence is zeros; a last picture never is."""
    data = bytearray(make_clip(tmp_path / "a.mp4", frames=30, audio=True).read_bytes())
    sound = data.rindex(b"moov") - 4
    data[sound - 80 : sound] = bytes(80)  # the last bytes of the media data are sound
    assert structure(bytes(data)).completeness is Completeness.WHOLE


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_index_is_judged_without_a_crash(tmp_path: Path, seed: int) -> None:
    data = bytearray(make_clip(tmp_path / "a.mp4", frames=12, faststart=True).read_bytes())
    start = data.index(b"moov")
    for place in random.Random(seed).sample(range(start, data.index(b"mdat")), 12):
        data[place] = 0xFF if seed % 2 else 0
    assert structure(bytes(data) + b"\1\2\3").completeness in Completeness
