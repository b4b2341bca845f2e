"""Videos that are not whole still give what is in them, and the document says what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from daemon.errors import BadVideo
from daemon.pipeline.records import Progress
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings
from tests.clips import make_clip
from tests.odd_clips import enable, encode, interlaced, moving, set_edits, set_matrix

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "results.schema.json").read_text())


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


def test_a_film_most_of_which_was_never_written_fails_and_leaves_no_result(
    service: VideoFilePipelineService, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, faststart=True)
    data = clip.read_bytes()
    there = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 4
    clip.write_bytes(data[:there] + bytes(len(data) - there))
    with pytest.raises(BadVideo, match="Most of the video cannot be decoded"):
        service.run_on_file(clip, "ocr_only", frame_stride=5)
    assert not clip.with_name("a.mp4.json").exists()


def test_a_trimmed_video_is_all_there_and_is_told_to_be_so_long(
    service: VideoFilePipelineService, tmp_path: Path
) -> None:
    clip = set_edits(make_clip(tmp_path / "a.mp4", frames=60, gop=60), (600, 512 * 40))
    told: list[Progress] = []
    report = service.run_on_file(clip, "ocr_only", on_progress=told.append)
    document = json.loads(clip.with_name("a.mp4.json").read_text())
    assert (report.frames_processed, report.frames_total) == (15, 15)
    assert document["summary"]["warnings"] == []
    assert (document["summary"]["frames_expected"], document["video"]["frame_count"]) == (15, 15)
    assert all(p.frames_total == 15 for p in told)


def test_progress_never_passes_a_total_that_the_container_got_wrong(
    service: VideoFilePipelineService, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60)
    data = bytearray(clip.read_bytes())
    at = data.index(b"stts") + 12
    data[at : at + 4] = (5).to_bytes(4, "big")
    clip.write_bytes(data)
    told: list[Progress] = []
    report = service.run_on_file(clip, "ocr_only", frame_stride=3, on_progress=told.append)
    assert (report.frames_processed, report.frames_total) == (20, None)
    assert all(p.frames_total is None or p.frames_processed <= p.frames_total for p in told)


def test_the_document_says_how_the_picture_was_made(service: VideoFilePipelineService, tmp_path: Path) -> None:
    clip = set_matrix(interlaced(tmp_path / "a.mp4"), 0, 1, 1, 0)
    document = run(service, clip)
    jsonschema.validate(document, SCHEMA)
    video = document["video"]
    assert (video["width"], video["height"]) == (192, 320)
    assert (video["rotation"], video["mirrored"], video["interlaced"]) == (270, True, True)
    assert not {"sample_aspect_ratio", "hdr"} & video.keys()


def test_other_picture_tracks_are_told(service: VideoFilePipelineService, tmp_path: Path) -> None:
    clip = enable(encode(tmp_path / "a.mp4", moving(5, (160, 96)), moving(5)), True, True)
    document = run(service, clip)
    jsonschema.validate(document, SCHEMA)
    assert document["summary"]["warnings"] == ["The file has other picture tracks, which were left out (160x96)."]
