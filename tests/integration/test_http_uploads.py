"""Uploads against the real process: whole, cut, slow, repeated, refused, and through kills."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from daemon.ipc import spool
from daemon.ipc.partial_uploads import LEFTOVER_SECONDS
from daemon.ipc.spool_sweep import sweep
from daemon.jobs import Job, JobSource, input_key, new_job_id
from daemon.store.job_store import JobStore
from sidecar.idempotency import IdempotencyKeys
from tests.clips import BEGINNING
from tests.sidecar_process import Sidecar, read_all, read_answer, running_sidecar
from tests.system.shares import mounted

HEAD = BEGINNING
VIDEO = HEAD + random.Random(1).randbytes(3_000_000) + b"\r\n--\r\n--y"


def form(video: bytes = VIDEO, name: str = "a.mp4") -> bytes:
    return (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.encode()
        + b'"\r\nContent-Type: video/mp4\r\n\r\n'
        + video
        + b"\r\n--x--\r\n"
    )


def head_of(length: int, more: str = "") -> bytes:
    return (
        f"POST /v1/video/submit HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def ticket_of(sidecar: Sidecar, job_id: str) -> spool.Ticket:
    return next(t for t in spool.tickets(sidecar.spool) if t.job_id == job_id)


def test_an_upload_as_a_form_or_as_a_body_is_a_ticket_and_the_very_bytes(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, httpx.Client(base_url=sidecar.url) as client:
        fields = {"frame_stride": "5", "max_frames": "100", "pipeline_id": "ocr_only"}
        posted = client.post("/v1/video/submit", data=fields, files={"file": ('Ä "1".mp4', VIDEO)})
        put = client.put("/video/submit/b%20c.mp4?frame_stride=2&max_frames=", content=iter([VIDEO[:9], VIDEO[9:]]))
        for response in (posted, put):
            assert response.status_code == 201
            job_id = response.json()["job_id"]
            assert response.json()["status"] == "pending"
            assert response.headers["location"] == f"/v1/video/status/{job_id}"
            assert client.get(response.headers["location"]).json()["status"] == "pending"
            assert (sidecar.spool / f"{job_id}.mp4").read_bytes() == VIDEO
            assert client.get(f"/v1/jobs/{job_id}/video").content == VIDEO
        ticket = ticket_of(sidecar, posted.json()["job_id"])
        assert ticket.options == {"frame_stride": 5, "max_frames": 100}
        assert (ticket.pipeline_id, ticket.source, ticket.size_bytes) == ("ocr_only", JobSource.HTTP, len(VIDEO))
        assert ticket.source_name == 'Ä "1".mp4'
        ticket = ticket_of(sidecar, put.json()["job_id"])
        assert (ticket.options, ticket.source_name) == ({"frame_stride": 2, "max_frames": None}, "b c.mp4")
        assert len(sidecar.left_in_spool()) == 4


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_option_that_a_query_names_twice_is_refused(tmp_path: Path, method: str) -> None:
    with running_sidecar(tmp_path) as sidecar, httpx.Client(base_url=sidecar.url) as client:
        address = "/v1/video/submit" + ("/a.mp4" if method == "PUT" else "")
        body = {"files": {"file": ("a.mp4", VIDEO)}} if method == "POST" else {"content": VIDEO}
        refused = client.request(method, f"{address}?frame_stride=1&frame_stride=5", **body)
        assert refused.status_code == 422
        assert refused.json()["errors"] == [
            {"field": "frame_stride", "message": "frame_stride is given more than once."}
        ]
        assert sidecar.left_in_spool() == []


def test_a_file_that_is_no_mp4_is_refused_before_the_rest_is_taken(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, sidecar.connect() as connection:
        body = form(b"PK\x03\x04" + bytes(100_000))
        connection.sendall(head_of(10**9) + body[:2000])
        answer = read_answer(connection)
        assert b" 400 " in answer.split(b"\r\n", 1)[0]
        assert b"ZIP archive" in answer
        assert sidecar.left_in_spool() == []


@pytest.mark.parametrize("first", [b"wide", b"free", b"skip", b"mdat", b"moov", b"pnot"])
def test_a_quicktime_film_without_a_file_type_box_is_taken(tmp_path: Path, first: bytes) -> None:
    film = (8).to_bytes(4, "big") + first + BEGINNING[24:] + random.Random(2).randbytes(5000)
    with running_sidecar(tmp_path) as sidecar, httpx.Client(base_url=sidecar.url) as client:
        posted = client.post("/v1/video/submit", files={"file": ("phone.mov", film)})
        assert posted.status_code == 201


def test_what_cannot_be_taken_is_refused_before_any_of_it_is_sent(tmp_path: Path) -> None:
    with running_sidecar(tmp_path, max_video_bytes=1_000_000) as sidecar:
        answer = sidecar.exchange(head_of(10**9, "Expect: 100-continue\r\nConnection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 413 ")
        # Without a length the limit is met while it comes.
        chunk = b"%x\r\n" % len(VIDEO) + VIDEO + b"\r\n"
        put = b"PUT /v1/video/submit/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert sidecar.exchange(put + chunk).startswith(b"HTTP/1.1 413 ")
        assert sidecar.left_in_spool() == []
    with running_sidecar(tmp_path, min_free_bytes=10**18) as sidecar:
        assert httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO).status_code == 507
        assert sidecar.left_in_spool() == []


def test_a_full_queue_and_too_many_uploads_say_when_to_come_again(tmp_path: Path) -> None:
    with running_sidecar(tmp_path, max_queue=1, max_uploads=1) as sidecar:
        with sidecar.connect() as slow:
            slow.sendall(head_of(len(form())) + form()[:1000])
            wait_until(lambda: bool(sidecar.left_in_spool()))
            second = httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO)
            assert (second.status_code, second.json()["type"]) == (503, "urn:dropframe:problem:uploads")
            assert second.headers["retry-after"]
            slow.sendall(form()[1000:])
            assert read_answer(slow).startswith(b"HTTP/1.1 201 ")
        third = httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO)
        assert (third.status_code, third.json()["type"]) == (503, "urn:dropframe:problem:queue-full")
        assert len(sidecar.left_in_spool()) == 2


def test_an_upload_cut_anywhere_leaves_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    whole = head_of(len(form())) + form()
    with running_sidecar(tmp_path) as sidecar:
        for cut in [chance.randrange(len(whole)) for _ in range(60)] + [len(whole) - 1]:
            connection = sidecar.connect()
            connection.sendall(whole[:cut])
            if chance.random() < 0.5:  # a reset instead of an orderly end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        wait_until(lambda: sidecar.left_in_spool() == [])
        assert httpx.get(sidecar.url + "/v1/jobs").json()["jobs"] == []
        assert httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO).status_code == 201


def test_an_upload_that_stands_still_or_crawls_is_ended(tmp_path: Path) -> None:
    settings = {"upload_stall_seconds": 0.5, "upload_min_rate": 100_000}
    with running_sidecar(tmp_path, **settings) as sidecar:
        with sidecar.connect() as still:
            still.sendall(head_of(10**6) + form()[:5000])
            assert read_all(still).startswith(b"HTTP/1.1 408 ")
        with sidecar.connect() as crawling:
            crawling.sendall(head_of(10**6))
            answer = b""
            crawling.settimeout(0.1)
            for position in range(0, 5000, 50):
                try:
                    crawling.sendall(form()[position : position + 50])
                    answer = crawling.recv(65_536)
                    break
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408 ")
        wait_until(lambda: sidecar.left_in_spool() == [])


def test_the_same_idempotency_key_gets_the_same_job(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, httpx.Client(base_url=sidecar.url) as client:

        def send(key: str) -> httpx.Response:
            return client.post("/v1/video/submit", files={"file": ("a.mp4", VIDEO)}, headers={"Idempotency-Key": key})

        first, again, other = send("k1"), send("k1"), send("k2")
        assert first.status_code == again.status_code == other.status_code == 201
        assert first.json()["job_id"] == again.json()["job_id"] != other.json()["job_id"]
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        assert len(spool.tickets(sidecar.spool)) == 2
        changed = client.put("/v1/video/submit/a.mp4", content=VIDEO[:-1], headers={"Idempotency-Key": "k1"})
        assert changed.json()["errors"][0]["field"] == "Idempotency-Key"
        for wrong in ("", "x" * 256, "a b"):
            assert send(wrong).status_code == 422
        results: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: results.append(send("k3"))) for _ in range(2)]
        # The first holds the key while it sends, so the second is told to ask again or gets the same job.
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {r.status_code for r in results} <= {201, 409}
        assert len({r.json()["job_id"] for r in results if r.status_code == 201}) == 1
    with running_sidecar(tmp_path) as sidecar:
        later = httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO, headers={"Idempotency-Key": "k1"})
        assert later.json()["job_id"] == first.json()["job_id"]


def test_a_key_whose_upload_was_never_answered_is_given_anew(tmp_path: Path) -> None:
    sent = {"Idempotency-Key": "k"}
    with running_sidecar(tmp_path, fault="spool.renamed") as sidecar:
        with pytest.raises(httpx.TransportError):
            httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO, headers=sent)
        assert sidecar.process.wait(10) == -signal.SIGKILL
        assert len(list((sidecar.spool / "keys").iterdir())) == 1
    with running_sidecar(tmp_path) as sidecar:
        first = httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO, headers=sent)
        again = httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO, headers=sent)
        assert first.status_code == 201
        assert first.json()["job_id"] == again.json()["job_id"]
        # What the kill left is not a submission, and is removed once it is surely nobody's.
        assert len(spool.tickets(sidecar.spool)) == 1
        assert sweep(sidecar.spool, time.time() + LEFTOVER_SECONDS + 1) == 1
        assert len(sidecar.left_in_spool()) == 2


def test_an_upload_beside_one_with_its_key_that_failed_is_not_answered_for_that(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, sidecar.connect() as connection:
        put = f"PUT /v1/video/submit/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(VIDEO)}\r\n"
        connection.sendall(put.encode() + b"Idempotency-Key: k\r\n\r\n" + VIDEO[:1000])
        wait_until(lambda: bool(sidecar.left_in_spool()))
        # What another process leaves when its commit fails after it has taken the key.
        IdempotencyKeys(sidecar.spool / "keys").keep(
            IdempotencyKeys(sidecar.spool / "keys").path("", "k"), new_job_id(), None
        )
        connection.sendall(VIDEO[1000:])
        answer = read_answer(connection)
        assert b" 409 " in answer.split(b"\r\n", 1)[0]
        assert b"retry-after" in answer
        assert sidecar.left_in_spool() == []
        sent = {"Idempotency-Key": "k"}
        assert httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO, headers=sent).status_code == 201
        assert len(spool.tickets(sidecar.spool)) == 1


def test_uploads_are_taken_where_the_spool_alone_is_writable(tmp_path: Path) -> None:
    """As in the sandbox of its service and in its container."""
    data = tmp_path / "data"
    (data / "spool").mkdir(parents=True)
    with mounted(data, "--bind", data), mounted(data / "spool", "--bind", data / "spool"):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(data)], check=True)
        with running_sidecar(tmp_path) as sidecar:
            assert httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO).status_code == 201
            assert httpx.get(sidecar.url + "/readyz").json()["parts"]["disk"]["ok"]


def test_a_submission_whose_ticket_was_rejected_keeps_its_video(tmp_path: Path) -> None:
    job_id = new_job_id()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / f"{job_id}.submit.json").write_text("{}")
    for name in (job_id, new_job_id()):
        (tmp_path / f"{name}.mp4").write_bytes(VIDEO[:100])
    assert sweep(tmp_path, time.time() + LEFTOVER_SECONDS + 1) == 1
    assert [path.name for path in tmp_path.glob("*.mp4")] == [f"{job_id}.mp4"]


def test_an_answered_upload_survives_a_kill_of_the_sidecar(tmp_path: Path) -> None:
    ids = []
    for _ in range(3):
        with running_sidecar(tmp_path) as sidecar:
            ids.append(httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO).json()["job_id"])
            sidecar.process.kill()
            sidecar.process.wait()
    with running_sidecar(tmp_path) as sidecar:
        assert [t.job_id for t in spool.tickets(sidecar.spool)] == ids
        for job_id in ids:
            assert httpx.get(f"{sidecar.url}/v1/video/status/{job_id}").json()["status"] == "pending"


def test_a_job_is_never_unknown_while_the_daemon_takes_its_ticket(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, JobStore.open(tmp_path / "data") as store:
        stopped, seen = threading.Event(), []

        def take_tickets() -> None:
            while not stopped.wait(0.005):
                for ticket in spool.tickets(sidecar.spool):
                    store.create([Job(ticket.job_id, input_path=input_key(ticket.job_id))])
                    spool.done(sidecar.spool, ticket)

        taker = threading.Thread(target=take_tickets)
        taker.start()
        try:
            with httpx.Client(base_url=sidecar.url) as client:
                for _ in range(40):
                    job_id = client.put("/v1/video/submit/a", content=VIDEO[:5000]).json()["job_id"]
                    for _ in range(12):
                        seen.append(client.get(f"/v1/video/status/{job_id}").status_code)
                        time.sleep(0.004)
        finally:
            stopped.set()
            taker.join()
        assert set(seen) == {200}


def test_it_ends_within_10_seconds_with_uploads_open_and_leaves_nothing(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar:
        open_ones = [sidecar.connect() for _ in range(4)]
        for connection in open_ones[:3]:
            connection.sendall(head_of(len(form())) + form()[:100_000])
        open_ones[3].sendall(b"GET /v1/jobs HTTP/1.1\r\nHo")
        wait_until(lambda: len(sidecar.left_in_spool()) == 3)
        started = time.monotonic()
        sidecar.process.terminate()
        assert sidecar.process.wait(10) == 0
        assert time.monotonic() - started < 9
        answers = [read_all(connection) for connection in open_ones]
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers[:3])
        assert sidecar.left_in_spool() == []
        for connection in open_ones:
            connection.close()
        assert all(line["level"] != "error" for line in sidecar.log())


def test_an_upload_nearly_done_is_finished_at_shutdown(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, sidecar.connect() as connection:
        connection.sendall(head_of(len(form())) + form()[:-10])
        wait_until(lambda: bool(sidecar.left_in_spool()))
        sidecar.process.terminate()
        time.sleep(0.5)
        connection.sendall(form()[-10:])
        assert read_all(connection).startswith(b"HTTP/1.1 201 ")
        assert sidecar.process.wait(10) == 0
        assert len(spool.tickets(sidecar.spool)) == 1


def test_the_sweep_leaves_what_is_in_use_or_young(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, sidecar.connect() as connection:
        connection.sendall(head_of(len(form())) + form()[:100_000])
        wait_until(lambda: bool(sidecar.left_in_spool()))
        late = time.time() + LEFTOVER_SECONDS + 1
        (sidecar.spool / ".dead.mp4.part").write_bytes(b"x")
        (sidecar.spool / "orphan.mp4").write_bytes(b"x")
        assert sweep(sidecar.spool, time.time()) == 0
        assert sweep(sidecar.spool, late) == 2
        assert len(sidecar.left_in_spool()) == 1


def test_names_cannot_forge_a_log_line(tmp_path: Path) -> None:
    name = 'a\u2028\x1b[31m"}\\n{"event": "forged"}.mp4'
    with running_sidecar(tmp_path) as sidecar:
        response = httpx.post(sidecar.url + "/v1/video/submit", files={"file": (name, VIDEO)})
        assert response.status_code == 201
        httpx.get(sidecar.url + "/v1/jobs%0a{%22event%22:%20%22forged%22}")
        assert all(line["event"] != "forged" for line in sidecar.log())
        assert sidecar.log_path.read_bytes().isascii()
        answered = [line for line in sidecar.log() if line["event"] == "answered"]
        assert all(line["request_id"] for line in answered)


def test_a_monitor_that_is_told_the_same_again_is_logged_once(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar:
        for _ in range(5):
            assert httpx.get(sidecar.url + "/readyz").status_code == 503
        for _ in range(2):
            httpx.get(sidecar.url + "/nope")

        def logged() -> list[str]:
            return [line["path"] for line in sidecar.log() if line["event"] == "answered"]

        wait_until(lambda: logged().count("/nope") == 2)  # a line is written after its answer
        assert logged() == ["/readyz", "/nope", "/nope"]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_request_that_only_read_and_was_answered_is_logged_at_debug(tmp_path: Path, level: str) -> None:
    usual = [("GET", "/healthz", 200), ("HEAD", "/v1/jobs", 200)]
    others = [("GET", "/nope", 404), ("PUT", "/v1/video/submit/a.mp4", 201), ("GET", "/readyz", 503)]
    with running_sidecar(tmp_path, log_level=level) as sidecar:
        for method, path, _ in usual + others:
            httpx.request(method, sidecar.url + path, content=VIDEO if method == "PUT" else None)

        def logged() -> list[tuple[str, tuple[str, str, int]]]:
            lines = [line for line in sidecar.log() if line["event"] == "answered"]
            assert all(line["request_id"] for line in lines)
            return [(line["level"], (line["method"], line["path"], line["status"])) for line in lines]

        expected = [("debug", one) for one in usual if level == "debug"] + [("info", one) for one in others]
        wait_until(lambda: sorted(logged()) == sorted(expected))


def test_settings_problems_end_with_code_2_and_one_sentence(tmp_path: Path) -> None:
    import sys

    for flags, words in (
        (["--host", "0.0.0.0"], "dropframe token NAME"),
        (["--port", "99999"], "port"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "sidecar", "--home", str(tmp_path), *flags], capture_output=True, timeout=60
        )
        assert ended.returncode == 2
        assert words in ended.stderr.decode()
        assert ended.stderr.count(b"\n") == 1


def test_a_read_only_data_folder_refuses_uploads_and_serves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "spool").write_text("in the way")  # root ignores permissions; a file stops everybody
    with running_sidecar(tmp_path) as sidecar:
        response = httpx.put(sidecar.url + "/v1/video/submit/a", content=VIDEO)
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert httpx.get(sidecar.url + "/v1/jobs").status_code == 200
        assert json.loads(httpx.get(sidecar.url + "/readyz").text)["parts"]["store"]["ok"] is False
