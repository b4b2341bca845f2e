"""Weights that cannot work are refused when they are loaded; those that fail on some frames say on how many."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daemon.errors import Interrupted, MachineError, ModelError
from daemon.pipeline.detect import ObjectStage
from daemon.pipeline.detectors import check_shape
from daemon.pipeline.loaded import LoadedModels, usable_device
from daemon.pipeline.models import Weights, load_checkpoint
from daemon.pipeline.records import Analysis, Frame
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings
from tests.clips import make_clip
from tests.unit.pipeline.test_models import save_checkpoint


def put(home: Path, name: str = "a.pt", config: str = "yolov8n.yaml", **changes: Any) -> Weights:
    """Save weights where the operator puts them."""
    path = home / "data" / "models" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_checkpoint(path, config, **changes)


def test_who_reads_text_alone_does_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from daemon.pipeline.service import VideoFilePipelineService as Service;"
        "from daemon.settings import Settings; from pathlib import Path;"
        "Service(Settings.load(home=Path(sys.argv[1]), device='cpu')).loaded.describe(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "openvino" in loaded
    assert loaded & {"torch", "ultralytics", "onnxruntime"} == set()


@pytest.mark.parametrize("there", [True, False])
def test_without_a_driver_auto_is_the_cpu_and_a_named_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr("daemon.pipeline.loaded.has_cuda_driver", lambda: there)
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    monkeypatch.setattr("torch.cuda.device_count", lambda: int(there))
    assert usable_device("auto") == ("cuda:0" if there else "cpu")
    assert usable_device("cpu") == "cpu"
    with pytest.raises(MachineError, match="The device cuda:1 is set"):
        usable_device("cuda:1")


def refusal(home: Path) -> str:
    """Return the sentence with which the start refuses."""
    with pytest.raises(ModelError) as caught:
        LoadedModels(Settings.load(home=home, device="cpu")).describe()
    text = str(caught.value)
    assert text.startswith("a.pt ")
    assert "\n" not in text
    return text


def classes_seen(weights: Weights, home: Path) -> set[Any]:
    stage = ObjectStage.load(weights, Settings.load(home=home, confidence=0.01), "cpu")
    picture = np.random.default_rng(1).integers(0, 255, (360, 640, 3), np.uint8)
    (done,) = stage([Analysis(Frame(0, 0.0, picture))])
    assert done.detections
    assert not done.objects_unseen
    return {detection.class_name for detection in done.detections}


def test_names_in_a_list_are_those_of_the_classes_from_0_on(tmp_path: Path) -> None:
    weights = put(tmp_path, names=[f"thing {number}" for number in range(80)])
    assert load_checkpoint(weights).names == {number: f"thing {number}" for number in range(80)}
    assert classes_seen(weights, tmp_path) <= {f"thing {number}" for number in range(80)}


def test_names_that_are_not_text_become_text(tmp_path: Path) -> None:
    weights = put(tmp_path, names={number: number for number in range(80)})
    assert load_checkpoint(weights).names == {number: str(number) for number in range(80)}
    assert classes_seen(weights, tmp_path) <= {str(number) for number in range(80)}


def test_more_names_than_classes_are_fine(tmp_path: Path) -> None:
    weights = put(tmp_path, names={number: f"thing {number}" for number in range(90)})
    assert len(load_checkpoint(weights).names) == 90


@pytest.mark.parametrize(
    ("names", "missing"), [({0: "a", 2: "c"}, 1), (["a", "b"], 2), ({}, 0), ({"a": "b"}, 0), ("car", 0), (7, 0)]
)
def test_weights_without_a_name_for_each_class_are_refused(tmp_path: Path, names: Any, missing: int) -> None:
    put(tmp_path, names=names)
    assert refusal(tmp_path) == (
        f"a.pt tells 80 classes apart but has no name for class {missing}; set names in it for the classes 0 to 79."
    )


def test_weights_for_grey_pictures_are_refused(tmp_path: Path) -> None:
    put(tmp_path, channels=1)
    assert "expects 1 channel, but a frame has 3 (colour)" in refusal(tmp_path)


def test_weights_for_more_channels_are_refused(tmp_path: Path) -> None:
    put(tmp_path, channels=6)
    assert "expects 6 channels, but a frame has 3 (colour)" in refusal(tmp_path)


def test_an_rt_detr_is_refused(tmp_path: Path) -> None:
    put(tmp_path, config="rtdetr-l.yaml")
    assert refusal(tmp_path) == (
        "a.pt is not a YOLO (its head is RTDETRDecoder); put a YOLO detection checkpoint in its place."
    )


def test_weights_that_give_more_than_boxes_and_classes_are_refused(tmp_path: Path) -> None:
    """A network for poses that says it were for detection: each box has its joints behind the classes."""
    put(tmp_path, config="yolov8n-pose.yaml", task="detect", names={0: "person"})
    assert "its output has the shape (" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("shape", "end_to_end"),
    [((1, 300, 6), False), ((1, 84, 8400), True), ((1, 85, 8400), False), ((1, 84), False), ((1, 6), True)],
)
def test_an_output_of_another_shape_is_refused(shape: tuple[int, ...], end_to_end: bool) -> None:
    with pytest.raises(ModelError, match=r"its output has the shape \(.* where \(.*\) is expected"):
        check_shape(torch.zeros(shape), 80, end_to_end=end_to_end)


def test_an_output_of_boxes_is_taken() -> None:
    check_shape(torch.zeros(8, 84, 5040), 80, end_to_end=False)
    check_shape(torch.zeros(8, 300, 6), 80, end_to_end=True)


def spoil(model: Any) -> None:
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)


@pytest.mark.parametrize("config", ["yolov8n.yaml", "yolo26n.yaml"])
def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, config: str) -> None:
    put(tmp_path, config=config, change=spoil)
    assert "gives numbers that are not finite, even for a blank picture" in refusal(tmp_path)


def overflow_where_it_is_white(model: Any) -> None:
    """Make the first layer pass on what is brighter than grey, so large that the second goes beyond all numbers."""
    first, second = model.model[0], model.model[1]
    with torch.no_grad():
        first.conv.weight.fill_(1e30)
        first.bn.running_mean.zero_()
        first.bn.running_var.fill_(1)
        first.bn.weight.fill_(1)
        first.bn.bias.fill_(-27 * 0.6 * 1e30)
        second.conv.weight.fill_(1e10)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> VideoFilePipelineService:
    """With weights that cannot stand white."""
    home = tmp_path_factory.mktemp("home")
    put(home, change=overflow_where_it_is_white)
    return VideoFilePipelineService(Settings.load(home=home, device="cpu", segment_frames=4))


def clip_with_white(path: Path, *frames: int) -> Path:
    """Make a clip of 12 frames, some of which have white letters."""
    text = tuple("WHITE" if number in frames else "" for number in range(12))
    return make_clip(path, frames=12, size=(640, 480), text=text, crf=10)


@pytest.mark.parametrize(("white", "said"), [((1, 2, 9), "3 frames"), ((5,), "1 frame")])
def test_frames_that_the_weights_could_not_see_are_counted(
    service: VideoFilePipelineService, tmp_path: Path, white: tuple[int, ...], said: str
) -> None:
    clip = clip_with_white(tmp_path / "a.mp4", *white)
    report = service.run_on_file(clip, "yolo")
    summary = json.loads((tmp_path / "a.mp4.json").read_text())["summary"]
    assert summary["frames_unseen"] == report.summary["frames_unseen"] == len(white)
    assert summary["warnings"] == [
        f"The weights gave numbers that are not finite in {said}, so objects may be missing there."
    ]


def test_the_count_is_kept_while_text_is_read(service: VideoFilePipelineService, tmp_path: Path) -> None:
    report = service.run_on_file(clip_with_white(tmp_path / "a.mp4", 1, 2, 9), "yolo_ocr")
    assert report.summary["frames_unseen"] == 3


def test_a_run_that_saw_all_does_not_speak_of_it(service: VideoFilePipelineService, tmp_path: Path) -> None:
    report = service.run_on_file(clip_with_white(tmp_path / "a.mp4"), "yolo")
    assert "frames_unseen" not in report.summary
    assert report.summary["warnings"] == []


def test_a_run_that_is_gone_on_with_counts_the_same(service: VideoFilePipelineService, tmp_path: Path) -> None:
    clip = clip_with_white(tmp_path / "a.mp4", 1, 2, 9)
    service.run_on_file(clip, "yolo", output_path=tmp_path / "whole.json")
    checkpoint = tmp_path / "again.json.checkpoint"
    with pytest.raises(Interrupted):
        service.run_on_file(clip, "yolo", output_path=tmp_path / "again.json", should_stop=checkpoint.exists)
    assert json.loads(checkpoint.read_text())["summary"]["frames_unseen"] == 2
    service.run_on_file(clip, "yolo", output_path=tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_run_that_saw_nothing_right_in_any_frame_fails(service: VideoFilePipelineService, tmp_path: Path) -> None:
    clip = clip_with_white(tmp_path / "a.mp4", *range(12))
    for _ in range(2):  # what is kept of the first try makes no difference
        with pytest.raises(
            ModelError, match="not finite in every frame, so no object could be seen; put other weights"
        ):
            service.run_on_file(clip, "yolo")
        assert not (tmp_path / "a.mp4.json").exists()
