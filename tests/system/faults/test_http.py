"""Faults of the HTTP sidecar (group F) that need the machine to be unkind; the others are in tests/integration."""

from __future__ import annotations

import contextlib
import resource
import statistics
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.integration.test_http_uploads import HEAD, wait_until
from tests.sidecar_process import running_sidecar
from tests.system.faults.test_store import injected
from tests.system.test_disk import mounted

pytestmark = pytest.mark.slow

VIDEO = HEAD + bytes(5_000_000)


def test_f5_the_folder_for_temporary_files_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "temporary") as small:  # of 2 MB
        monkeypatch.setenv("TMPDIR", str(small))
        with running_sidecar(tmp_path / "home", min_free_bytes=0) as sidecar:
            form = httpx.post(sidecar.url + "/v1/video/submit", files={"file": ("a.mp4", VIDEO)})
            assert form.status_code == 201
            assert list(small.iterdir()) == []
    with mounted(tmp_path / "small" / "data"), running_sidecar(tmp_path / "small", min_free_bytes=0) as sidecar:
        for _ in range(2):  # of a length that it cannot know before
            answer = httpx.put(sidecar.url + "/v1/video/submit/a.mp4", content=iter([VIDEO]))
            assert (answer.status_code, answer.json()["type"]) == (507, "urn:dropframe:problem:disk-full")
            wait_until(lambda: sidecar.left_in_spool() == [])
        assert httpx.put(sidecar.url + "/v1/video/submit/a.mp4", content=VIDEO[:500_000]).status_code == 201


def test_f8_a_slow_disk_under_an_upload_holds_up_nobody_else(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, httpx.Client(base_url=sidecar.url) as client:
        client.put("/v1/video/submit/a.mp4", content=VIDEO[:1000])
        answers: list[httpx.Response] = []
        took: list[float] = []

        def upload() -> None:
            started = time.monotonic()
            answers.append(httpx.put(sidecar.url + "/v1/video/submit/b.mp4", content=VIDEO, timeout=120))
            took.append(time.monotonic() - started)

        with injected(sidecar.process.pid, "writev:delay_enter=3000000"):  # microseconds
            uploader = threading.Thread(target=upload)
            uploader.start()
            waits = []
            while not took:
                started = time.monotonic()
                assert client.get("/v1/jobs").status_code == 200
                waits.append(time.monotonic() - started)
                time.sleep(0.02)
            uploader.join()
        assert answers[0].status_code == 201
        assert took[0] > 3  # the disk was slow indeed
        assert statistics.median(waits) < 1  # each would wait for a write otherwise


def test_f19_more_connections_than_files_may_be_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            sidecar = opened.enter_context(running_sidecar(tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(min(2000, soft - 200)):
            opened.enter_context(sidecar.connect())
        assert httpx.get(sidecar.url + "/healthz", timeout=30).status_code == 200
        assert httpx.put(sidecar.url + "/v1/video/submit/a.mp4", content=VIDEO, timeout=60).status_code == 201
    assert [line for line in sidecar.log() if line["level"] == "error"] == []
