"""What an index says of its tracks."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av

from daemon import mp4
from daemon.mp4_index import Span, Track, holds_every_sample, is_zero, samples_are_zeros, tracks
from tests.clips import make_clip
from tests.odd_clips import boxes, encode, moving


def tracks_of(path: Path) -> list[Track]:
    with path.open("rb", buffering=0) as file:
        moov = mp4.check(file, path.stat().st_size).moov
        assert moov is not None
        return tracks(file, moov)


def test_tracks_have_ids_sizes_and_sample_entries(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", audio=True, size=(320, 180))
    film, sound = tracks_of(clip)
    assert (film.track_id, film.is_video, film.entry, film.width, film.height) == (1, True, "avc1", 320, 180)
    assert (sound.is_video, sound.entry, sound.width, sound.encrypted) == (False, "mp4a", 0, False)
    assert not film.encrypted
    with av.open(str(clip)) as container:
        assert [stream.id for stream in container.streams] == [film.track_id, sound.track_id]


def test_protected_tracks_are_told(tmp_path: Path) -> None:
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    (film,) = tracks_of(encode(tmp_path / "a.mp4", moving(3), container=scheme))
    assert (film.encrypted, film.entry) == (True, "encv")
    shop = make_clip(tmp_path / "b.mp4")
    shop.write_bytes(shop.read_bytes().replace(b"avc1", b"drmi").replace(b"isomdrmi", b"isomavc1"))
    assert tracks_of(shop)[0].encrypted


def test_protection_inside_an_ordinary_entry_is_told(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mp4", moving(3), aspect=Fraction(4, 3))
    data = clip.read_bytes()
    at = data.index(b"pasp")
    assert int.from_bytes(data[at - 4 : at], "big") == 16
    sinf = boxes((b"sinf", boxes((b"schm", b""))))
    assert len(sinf) == 16
    clip.write_bytes(data[: at - 4] + sinf + data[at + 12 :])
    assert tracks_of(clip)[0].encrypted


def test_an_index_without_tracks_or_samples_holds_nothing() -> None:
    for data in (b"", b"\0" * 40, boxes((b"trak", b"")), boxes((b"trak", boxes((b"tkhd", b"\0" * 84))))):
        file, moov = io.BytesIO(data), Span(0, len(data))
        assert tracks(file, moov) == []
        assert not holds_every_sample(file, moov, len(data))
        assert not samples_are_zeros(file, moov)


def test_no_bytes_are_not_zeros() -> None:
    file = io.BytesIO(b"\0\0\0\1")
    assert is_zero(file, Span(0, 3))
    assert not is_zero(file, Span(0, 4))
    assert not is_zero(file, Span(4, 9))
