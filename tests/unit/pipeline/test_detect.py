"""Objects: the same boxes as the plain way, whatever the form of the network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daemon.errors import MachineError
from daemon.pipeline.detect import ObjectStage
from daemon.pipeline.fingerprint import what_frames_depend_on
from daemon.pipeline.inference import in_half
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import Weights, find_weights, load_checkpoint
from daemon.pipeline.records import Analysis, Box, Detection, Frame, TextBlock, VideoInfo
from daemon.pipeline.video import Video
from daemon.pipeline.yolo import Seen, Yolo, resolve_device
from daemon.settings import Settings
from tests.unit.pipeline.test_models import save_checkpoint


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (area - both)


def matched(found: list[tuple[Detection, ...]], expected: list[tuple[Detection, ...]]) -> float:
    """Share of boxes, of both sides, that have one of the same class at an overlap of 0.9 on the other side."""
    hits = total = 0
    for ours, plain in zip(found, expected, strict=True):
        for side, other in ((ours, plain), (plain, ours)):
            total += len(side)
            hits += sum(any(a.class_id == b.class_id and overlap(a.box, b.box) >= 0.9 for b in other) for a in side)
    return hits / total


def plain_torch(model: Any, images: list[Any], settings: Settings) -> list[tuple[Detection, ...]]:
    """One frame at a time through torch, with Ultralytics' own letterbox and suppression."""
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    results = []
    for image in images:
        picture = LetterBox((640, 640), auto=True, stride=32)(image=image)
        tensor = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1)))[None].float() / 255
        with torch.inference_mode():
            output = model(tensor)
        output = output[0] if isinstance(output, (tuple, list)) else output
        (boxes,) = non_max_suppression(
            output, settings.confidence, settings.iou, end2end=getattr(model, "end2end", False)
        )
        scaled = scale_boxes(tensor.shape[2:], boxes[:, :4], image.shape[:2])
        results.append(
            tuple(
                Detection(tuple(box), model.names[int(number)], int(number), confidence)
                for box, (confidence, number) in zip(scaled.tolist(), boxes[:, 4:6].tolist(), strict=True)
            )
        )
    return results


def run(stage: ObjectStage, images: list[Any]) -> list[tuple[Detection, ...]]:
    analyses = [Analysis(Frame(number, 0.0, image)) for number, image in enumerate(images)]
    return [each.detections for each in stage(analyses)]


@pytest.fixture(scope="module")
def settings(warm_home: Path) -> Settings:
    return Settings.load(home=warm_home)


@pytest.fixture(scope="module")
def stage(settings: Settings) -> ObjectStage:
    weights = find_weights(settings)
    assert weights is not None
    return ObjectStage.load(weights, settings, "cpu")


@pytest.fixture(scope="module")
def street(shared_media: Path) -> list[Any]:
    frames = Video(shared_media / "street.mp4").frames(stride=12)
    return [frame.image for frame in itertools.islice(frames, 20)]


def test_boxes_equal_those_of_a_plain_torch_loop(stage: ObjectStage, settings: Settings, street: list[Any]) -> None:
    weights = find_weights(settings)
    assert weights is not None
    found = run(stage, street)
    expected = plain_torch(load_checkpoint(weights), street, settings)
    assert sum(map(len, found)) > 60
    assert matched(found, expected) >= 0.99
    assert {d.class_name for frame in found for d in frame} >= {"bus", "person"}
    for frame in found:
        assert [d.confidence for d in frame] == sorted((d.confidence for d in frame), reverse=True)
        for detection in frame:
            x1, y1, x2, y2 = detection.box
            assert 0 <= x1 < x2 <= 1280
            assert 0 <= y1 < y2 <= 720


def test_a_frame_gives_the_same_alone_and_in_a_batch(stage: ObjectStage, street: list[Any]) -> None:
    together = run(stage, street[:6])
    assert [run(stage, [image])[0] for image in street[:6]] == together
    assert run(stage, street[:6][::-1]) == together[::-1]


@pytest.mark.parametrize("size", [(16, 16), (2, 700), (700, 2), (1, 1), (333, 777), (1080, 1920)])
def test_frames_of_any_size_are_taken(stage: ObjectStage, size: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 255, (*size, 3), np.uint8)
    run(stage, [image, image])
    (model,) = stage.models(VideoInfo("h264", size[1], size[0], None, None, None))
    assert model.imgsz is not None
    assert all(side % 32 == 0 and side > 0 for side in model.imgsz)


def test_what_an_earlier_stage_found_is_kept(stage: ObjectStage) -> None:
    block = TextBlock((0, 0, 1, 1), "A", 1.0)
    image = np.zeros((64, 64, 3), np.uint8)
    (done,) = stage([Analysis(Frame(0, 0.0, image), text_blocks=(block,))])
    assert done.text_blocks == (block,)


def test_the_model_is_named_with_its_checksum_and_input(stage: ObjectStage, weights: Path) -> None:
    (model,) = stage.models(VideoInfo("h264", 1280, 720, None, None, None))
    assert (model.name, model.role, model.runtime, model.device) == ("yolov8n-coco", "objects", "openvino", "cpu")
    assert (model.precision, model.imgsz) == ("bf16" if in_half("auto", "cpu") else "fp32", [384, 640])
    assert model.sha256 == "ce42ae6a450f50561455f8e1edc81af30b5a8908f43dadbb53393d85730727a2"


class Stub:
    """A network that answers what it was given."""

    stride = 32
    end_to_end = True
    runtime = precision = "none"

    def __init__(self, rows: list[list[float]]) -> None:
        self.names = {0: "thing"}
        self._rows = rows

    def __call__(self, pictures: Any) -> list[torch.Tensor]:
        return [torch.tensor([self._rows]) for _ in pictures]


def test_boxes_that_are_no_numbers_are_dropped() -> None:
    weights = Weights(Path("stub.pt"), "stub", "")
    nan, inf = float("nan"), float("inf")
    rows = [
        [1, 1, 9, 9, 0.9, 0],
        [nan, 1, 9, 9, 0.9, 0],
        [1, 1, inf, 9, 0.9, 0],
        [1, 1, 9, 9, nan, 0],
        [1, 1, 9, 9, 0.1, 0],
    ]
    yolo = Yolo(Stub(rows), weights, "cpu", side=640, confidence=0.25, iou=0.7)
    stage = ObjectStage(yolo)
    (found,) = run(stage, [np.zeros((640, 640, 3), np.uint8)])
    assert [d.box for d in found] == [(1, 1, 9, 9)]


def test_a_picture_with_a_box_at_the_least_confidence_is_seen_again_in_fp32() -> None:
    class Asked(Stub):
        def __call__(self, pictures: Any) -> list[torch.Tensor]:
            pictures = list(pictures)
            seen.append(len(pictures))
            return super().__call__(pictures)

    seen: list[int] = []
    weights, images = Weights(Path("stub.pt"), "stub", ""), [np.zeros((640, 640, 3), np.uint8)] * 2
    for rough, exact, left in ((0.26, 0.24, 0), (0.24, 0.26, 1), (0.3, 0.2, 1), (0.2, 0.3, 0)):
        detectors = Stub([[1, 1, 9, 9, rough, 0]]), Asked([[1, 1, 9, 9, exact, 0]])
        yolo = Yolo(detectors[0], weights, "cpu", side=640, confidence=0.25, iou=0.7, precise=detectors[1])
        assert [len(found.detections) for found in yolo(images)] == [left, left]
    assert seen == [2, 2, 0, 0]


def test_half_precision_is_taken_where_the_processor_has_it_and_refused_where_it_is_asked_for_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.pipeline.inference.cpu_capabilities", lambda: ["FP32", "BF16"])
    assert [in_half(precision, "cpu") for precision in ("auto", "half", "fp32")] == [True, True, False]
    monkeypatch.setattr("daemon.pipeline.inference.cpu_capabilities", lambda: ["FP32"])
    assert [in_half(precision, "cpu") for precision in ("auto", "fp32")] == [False, False]
    assert [in_half(precision, "cuda:0") for precision in ("auto", "half", "fp32")] == [True, True, False]
    with pytest.raises(MachineError, match=r"does not compute in bf16; set it to auto or fp32"):
        in_half("half", "cpu")


@pytest.mark.parametrize(("capabilities", "half"), [(["FP32"], False), (["FP32", "BF16"], True)])
def test_text_beside_a_gpu_is_found_in_full_precision_where_its_processor_has_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capabilities: list[str], half: bool
) -> None:
    monkeypatch.setattr("daemon.pipeline.inference.cpu_capabilities", lambda: capabilities)
    monkeypatch.setattr("daemon.pipeline.loaded.usable_device", lambda _: "cuda:0")
    monkeypatch.setattr("daemon.pipeline.loaded.device_of_text", lambda *_: "cpu")
    monkeypatch.setattr("daemon.pipeline.loaded.RapidOcrRegions", lambda _, device, half: (device, half))
    monkeypatch.setattr("daemon.pipeline.loaded.TextStage", lambda finder, *_, **__: finder)
    monkeypatch.setattr("daemon.pipeline.loaded.load_reader", lambda *_: None)
    found: object = LoadedModels(Settings.load(home=tmp_path, precision="half")).text
    assert found == ("cpu", half)


@pytest.mark.slow
@pytest.mark.parametrize("end_to_end", [True, False])
def test_yolo26_works_with_and_without_suppression_of_doubles(tmp_path: Path, end_to_end: bool) -> None:
    """It has a branch that needs none; a checkpoint may hold that one alone. Made here with random weights."""
    weights = save_checkpoint(tmp_path / "tiny26.pt", "yolo26n.yaml", end_to_end=end_to_end)
    settings = Settings.load(home=tmp_path, confidence=0.25, precision="fp32")
    stage = ObjectStage.load(weights, settings, "cpu")
    assert stage._yolo._detector.end_to_end is end_to_end
    images = [np.random.default_rng(n).integers(0, 255, (360, 640, 3), np.uint8) for n in (0,)]
    found = run(stage, images)
    expected = plain_torch(load_checkpoint(weights), images, settings)
    assert [len(frame) for frame in found] == pytest.approx([len(frame) for frame in expected], abs=5)
    assert sum(map(len, found)) > 10
    assert matched(found, expected) >= 0.8  # random weights blow up rounding; a wrong form would match none


def test_a_device_that_is_not_there_is_refused() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    with pytest.raises(MachineError, match=r"The device cuda:99 is set.*; set device to auto"):
        resolve_device("cuda:99")


class TwoOnOne:
    """A network that sees a car and a truck where there is one thing, and a person beside it."""

    names = {0: "car", 1: "truck", 2: "person"}  # noqa: RUF012
    stride, end_to_end, runtime, precision = 32, False, "any", "fp32"

    def __call__(self, pictures: Any) -> list[torch.Tensor]:
        boxes = [[100, 100, 80, 60, 0.9, 0.0, 0.0], [101, 100, 80, 60, 0.0, 0.8, 0.0], [300, 200, 20, 60, 0, 0, 0.7]]
        return [torch.tensor(boxes).T[None] for _ in pictures]


@pytest.mark.parametrize(("agnostic", "seen"), [(False, ["car", "truck", "person"]), (True, ["car", "person"])])
def test_a_thing_seen_as_two_classes_is_one_detection_where_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agnostic: bool, seen: list[str]
) -> None:
    weights = Weights(tmp_path / "any.pt", "any", "ab")
    monkeypatch.setattr("daemon.pipeline.yolo.OpenVinoDetector", lambda *_, **__: TwoOnOne())
    stage = ObjectStage.load(weights, Settings(home=tmp_path, class_agnostic_nms=agnostic), "cpu")
    frame = Frame(0, 0.0, np.zeros((320, 640, 3), np.uint8))
    [analysis] = stage([Analysis(frame)])
    assert [found.class_name for found in analysis.detections] == seen


def test_a_result_begun_with_other_suppression_is_not_gone_on_with(tmp_path: Path) -> None:
    one, other = (
        what_frames_depend_on(Settings(home=tmp_path, class_agnostic_nms=agnostic)) for agnostic in (False, True)
    )
    assert one != other


class Counted:
    """A network that counts the pictures that it sees."""

    def __init__(self, stage: ObjectStage) -> None:
        self._yolo = stage._yolo
        self.images = 0

    def __call__(self, images: Sequence[Any]) -> list[Seen]:
        self.images += len(images)
        return self._yolo(images)


def test_a_frame_that_equals_the_one_before_is_not_looked_at(stage: ObjectStage, street: list[Any]) -> None:
    one, two, other = street[0], street[0].copy(), street[1]
    counted = Counted(stage)
    screen = ObjectStage(counted)  # type: ignore[arg-type]
    screen.new_segment()
    assert run(screen, [one, two, other, other.copy(), one]) + run(screen, [two, two]) == run(
        stage, [one, one, other, other, one, one, one]
    )
    assert counted.images == 3
    screen.new_segment()
    run(screen, [one])
    assert counted.images == 4  # nothing is remembered across the edge of a segment


def test_what_nobody_sees_is_not_looked_at_and_what_changes_slowly_is(stage: ObjectStage, street: list[Any]) -> None:
    counted = Counted(stage)
    camera = ObjectStage(counted)  # type: ignore[arg-type]
    camera.new_segment()
    ground = street[0].clip(10, 240)
    refined = [ground + np.random.default_rng(seed).integers(0, 2, ground.shape, np.uint8) for seed in range(4)]
    assert run(camera, refined) == run(stage, refined[:1]) * 4
    assert counted.images == 1
    slowly = [ground + np.uint8(level) for level in range(13)]
    camera.new_segment()
    run(camera, slowly[:5])
    run(camera, slowly[5:])
    assert counted.images == 1 + 5  # levels 0, 3, 6, 9 and 12
    dot = ground.copy()
    dot[400, 700, 1] += 3
    camera.new_segment()
    run(camera, [ground, dot, ground])
    assert counted.images == 6 + 3
