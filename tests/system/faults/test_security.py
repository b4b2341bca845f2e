"""Faults of security (group G) that show in whole processes; the others are beside what they are about."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import pytest
import torch

from daemon.jobs import Job, JobStatus, input_key, new_job_id, output_key
from daemon.preflight import check_libraries
from daemon.store.job_store import JobStore
from daemon.tokens import Rights, new_token
from tests.clips import make_clip
from tests.integration.test_http_uploads import VIDEO
from tests.sidecar_process import running_sidecar
from tests.system.running import dropframe, environment, running
from tests.unit.sidecar.test_document import frame, write_document

pytestmark = pytest.mark.slow

NOBODY = 12_345


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A home that other users of the machine reach."""
    home = Path(tempfile.mkdtemp(prefix="dropframe-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home)


def test_g2_a_package_that_a_checkpoint_names_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("dropframe_absent_package")
    module.Model = type("Model", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "home" / "data" / "models").mkdir(parents=True)
    weights = tmp_path / "home" / "data" / "models" / "a.pt"
    torch.save({"model": module.Model(), "ema": None}, weights)
    tools = tmp_path / "tools"  # whoever calls an installer leaves a trace
    tools.mkdir()
    for name in ("pip", "pip3", "uv"):
        (tools / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'called'}\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    done = dropframe(tmp_path / "home", "models", "export", "--weights", weights, seconds=120, PATH=path)
    assert done.returncode != 0
    assert "a.pt" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "called").exists()
    assert pickle.loads(pickle.dumps(module.Model)) is module.Model  # where the package is, the checkpoint names it


def test_g6_no_secret_and_no_path_is_told(tmp_path: Path) -> None:
    secret, token = new_token("reader", Rights.SUBMIT)
    told: list[str] = []
    with running_sidecar(tmp_path, tokens=[str(token)], log_level="debug") as sidecar:
        with httpx.Client(base_url=sidecar.url, headers={"authorization": f"Bearer {secret}"}) as client:
            job_id = client.put("/v1/video/submit/a.mp4", content=VIDEO).json()["job_id"]
            for path in ("status", "results"):
                told.append(client.get(f"/v1/video/{path}/{job_id}").text)
            for path in ("/readyz", "/metrics", "/v1/jobs", "/v1/jobs?cursor=x", "/nope", "/openapi.json"):
                told.append(client.get(path).text)
            told.append(client.put("/v1/video/submit/a.mp4", content=b"x").text)
            told.append(client.get("/healthz", headers={"authorization": f"Bearer {secret[:-1]}"}).text)
        told.append(Path(f"/proc/{sidecar.process.pid}/cmdline").read_text())
        said = sidecar.log_path.read_text()
    assert all(secret not in text and token.sha256 not in text for text in [*told, said])
    assert secret[:-1] not in said
    assert all(str(tmp_path) not in text for text in told[:-1])  # the command line names the home


@pytest.mark.needs("root")
def test_g10_whoever_may_write_to_the_inbox_cannot_touch_what_was_taken_in(open_home: Path) -> None:
    clip = make_clip(open_home / "clip.mp4", frames=3)
    with running(open_home) as daemon:
        daemon.inbox.chmod(0o777)
        for name in ("first.mp4", "second.mp4"):
            daemon.drop(clip, name)
            job = daemon.wait_job(name)
            assert job.status is JobStatus.COMPLETED
            stored = daemon.data / input_key(job.job_id)
            result = daemon.data / output_key(job.job_id)
            for path in (stored, result):
                attack = subprocess.run(
                    ["sh", "-c", 'rm -f "$0"; mv /dev/null "$0"; echo x > "$0"', str(path)],
                    user=NOBODY,
                    capture_output=True,
                    env=environment(),
                )
                assert attack.returncode != 0
            assert stored.read_bytes() == clip.read_bytes()
            assert result.stat().st_size > 100
            # What comes under the old name is another file and another job.
            subprocess.run(["sh", "-c", 'echo x > "$0"', str(daemon.inbox / name)], user=NOBODY, check=True)


def test_g12_what_is_read_in_a_video_is_never_taken_for_a_page(tmp_path: Path) -> None:
    script = "<img src=x onerror=alert(1)>\n=HYPERLINK(1)"
    with JobStore.open(tmp_path / "data") as store, running_sidecar(tmp_path) as sidecar:
        job = store.create([Job(new_job_id(), input_path="x", source_name=script)])[0]
        path = tmp_path / "data" / output_key(job.job_id)
        path.parent.mkdir(exist_ok=True)
        shown = {**frame(0), "result": {"detections": [], "text": script, "text_blocks": []}}
        write_document(path, [shown])
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
        for address in (f"/v1/video/results/{job.job_id}", f"/v1/video/status/{job.job_id}", "/v1/jobs"):
            answer = httpx.get(sidecar.url + address, headers={"accept": "text/html"})
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
        document = httpx.get(f"{sidecar.url}/v1/video/results/{job.job_id}").json()
        assert document["results"][0]["result"]["text"] == script  # told as it was read
        page = httpx.get(sidecar.url + "/")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]


def test_g13_the_ffmpeg_in_the_wheels_is_shown() -> None:
    said = {check.name: check.sentence for check in check_libraries()}
    assert said["library av"] == f"{av.__version__} with FFmpeg {av.ffmpeg_version_info}"
    assert re.fullmatch(r"[\d.]+ with libavformat [\d.]+", said["library cv2"])
