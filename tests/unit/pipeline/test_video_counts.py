"""Counts tell the truth: no alarm for a whole file, null where nobody knows, and no ruin that reads as completed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.errors import BadVideo
from daemon.pipeline.records import Frame
from daemon.pipeline.video import DecodeCount, Video
from tests.clips import make_clip
from tests.odd_clips import encode, moving, not_coded, packets_of, remuxed, set_edits, with_empty_samples

TICKS = 512
"""Media ticks that a frame of ``make_clip`` and ``encode`` lasts at 25 frames/s."""


def decode(path: Path, **sampling: int) -> tuple[Video, list[Frame]]:
    video = Video(path)
    return video, list(video.frames(**sampling))


def account(video: Video) -> tuple[int | None, int, int, list[str]]:
    count = video.count
    return count.expected, count.failed, count.missing, list(count.warnings())


EDITS: dict[str, tuple[list[tuple[int, int]], int]] = {
    "the end is cut off": ([(600, 1024)], 15),
    "the beginning is hidden": ([(880, 1024 + 38 * TICKS)], 22),
    "the middle is kept": ([(1000, 1024 + 20 * TICKS)], 25),
    "two parts are kept": ([(400, 1024), (400, 1024 + 30 * TICKS)], 20),
    "it begins late": ([(500, -1), (2400, 1024)], 60),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("gop", [12, 60])
def test_what_an_edit_list_hides_is_neither_expected_nor_missing(tmp_path: Path, name: str, gop: int) -> None:
    edits, shown = EDITS[name]
    clip = set_edits(make_clip(tmp_path / "a.mp4", frames=60, b_frames=2, gop=gop), *edits)
    video = Video(clip)
    assert video.count.expected == video.info.frame_count == shown
    assert len(list(video.frames())) == shown
    assert account(video) == (shown, 0, 0, [])


def test_an_edit_list_that_hides_every_frame_is_not_believed(tmp_path: Path) -> None:
    clip = set_edits(make_clip(tmp_path / "a.mp4", frames=1, b_frames=0), (0, 0))
    video, frames = decode(clip)
    assert (len(frames), video.info.fps, account(video)) == (1, None, (1, 0, 0, []))


FRAGMENTS = {
    "one after the other": "+frag_keyframe+empty_moov+default_base_moof",
    "after an index of their own": "+frag_keyframe",
    "with a table of segments": "+frag_keyframe+empty_moov+dash+global_sidx",
    "one a frame": "+frag_every_frame+empty_moov",
}


@pytest.mark.parametrize("name", FRAGMENTS)
@pytest.mark.parametrize("stays", [False, True])
def test_a_clip_of_fragments_is_whole_however_long_its_pictures_stay(tmp_path: Path, name: str, stays: bool) -> None:
    shown = tuple(index / 25 + (3.0 if index > 20 else 0) for index in range(28)) if stays else None
    source = make_clip(tmp_path / "s.mp4", frames=28, pts_seconds=shown, gop=7)
    packets, stream, container = packets_of(source)
    clip = tmp_path / "a.mp4"
    remuxed(clip, packets, stream, FRAGMENTS[name])
    container.close()
    video = Video(clip)
    assert video.count.expected in (28, None)
    assert len(list(video.frames())) == 28
    assert account(video) == (28, 0, 0, [])


def test_a_count_that_nobody_knows_is_null_until_the_end(tmp_path: Path) -> None:
    packets, stream, container = packets_of(make_clip(tmp_path / "s.mp4", frames=28, gop=7))
    clip = remuxed(tmp_path / "a.mp4", packets, stream, FRAGMENTS["with a table of segments"])
    container.close()
    video = Video(clip)
    assert (video.count.expected, video.info.frame_count) == (None, None)
    assert len(list(video.frames(max_frames=5))) == 5
    assert (video.count.expected, video.count.missing) == (None, 0)


def test_a_picture_that_only_says_that_the_last_one_stays_is_no_damage(tmp_path: Path) -> None:
    video, frames = decode(not_coded(tmp_path / "a.mp4", indices=(4, 5, 9, 15, 18)))
    assert len(frames) == 15
    assert account(video) == (20, 0, 0, [])


def test_empty_samples_are_neither_lost_nor_damaged(tmp_path: Path) -> None:
    video, frames = decode(with_empty_samples(tmp_path / "a.mp4", count=20, empty=3))
    assert len(frames) == 17
    assert account(video) == (17, 0, 0, [])


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libsvtav1"])
def test_pictures_that_are_never_shown_are_no_damage(tmp_path: Path, codec: str) -> None:
    """VP9 and AV1 have pictures that only serve to predict others."""
    options = (
        {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"} if codec == "libvpx-vp9" else {"preset": "12"}
    )
    video, frames = decode(encode(tmp_path / "a.mp4", moving(30), codecs=[codec], options=options))
    assert len(frames) == 30
    assert account(video) == (30, 0, 0, [])
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_container_that_lists_too_few_frames_knows_nothing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20)
    data = bytearray(clip.read_bytes())
    at = data.index(b"stts") + 12
    data[at : at + 4] = (5).to_bytes(4, "big")  # claims 5, holds 20
    clip.write_bytes(data)
    video = Video(clip)
    assert video.count.expected == 5
    assert len(list(video.frames())) == 20
    assert account(video) == (None, 0, 0, [])


@pytest.mark.parametrize("ticks", [1, 3, 512, 0])
def test_a_single_frame_has_no_rate_whatever_its_duration(tmp_path: Path, ticks: int) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=1)
    data = bytearray(clip.read_bytes())
    at = data.index(b"stts") + 16
    data[at : at + 4] = ticks.to_bytes(4, "big")
    clip.write_bytes(data)
    video, frames = decode(clip)
    assert (len(frames), video.info.fps) == (1, None)
    assert account(video) == (1, 0, 0, [])


def test_a_clip_that_lasts_a_few_ticks_has_no_rate_and_a_longer_one_of_them_is_refused(tmp_path: Path) -> None:
    for frames, refused in ((2, False), (5, False), (60, True)):
        clip = make_clip(tmp_path / f"{frames}.mp4", frames=frames)
        data = bytearray(clip.read_bytes())
        at = data.index(b"stts") + 16
        data[at : at + 4] = (1).to_bytes(4, "big")
        clip.write_bytes(data)
        if refused:
            with pytest.raises(BadVideo, match="max_fps"):
                Video(clip)
        else:
            video, shown = decode(clip)
            assert (len(shown), video.info.fps) == (frames, None)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "mjpeg"])
def test_a_film_most_of_which_was_never_written_fails(tmp_path: Path, codec: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    moov_first = {"movflags": "+faststart"}
    clip = encode(tmp_path / "a.mp4", moving(60), codecs=[codec], options=options, container=moov_first)
    data = clip.read_bytes()
    media = data.index(b"mdat") + 4
    for share, fails in ((0.2, True), (0.8, False)):
        there = media + int((len(data) - media) * share)
        clip.write_bytes(data[:there] + bytes(len(data) - there))
        if fails:
            with pytest.raises(BadVideo, match="Most of the video cannot be decoded: "):
                decode(clip)
        else:
            video, frames = decode(clip)
            assert video.count.failed + len(frames) == 60
            assert any("damaged" in line for line in video.count.warnings())


def test_frames_lost_before_the_first_key_frame_are_told(tmp_path: Path) -> None:
    packets, stream, container = packets_of(make_clip(tmp_path / "s.mp4", frames=60, gop=30))
    clip = remuxed(tmp_path / "a.mp4", packets[12:], stream)
    container.close()
    video, frames = decode(clip)
    assert len(frames) == 30
    assert account(video)[1] == 18


@pytest.mark.parametrize("zeros", [False, True])
def test_a_clip_of_fragments_that_was_cut_says_so(tmp_path: Path, zeros: bool) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, fragmented=True)
    data = clip.read_bytes()
    cut = len(data) * 7 // 10
    clip.write_bytes(data[:cut] + bytes(100_000 if zeros else 0))
    video, frames = decode(clip)
    assert 20 < len(frames) < 60
    assert any("cut short" in line for line in video.count.warnings())


def test_the_fields_of_a_frame_may_be_coded_apart() -> None:
    count = DecodeCount(expected=40, packets=40, decoded=20, interlaced=20)
    count.add_lost(due=20)
    assert (count.expected, count.packets, count.failed) == (20, 20, 0)
    for interlaced in (0, 30):  # too few: they are lost
        count = DecodeCount(expected=40, packets=40, decoded=30, interlaced=interlaced)
        count.add_lost(due=10)
        assert (count.expected, count.packets, count.failed) == (40, 40, 10)


# What was always right, and stays so.


def test_times_are_the_containers_with_negative_offsets_and_with_a_late_beginning(tmp_path: Path) -> None:
    packets, stream, container = packets_of(make_clip(tmp_path / "s.mp4", frames=30, b_frames=3))
    clip = remuxed(tmp_path / "a.mp4", packets, stream, "+negative_cts_offsets")
    container.close()
    video, frames = decode(clip)
    assert [frame.timestamp_s for frame in frames] == pytest.approx([index / 25 for index in range(30)], abs=1e-6)
    assert account(video) == (30, 0, 0, [])
    late = set_edits(make_clip(tmp_path / "b.mp4", frames=20, b_frames=2), (500, -1), (800, 1024))
    video, frames = decode(late)
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0.5 + index / 25 for index in range(20)], abs=1e-3)
    assert account(video) == (20, 0, 0, [])


def test_a_cut_at_an_open_group_of_pictures_loses_none_without_a_word(tmp_path: Path) -> None:
    parameters = {"x265-params": "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"}
    source = encode(tmp_path / "s.mp4", moving(48), codecs=["libx265"], options=parameters)
    packets, stream, container = packets_of(source)
    second = [index for index, packet in enumerate(packets) if packet.is_keyframe][1]
    clip = remuxed(tmp_path / "a.mp4", packets[second:], stream)
    container.close()
    video, frames = decode(clip)
    expected, failed, missing, _ = account(video)
    assert expected == len(frames) + failed
    assert (len(frames), missing) == (36, 0)


def test_sound_that_is_longer_and_data_beside_it_change_nothing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20, audio=True)
    video, frames = decode(set_edits(clip, (480, 1024)))  # the first list is the film's
    assert (len(frames), account(video)) == (12, (12, 0, 0, []))
