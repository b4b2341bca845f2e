"""Object weights that come while Dropframe runs: fetched by itself, or put into data/models/."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from daemon.pipeline.pipelines import NO_OBJECTS
from tests.clips import make_clip
from tests.system.running import Daemon, environment, running, wait_for
from tests.weights_server import serve

pytestmark = pytest.mark.slow

FETCHING = """
import sys
from daemon.pipeline import auto_pull, pull
url, size, sha256 = sys.argv[1:4]
auto_pull.AutoPull.__init__.__defaults__ = ({pull.DEFAULT: pull.Official(url, int(size), sha256)}, 0.1)
sys.argv[1:4] = []
from daemon.cli.main import main
main()
"""
"""``dropframe`` that fetches the default weights from a server of ours."""


def roles(daemon: Daemon) -> set[str]:
    beat = daemon.beat()
    return {str(model["role"]) for model in beat.models} if beat else set()


def test_weights_put_in_place_are_used_without_a_restart(tmp_path: Path, weights: Path, warm_home: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=4)
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / "exported").symlink_to(warm_home / "data" / "models" / "exported")
    with running(tmp_path) as daemon:
        daemon.drop(clip, "a.mp4")
        without = daemon.wait_job("a.mp4")
        assert (without.summary or {})["warnings"] == [NO_OBJECTS]
        broken = models / "broken.pt"
        broken.write_bytes(b"not weights")
        wait_for(lambda: "broken.pt cannot be used" in daemon.log(), 60)
        daemon.drop(clip, "b.mp4")
        assert daemon.wait_job("b.mp4").status is JobStatus.COMPLETED
        half = weights.read_bytes()[: weights.stat().st_size // 2]
        (models / weights.name).write_bytes(half)  # as a slow copy begins
        daemon.drop(clip, "c.mp4")
        assert daemon.wait_job("c.mp4").status is JobStatus.COMPLETED
        assert "objects" not in roles(daemon)
        shutil.copyfile(weights, models / weights.name)
        wait_for(lambda: "objects" in roles(daemon), 60)
        assert f"{weights.name} is used from now on" in daemon.log()
        daemon.drop(clip, "a.mp4")
        again = wait_for(lambda: (job := daemon.job("a.mp4")) and job.ended and job != without and job, 60)
        assert again.status is JobStatus.COMPLETED
        assert (again.summary or {})["warnings"] == []
        document = json.loads((daemon.outbox / "a.mp4.json").read_text())
        assert document["models"][0]["role"] == "objects"


def test_a_first_start_fetches_weights_and_finds_objects_in_the_first_video(tmp_path: Path, weights: Path) -> None:
    content = weights.read_bytes()
    (tmp_path / "inbox").mkdir()
    make_clip(tmp_path / "inbox" / "a.mp4", frames=4)
    with serve() as server:
        server.content, server.pause_seconds = content, 0.001
        sha256 = hashlib.sha256(content).hexdigest()
        daemon, flags = Daemon(tmp_path), ["daemon", "--home", str(tmp_path)]
        with daemon.log_path.open("ab") as log:
            daemon.process = subprocess.Popen(
                [sys.executable, "-c", FETCHING, server.url, str(len(content)), sha256, *flags],
                cwd=tmp_path,
                env=environment({"DROPFRAME_AUTO_PULL": "true"}),
                stdout=log,
                stderr=log,
            )
        try:
            job = daemon.wait_job("a.mp4", seconds=120)
            assert (job.summary or {})["warnings"] == []
            log_text = daemon.log()
            assert f"from {server.url} (auto_pull = false or --offline forbids it)" in log_text
            assert (tmp_path / "data" / "models" / "yolo11n.pt").read_bytes() == content
            assert os.listdir(tmp_path / "data" / "models").count(".yolo11n.pt.part") == 0
            daemon.stop()
        finally:
            daemon.kill()
