"""A single picture is the one that the pipeline sees, to the last bit, wherever it is and however it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.pipeline import video_still
from daemon.pipeline.video import Video
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_ranges import RangedVideo
from daemon.pipeline.video_still import NoSuchFrame, WantedFrame, find_frame
from tests.clips import make_clip
from tests.container_clips import OTHERS, in_container
from tests.odd_clips import encode, interlaced, moving, set_edits, set_matrix
from tests.picture_stage import counted
from tests.range_clips import STRUCTURES

ALL = Limits(containers="all")
OPEN_GOP = {"preset": "ultrafast", "crf": "18", "bf": "3", "x264-params": "open-gop=1:keyint=25:b-adapt=0"}
LONG = 140
CLIPS: dict[str, Callable[[Path], Path]] = {
    "b-frames": lambda path: make_clip(path, frames=LONG, b_frames=3, gop=30),
    "one key frame": lambda path: make_clip(path, frames=LONG, b_frames=2, gop=1000),
    "open groups": lambda path: encode(path, moving(LONG, (160, 120)), options=OPEN_GOP),
    "variable rate": lambda path: make_clip(
        path, pts_seconds=tuple(n / 60 if n < 60 else 1 + (n - 60) / 10 for n in range(90))
    ),
    "fragments": lambda path: make_clip(path, frames=LONG, fragmented=True),
    "turned": lambda path: set_matrix(make_clip(path, frames=LONG), 0, -1, 1, 0),
    "edited": lambda path: set_edits(make_clip(path, frames=LONG, b_frames=2), (5000, 12_800)),
    "fields": lambda path: interlaced(path, 120, gop=10),
}


def check(path: Path, places: tuple[float, ...] = (0, 0.02, 0.4, 0.55, 0.9, 0.999)) -> None:
    """Compare pictures of a clip with those of a run from its start."""
    frames = list(Video(path, ALL).frames())
    for part in places:
        at = int(part * len(frames))
        frame, before = frames[at], frames[at - at % 3]
        near = frame.timestamp_s + 0.001
        wanted = {
            "index": WantedFrame(index=at),
            "index and anchor": WantedFrame(index=at, anchor=(frame.index, frame.timestamp_s)),
            "index and an anchor before": WantedFrame(index=at, anchor=(before.index, before.timestamp_s)),
            "time": WantedFrame(seconds=near),
            "time and anchor": WantedFrame(seconds=near, anchor=(before.index, before.timestamp_s)),
        }
        for how, want in wanted.items():
            found = find_frame(path, ALL, want)
            assert found.time_s == frame.timestamp_s, (at, how)
            assert found.index in (at, *([None] if how == "time" else [])), (at, how)
            assert np.array_equal(found.image, frame.image), (at, how)


@pytest.mark.parametrize("clip", CLIPS)
def test_a_picture_is_the_one_that_a_run_sees(tmp_path: Path, clip: str) -> None:
    check(CLIPS[clip](tmp_path / "clip.mp4"))


ODD = ("no sync table", "wrong sync table", "sync table of one", "intra refresh", "damaged", "begun in a group")


@pytest.mark.parametrize("clip", ODD)
def test_a_picture_of_an_odd_video_is_the_one_that_a_run_sees(tmp_path: Path, clip: str) -> None:
    check(STRUCTURES[clip](tmp_path / "clip.mp4"), (0.6, 0.8, 0.95))


@pytest.mark.parametrize("clip", ["broken composition times", "no reordering said"])
def test_a_picture_of_a_video_whose_times_are_broken_is_the_one_that_a_run_sees(tmp_path: Path, clip: str) -> None:
    path = STRUCTURES[clip](tmp_path / "clip.mp4")
    frames = list(Video(path, ALL).frames())
    for frame in frames[60::7]:
        found = find_frame(path, ALL, WantedFrame(index=frame.index, anchor=(frame.index, frame.timestamp_s)))
        assert np.array_equal(found.image, frame.image), frame.index


def test_where_seeking_fails_a_picture_is_found_by_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=300, size=(64, 64), b_frames=2)
    frames = list(Video(path, ALL).frames())
    monkeypatch.setattr(video_still, "WORTH_SECONDS", 10.0)
    monkeypatch.setattr(video_still._SoughtVideo, "seek", lambda video, seconds: False)
    monkeypatch.setattr(video_still._SoughtVideo, "shown", None)  # nothing is counted from the start
    for wanted in (WantedFrame(index=280, anchor=(275, 11.0)), WantedFrame(seconds=11.21), WantedFrame(280, 11.2)):
        found = find_frame(path, ALL, wanted)
        assert (found.index in (None, 280), found.time_s) == (True, 11.2)
        assert np.array_equal(found.image, frames[280].image)


def test_no_index_is_made_for_a_picture_in_the_first_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=1600, size=(64, 64))
    monkeypatch.setattr(video_still._SoughtVideo, "seek", lambda video, seconds: False)
    with counted(RangedVideo, "make_index", monkeypatch) as made:
        assert find_frame(path, ALL, WantedFrame(seconds=60.0)).time_s == 60.0
        assert made == []
        assert find_frame(path, ALL, WantedFrame(seconds=60.05)).time_s == 60.04
        assert len(made) == 1


@pytest.mark.parametrize("clip", ["open groups", "fields"])
def test_a_picture_right_behind_a_key_frame_is_the_one_that_a_run_sees(
    tmp_path: Path, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_still, "BACK_SECONDS", (0.0, 0.5))
    monkeypatch.setattr(video_still, "NEAR_SECONDS", 0.0)
    path = CLIPS[clip](tmp_path / "clip.mp4")
    frames = list(Video(path, ALL).frames())
    for frame in frames[8:60]:
        found = find_frame(path, ALL, WantedFrame(index=frame.index, anchor=(frame.index, frame.timestamp_s)))
        assert np.array_equal(found.image, frame.image), frame.index


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_a_picture_is_the_one_that_a_run_sees_in_every_container(tmp_path: Path, kind: str) -> None:
    check(in_container(tmp_path / "clip.bin", kind, count=90), (0, 0.5, 0.9))


def test_a_picture_far_in_is_sought_and_not_counted_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=500, size=(64, 64))
    decoded = []
    decode = Video._decode

    def counted(video: Video) -> Any:
        for frame in decode(video):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(Video, "_decode", counted)
    assert find_frame(path, ALL, WantedFrame(index=480, anchor=(480, 19.2))).index == 480
    assert find_frame(path, ALL, WantedFrame(seconds=19.2)).time_s == 19.2
    assert len(decoded) < 100


def test_an_anchor_that_is_not_there_costs_a_run_from_the_start_and_nothing_else(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=100, size=(64, 64))
    found = find_frame(path, ALL, WantedFrame(index=80, anchor=(80, 3.21)))
    assert (found.index, found.time_s) == (80, 3.2)


def test_what_is_before_the_start_is_the_first_picture_and_what_is_behind_the_end_is_none(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=75, size=(64, 64))
    assert find_frame(path, ALL, WantedFrame(seconds=0.0)).time_s == 0.0
    assert find_frame(path, ALL, WantedFrame(seconds=3.0)).time_s == 2.96  # where a player stands at the end
    for wanted in (WantedFrame(seconds=3.1), WantedFrame(seconds=1e8), WantedFrame(seconds=9.0, anchor=(74, 2.96))):
        with pytest.raises(NoSuchFrame, match=r"^The video ends at 3\.000 s\.$"):
            find_frame(path, ALL, wanted)
    for wanted in (WantedFrame(index=75), WantedFrame(index=2**53), WantedFrame(index=99, anchor=(74, 2.96))):
        with pytest.raises(NoSuchFrame, match=r"^The video has 75 frames, from 0 to 74\.$"):
            find_frame(path, ALL, wanted)


def test_a_picture_stands_for_a_video(tmp_path: Path) -> None:
    assert find_frame(make_clip(tmp_path / "a.mp4", frames=100, size=(64, 64)), ALL, WantedFrame()).time_s == 0.4
    assert find_frame(make_clip(tmp_path / "b.mp4", frames=1, size=(64, 64)), ALL, WantedFrame()).time_s == 0.0
    assert video_still.THUMBNAIL_SECONDS == 10
