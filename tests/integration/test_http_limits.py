"""What one client can take away from the others, and what uploads can take from the disk, over real sockets."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.test_http_uploads import HEAD, form, head_of, wait_until
from tests.sidecar_process import Sidecar, read_answer, running_sidecar
from tests.system.shares import mounted

MIB = 1 << 20


def connect_from(sidecar: Sidecar, address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sidecar.port), timeout=30, source_address=(address, 0))


def client_from(sidecar: Sidecar, address: str) -> httpx.Client:
    return httpx.Client(base_url=sidecar.url, transport=httpx.HTTPTransport(local_address=address), timeout=30)


@contextlib.contextmanager
def crawling(uploads: list[socket.socket]) -> Iterator[None]:
    """Send a few bytes of each upload now and then: 1.3 kB/s."""
    ended = threading.Event()

    def crawl() -> None:
        while not ended.wait(0.1):
            for upload in uploads:
                with contextlib.suppress(OSError):
                    upload.sendall(bytes(130))

    thread = threading.Thread(target=crawl)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_one_client_with_slow_uploads_and_many_waiting_calls_shuts_nobody_out(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, contextlib.ExitStack() as open_ones:
        with client_from(sidecar, "127.0.0.1") as client:
            job_id = client.put("/v1/video/submit/a", content=HEAD).json()["job_id"]
        greedy = [open_ones.enter_context(connect_from(sidecar, "127.0.0.1")) for _ in range(316)]
        uploads, waiting = greedy[:16], greedy[16:]
        for upload in uploads:
            upload.sendall(head_of(10**8) + form()[:500])
        for call in waiting:
            call.sendall(f"GET /v1/video/status/{job_id}?wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with crawling(uploads):
            assert read_answer(uploads[-1]).startswith(b"HTTP/1.1 429 ")
            refused = read_answer(waiting[-1])
            assert refused.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: " in refused
            with client_from(sidecar, "127.0.0.2") as other:
                seconds = []
                for _ in range(3):  # the machine may be busy with other tests
                    started = time.monotonic()
                    submitted = other.put("/v1/video/submit/b", content=HEAD)
                    assert submitted.status_code == 201
                    path = f"/v1/video/status/{submitted.json()['job_id']}"
                    assert other.get(path).json()["status"] == "pending"
                    assert other.get(path + "?wait=0.01").status_code == 200
                    assert other.get("/v1/jobs").status_code == 200
                    seconds.append(time.monotonic() - started)
                assert min(seconds) < 1.0
            metrics = httpx.get(sidecar.url + "/metrics").text
            assert "dropframe_uploads_active 14.0" in metrics
            assert "dropframe_http_waits_active 64.0" in metrics


def test_behind_a_trusted_proxy_each_client_has_a_share_of_its_own(tmp_path: Path) -> None:
    settings = {"max_uploads_per_client": 1, "trusted_proxies": ["127.0.0.1"]}
    with running_sidecar(tmp_path, **settings) as sidecar, sidecar.connect() as slow:
        slow.sendall(head_of(10**6, "X-Forwarded-For: 203.0.113.7\r\n") + form()[:500])
        wait_until(lambda: bool(sidecar.left_in_spool()))
        for address, status in (("203.0.113.7", 429), ("203.0.113.8", 201)):
            sent = {"x-forwarded-for": f"203.0.113.8, {address}"}
            assert httpx.put(sidecar.url + "/v1/video/submit/a", content=HEAD, headers=sent).status_code == status


@contextlib.contextmanager
def small_disk(home: Path, min_free: int) -> Iterator[Sidecar]:
    """Run a sidecar whose data are on a disk of 48 MiB; free space never falls below ``min_free`` meanwhile."""
    data = home / "data"
    data.mkdir()
    least, ended = [1 << 60], threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            room = os.statvfs(data)
            least[0] = min(least[0], room.f_bavail * room.f_frsize)

    with mounted(data, "-t", "tmpfs", "-o", "size=48m", "dropframe-test"):
        watching = threading.Thread(target=watch)
        watching.start()
        settings = {"min_free_bytes": min_free, "max_uploads": 17, "max_uploads_per_client": 16}
        try:
            with running_sidecar(home, **settings) as sidecar:
                yield sidecar
        finally:
            ended.set()
            watching.join()
    assert least[0] > min_free - MIB, least  # tickets are written in any case


@pytest.mark.parametrize("announced", [True, False], ids=["with a length", "without"])
def test_uploads_at_the_same_time_leave_free_what_is_to_stay_free(tmp_path: Path, announced: bool) -> None:
    video = HEAD + random.Random(5).randbytes(6 * MIB)
    answers: list[httpx.Response] = []

    def send(url: str) -> None:
        pieces = (video[i : i + 100_000] for i in range(0, len(video), 100_000))
        answers.append(httpx.put(url, content=video if announced else pieces, timeout=60))

    with small_disk(tmp_path, min_free=16 * MIB) as sidecar:
        threads = [threading.Thread(target=send, args=(sidecar.url + "/v1/video/submit/a",)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {201, 507}
        taken = sum(answer.status_code == 201 for answer in answers)
        assert taken <= 5
        if announced:
            assert taken == 5
        assert all("min_free_bytes" in answer.json()["detail"] for answer in answers if answer.status_code == 507)
        # Everything that was promised is free again.
        for video_path in sidecar.spool.glob("*.mp4"):
            video_path.unlink()
        for _ in range(4):
            assert httpx.put(sidecar.url + "/v1/video/submit/a", content=video).status_code == 201


def test_what_an_upload_has_announced_is_kept_for_it_until_it_ends(tmp_path: Path) -> None:
    def put(size: int) -> int:
        return httpx.put(sidecar.url + "/v1/video/submit/a", content=HEAD + bytes(size)).status_code

    with small_disk(tmp_path, min_free=16 * MIB) as sidecar:
        for ending in ("cut", "reset", "refused"):
            with sidecar.connect() as slow:
                slow.sendall(head_of(25 * MIB) + form()[:1000])
                wait_until(lambda: bool(list(sidecar.spool.glob(".*.part"))))
                assert put(10 * MIB) == 507
                assert put(5 * MIB) == 201
                if ending == "reset":
                    slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                elif ending == "refused":
                    slow.sendall(b'\r\n--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntwice\r\n--x--\r\n')
                    assert b" 422 " in read_answer(slow).split(b"\r\n", 1)[0]
            wait_until(lambda: not list(sidecar.spool.glob(".*.part")))
            wait_until(lambda: put(10 * MIB) == 201)
            for video_path in sidecar.spool.glob("*.mp4"):
                video_path.unlink()
            wait_until(lambda: shutil.disk_usage(sidecar.spool).free > 42 * MIB)  # nobody has one open any more
