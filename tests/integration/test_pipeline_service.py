"""run_on_file: the same bytes however a run went, and what it says of a video that is not whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from daemon.errors import BadOptions, BadVideo, Interrupted, ModelError
from daemon.jobs import Options
from daemon.pipeline import code_version
from daemon.pipeline.parts import join
from daemon.pipeline.pipelines import NO_OBJECTS
from daemon.pipeline.records import Progress
from daemon.pipeline.results import analysed_total, recorded_facts
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings
from tests.clips import make_clip

TEXT = tuple(f"FRAME {number // 10}" for number in range(40))


@pytest.fixture(scope="module")
def service(warm_home: Path) -> VideoFilePipelineService:
    return VideoFilePipelineService(Settings.load(home=warm_home, segment_frames=10))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> VideoFilePipelineService:
    """Without object weights."""
    return VideoFilePipelineService(Settings.load(home=tmp_path_factory.mktemp("bare"), segment_frames=10))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "a.mp4", frames=40, text=TEXT, b_frames=2)


def bytes_of(service: VideoFilePipelineService, clip: Path, pipeline_id: str = "yolo_ocr") -> bytes:
    output = clip.with_name("again.json")
    service.run_on_file(clip, pipeline_id, output_path=output)
    content = output.read_bytes()
    output.unlink()
    return content


@contextmanager
def busy() -> Iterator[None]:
    """Keep every core busy."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_the_document_holds_every_frame_and_says_what_made_it(service: VideoFilePipelineService, clip: Path) -> None:
    report = service.run_on_file(clip, "yolo_ocr", source_name="match.mp4")
    document = json.loads(clip.with_name("a.mp4.json").read_text())
    assert [frame["frame_index"] for frame in document["results"]] == list(range(40))
    assert document["source"] == {
        "name": "match.mp4",
        "sha256": report.sha256,
        "size_bytes": clip.stat().st_size,
    }
    assert [model["role"] for model in document["models"]] == ["objects", "text_regions", "text"]
    assert document["summary"]["frame_count"] == document["summary"]["frames_decoded"] == 40
    assert document["summary"]["warnings"] == []
    assert {"FRAME 0", "FRAME 1", "FRAME 2", "FRAME 3"} <= set(document["summary"]["texts"])
    assert set(report.stage_seconds) == {"decode", "objects", "text", "write"}


@pytest.mark.parametrize("options", [{}, {"frame_stride": 3}, {"max_frames": 7}])
def test_the_document_tells_what_the_run_told(
    bare: VideoFilePipelineService, clip: Path, options: dict[str, int]
) -> None:
    report = bare.run_on_file(clip, "ocr_only", **options)
    facts = recorded_facts(clip.with_name("a.mp4.json"))
    assert report.frames_total is not None
    assert facts.keys() >= {"frames_total", "device", "summary"}
    expected = {name: getattr(report, name) for name in facts}
    assert facts == {**expected, "device": report.device.split(":")[0]}


def test_runs_give_the_same_bytes(service: VideoFilePipelineService, clip: Path) -> None:
    assert bytes_of(service, clip) == bytes_of(service, clip)


def test_a_busy_machine_gives_the_same_bytes(service: VideoFilePipelineService, clip: Path) -> None:
    quiet = bytes_of(service, clip)
    with busy():
        assert bytes_of(service, clip) == quiet


def test_a_run_that_is_stopped_and_gone_on_with_gives_the_same_bytes(
    service: VideoFilePipelineService, clip: Path
) -> None:
    whole = bytes_of(service, clip)
    output = clip.with_name("again.json")
    checkpoint = clip.with_name("again.json.checkpoint")
    with pytest.raises(Interrupted):
        service.run_on_file(clip, "yolo_ocr", output_path=output, should_stop=checkpoint.exists)
    assert not output.exists()
    assert checkpoint.exists()
    told: list[Progress] = []
    service.run_on_file(clip, "yolo_ocr", output_path=output, on_progress=told.append)
    assert output.read_bytes() == whole
    assert sorted(path.name for path in clip.parent.iterdir()) == ["a.mp4", "again.json"]


@pytest.mark.parametrize("clip_options", [{"b_frames": 2, "text": TEXT}, {"fragmented": True, "gop": 17}])
@pytest.mark.parametrize("options", [{}, {"frame_stride": 2, "max_frames": 13}])
def test_a_video_in_parts_gives_the_same_bytes(
    service: VideoFilePipelineService, tmp_path: Path, clip_options: dict[str, Any], options: dict[str, int]
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=40, **clip_options)
    plan = service.parts.plan(clip, "yolo_ocr", Options(**options), group_seconds=0.1)
    assert plan is not None
    assert len(plan) == (2 if options else 4)
    parts = [tmp_path / str(number) for number in range(len(plan))]
    for number in reversed(range(len(plan))):
        service.parts.run_part(plan, number, clip, parts[number])
    join(plan, parts, tmp_path / "joined.json")
    service.run_on_file(clip, "yolo_ocr", **options)
    assert (tmp_path / "joined.json").read_bytes() == clip.with_name("a.mp4.json").read_bytes()


@pytest.mark.slow
def test_a_run_begins_anew_with_other_code(
    bare: VideoFilePipelineService, clip: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    output, checkpoint = clip.with_name("again.json"), clip.with_name("again.json.checkpoint")
    for code in ("as it was", "as it is"):
        monkeypatch.setattr(code_version, "package_digest", lambda name, code=code: f"{name} {code}")
        with pytest.raises(Interrupted):
            bare.run_on_file(clip, "ocr_only", output_path=output, should_stop=checkpoint.exists)
        kept = json.loads(checkpoint.read_text())["summary"]["frame_count"]
        assert 0 < kept < 40
    monkeypatch.undo()
    bare.run_on_file(clip, "ocr_only", output_path=output)
    assert "are kept from an earlier attempt" not in caplog.text
    assert output.read_bytes() == bytes_of(bare, clip, "ocr_only")


def test_a_run_goes_on_after_a_reboot_that_gave_the_disk_another_number(
    bare: VideoFilePipelineService, clip: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = clip.with_name("a.mp4.json.checkpoint")
    with pytest.raises(Interrupted):
        bare.run_on_file(clip, "ocr_only", should_stop=checkpoint.exists)
    here = Path.stat

    def elsewhere(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        status = here(path, follow_symlinks=follow_symlinks)
        times = {"st_mtime_ns": status.st_mtime_ns, "st_mtime": status.st_mtime}
        return os.stat_result((*status[:2], status.st_dev + 1, *status[3:]), times)

    monkeypatch.setattr(Path, "stat", elsewhere)
    with caplog.at_level("INFO"):
        bare.run_on_file(clip, "ocr_only")
    assert "frames are kept from an earlier attempt" in caplog.text


KILLED = """
import sys
from pathlib import Path
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings

service = VideoFilePipelineService(Settings.load(home=Path(sys.argv[1]), segment_frames=10))
service.run_on_file(Path(sys.argv[2]), "yolo_ocr", output_path=Path(sys.argv[3]))
"""


def test_a_run_that_is_killed_and_gone_on_with_gives_the_same_bytes(
    service: VideoFilePipelineService, clip: Path, warm_home: Path
) -> None:
    whole = bytes_of(service, clip)
    output = clip.with_name("again.json")
    run = subprocess.Popen([sys.executable, "-c", KILLED, warm_home, clip, output])
    while not clip.with_name("again.json.checkpoint").exists():
        assert run.poll() is None
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not output.exists()
    assert bytes_of(service, clip) == whole


def test_without_weights_yolo_is_refused_and_the_rest_is_done(bare: VideoFilePipelineService, clip: Path) -> None:
    with pytest.raises(ModelError, match="There are no object weights"):
        bare.run_on_file(clip, "yolo")
    bare.run_on_file(clip, "yolo_ocr", max_frames=3)
    document = json.loads(clip.with_name("a.mp4.json").read_text())
    assert document["summary"]["warnings"] == [NO_OBJECTS]
    assert [model["name"] for model in document["models"]] == ["PP-OCRv6_det_small", "PP-OCRv6_rec_small"]
    for frame in document["results"]:
        (detection,) = frame["result"]["detections"]
        (block,) = frame["result"]["text_blocks"]
        assert (detection["class"], detection["class_id"]) == ("text", 0)
        assert detection["bbox"] == block["bbox"]
    bare.run_on_file(clip, "ocr_only", max_frames=3)
    document = json.loads(clip.with_name("a.mp4.json").read_text())
    assert document["summary"]["warnings"] == []
    assert document["summary"]["detection_count"] == 0


def test_with_weights_objects_are_theirs_and_the_result_names_both(warm_home: Path, clip: Path, tmp_path: Path) -> None:
    service = VideoFilePipelineService(Settings.load(home=warm_home))
    service.run_on_file(clip, "yolo_ocr", max_frames=3)
    document = json.loads(clip.with_name("a.mp4.json").read_text())
    assert [(model["name"], model["role"]) for model in document["models"][:2]] == [
        ("yolov8n-coco", "objects"),
        ("PP-OCRv6_det_small", "text_regions"),
    ]
    assert document["summary"]["texts"]
    assert "text" not in document["summary"]["classes"]


def test_objects_alone_hold_no_text(service: VideoFilePipelineService, clip: Path) -> None:
    report = service.run_on_file(clip, "yolo", frame_stride=4, max_frames=5)
    document = json.loads(clip.with_name("a.mp4.json").read_text())
    assert report.frames_processed == report.frames_total == 5
    assert [frame["frame_index"] for frame in document["results"]] == [0, 4, 8, 12, 16]
    assert document["options"] == {"frame_stride": 4, "max_frames": 5}
    assert document["summary"]["texts"] == []


@pytest.mark.parametrize(
    "options", [{"frame_stride": 0}, {"frame_stride": 1.5}, {"max_frames": 0}, {"max_frames": "3"}]
)
def test_wrong_options_are_refused(bare: VideoFilePipelineService, clip: Path, options: dict[str, int]) -> None:
    with pytest.raises(BadOptions, match="must be a whole number of 1 or more"):
        bare.run_on_file(clip, "ocr_only", **options)
    assert [path.name for path in clip.parent.iterdir()] == ["a.mp4"]


def test_an_unknown_pipeline_is_refused(bare: VideoFilePipelineService, clip: Path) -> None:
    with pytest.raises(BadOptions, match="There is no pipeline 'nope'"):
        bare.run_on_file(clip, "nope")


def test_a_bad_video_leaves_nothing_behind(bare: VideoFilePipelineService, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("hello")
    with pytest.raises(BadVideo):
        bare.run_on_file(tmp_path / "a.mp4", "ocr_only")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_long_checksum_counts_as_progress_and_ends_with_the_run(bare: VideoFilePipelineService, clip: Path) -> None:
    with clip.open("ab") as file:  # a "free" box, which players pass over
        size = 1_500_000_000
        file.write(size.to_bytes(4, "big") + b"free")
        file.truncate(file.tell() + size - 8)
    told: list[Progress] = []
    bare.run_on_file(clip, "ocr_only", max_frames=1, on_progress=told.append)
    after = [progress.steps for progress in told if progress.frames_processed == 1]
    assert after[-1] > 1400  # a step a MiB
    stop = threading.Event()
    begun = time.monotonic()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Interrupted):
        bare.run_on_file(clip, "ocr_only", max_frames=1, should_stop=stop.is_set)
    assert time.monotonic() - begun < 10


def test_memory_does_not_grow_with_the_video(bare: VideoFilePipelineService, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "long.mp4", frames=1500, size=(64, 48))
    resident: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        resident.append((progress.frames_processed, psutil.Process().memory_info().rss))

    bare.run_on_file(clip, "ocr_only", frame_stride=3, on_progress=note)
    early = max(rss for frames, rss in resident if frames <= 250)
    assert resident[-1][1] < early * 1.05 + 20_000_000


@pytest.mark.parametrize(
    ("expected", "stride", "most", "total"),
    [(None, 1, None, None), (None, 2, 7, 7), (10, 1, None, 10), (10, 3, None, 4), (10, 3, 2, 2), (10, 3, 9, 4)],
)
def test_the_number_of_frames_to_come(expected: int | None, stride: int, most: int | None, total: int | None) -> None:
    assert analysed_total(expected, Options(stride, most)) == total
