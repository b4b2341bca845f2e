"""The parts of the GPU's path that a CPU can run too: the same boxes, and a refusal in words."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from ultralytics.utils.nms import non_max_suppression

from daemon.errors import MachineError
from daemon.pipeline import gpu, onnx_model
from daemon.pipeline.engines import USUAL_WIDTHS, RapidOcrReader
from daemon.pipeline.gpu import OBJECTS_BATCH, boxes_of, marked
from daemon.pipeline.onnx_model import onnx_device
from daemon.pipeline.records import Image
from daemon.pipeline.regions import RapidOcrRegions
from daemon.pipeline.stages import BATCH_FRAMES


def candidates(seed: int, *, classes: int = 80, most: float = 1.0) -> torch.Tensor:
    """What a YOLO gives for three pictures: boxes in heaps, few of them sure."""
    random = torch.Generator().manual_seed(seed)
    output = torch.rand(3, 4 + classes, 600, generator=random)
    output[:, :2] *= 600
    output[:, 2:4] *= 150
    output[:, 4:] *= most * torch.rand(3, 1, 600, generator=random) ** 8
    return output


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [1, 80])
@pytest.mark.parametrize("pairs", [gpu.MOST_PAIRS, 1])
@pytest.mark.parametrize("agnostic", [False, True])
def test_boxes_are_those_that_ultralytics_keeps(
    seed: int, classes: int, pairs: int, agnostic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "MOST_PAIRS", pairs)
    output = candidates(seed, classes=classes)
    expected = non_max_suppression(output.clone(), 0.25, 0.5, agnostic=agnostic, max_time_img=1e9)
    found = boxes_of(output, 0.25, 0.5, agnostic)
    assert sum(map(len, found)) > 30
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_pictures_without_a_candidate_give_no_box() -> None:
    assert [tuple(each.shape) for each in boxes_of(candidates(0, most=0.1), 0.25, 0.5)] == [(0, 6)] * 3


def test_no_more_boxes_are_kept_than_ultralytics_keeps() -> None:
    output = candidates(1, classes=1)
    output[:, 2:4] = 0.5  # too small to overlap
    output[:, 4] = torch.linspace(0.3, 0.9, 600)
    assert [len(each) for each in boxes_of(output, 0.25, 0.5)] == [gpu.MOST_BOXES] * 3


def test_without_onnx_runtime_a_named_gpu_is_refused_and_auto_reads_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnx_model, "new_stream", lambda device: None)
    onnx_device.cache_clear()
    assert onnx_device("auto", "cuda:0") == "cpu"
    assert onnx_device("auto", "cpu") == onnx_device("cpu", "cpu") == "cpu"
    assert onnx_device("cuda:0", "cuda:0") == "cuda:0"
    with pytest.raises(
        MachineError, match=r"needs ONNX Runtime, which is not installed; pip install 'dropframe\[gpu\]'"
    ):
        RapidOcrRegions(384, "cuda:0")
    onnx_device.cache_clear()


def test_what_is_not_a_number_hides_no_other_box_and_is_marked() -> None:
    output = candidates(2)
    whole = boxes_of(output, 0.25, 0.5)
    output = torch.cat([output, output[:, :, :9]], 2)
    output[1, :, -9:] = torch.nan
    output[0, :, -9:] = output[2, :, -9:] = 0
    found = boxes_of(output, 0.25, 0.5)
    for ours, before in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, before)
    rows = marked(found, output)
    assert [len(row) - len(before) for row, before in zip(rows, whole, strict=True)] == [0, 1, 0]
    assert rows[1][-1].isnan().all()


def test_the_recogniser_prepares_itself_for_the_usual_widths_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network:
        def __init__(self, *_: object) -> None:
            made.append(self)

        def __call__(self, pictures: list[Image]) -> None:
            ready.extend(picture.shape for picture in pictures)

    made, ready = list[Any](), list[tuple[int, ...]]()
    monkeypatch.setattr(onnx_model, "_Network", Network)
    model = RapidOcrReader("cuda:0")._model
    assert isinstance(model, onnx_model.OnnxModel)
    usual = [(48, width, 3) for width in USUAL_WIDTHS]
    networks = [model._network(shape) for shape in usual * 2]
    assert sorted(ready) == usual
    assert len(set(map(id, networks))) == len(usual)
    other = model._network((48, 1024, 3))
    assert other is made[0]  # the first one, which says whether the GPU can be used
    assert model._network((48, 1024, 3)) is other
    assert len(made) == len(usual) + 1


def test_a_detector_takes_a_batch_of_frames_at_once() -> None:
    assert OBJECTS_BATCH == BATCH_FRAMES
