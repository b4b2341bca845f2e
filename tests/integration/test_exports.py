"""Exports with the real daemon: beside the result in the outbox, and over HTTP, also when their makers are killed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.clips import make_clip
from tests.exported import FRAMES, HOSTILE, derived_job, exported, frames
from tests.integration.test_http_daemon import running_daemon
from tests.sidecar_process import running_sidecar
from tests.system.running import wait_for


def makers(job_id: str) -> list[int]:
    """Return the processes that export a result."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"daemon.export.process" in words and job_id.encode() in words:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.needs("ffprobe")
def test_exports_follow_a_result_into_the_outbox_and_over_http(tmp_path: Path) -> None:
    for name in ("inbox", "outbox"):
        (tmp_path / name).mkdir()
    (tmp_path / "dropframe.toml").write_text('exports = ["csv", "srt"]\n')
    make_clip(tmp_path / "clip.mp4", frames=10)
    with running_sidecar(tmp_path) as sidecar, running_daemon(tmp_path):
        # The settings ask for two formats, and the video's options file for one more.
        (tmp_path / "inbox" / "clip.mp4.options.json").write_text('{"exports": ["annotated", "csv"]}')
        (tmp_path / "clip.mp4").rename(tmp_path / "inbox" / "clip.mp4")
        for ending in (".json", ".csv", ".srt", ".annotated.mp4"):
            wait_for(lambda: (tmp_path / "outbox" / f"clip.mp4{ending}").exists(), 120)  # noqa: B023
        [job] = httpx.get(f"{sidecar.url}/v1/jobs").json()["jobs"]
        assert job["options"] == {"frame_stride": 1, "max_frames": None, "exports": ["annotated", "csv"]}
        path = f"{sidecar.url}/v1/jobs/{job['job_id']}"
        wait_for(lambda: set(httpx.get(path).json()["exports"].values()) == {"published"}, 60)
        assert set(httpx.get(path).json()["exports"]) == {"annotated", "csv", "srt"}
        command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames"]
        command += ["-of", "csv=p=0", str(tmp_path / "outbox" / "clip.mp4.annotated.mp4")]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "h264,10"
        answer = httpx.get(f"{sidecar.url}/v1/jobs/{job['job_id']}/export/csv?wait=30", timeout=40)
        assert answer.content == (tmp_path / "outbox" / "clip.mp4.csv").read_bytes()
        document = json.loads((tmp_path / "outbox" / "clip.mp4.json").read_text())
        table = (tmp_path / "outbox" / "clip.mp4.csv").read_text("utf-8-sig")
        rows = list(csv.DictReader(table.splitlines()))
        assert len(rows) == document["summary"]["detection_count"]
        assert httpx.delete(f"{sidecar.url}/v1/jobs/{job['job_id']}").status_code == 202
        wait_for(lambda: not any((tmp_path / "outbox").iterdir()), 60)
        wait_for(lambda: not list((tmp_path / "data" / "exports").glob("*-*")), 60)


@pytest.mark.needs("ffmpeg", "ffprobe")
def test_ffmpeg_reads_the_subtitles_and_their_times(tmp_path: Path) -> None:
    job_id = derived_job(tmp_path)
    for name in ("srt", "ass", "vtt"):
        path = exported(tmp_path, job_id, name)
        command = ["ffprobe", "-v", "error", "-show_packets", "-of", "json", str(path)]
        packets = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["packets"]
        times = [float(packet[key]) for packet in packets for key in ("pts_time", "duration_time")]
        assert times == pytest.approx([0.0, 1.0 if name == "srt" else 2.4, 1.0, 1.4])


@pytest.mark.needs("ffmpeg")
def test_ffmpeg_reads_hostile_texts_as_texts(tmp_path: Path) -> None:
    job_id = derived_job(tmp_path, records=frames(texts=HOSTILE))
    for name, cues in (("srt", 2), ("ass", len(HOSTILE)), ("vtt", len(HOSTILE))):
        path = exported(tmp_path, job_id, name)
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "webvtt", "-"]
        read = subprocess.run(command, capture_output=True, check=True, text=True)
        assert read.stderr == ""
        assert len(re.findall(r"^[0-9:.]+ --> [0-9:.]+$", read.stdout, re.MULTILINE)) == cues, name
        for words in ("quoted", "x" * 1000):
            assert words in read.stdout, (name, words)


TRAIN = """
import sys, types
import torch
ours = types.ModuleType("torchvision")  # the CPU build of torch cannot load the real one
ours.__version__ = "0.28.0"
sys.modules["torchvision"] = ours
from ultralytics.cfg import entrypoint
from ultralytics.utils.nms import TorchNMS
ours.ops = types.SimpleNamespace(nms=TorchNMS.nms)
entrypoint()
"""
SMALL = ["model=yolo11n.yaml", "epochs=1", "imgsz=32", "batch=8", "workers=0", "plots=False", "amp=False"]
SMALL += ["device=cpu"]


@pytest.mark.slow
@pytest.mark.needs("ffmpeg", "unzip")
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "use-the-results.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```sh\n")[1:]]
    job_id = derived_job(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    make_clip(work / "match.mp4", frames=FRAMES)
    for name, ending in (("srt", ".srt"), ("ass", ".ass"), ("yolo", ".yolo.zip")):
        os.link(exported(tmp_path, job_id, name), work / f"match.mp4{ending}")
    ran = 0
    for command in (line for block in blocks for line in block.splitlines()):
        ran += 1
        if command.startswith("yolo "):  # for one epoch of a small network without weights
            settings = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "true"}
            arguments = [sys.executable, "-c", TRAIN, *command.split()[1:], *SMALL, f"project={work}/runs"]
            trained = subprocess.run(arguments, cwd=work, env=settings, capture_output=True, text=True)
            assert trained.returncode == 0, trained.stdout[-2000:] + trained.stderr[-2000:]
            assert "60 images, 5 backgrounds, 0 corrupt" in trained.stdout + trained.stderr
            assert list((work / "runs").rglob("last.pt"))
        else:
            subprocess.run(["bash", "-c", command.replace("ffmpeg", "ffmpeg -v error -y")], cwd=work, check=True)
    assert ran == 7
    pictures = sorted(path.name for path in (work / "images" / "train").iterdir())
    assert pictures == [f"frame_{n:06}.jpg" for n in range(FRAMES)]


@pytest.mark.slow
def test_makers_and_daemon_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    records = iter(long_video(8000))
    job_id = derived_job(tmp_path, records=records)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "outbox").mkdir()
    with running_sidecar(tmp_path) as sidecar:
        path = f"{sidecar.url}/v1/jobs/{job_id}/export/cvat"
        with running_daemon(tmp_path) as daemon:
            assert httpx.get(path).status_code == 202
            wait_for(lambda: makers(job_id), 60)
            daemon.kill()  # the child ends with it
            wait_for(lambda: not makers(job_id), 10)
        assert not list((tmp_path / "data" / "exports").rglob("*.xml"))
        with running_daemon(tmp_path):  # what was asked for is still asked for
            wait_for(lambda: makers(job_id), 60)
            os.kill(makers(job_id)[0], signal.SIGKILL)
            deadline = time.monotonic() + 60
            while (answer := httpx.get(f"{path}?wait=10", timeout=20)).status_code == 202:
                assert time.monotonic() < deadline
            assert answer.status_code == 503
            assert "SIGKILL" in answer.json()["detail"]
            assert httpx.get(f"{sidecar.url}/v1/jobs/{job_id}").json()["status"] == "completed"
            while (answer := httpx.get(f"{path}?wait=10", timeout=20)).status_code != 200:
                assert time.monotonic() < deadline + 60
                time.sleep(1.0)
        assert answer.content.endswith(b"</annotations>\n")


def long_video(count: int) -> list[dict[str, object]]:
    records = list(frames())
    return [{**records[n % FRAMES], "frame_index": n, "timestamp_s": round(n / 25, 6)} for n in range(count)]
