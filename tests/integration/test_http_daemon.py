"""End to end with the real daemon: submitted by curl and httpx, read back, equal to the outbox."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.ipc.partial_uploads import LEFTOVER_SECONDS
from daemon.ipc.spool_sweep import sweep
from tests.clips import BEGINNING, make_clip
from tests.integration.test_http_uploads import form, head_of
from tests.sidecar_process import ROOT, Sidecar, running_sidecar
from tests.system.running import environment, wait_for

ADDED = ("job_id", "created_at", "updated_at")


@contextlib.contextmanager
def running_daemon(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (home / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "daemon", "--home", str(home), "--device", "cpu"],
            cwd=ROOT,
            env=environment(),
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def wait_for_end(sidecar: Sidecar, job_id: str, seconds: float = 240.0, killed: bool = False) -> dict[str, Any]:
    """Follow a job as a client would: waiting for changes, with what it knows already.

    One that ran when the daemon was killed waits again before it runs.
    """
    deadline, tag, told = time.monotonic() + seconds, "", {"progress": 0.0}
    seen = []
    while told["progress"] != 1.0:
        assert time.monotonic() < deadline, (told, (sidecar.home / "daemon.log").read_text()[-3000:])
        response = httpx.get(
            f"{sidecar.url}/v1/video/status/{job_id}?wait=20", headers={"if-none-match": tag}, timeout=40
        )
        if response.status_code == 200:
            tag, told = response.headers["etag"], response.json()
            seen.append(told["progress"])
    assert killed or seen == sorted(seen)
    return told


def result_of(sidecar: Sidecar, job_id: str) -> dict[str, Any]:
    result: dict[str, Any] = httpx.get(f"{sidecar.url}/v1/video/results/{job_id}").json()
    assert result.pop("job_id") == job_id
    for name in ADDED[1:]:
        assert result.pop(name)
    return result


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("inbox", "outbox", "data"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.needs("curl")
@pytest.mark.timeout(600)
def test_what_curl_and_httpx_submit_comes_out_as_in_the_outbox(home: Path) -> None:
    clip = make_clip(home / "clip.mp4", frames=6, size=(320, 240), text="HOME 2 - 1 AWAY")
    with running_sidecar(home) as sidecar:
        curl = subprocess.run(
            ["curl", "-sS", "-F", f"file=@{clip}", "-F", "pipeline_id=ocr_only", sidecar.url + "/v1/video/submit"],
            capture_output=True,
            check=True,
        )
        put = subprocess.run(
            ["curl", "-sS", "-T", str(clip), sidecar.url + "/v1/video/submit/clip.mp4?pipeline_id=ocr_only"],
            capture_output=True,
            check=True,
        )
        with clip.open("rb") as file:
            posted = httpx.post(
                sidecar.url + "/video/submit", files={"file": file}, data={"pipeline_id": "ocr_only", "frame_stride": 2}
            )
        bad = httpx.put(sidecar.url + "/v1/video/submit/cut.mp4", content=BEGINNING + bytes(2000))
        ids = [json.loads(curl.stdout)["job_id"], json.loads(put.stdout)["job_id"], posted.json()["job_id"]]
        with running_daemon(home):
            for job_id in ids:
                told = wait_for_end(sidecar, job_id)
                assert (told["status"], told["error_message"]) == ("completed", None)
                result = result_of(sidecar, job_id)
                assert result == json.loads((home / "outbox" / f"{job_id}.json").read_text())
                assert result["results"]
                assert told["summary"]["frame_count"] == len(result["results"])
            failed = wait_for_end(sidecar, bad.json()["job_id"])
            assert failed["status"] == "failed"
            assert failed["error_message"]
            # Signs of life are a second apart, and all this may have been over before the next.
            wait_for(lambda: httpx.get(sidecar.url + "/readyz").status_code == 200, 10, "it was not ready")
        assert [len(result_of(sidecar, job_id)["results"]) for job_id in ids[:3]] == [6, 6, 3]


ROUNDS = 5
CUTS = 100
"""In each round."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_answered_jobs_complete_through_kills_of_both_and_500_cut_uploads_leave_nothing(home: Path) -> None:
    clip = make_clip(home / "clip.mp4", frames=3, size=(160, 120)).read_bytes()
    whole = head_of(len(form(clip))) + form(clip)
    chance = random.Random(11)
    answered: list[str] = []
    for _ in range(ROUNDS):
        with running_sidecar(home) as sidecar, running_daemon(home) as daemon:
            for cut in range(CUTS):
                with sidecar.connect() as connection:
                    connection.sendall(whole[: chance.randrange(len(whole))])
                    if chance.random() < 0.5:  # a reset instead of an orderly end
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if cut % (CUTS // 2) == 0:
                    answered.append(put_clip(sidecar, clip))
            with contextlib.ExitStack() as open_ones:
                for _ in range(5):  # cut by the kill
                    connection = open_ones.enter_context(sidecar.connect())
                    connection.sendall(whole[: chance.randrange(len(whole))])
                time.sleep(chance.random() * 3)  # the daemon is killed at its start, while it runs, or idle
                answered.append(put_clip(sidecar, clip))
                for process in (sidecar.process, daemon):  # the sidecar at once after its answer
                    process.kill()
                    process.wait()
    with running_sidecar(home) as sidecar, running_daemon(home):
        for job_id in answered:
            assert wait_for_end(sidecar, job_id, killed=True)["status"] == "completed"
        assert httpx.get(sidecar.url + "/v1/jobs").json()["counts"] == {
            "pending": 0,
            "running": 0,
            "completed": len(answered),
            "failed": 0,
        }
        sweep(sidecar.spool, time.time() + LEFTOVER_SECONDS + 1)  # what the kills left, once it is surely nobody's
        assert sidecar.left_in_spool() == []


def put_clip(sidecar: Sidecar, clip: bytes) -> str:
    def put() -> httpx.Response | None:
        answer = httpx.put(sidecar.url + "/v1/video/submit/a.mp4?pipeline_id=ocr_only&max_frames=1", content=clip)
        return (
            None if answer.status_code in (429, 503) else answer
        )  # uploads that were just cut may still count as open

    answer = wait_for(put)
    assert answer is not None
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id
