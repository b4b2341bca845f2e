"""The shared clips through the whole pipeline: the objects and the text that are known to be there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from daemon.derive.derivation import derive
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings


def squeezed(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


@pytest.mark.parametrize("name", ["street.mp4", "bunny_cam.mp4"])
def test_what_is_known_to_be_there_is_found(
    warm_home: Path, shared_media: Path, truth: dict[str, Any], tmp_path: Path, name: str
) -> None:
    output = tmp_path / "out.json"
    service = VideoFilePipelineService(Settings.load(home=warm_home))
    service.run_on_file(shared_media / name, "yolo_ocr", frame_stride=10, output_path=output)
    document = json.loads(output.read_text())
    known = truth[name]
    assert document["video"]["frame_count"] == known["frame_count"]
    assert set(document["summary"]["classes"]) >= set(known["objects_seen"])
    for line in known["text"]:
        frames = [
            squeezed(frame["result"]["text"])
            for frame in document["results"]
            if line["first_frame"] <= frame["frame_index"] <= line["last_frame"]
        ]
        assert frames
        assert sum(squeezed(line["line"]) in text for text in frames) >= 0.95 * len(frames), line


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("street.mp4", 16), ("bunny_cam.mp4", 6)])
def test_texts_last_as_long_as_they_are_shown(
    tmp_path: Path, shared_media: Path, truth: dict[str, Any], name: str, most: int
) -> None:
    output = tmp_path / "out.json"
    VideoFilePipelineService(Settings.load(home=tmp_path)).run_on_file(
        shared_media / name, "ocr_only", output_path=output
    )
    derive(output, tmp_path / "derived")
    texts = json.loads((tmp_path / "derived" / "texts.json").read_text())["texts"]
    assert len(texts) <= most
    spans = {(squeezed(text["text"]), text["first_frame"], text["last_frame"]) for text in texts}
    assert spans >= {(squeezed(line["line"]), line["first_frame"], line["last_frame"]) for line in truth[name]["text"]}
