"""An Idempotency-Key stands for one video with its options, and never for another."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import httpx
import pytest

from daemon.ipc import spool
from daemon.jobs import Job, JobStatus, new_job_id
from daemon.store.job_store import JobStore
from sidecar.idempotency import IdempotencyKeys
from tests.integration.test_http_uploads import VIDEO, wait_until
from tests.sidecar_process import Sidecar, read_answer, running_sidecar

OTHER = VIDEO[:-1] + b"z"
"""Another video of the same size."""
KEY = {"Idempotency-Key": "k"}


def put(sidecar: Sidecar, video: bytes, query: str = "", key: str = "k") -> httpx.Response:
    url = f"{sidecar.url}/v1/video/submit/a.mp4{query}"
    return httpx.put(url, content=video, headers={"Idempotency-Key": key})


def check_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert "another video or other options" in answer.json()["detail"]


def test_another_video_or_other_options_with_a_used_key_are_refused_and_not_kept(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar:
        first = put(sidecar, VIDEO)
        assert first.status_code == 201
        kept = sidecar.left_in_spool()
        for video, query in ((OTHER, ""), (VIDEO[:-1], ""), (VIDEO, "?frame_stride=2"), (VIDEO, "?pipeline_id=yolo")):
            check_refused(put(sidecar, video, query))
            assert sidecar.left_in_spool() == kept
        as_form = {"file": ("b.mp4", OTHER)}
        check_refused(httpx.post(sidecar.url + "/v1/video/submit", files=as_form, headers=KEY))
        again = httpx.post(sidecar.url + "/v1/video/submit", files={"file": ("b.mp4", VIDEO)}, headers=KEY)
        assert (again.status_code, again.json()["job_id"]) == (201, first.json()["job_id"])
        assert first.json()["sha256"] == again.json()["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    with running_sidecar(tmp_path) as sidecar:
        check_refused(put(sidecar, OTHER))
        assert put(sidecar, VIDEO).json()["job_id"] == first.json()["job_id"]
        assert put(sidecar, OTHER, key="another").json()["job_id"] != first.json()["job_id"]


@pytest.mark.parametrize("has_run", [False, True])
def test_a_key_that_an_older_release_has_kept_is_still_known(tmp_path: Path, has_run: bool) -> None:
    job_id, sha256 = new_job_id(), hashlib.sha256(VIDEO).hexdigest()
    with JobStore.open(tmp_path / "data") as store:
        store.create([Job(job_id, size_bytes=len(VIDEO), pipeline_id="yolo_ocr")])
        if has_run:  # which is when that release learnt the hash
            store.move(job_id, JobStatus.RUNNING)
            store.move(job_id, JobStatus.COMPLETED, sha256=sha256)
    with running_sidecar(tmp_path) as sidecar:
        keys = IdempotencyKeys(sidecar.spool / "keys")
        keys.path("", "k").parent.mkdir(parents=True)
        keys.path("", "k").write_text(job_id)
        assert put(sidecar, VIDEO).json()["job_id"] == job_id
        check_refused(put(sidecar, VIDEO, "?frame_stride=2"))
        if has_run:
            check_refused(put(sidecar, OTHER))
        assert spool.tickets(sidecar.spool) == []


def test_a_repeat_while_the_first_is_under_way_is_told_when_to_come_again(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar, sidecar.connect() as first:
        head = f"PUT /v1/video/submit/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(VIDEO)}\r\n"
        first.sendall(head.encode() + b"Idempotency-Key: k\r\n\r\n" + VIDEO[:5000])
        wait_until(lambda: bool(sidecar.left_in_spool()))
        for video in (VIDEO, OTHER):
            early = put(sidecar, video)
            assert (early.status_code, early.json()["type"]) == (409, "urn:dropframe:problem:key-in-use")
            assert int(early.headers["retry-after"]) > 0
        first.sendall(VIDEO[5000:])
        job_id = json.loads(read_answer(first).partition(b"\r\n\r\n")[2])["job_id"]
        assert put(sidecar, VIDEO).json()["job_id"] == job_id
        check_refused(put(sidecar, OTHER))
        assert [ticket.job_id for ticket in spool.tickets(sidecar.spool)] == [job_id]


def test_a_repeat_of_an_upload_that_was_cut_is_the_first_one(tmp_path: Path) -> None:
    with running_sidecar(tmp_path) as sidecar:
        with sidecar.connect() as first:
            head = f"PUT /v1/video/submit/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(VIDEO)}\r\n"
            first.sendall(head.encode() + b"Idempotency-Key: k\r\n\r\n" + VIDEO[:5000])
            wait_until(lambda: bool(sidecar.left_in_spool()))
        wait_until(lambda: put(sidecar, OTHER).status_code == 201)
        check_refused(put(sidecar, VIDEO))


def test_of_two_with_one_key_at_once_one_is_kept(tmp_path: Path) -> None:
    """In two processes, which know nothing of each other's uploads."""
    with running_sidecar(tmp_path) as sidecar, running_sidecar(tmp_path) as beside:
        for round_ in range(3):
            answers: list[tuple[bytes, httpx.Response]] = []

            def send(one: Sidecar, video: bytes, key: str) -> None:
                answers.append((video, put(one, video, key=key)))  # noqa: B023  # joined below

            threads = [
                threading.Thread(target=send, args=(one, video, f"k{round_}"))
                for one, video in ((sidecar, VIDEO), (beside, OTHER), (sidecar, OTHER), (beside, VIDEO))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            accepted = {(video, answer.json()["job_id"]) for video, answer in answers if answer.status_code == 201}
            assert len(accepted) == 1, answers
            assert {answer.status_code for _, answer in answers} <= {201, 409, 422}
            ((video, job_id),) = accepted
            assert (sidecar.spool / f"{job_id}.mp4").read_bytes() == video
            assert len(spool.tickets(sidecar.spool)) == round_ + 1
            assert put(beside, video, key=f"k{round_}").json()["job_id"] == job_id
