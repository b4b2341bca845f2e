"""The pipeline on a real GPU: the same as on the CPU, and the same each time. ``make gpu`` runs these."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.agreement import agreement, on_cpu_in_fp32
from daemon.errors import Interrupted
from daemon.pipeline.client import PipelineProcess, RunRequest
from daemon.pipeline.detect import ObjectStage
from daemon.pipeline.models import find_weights
from daemon.pipeline.records import Analysis, Frame
from daemon.pipeline.service import VideoFilePipelineService
from daemon.pipeline.video import Video
from daemon.settings import Settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")

CLIPS = ("bunny_cam.mp4", "street.mp4")


@pytest.fixture(scope="module")
def service(warm_home: Path) -> VideoFilePipelineService:
    return VideoFilePipelineService(Settings.load(home=warm_home, device="cuda:0", segment_frames=50))


@pytest.fixture(scope="module")
def street(shared_media: Path) -> list[Any]:
    frames = Video(shared_media / "street.mp4").frames(stride=12)
    return [frame.image for frame in itertools.islice(frames, 20)]


def stage_on(device: str, home: Path, **settings: Any) -> ObjectStage:
    loaded = Settings.load(home=home, **settings)
    weights = find_weights(loaded)
    assert weights is not None
    return ObjectStage.load(weights, loaded, device)


def run(stage: ObjectStage, images: list[Any]) -> list[Any]:
    return [each.detections for each in stage([Analysis(Frame(n, 0.0, image)) for n, image in enumerate(images)])]


def bytes_of(service: VideoFilePipelineService, clip: Path, output: Path, **options: Any) -> bytes:
    service.run_on_file(clip, "yolo_ocr", output_path=output, **options)
    return output.read_bytes()


@pytest.fixture(scope="module")
def documents(
    warm_home: Path, shared_media: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Any]:
    """Of both clips, from the CPU in fp32 and from a pipeline process on the GPU."""
    output = tmp_path_factory.mktemp("documents") / "document.json"
    made: dict[tuple[str, str], Any] = {}
    settings = Settings.load(home=warm_home, device="cuda:0")
    on_cpu, process = on_cpu_in_fp32(settings), PipelineProcess(settings)
    try:
        for clip in CLIPS:
            on_cpu.run_on_file(shared_media / clip, "yolo_ocr", output_path=output)
            made["cpu", clip] = json.loads(output.read_text())
            report = process.run(RunRequest(shared_media / clip, "yolo_ocr", 1, None, output, clip))
            assert report.device == "cuda:0"
            made["cuda:0", clip] = json.loads(output.read_text())
    finally:
        process.close()
    return made


@pytest.mark.parametrize("clip", CLIPS)
def test_the_gpu_finds_what_the_cpu_finds(documents: dict[tuple[str, str], Any], clip: str) -> None:
    boxes, lines = agreement(documents["cpu", clip], documents["cuda:0", clip])
    assert boxes >= 0.99
    assert lines >= 0.98


def test_every_network_runs_on_the_gpu_and_the_document_says_so(documents: dict[tuple[str, str], Any]) -> None:
    models = documents["cuda:0", "street.mp4"]["models"]
    assert Counter(model["device"] for model in models) == {"cuda": 3}
    assert {model["role"]: (model["runtime"], model["precision"]) for model in models} == {
        "objects": ("torch", "fp16"),
        "text_regions": ("onnxruntime", "fp32"),
        "text": ("onnxruntime", "fp32"),
    }


def test_known_lines_are_read(documents: dict[tuple[str, str], Any], truth: dict[str, Any]) -> None:
    for clip in CLIPS:
        for line in truth[clip]["text"]:
            frames = documents["cuda:0", clip]["results"][line["first_frame"] : line["last_frame"] + 1]
            wanted = "".join(line["line"].split())
            read = sum(wanted in "".join(frame["result"]["text"].split()) for frame in frames)
            assert read >= 0.9 * len(frames), line


def test_runs_give_the_same_bytes(service: VideoFilePipelineService, shared_media: Path, tmp_path: Path) -> None:
    clip = shared_media / "street.mp4"
    first = bytes_of(service, clip, tmp_path / "first.json")
    assert bytes_of(service, shared_media / "bunny_cam.mp4", tmp_path / "other.json", max_frames=60)
    assert bytes_of(service, clip, tmp_path / "second.json") == first


def test_a_run_that_is_stopped_and_gone_on_with_gives_the_same_bytes(
    service: VideoFilePipelineService, shared_media: Path, tmp_path: Path
) -> None:
    clip, output = shared_media / "bunny_cam.mp4", tmp_path / "stopped.json"
    checkpoint = output.with_name("stopped.json.checkpoint")
    with pytest.raises(Interrupted):
        service.run_on_file(clip, "yolo_ocr", output_path=output, should_stop=checkpoint.exists)
    assert bytes_of(service, clip, output) == bytes_of(service, clip, tmp_path / "whole.json")


def test_a_frame_gives_the_same_alone_and_in_a_batch(warm_home: Path, street: list[Any]) -> None:
    stage = stage_on("cuda:0", warm_home)
    together = run(stage, street[:6])
    assert sum(map(len, together)) > 10
    assert [run(stage, [image])[0] for image in street[:6]] == together
    assert run(stage, street[:6][::-1]) == together[::-1]


def test_frames_of_one_size_after_another_are_taken(warm_home: Path, street: list[Any]) -> None:
    stage = stage_on("cuda:0", warm_home)
    first = run(stage, street[:3])
    for size in [(16, 16), (2, 700), (1, 1), (333, 777), (1080, 1920)]:
        image = np.random.default_rng(3).integers(0, 255, (*size, 3), np.uint8)
        run(stage, [image, image])
    assert run(stage, street[:3]) == first


def test_pictures_full_of_candidates_keep_as_many_boxes_as_on_the_cpu(warm_home: Path, street: list[Any]) -> None:
    found = [run(stage_on(device, warm_home, confidence=0.001), street[:4]) for device in ("cpu", "cuda:0")]
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert len(on_gpu) == pytest.approx(len(on_cpu), rel=0.1)


def test_without_object_weights_text_is_found_on_the_gpu(
    shared_media: Path, tmp_path: Path, truth: dict[str, Any]
) -> None:
    service = VideoFilePipelineService(Settings.load(home=tmp_path, device="cuda:0"))
    output = tmp_path / "text.json"
    service.run_on_file(shared_media / "street.mp4", "yolo_ocr", max_frames=20, output_path=output)
    document = json.loads(output.read_text())
    assert {model["device"] for model in document["models"]} == {"cuda"}
    texts = "".join("".join(text.split()) for text in document["summary"]["texts"])
    assert "".join(truth["street.mp4"]["text"][0]["line"].split()) in texts
