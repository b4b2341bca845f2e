"""A run goes on in the middle of a video without decoding what came before, and gives the same bytes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from daemon.errors import Interrupted, TransientError
from daemon.pipeline.clocks import never_down
from daemon.pipeline.records import Progress
from daemon.pipeline.video_ranges import RangedVideo
from tests.clips import make_clip
from tests.picture_stage import Bench, counted
from tests.range_clips import LONG, SIZE, STRUCTURES, damaged

STOP = 75
"""Pictures after which runs are stopped: three segments."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path / "home", monkeypatch)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "a.mp4", frames=LONG, size=SIZE, b_frames=2)


def saved(clip: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(clip.with_name(clip.name + ".json.checkpoint").read_text())
    return state


def result(clip: Path) -> bytes:
    assert sorted(path.name for path in clip.parent.glob(f"{clip.name}*")) == [clip.name, f"{clip.name}.json"]
    return clip.with_name(clip.name + ".json").read_bytes()


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_what_came_before_is_not_decoded_again(bench: Bench, clip: Path) -> None:
    whole = bench.document(clip)
    assert bench.run(clip, STOP) is None
    assert saved(clip)["summary"]["frame_count"] == 75
    report = bench.run(clip)
    assert report is not None
    assert (report.frames_processed, bench.stage.seen) == (LONG, LONG - 75)
    assert bench.videos[-1].count.read < LONG - 75 + 20
    assert result(clip) == whole


@pytest.mark.parametrize("options", [{"frame_stride": 2}, {"max_frames": 90}, {"frame_stride": 3, "max_frames": 30}])
def test_options_count_as_in_a_run_from_the_start(bench: Bench, clip: Path, options: dict[str, int]) -> None:
    whole = bench.document(clip, **options)
    assert bench.run(clip, 25, **options) is None
    assert saved(clip)["seam"]["index"] == 24 * options.get("frame_stride", 1)
    bench.run(clip, **options)
    assert result(clip) == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_gives_the_same_bytes(bench: Bench, tmp_path: Path, name: str) -> None:
    clip = STRUCTURES[name](tmp_path / "a.mp4")
    whole = bench.document(clip)
    for stop in (25, 50):
        bench.run(clip, stop)
    bench.run(clip)
    assert result(clip) == whole


def test_a_run_that_is_interrupted_again_and_again_gives_the_same_bytes(bench: Bench, clip: Path) -> None:
    whole = bench.document(clip)
    for stop in (25, 50, 75):
        assert bench.run(clip, stop) is None
    bench.run(clip)
    assert result(clip) == whole


@pytest.mark.parametrize("change", [{"crc": 1}, {"timestamp_s": 3.0}, {"index": 73}, {"index": 10_000}])
def test_where_the_last_frame_is_another_the_video_is_decoded_from_its_start(
    bench: Bench, clip: Path, change: dict[str, Any]
) -> None:
    whole = bench.document(clip)
    bench.run(clip, STOP)
    state = saved(clip)
    state["seam"] |= change
    clip.with_name(clip.name + ".json.checkpoint").write_text(json.dumps(state))
    bench.run(clip)
    assert bench.stage.seen == LONG - 75  # what a run from the start had made is kept
    assert bench.videos[-1].count.read == LONG
    assert result(clip) == whole


def broken_later(clip: Path) -> Path:
    """Return a clip that is damaged near its end, behind the place where runs are stopped."""
    return damaged(clip, (0.85,), 400)


def test_what_came_by_an_index_is_dropped_when_the_video_turns_out_not_to_be_as_it_says(
    bench: Bench, clip: Path
) -> None:
    broken_later(clip)
    whole = bench.document(clip)
    bench.run(clip, 25)
    bench.run(clip, 50)
    state = saved(clip)
    assert (state["summary"]["frame_count"], state["origin"]["summary"]["frame_count"]) == (50, 25)
    bench.run(clip)
    assert bench.videos[-1].count.read == LONG
    assert result(clip) == whole


def test_progress_never_goes_down_though_frames_are_dropped(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.pipeline.service.PROGRESS_SECONDS", 0.001)
    broken_later(clip)
    bench.run(clip, 25)
    bench.run(clip, 50)
    told: list[Progress] = []
    bench.run(clip, on_progress=told.append)
    frames = [progress.frames_processed for progress in told]
    assert frames == sorted(frames)
    assert len(bench.videos) > 3  # the run began anew


def test_of_progress_the_most_is_told_and_steps_as_they_are() -> None:
    told: list[Progress] = []
    report = never_down(told.append)
    for frames, steps in ((50, 9), (25, 1), (60, 4)):
        report(Progress(frames, 100, steps))
    assert told == [Progress(50, 100, 9), Progress(50, 100, 1), Progress(60, 100, 4)]


def test_a_video_that_is_not_as_its_index_says_is_tried_by_it_once(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_later(clip)
    whole = bench.document(clip)
    bench.run(clip, 25)
    with counted(RangedVideo, "make_index", monkeypatch) as made:
        bench.stop_in_turn(clip, 2)
        assert saved(clip)["sequential"] is True
        bench.run(clip)
    assert len(made) == 1
    assert result(clip) == whole


@pytest.mark.parametrize("name", ["damaged", "fields", "another size"])
def test_no_index_is_made_where_it_is_known_to_be_of_no_use(
    bench: Bench, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = STRUCTURES[name](tmp_path / "a.mp4")
    whole = bench.document(clip)
    bench.run(clip, STOP)
    with counted(RangedVideo, "make_index", monkeypatch) as made:
        bench.run(clip)
    assert made == []
    assert result(clip) == whole


def test_a_range_that_ends_the_process_is_tried_twice(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.document(clip)
    bench.run(clip, 25)
    bench.run(clip, 50)
    for tries in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(RangedVideo, "make_index", raising(RuntimeError("it has died")))
            with pytest.raises(RuntimeError, match="it has died"):
                bench.run(clip)
        assert saved(clip)["tries"] == tries
    with counted(RangedVideo, "make_index", monkeypatch) as made:
        bench.run(clip)
    assert made == []
    assert bench.stage.seen == LONG - 25  # what a run from the start had made is kept
    assert result(clip) == whole


def test_a_run_that_is_stopped_is_no_try_that_failed(bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(clip, STOP)
    with monkeypatch.context() as patched:
        patched.setattr(RangedVideo, "make_index", raising(Interrupted("stopped")))
        assert bench.run(clip) is None
    assert saved(clip)["tries"] == 0


def test_a_disk_that_cannot_be_read_just_now_leaves_the_ranges(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.document(clip)
    bench.run(clip, 25)
    bench.run(clip, 50)
    with monkeypatch.context() as patched:
        sick = raising(av.error.OSError(errno.EIO, "Input/output error"))
        patched.setattr("daemon.pipeline.video_ranges.EntryPoint.is_at", sick)
        with pytest.raises(TransientError):
            bench.run(clip)
    assert saved(clip)["summary"]["frame_count"] == 50
    assert "sequential" not in saved(clip)
    bench.run(clip)
    assert result(clip) == whole


def test_where_no_index_is_made_again_frames_by_an_earlier_one_are_dropped(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.document(clip)
    bench.run(clip, 25)
    bench.run(clip, 50)
    with monkeypatch.context() as patched:
        patched.setattr(RangedVideo, "make_index", lambda *_: None)
        bench.run(clip)
    assert bench.stage.seen == LONG - 25
    assert result(clip) == whole


def test_a_checkpoint_of_an_older_release_is_gone_on_with(bench: Bench, clip: Path) -> None:
    whole = bench.document(clip)
    bench.run(clip, STOP)
    state = saved(clip)
    del state["seam"]
    clip.with_name(clip.name + ".json.checkpoint").write_text(json.dumps(state))
    bench.run(clip)
    assert bench.stage.seen == LONG - 75
    assert result(clip) == whole


@pytest.mark.parametrize("seam", [{}, 3, {"index": "a"}, {"index": 1, "timestamp_s": None, "crc": None}])
def test_a_damaged_seam_costs_a_new_beginning_and_nothing_else(bench: Bench, clip: Path, seam: Any) -> None:
    whole = bench.document(clip)
    bench.run(clip, STOP)
    clip.with_name(clip.name + ".json.checkpoint").write_text(json.dumps(saved(clip) | {"seam": seam}))
    bench.run(clip)
    assert result(clip) == whole
