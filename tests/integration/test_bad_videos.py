"""Videos that are not whole still give what is in them, and the document says what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings
from tests.clips import make_clip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> VideoFilePipelineService:
    return VideoFilePipelineService(Settings.load(home=tmp_path_factory.mktemp("home"), segment_frames=20))


def run(service: VideoFilePipelineService, clip: Path) -> Any:
    service.run_on_file(clip, "ocr_only", frame_stride=5)
    return json.loads(clip.with_name(clip.name + ".json").read_text())


def test_a_cut_video_says_how_many_frames_are_missing(service: VideoFilePipelineService, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, faststart=True, text="STILL HERE")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    document = run(service, clip)
    summary = document["summary"]
    assert summary["frames_expected"] == 60
    assert summary["frames_decoded"] + summary["frames_failed"] + summary["frames_missing"] == 60
    assert summary["frames_missing"] > 10
    held = 60 - summary["frames_missing"]
    assert f"The video is cut short: its container lists 60 frames, the file holds {held}." in summary["warnings"]
    assert len(document["results"]) == -(-summary["frames_decoded"] // 5)
    assert document["results"][-1]["result"]["text"] == "STILL HERE"


def test_a_damaged_video_says_how_many_frames_were_lost(service: VideoFilePipelineService, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, codec="libx265", faststart=True)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(byte ^ 0x5A for byte in data[middle : middle + 600])
    clip.write_bytes(data)
    summary = run(service, clip)["summary"]
    assert summary["frames_failed"] > 0
    assert summary["frames_decoded"] + summary["frames_failed"] == 60
    assert any(line.startswith("The video is damaged: ") for line in summary["warnings"])


def test_a_whole_video_has_no_warning(service: VideoFilePipelineService, tmp_path: Path) -> None:
    summary = run(service, make_clip(tmp_path / "a.mp4", frames=20, fragmented=True))["summary"]
    assert summary["warnings"] == []
    assert (summary["frames_failed"], summary["frames_missing"]) == (0, 0)
