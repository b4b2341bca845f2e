"""Search and stills with real processes and real videos, over kills, beside a job that runs."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from daemon.jobs import JobStatus, output_key
from daemon.pipeline.video import Video
from daemon.search.reader import FILE
from tests.clips import make_clip
from tests.sidecar_process import Sidecar, running_sidecar
from tests.system.running import Daemon, as_json, dropframe, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def found(sidecar: Sidecar, words: str) -> list[tuple[str, str]]:
    answer = httpx.get(f"{sidecar.url}/v1/search", params={"q": words}, timeout=30).json()
    return [(hit["source_name"], hit["text"]) for hit in answer["hits"]]


def complete(sidecar: Sidecar) -> bool:
    return bool(httpx.get(f"{sidecar.url}/v1/search?q=x", timeout=30).json()["complete"])


def test_what_is_in_videos_is_found_and_shown_until_they_are_deleted(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, DROPFRAME_DEFAULT_PIPELINE="ocr_only")
    clip = make_clip(tmp_path / "clip.mp4", frames=30, size=(640, 360), text="GATE B12 OPEN")
    long = make_clip(tmp_path / "long.mp4", frames=150, size=(640, 360), text="DOOR 7", b_frames=2)
    try:
        daemon.start()
        daemon.wait_ready()
        with running_sidecar(tmp_path) as sidecar:
            daemon.drop(clip, "gate.mp4")
            gate = daemon.wait_job("gate.mp4", JobStatus.COMPLETED)
            wait_for(lambda: found(sidecar, "gate b1") == [("gate.mp4", "GATE B12 OPEN")], 30, "it was not found")
            wait_for(lambda: complete(sidecar), 10, "it is not complete")
            daemon.drop(long, "door.mp4")
            door = daemon.wait_job("door.mp4", JobStatus.RUNNING)
            address = f"{sidecar.url}/v1/jobs/{{}}/frame?index={{}}"
            with ThreadPoolExecutor(16) as pool:  # beside the job that runs
                asked = [address.format(door.job_id if n % 2 else gate.job_id, n % 30) for n in range(60)]
                answers = list(pool.map(lambda url: httpx.get(url, timeout=60), asked))
            assert {answer.status_code for answer in answers} == {200}
            seen = next(Video(clip).frames(skip=28)).image
            shown = cv2.imdecode(np.frombuffer(answers[28].content, np.uint8), cv2.IMREAD_COLOR)
            assert shown is not None
            assert float(np.abs(shown.astype(int) - seen.astype(int)).mean()) < 2
            assert daemon.wait_job("door.mp4", seconds=120).status is JobStatus.COMPLETED
            wait_for(lambda: found(sidecar, "door") == [("door.mp4", "DOOR 7")], 30, "it was not found")
            [child] = [pid for pid in os.listdir("/proc") if pid.isdigit() and makes_pictures(pid, daemon.pid)]
            daemon.kill()
            wait_for(lambda: not makes_pictures(child, daemon.pid), 5, "the process that makes pictures was left")
            assert found(sidecar, "gate") == [("gate.mp4", "GATE B12 OPEN")]  # the index needs no daemon
            assert [hit["text"] for hit in as_json(tmp_path, "search", "door")["hits"]] == ["DOOR 7"]
            for path in (daemon.data / FILE).parent.iterdir():
                path.write_bytes(os.urandom(8192))
            assert found(sidecar, "gate") == []
            daemon.start()
            wait_for(lambda: found(sidecar, "gate") == [("gate.mp4", "GATE B12 OPEN")], 60, "it was not made again")
            assert (daemon.data / "stills" / gate.job_id).exists()
            assert dropframe(tmp_path, "delete", gate.job_id, "--yes").returncode == 0
            wait_for(lambda: httpx.get(address.format(gate.job_id, 3)).status_code == 410, 30, "it is not deleted")
            assert found(sidecar, "gate") == []
            wait_for(lambda: not (daemon.data / output_key(gate.job_id)).exists(), 30, "its result is there")
            wait_for(lambda: not (daemon.data / "stills" / gate.job_id).exists(), 30, "its pictures are there")
            wait_for(lambda: complete(sidecar), 30, "it is not complete")
            assert found(sidecar, "door") == [("door.mp4", "DOOR 7")]
        saved = dropframe(tmp_path, "frame", "door.mp4", "--time", "5", "--boxes", "-o", tmp_path / "x.jpg")
        assert (saved.returncode, saved.stderr) == (0, "")
        daemon.stop(signal.SIGTERM)
        assert os.listdir((daemon.data / FILE).parent) == ["search.db"]
        assert os.listdir(daemon.data / "spool") == []
    finally:
        daemon.kill()


def makes_pictures(pid: str, parent: int) -> bool:
    """Tell whether a process makes pictures for a daemon."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        started_by = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return b"daemon.stills.process" in command and started_by == parent
