"""The GPU's path on the CPU: its detector under torch, its text networks under ONNX Runtime's provider for the CPU."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.agreement import agreement, on_cpu_in_fp32
from daemon.errors import MachineError
from daemon.pipeline import engines, onnx_model, regions, yolo
from daemon.pipeline.detectors import CudaDetector
from daemon.pipeline.onnx_model import OnnxModel
from daemon.pipeline.regions import PADDLE, rapidocr_models
from daemon.settings import Settings

pytestmark = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")

FRAMES = 60


def document(settings: Settings, clip: Path, output: Path) -> dict[str, Any]:
    on_cpu_in_fp32(settings).run_on_file(clip, "yolo_ocr", output_path=output, max_frames=FRAMES)
    made: dict[str, Any] = json.loads(output.read_text())
    return made


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["bunny_cam.mp4", "street.mp4"])
def test_it_finds_what_the_path_of_the_cpu_finds(
    warm_home: Path, shared_media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: str
) -> None:
    settings = Settings.load(home=warm_home)
    boxes: Any = {"confidence": settings.confidence, "iou": settings.iou, "agnostic": settings.class_agnostic_nms}
    expected = document(settings, shared_media / clip, tmp_path / "cpu.json")
    for module in (regions, engines):
        monkeypatch.setattr(module, "CpuModel", lambda path, normalisation, **_: OnnxModel(path, normalisation, "cpu"))
    monkeypatch.setattr(
        yolo, "OpenVinoDetector", lambda weights, *_, **__: CudaDetector(weights, "cpu", half=False, **boxes)
    )
    found = document(settings, shared_media / clip, tmp_path / "gpu.json")
    assert {model["role"]: model["runtime"] for model in found["models"]} == {
        "objects": "torch",
        "text_regions": "onnxruntime",
        "text": "onnxruntime",
    }
    same_boxes, same_lines = agreement(expected, found)
    assert sum(len(each["result"]["detections"]) for each in found["results"]) > FRAMES
    assert sum(len(each["result"]["text_blocks"]) for each in found["results"]) >= FRAMES
    assert same_boxes >= 0.99
    assert same_lines >= 0.98


def pictures(count: int, height: int, width: int) -> list[Any]:
    chance = np.random.default_rng(width)
    return [chance.integers(0, 255, (height, width, 3), np.uint8) for _ in range(count)]


def test_a_picture_gives_the_same_whatever_it_comes_with() -> None:
    finder, recogniser = (OnnxModel(path, PADDLE, "cpu") for path in rapidocr_models()[:2])
    frames = pictures(5, 96, 160)
    together = list(finder(frames))
    assert [each.shape for each in together] == [(1, 1, 96, 160)] * 5
    for frame, expected in zip(frames, together, strict=True):
        np.testing.assert_array_equal(next(iter(finder([frame]))), expected)
    lines = [line for width in (96, 160, 128) for line in pictures(3, 48, width)]
    order = np.random.default_rng(0).permutation(len(lines))
    mixed = recogniser.best([lines[place] for place in order])
    for place, (classes, scores) in zip(order, mixed, strict=True):
        [(alone, sure)] = recogniser.best([lines[place]])
        assert classes.shape == scores.shape == (1, lines[place].shape[1] // 8)
        np.testing.assert_array_equal(classes, alone)
        np.testing.assert_array_equal(scores, sure)


def test_pictures_are_taken_while_what_was_found_in_others_is_used() -> None:
    finder = OnnxModel(rapidocr_models()[0], PADDLE, "cpu")
    taken: list[int] = []
    outputs = finder(taken.append(number) or frame for number, frame in enumerate(pictures(5, 64, 64)))  # type: ignore[func-returns-value]
    next(outputs)
    assert taken == list(range(onnx_model.BATCH))
    assert len(list(outputs)) == 4


def test_a_gpu_that_onnx_runtime_cannot_use_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "new_stream", lambda device: None)
    with pytest.raises(MachineError, match="cannot use the GPU; install the onnxruntime-gpu for CUDA"):
        OnnxModel(rapidocr_models()[0], PADDLE, "cuda:0")
