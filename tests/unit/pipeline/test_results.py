"""The result document: its exact form, and going on with one that was cut off."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.jobs import Options
from daemon.pipeline.records import Analysis, Detection, Frame, ModelInfo, TextBlock, VideoInfo
from daemon.pipeline.results import MOST_TEXTS, ResultsSerializer

MODEL = ModelInfo("yolov8n-coco", "objects", "openvino", "cpu", "fp32", [384, 640], "ab" * 32)
VIDEO = VideoInfo("h264", 1280, 720, 25.0, 0.2, 5)
SOURCE = {"name": "straße.mp4", "sha256": "cd" * 32, "size_bytes": 7}
IMAGE = np.zeros((2, 2, 3), np.uint8)


def analysis(index: int) -> Analysis:
    return Analysis(
        Frame(index, round(index / 25, 6), IMAGE),
        (
            Detection((13.04, 137.16, 477.0999, 446.0), "bus", 5, 0.868249),
            Detection((1.0, 2.0, 3.0, 4.0), "person", 0, 0.5),
        ),
        (
            TextBlock((56.0, 40.06, 360.2, 92.0), 'HOME 2 · 1 "AWAY"', 0.99906),
            TextBlock((0, 0, 1, 1), f"№ {index}", 1.0),
        ),
        ((5.04, 6.0, 7.0, 8.0),) if index % 2 else (),
    )


def opened(path: Path, fingerprint: str = "one", **changes: Any) -> ResultsSerializer:
    given: dict[str, Any] = {
        "models": [MODEL],
        "options": Options(2, None),
        "pipeline_id": "yolo_ocr",
        "fingerprint": fingerprint,
    }
    return ResultsSerializer(path, **{**given, **changes})


def write_all(path: Path, frames: int = 5) -> bytes:
    serializer = opened(path)
    for index in range(serializer.frames_written, frames):
        serializer.write(analysis(index))
        if (index + 1) % 2 == 0:
            serializer.checkpoint()
    serializer.finish(SOURCE, {"warnings": []}, VIDEO)
    return path.read_bytes()


EXPECTED = """{
"models": [{"device": "cpu", "imgsz": [384, 640], "name": "yolov8n-coco", "precision": "fp32", "role": "objects", \
"runtime": "openvino", "sha256": "abab"}],
"options": {"frame_stride": 2, "max_frames": null},
"pipeline_id": "yolo_ocr",
"results": [
{"frame_index": 0, "result": {"detections": [{"bbox": [13.0, 137.2, 477.1, 446.0], "class": "bus", "class_id": 5, \
"confidence": 0.8682}, {"bbox": [1.0, 2.0, 3.0, 4.0], "class": "person", "class_id": 0, "confidence": 0.5}], \
"text": "HOME 2 · 1 \\"AWAY\\"\\n№ 0", "text_blocks": [{"bbox": [56.0, 40.1, 360.2, 92.0], "confidence": 0.9991, \
"text": "HOME 2 · 1 \\"AWAY\\""}, {"bbox": [0, 0, 1, 1], "confidence": 1.0, "text": "№ 0"}]}, "timestamp_s": 0.0},
{"frame_index": 1, "result": {"detections": [], "text": "", "text_blocks": []}, "timestamp_s": 0.04}
],
"schema": "dropframe.results/1",
"source": {"name": "straße.mp4", "sha256": "cdcd", "size_bytes": 7},
"summary": {"classes": {"bus": 1, "person": 1}, "detection_count": 2, "frame_count": 2, "frames_unread": 0, "texts": \
["HOME 2 · 1 \\"AWAY\\"", "№ 0"], "warnings": []},
"video": {"codec": "h264", "duration_s": 0.2, "fps": 25.0, "frame_count": 5, "height": 720, "width": 1280}
}
"""


def test_the_document_has_exactly_this_form(tmp_path: Path) -> None:
    serializer = opened(tmp_path / "a.json", models=[replace(MODEL, sha256="abab")])
    serializer.write(analysis(0))
    serializer.write(Analysis(Frame(1, 0.04, IMAGE)))
    summary = serializer.finish({**SOURCE, "sha256": "cdcd"}, {"warnings": []}, VIDEO)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == EXPECTED
    document = json.loads(text)
    assert document["summary"] == summary
    assert list(document) == sorted(document)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_document_without_frames_is_valid(tmp_path: Path) -> None:
    opened(tmp_path / "a.json").finish(SOURCE, {}, VIDEO)
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["results"] == []
    assert document["summary"] == {
        "classes": {},
        "detection_count": 0,
        "frame_count": 0,
        "frames_unread": 0,
        "texts": [],
    }


def test_nothing_is_at_the_documents_place_before_it_is_whole(tmp_path: Path) -> None:
    serializer = opened(tmp_path / "a.json")
    serializer.write(analysis(0))
    serializer.checkpoint()
    assert not (tmp_path / "a.json").exists()
    serializer.close()
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_json_does_not_know_is_refused(tmp_path: Path, value: float) -> None:
    serializer = opened(tmp_path / "a.json")
    with pytest.raises(ValueError, match="JSON compliant"):
        serializer.write(Analysis(Frame(0, value, IMAGE)))
    with pytest.raises(ValueError, match="JSON compliant"):
        serializer.write(Analysis(Frame(0, 0.0, IMAGE), (Detection((0, 0, 1, 1), "a", 0, value),)))
    serializer.close()


def test_going_on_after_a_cut_at_any_byte_gives_the_same_document(tmp_path: Path) -> None:
    whole = write_all(tmp_path / "whole.json")
    path = tmp_path / "a.json"
    serializer = opened(path)
    for index in range(2):
        serializer.write(analysis(index))
    serializer.checkpoint()
    saved = json.loads((tmp_path / "a.json.checkpoint").read_text())["bytes"]
    for index in range(2, 4):
        serializer.write(analysis(index))
    serializer.close()
    part = (tmp_path / "a.json.part").read_bytes()
    checkpoint = (tmp_path / "a.json.checkpoint").read_bytes()
    assert saved < len(part)
    for cut in range(saved, len(part) + 1):
        (tmp_path / "a.json.part").write_bytes(part[:cut])
        (tmp_path / "a.json.checkpoint").write_bytes(checkpoint)
        going_on = opened(path)
        assert going_on.frames_written == 2
        going_on.close()
        if cut % 20 == 0 or cut in (saved, len(part)):
            assert write_all(path) == whole


def test_with_fewer_bytes_than_the_checkpoint_says_it_starts_anew(tmp_path: Path) -> None:
    whole = write_all(tmp_path / "whole.json")
    path = tmp_path / "a.json"
    serializer = opened(path)
    serializer.write(analysis(0))
    serializer.checkpoint()
    serializer.close()
    part = tmp_path / "a.json.part"
    part.write_bytes(part.read_bytes()[:-1])
    going_on = opened(path)
    assert going_on.frames_written == 0
    going_on.close()
    assert write_all(path) == whole


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "null", '{"bytes": 3}', "\udcff"])
def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path: Path, damage: str) -> None:
    whole = write_all(tmp_path / "whole.json")
    serializer = opened(tmp_path / "a.json")
    serializer.write(analysis(0))
    serializer.checkpoint()
    serializer.close()
    (tmp_path / "a.json.checkpoint").write_bytes(damage.encode(errors="surrogateescape"))
    assert write_all(tmp_path / "a.json") == whole


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "two"},
        {"models": [replace(MODEL, sha256="ff")]},
        {"options": Options(2, 9)},
        {"pipeline_id": "yolo"},
    ],
)
def test_a_part_made_otherwise_is_not_gone_on_with(tmp_path: Path, change: dict[str, Any]) -> None:
    serializer = opened(tmp_path / "a.json")
    serializer.write(analysis(0))
    serializer.checkpoint()
    serializer.close()
    other = opened(tmp_path / "a.json", **change)
    assert other.frames_written == 0
    other.close()


def test_a_checkpoint_is_not_believed_once_another_run_has_begun(tmp_path: Path) -> None:
    """One run saves, another begins anew and is killed before it saves, and the first comes back."""
    whole = write_all(tmp_path / "whole.json")
    path = tmp_path / "a.json"
    first = opened(path)
    first.write(analysis(0))
    first.checkpoint()
    first.close()
    second = opened(path, fingerprint="two")
    for _ in range(3):
        second.write(replace(analysis(0), detections=()))
    second.close()
    assert write_all(path) == whole


def test_the_summary_lists_a_bounded_number_of_texts(tmp_path: Path) -> None:
    serializer = opened(tmp_path / "a.json")
    for index in range(MOST_TEXTS + 50):
        serializer.write(analysis(index))
    summary = serializer.finish(SOURCE, {}, VIDEO)
    assert len(summary["texts"]) == MOST_TEXTS
    assert summary["texts"][:3] == ['HOME 2 · 1 "AWAY"', "№ 0", "№ 1"]
    assert summary["classes"] == {"bus": MOST_TEXTS + 50, "person": MOST_TEXTS + 50}
