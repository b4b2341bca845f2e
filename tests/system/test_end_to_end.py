"""Like a newcomer: start it, drop the clips with known truth together, read what comes out."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.system.running import Daemon, alive, children, running, wait_for

FOUND_AT_LEAST = 0.95
"""Share of the frames on which a known line must be found."""


def squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


@pytest.mark.slow
def test_dropped_clips_come_out_in_order_with_their_objects_and_texts(
    tmp_path: Path, warm_home: Path, weights: Path, shared_media: Path, truth: dict[str, Any]
) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(warm_home / "data" / "models")
    small = make_clip(tmp_path / "third.mp4", frames=12, size=(640, 360), text="THIRD 3")
    stride = 10
    with running(tmp_path) as daemon:
        log = daemon.log()
        assert f"Drop videos into {daemon.inbox}" in log
        assert f"Results appear in {daemon.outbox}" in log
        assert "Models on " in log
        assert weights.stem in log
        names = [*sorted(truth), "third.mp4"]
        for name in names[:2]:
            (daemon.inbox / f"{name}.options.json").write_text(json.dumps({"frame_stride": stride}))
        for name in names:
            daemon.drop(small if name == "third.mp4" else shared_media / name, name)
        jobs = [daemon.wait_job(name, seconds=200) for name in names]
        assert [job.status for job in jobs] == [JobStatus.COMPLETED] * 3
        by_sequence = sorted(jobs, key=lambda job: job.sequence)
        started = [str(job.started_at) for job in by_sequence]
        assert started == sorted(started)
        documents = {name: json.loads(daemon.results()[f"{name}.json"]) for name in names}
    for name, known in truth.items():
        frames = {f["frame_index"]: f["result"] for f in documents[name]["results"]}
        assert list(frames) == list(range(0, known["frame_count"], stride))
        assert documents[name]["video"]["width"] == known["width"]
        assert set(known["objects_seen"]) <= set(documents[name]["summary"]["classes"])
        for text in known["text"]:
            shown = [n for n in frames if text["first_frame"] <= n <= text["last_frame"]]
            hits = sum(squeezed(text["line"]) in squeezed(frames[n]["text"]) for n in shown)
            assert hits >= FOUND_AT_LEAST * len(shown), f"{name}: {text['line']}: {hits} of {len(shown)}"
    assert documents["third.mp4"]["summary"]["texts"] == ["THIRD 3"]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_run_starts_the_daemon_and_the_sidecar_and_ends_both(tmp_path: Path, free_port: int) -> None:
    if importlib.util.find_spec("sidecar.__main__") is None:
        pytest.skip("there is no sidecar to start yet")
    clip = make_clip(tmp_path / "clip.mp4", frames=6, text="GOAL 42")
    whole = Daemon(tmp_path, "--port", free_port, command="run")
    whole.start()
    started: list[int] = []
    try:
        wait_for(lambda: '"running"' in read(whole.data / "daemon.json"), 60)
        started = [grandchild for child in children(whole.pid) for grandchild in (child, *children(child))]
        assert len(started) >= 3
        wait_for(lambda: answers(free_port), 30)
        whole.drop(clip)
        assert whole.wait_job("clip.mp4").status is JobStatus.COMPLETED
        assert whole.stop() < 10
    finally:
        whole.kill()
    wait_for(lambda: not any(alive(pid) for pid in started), 3, "a process was left")
    assert not answers(free_port)
    assert os.listdir(whole.outbox) == ["clip.mp4.json"]


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
