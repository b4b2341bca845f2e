"""``dropframe demo``: what a newcomer sees first."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from daemon.cli.demo import NAME
from tests.system.running import ROOT, Daemon, dropframe, wait_for
from tools.install import LEFT_OUT


def test_without_a_daemon_it_says_how_to_start_one(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    done = dropframe(tmp_path, "demo")
    assert done.returncode == 1
    assert re.search(r"Dropframe does not run here; start it in another terminal \(.*dropframe run\)", done.stderr)
    assert list((tmp_path / "inbox").iterdir()) == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.slow
def test_a_newcomer_is_told_what_to_do_and_sees_a_result_with_objects_and_text(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / weights.name).symlink_to(weights)
    for name in LEFT_OUT:  # as it is after `make install`; weights are read and exported as at any first start
        (tmp_path / "left_out" / name).mkdir(parents=True)
        (tmp_path / "left_out" / name / "__init__.py").write_text("raise ModuleNotFoundError(__name__)\n")
    port = free_port()
    path = f"{tmp_path / 'left_out'}:{ROOT}"
    daemon = Daemon(tmp_path, "--port", port, "--step", "4/4 ", command="run", PYTHONPATH=path)
    daemon.start()
    try:
        wait_for(lambda: "No video at hand?" in daemon.log(), 60)
        lines = daemon.log().splitlines()
        assert "4/4 Models are being loaded; the first time this takes a little longer." in lines
        told = [line for line in lines if line.startswith(("Ready", "Drop videos", "No video"))]
        assert re.fullmatch(rf"Ready: {weights.stem} finds objects, \S+ reads text, on (cpu|cuda:0)\.", told[0])
        page = f"http://127.0.0.1:{port}"
        assert told[1] == f"Drop videos into {tmp_path}/inbox or on {page}; results appear in {tmp_path}/outbox."
        assert told[2].startswith("No video at hand? In another terminal: ")
        assert told[2].endswith(f"demo --port {port}")
        assert len(told) == 3
        done = dropframe(tmp_path, "demo", "--port", port, seconds=120)
        assert done.returncode == 0, done.stderr
        shown = done.stdout.splitlines()
        assert [line.split()[0] for line in shown[1:]] == ["frames:", "objects:", "text:", "frame", "result:", "Watch"]
        assert re.match(r"frames: +50 in ", shown[1])
        assert "stop sign (" in shown[2]
        assert "clock (" in shown[2]
        assert "DROPFRAME DEMO" in shown[3]
        document = json.loads((tmp_path / "outbox" / f"{NAME}.json").read_text())
        assert document["summary"]["frame_count"] == 50
        job = daemon.job(NAME)
        assert job is not None
        assert shown[6].endswith(f"{page}/#/job/{job.job_id}")
    finally:
        daemon.kill()
