"""Clients that do everything wrong: each gets a clear 4xx, memory stays flat, and others are served."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from daemon.jobs import Job, new_job_id
from daemon.store.job_store import JobStore
from tests.integration.test_http_uploads import HEAD, VIDEO, form, head_of, wait_until
from tests.sidecar_process import Sidecar, read_all, read_answer, running_sidecar

MANY_RANGES = ",".join(f"{i}-{i}" for i in range(1000))


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    home = tmp_path_factory.mktemp("home")
    with running_sidecar(home, header_seconds=1.0) as running:
        for _ in range(30):  # what Python loads on first use is no growth
            httpx.get(running.url + "/v1/jobs")
            httpx.put(running.url + "/v1/video/submit/a", content=b"x")
        yield running


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]).encode()


def post(body: bytes, *headers: str) -> bytes:
    kind = "Content-Type: multipart/form-data; boundary=x"
    return get("/v1/video/submit", kind, f"Content-Length: {len(body)}", *headers, method="POST") + body


def field(name: str, value: bytes = b"") -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"


BAD = {
    "not HTTP": (b"\x16\x03\x01\x02\x00" * 100 + b"\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "foreign host": (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "a target outside ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "huge header": (get("/", "X: " + "x" * 1_000_000), 400),
    "many headers": (get("/", *[f"X-{i}: {i}" for i in range(20_000)]), 400),
    "unknown method": (get("/v1/jobs", method="BREW"), 405),
    "wrong boundary": (post(form().replace(b"--x", b"--y")), 400),
    "no last boundary": (post(form()[:-8]), 400),
    "10,000 fields": (post(field("f") * 10_000 + form()), 400),
    "a field of 10 MB": (post(field("pipeline_id", b"x" * 10_000_000) + form()), 422),
    "10 MB before the first boundary": (post(b"x" * 10_000_000 + form()), 400),
    "10 MB of line ends first": (post(b"\r\n" * 5_000_000), 400),
    "100,000 headers in a part": (post(b"--x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n"), 400),
    "an urlencoded flood": (
        get(
            "/v1/video/submit",
            "Content-Type: application/x-www-form-urlencoded; charset=punycode",
            "Content-Length: 1000000",
            method="POST",
        )
        + b"a=\xff&" * 200_000,
        415,
    ),
    "an odd charset": (
        post(
            b'--x\r\nContent-Disposition: form-data; name="frame_stride"\r\n'
            b"Content-Type: text/plain; charset=punycode\r\n\r\n\xff-\xff\r\n" + form(),
        ).replace(b"boundary=x", b"boundary=x; charset=punycode"),
        422,
    ),
    "no length": (get("/v1/video/submit", "Content-Type: multipart/form-data; boundary=x", method="POST"), 400),
    "no length and no body to put": (get("/v1/video/submit/a.mp4", method="PUT"), 400),
    "a length that is no number": (get("/v1/video/submit/a.mp4", "Content-Length: many", method="PUT"), 400),
    "a negative length": (get("/v1/video/submit/a.mp4", "Content-Length: -5", method="PUT"), 400),
    "two lengths": (get("/v1/video/submit/a", "Content-Length: 5", "Content-Length: 6", method="PUT") + b"12345", 400),
    "a length far too large": (get("/v1/video/submit/a", f"Content-Length: {10**15}", method="PUT"), 413),
    "a length too small": (post(form()).replace(b"Content-Length: 3", b"Content-Length: 2"), 400),
    "a length and chunks": (
        get("/v1/video/submit/a", "Content-Length: 5", "Transfer-Encoding: chunked", method="PUT") + b"0\r\n\r\n",
        400,
    ),
    "a host with more behind it": (b"GET / HTTP/1.1\r\nHost: localhost:1@evil.example\r\n\r\n", 400),
    "a broken chunk": (get("/v1/video/submit/a", "Transfer-Encoding: chunked", method="PUT") + b"zz\r\n", 400),
    "an upwards name": (post(form(VIDEO, "../../etc/x.mp4")), 422),
    "an upwards name of Windows": (post(form(VIDEO, "..\\\\x.mp4")), 422),
    "a NUL in the name": (post(form(VIDEO, "a\0.mp4")), 422),
    "an upwards path": (get("/v1/video/submit/%2e%2e%2fx.mp4", "Content-Length: 3", method="PUT") + b"abc", 422),
    "a zip named .mp4": (post(form(b"PK\x03\x04" + bytes(1000))), 400),
    "an empty file": (post(form(b"")), 400),
    "one byte": (post(form(b"\0")), 400),
    "an upwards id": (get("/v1/video/status/..%2f..%2fetc%2fpasswd"), 404),
    "a NUL in an id": (get("/v1/video/results/%00"), 404),
    "a very long id": (get("/v1/jobs/" + "a" * 50_000), 404),
    "a poisoned path": (get("//evil.example@x/v1/jobs"), 404),
    "a very long cursor": (get("/v1/jobs?cursor=" + "A" * 50_000), 422),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_a_clear_4xx(sidecar: Sidecar, name: str) -> None:
    request, status = BAD[name]
    before = sidecar.rss_bytes()
    started = time.monotonic()
    answer = sidecar.exchange(request)
    line, _, rest = answer.partition(b"\r\n")
    assert line.startswith(b"HTTP/1.1 %d " % status), answer[:300]
    headers, _, body = rest.partition(b"\r\n\r\n")
    assert b"application/problem+json" in headers
    body = body[: body.rindex(b"}") + 1]
    assert json.loads(body)["status"] == status
    assert time.monotonic() - started < 8
    assert sidecar.rss_bytes() - before < 20_000_000
    wait_until(lambda: sidecar.left_in_spool() == [])
    assert httpx.get(sidecar.url + "/healthz").status_code == 200


def test_a_head_that_never_ends_is_closed_in_time(sidecar: Sidecar) -> None:
    for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-", get("/healthz")[:-2]):
        with sidecar.connect() as connection:
            started = time.monotonic()
            connection.sendall(sent)
            answer = read_all(connection, 8)
            assert time.monotonic() - started < 4
            assert answer.startswith(b"HTTP/1.1 408 ") if sent else answer == b""


def test_a_head_that_trickles_is_closed_in_time(sidecar: Sidecar) -> None:
    with sidecar.connect() as connection:
        started, answer = time.monotonic(), b""
        connection.settimeout(0.1)
        for byte in get("/", "X-Long: " + "x" * 1000):
            try:
                connection.sendall(bytes([byte]))
                answer = connection.recv(1000)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 4


def test_a_connection_is_kept_for_the_next_request(sidecar: Sidecar) -> None:
    with sidecar.connect() as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.6)  # together longer than the deadline of one head
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
        time.sleep(0.2)
        assert connection.recv(65_536).count(b"HTTP/1.1 200 ") == 5


def test_a_body_that_nobody_wants_does_not_hold_a_connection(sidecar: Sidecar) -> None:
    with sidecar.connect() as connection:
        connection.sendall(get("/v1/jobs", "Content-Length: 1000000000").replace(b"Connection: close\r\n", b""))
        started = time.monotonic()
        try:
            while time.monotonic() - started < 6:
                connection.sendall(b"x" * 1000)
                time.sleep(0.02)
        except ConnectionError:
            pass
        assert time.monotonic() - started < 4


def test_others_are_served_while_many_send_slowly(tmp_path: Path) -> None:
    with running_sidecar(tmp_path, max_uploads=64) as sidecar:
        before = sidecar.rss_bytes()
        slow = [sidecar.connect() for _ in range(50)]
        for connection in slow:
            connection.sendall(head_of(len(form())) + form()[:200])
        wait_until(lambda: len(sidecar.left_in_spool()) == 50)
        waits = []
        with httpx.Client(base_url=sidecar.url) as client:
            for step in range(200):
                slow[step % 50].sendall(form()[200 + step // 50 : 201 + step // 50])
                started = time.monotonic()
                assert client.get("/v1/jobs").status_code == 200
                waits.append(time.monotonic() - started)
        assert sorted(waits)[150] < 0.1
        assert sidecar.rss_bytes() - before < 30_000_000
        for connection in slow:
            connection.close()
        wait_until(lambda: sidecar.left_in_spool() == [])


def test_a_flood_of_idle_connections_does_not_keep_others_out(tmp_path: Path) -> None:
    with running_sidecar(tmp_path, max_connections=50) as sidecar:
        idle = []
        for _ in range(300):
            idle.append(sidecar.connect())
        for path in ("/healthz", "/v1/jobs"):
            assert httpx.get(sidecar.url + path).status_code == 200
        for connection in idle:
            connection.close()
        assert httpx.get(sidecar.url + "/healthz").status_code == 200


def test_a_thousand_ranges_get_the_whole_once(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store, running_sidecar(tmp_path) as sidecar:
        job = store.create([Job(new_job_id(), input_path="video_jobs/v.mp4")])[0]
        (tmp_path / "data" / "video_jobs").mkdir(exist_ok=True)
        (tmp_path / "data" / "video_jobs" / "v.mp4").write_bytes(VIDEO)
        answer = sidecar.exchange(get(f"/v1/jobs/{job.job_id}/video", f"Range: bytes={MANY_RANGES}"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(VIDEO)


def test_a_reader_that_takes_nothing_is_let_go(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store, running_sidecar(tmp_path, upload_stall_seconds=1) as sidecar:
        job = store.create([Job(new_job_id(), input_path="video_jobs/v.mp4")])[0]
        (tmp_path / "data" / "video_jobs").mkdir(exist_ok=True)
        (tmp_path / "data" / "video_jobs" / "v.mp4").write_bytes(HEAD + bytes(100_000_000))
        before = sidecar.rss_bytes()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", sidecar.port))
            connection.sendall(get(f"/v1/jobs/{job.job_id}/video"))
            time.sleep(2.5)
            assert sidecar.rss_bytes() - before < 20_000_000
            received = len(read_all(connection))
            assert received < 50_000_000
        notes = [line.get("note") for line in sidecar.log() if line["event"] == "answered"]
        assert "the client took nothing for too long" in notes
        assert not [line for line in sidecar.log() if line["level"] == "error"]


def test_a_reader_that_leaves_is_read_for_no_longer(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store, running_sidecar(tmp_path) as sidecar:
        job = store.create([Job(new_job_id(), input_path="video_jobs/v.mp4")])[0]
        (tmp_path / "data" / "video_jobs").mkdir(exist_ok=True)
        video = tmp_path / "data" / "video_jobs" / "v.mp4"
        video.touch()
        os.truncate(video, 10**12)  # takes no space; to read it all would take many minutes
        with sidecar.connect() as connection:
            connection.sendall(get(f"/v1/jobs/{job.job_id}/video"))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: any(line.get("note") == "the client left" for line in sidecar.log()))
        assert not [line for line in sidecar.log() if line["level"] == "error"]


def test_random_bytes_never_break_it(sidecar: Sidecar) -> None:
    chance = random.Random(3)
    starts = [b"", b"GET / HTTP/1.1\r\n", head_of(5000), b"PUT /v1/video/submit/a HTTP/1.1\r\nHost: localhost\r\n"]
    for _ in range(150):
        with sidecar.connect() as connection:
            connection.sendall(chance.choice(starts) + chance.randbytes(chance.randrange(3000)))
    assert httpx.get(sidecar.url + "/healthz").status_code == 200
    wait_until(lambda: sidecar.left_in_spool() == [])
    assert not [line for line in sidecar.log() if line["level"] == "error"]
