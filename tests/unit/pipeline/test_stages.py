"""StageChain: how many frames a stage gets at once, and how many threads convert them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest

from daemon.pipeline.records import Analysis, Frame, ModelInfo, VideoInfo
from daemon.pipeline.stages import StageChain, batch_frames, clocks_of, converters
from daemon.settings import Settings


class Counting:
    """A stage that keeps which frames it got at once."""

    needs: frozenset[str] = frozenset()
    gives = frozenset({"text"})

    def __init__(self, name: str) -> None:
        self.name = name
        self.got: list[list[int]] = []
        self.segments: list[int] = []

    def models(self, info: VideoInfo) -> list[ModelInfo]:
        return []

    def new_segment(self) -> None:
        self.segments.append(sum(map(len, self.got)))

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        self.got.append([each.frame.index for each in batch])
        return list(batch)


def video(width: int, height: int) -> VideoInfo:
    return VideoInfo(codec="h264", width=width, height=height, fps=25.0, duration_s=None, frame_count=None)


def run(stage: Counting, info: VideoInfo, first: int, last: int) -> list[list[int]]:
    """Run frames through a stage, and return the batches that come out."""
    settings = Settings(segment_frames=11, text_look_seconds=0.2)
    frames = (Frame(at, at / 25, np.zeros((1, 1, 3), np.uint8)) for at in range(first, last))
    with StageChain([stage], clocks_of([stage]), settings, 1).analysed(frames, info) as batches:
        return [[each.frame.index for each in batch] for batch in batches]


def test_large_frames_are_looked_at_for_text_more_at_once_and_never_over_a_segments_edge() -> None:
    stage, info = Counting("text"), video(3840, 2160)
    out = run(stage, info, 0, 25)
    assert [len(batch) for batch in stage.got] == [4, 4, 3, 4, 4, 3, 3]
    assert stage.segments == [0, 11, 22]
    assert list(chain(*out)) == list(chain(*stage.got)) == list(range(25))
    assert max(map(len, out)) == batch_frames(info, 1, 0.2) == 2
    part = Counting("text")
    run(part, info, 11, 22)
    assert part.got == stage.got[3:6]


@pytest.mark.parametrize(("name", "info"), [("objects", video(3840, 2160)), ("text", video(1280, 720))])
def test_what_fits_or_is_not_text_goes_batch_by_batch(name: str, info: VideoInfo) -> None:
    stage = Counting(name)
    assert run(stage, info, 0, 25) == stage.got


@pytest.mark.parametrize(
    ("cores", "on_cpu", "on_gpu"), [(1, 1, 1), (2, 1, 1), (4, 1, 2), (8, 2, 4), (16, 4, 4), (64, 4, 4)]
)
def test_more_threads_convert_where_no_network_wants_the_cores(
    cores: int, on_cpu: int, on_gpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert (converters("cpu"), converters("cuda:1")) == (on_cpu, on_gpu)
