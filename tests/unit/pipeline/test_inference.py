"""A network on the CPU takes pictures and gives what comes of them while it computes others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from daemon.pipeline.inference import AHEAD, CpuModel, Normalisation
from daemon.pipeline.records import Image

COUNT = 20


@pytest.fixture
def model(tmp_path: Path) -> CpuModel:
    """A network that gives the mean of each channel of a picture."""
    picture = ops.parameter([1, 3, -1, -1], np.float32)
    ov.save_model(ov.Model([ops.reduce_mean(picture, np.array([2, 3]))], [picture]), tmp_path / "mean.xml")
    return CpuModel(tmp_path / "mean.xml", Normalisation(mean=0, scale=1, rgb=False), batch=2)


def grey(level: int, rows: int = 4) -> Image:
    return np.full((rows, 4, 3), level, np.uint8)


def test_what_comes_of_each_picture_is_given_in_order(model: CpuModel) -> None:
    assert [output[0].tolist() for output in model(map(grey, range(COUNT)))] == [[n] * 3 for n in range(COUNT)]
    assert list(model([])) == []


def test_no_more_pictures_are_taken_than_keep_the_cores_at_work(model: CpuModel) -> None:
    taken: list[int] = []

    def pictures() -> Iterator[Image]:
        for level in range(COUNT):
            taken.append(level)
            yield grey(level)

    for given, output in enumerate(model(pictures())):
        assert output[0, 0] == given
        assert len(taken) <= given + 1 + 2 * AHEAD
    assert len(taken) == COUNT


def test_a_caller_who_wants_no_more_or_fails_leaves_nothing_to_the_next(model: CpuModel) -> None:
    assert [output[0, 0] for output in islice(model(map(grey, range(COUNT))), 2)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        list(model(grey(1 // (COUNT // 2 - level)) for level in range(COUNT)))
    assert [output[0, 0] for output in model(map(grey, range(100, 100 + COUNT)))] == list(range(100, 100 + COUNT))


def test_pictures_of_two_runs_do_not_mix(model: CpuModel) -> None:
    runs = [model(map(grey, range(start, start + COUNT))) for start in (0, 100)] + [model([grey(7, rows=8)] * COUNT)]
    for at, outputs in enumerate(zip(*runs, strict=True)):
        assert [output[0, 0] for output in outputs] == [at, 100 + at, 7]
