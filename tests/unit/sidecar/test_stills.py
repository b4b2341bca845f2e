"""Pictures of videos over HTTP: sent when they are there, waited for while the daemon has them made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from daemon.ipc import health
from daemon.jobs import ErrorKind, Job, JobStatus, input_key, new_job_id, output_key
from daemon.settings import Settings
from daemon.stills.client import Stills
from daemon.stills.files import MOST_REQUESTS, StillRequest, ask_for
from daemon.store.job_store import JobStore
from sidecar import schemas
from tests.clips import BEGINNING, make_clip
from tests.derived_documents import frame, write_document
from tests.unit.sidecar.test_app import Client, beat, call, check_problem

ALIVE = "2100-01-01T00:00:00+00:00"


def add_job(home: Path, status: JobStatus = JobStatus.COMPLETED) -> str:
    job_id = new_job_id()
    make_clip(home / "data" / input_key(job_id), frames=20, size=(160, 120))
    with JobStore.open(home / "data") as store:
        store.create([Job(job_id, source_name="match.mp4", input_path=input_key(job_id))])
        store.move(job_id, JobStatus.RUNNING)
        if status is JobStatus.FAILED:
            store.move(job_id, status, error_kind=ErrorKind.PERMANENT, error_message="It has no pictures.")
        if status is JobStatus.COMPLETED:
            store.move(job_id, status, output_path=output_key(job_id))
            write_document(home / "data" / output_key(job_id), (frame(n, n / 25, [], []) for n in range(20)))
    (home / "data" / "spool").mkdir(exist_ok=True)
    health.write(home / "data", beat(ALIVE))
    return job_id


@pytest.fixture
def stills(tmp_path: Path) -> Iterator[Stills]:
    """The daemon's part, at work."""
    made = Stills(Settings(home=tmp_path, min_free_bytes=0))
    made.start()
    yield made
    made.stop()


def picture(answer: httpx.Response) -> tuple[int, ...]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    decoded = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return tuple(decoded.shape)


def test_a_picture_is_made_sent_and_not_sent_again(tmp_path: Path, stills: Stills) -> None:
    job_id = add_job(tmp_path)

    async def work(client: Client) -> None:
        for query in ("t=0.3", "index=7", "index=7&boxes=1", "index=7&boxes=0", ""):
            answer = await client.get(f"/v1/jobs/{job_id}/frame?{query}")
            assert picture(answer) == (120, 160, 3)
        assert answer.headers["content-disposition"] == 'inline; filename="match.mp4.jpg"'
        assert picture(await client.get(f"/v1/jobs/{job_id}/frame?width=80")) == (60, 80, 3)
        known = {"if-none-match": answer.headers["etag"]}
        unchanged = await client.get(f"/v1/jobs/{job_id}/frame", headers=known)
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        head = await client.head(f"/v1/jobs/{job_id}/frame")
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(answer.content)))

    call(tmp_path, work)


def test_many_at_once_get_their_pictures(tmp_path: Path, stills: Stills) -> None:
    ids = [add_job(tmp_path) for _ in range(2)]

    async def work(client: Client) -> None:
        asked = [client.get(f"/v1/jobs/{job_id}/frame?index={n % 10}") for n in range(20) for job_id in ids]
        for answer in await asyncio.gather(*asked):
            picture(answer)

    call(tmp_path, work)


def test_one_that_takes_longer_is_202(tmp_path: Path) -> None:
    job_id = add_job(tmp_path)

    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/jobs/{job_id}/frame?wait=0.1")
        assert answer.status_code == 202
        assert int(answer.headers["retry-after"]) > 0
        schemas.BeingMade.model_validate(answer.json())
        assert os.listdir(tmp_path / "data" / "spool") == [f"{StillRequest(job_id).name}.still"]
        for index in range(MOST_REQUESTS - 1):
            ask_for(tmp_path / "data" / "spool", StillRequest(job_id, index=index))
        answer = await client.get(f"/v1/jobs/{job_id}/frame?wait=0.1&index=1000")
        assert check_problem(answer)["type"].endswith("pictures")
        assert answer.status_code == 503
        health.write(tmp_path / "data", beat("2020-01-01T00:00:00+00:00"))
        await asyncio.sleep(0.8)
        answer = await client.get(f"/v1/jobs/{job_id}/frame?index=2000")
        assert "not running" in check_problem(answer)["detail"]

    call(tmp_path, work)


def test_what_has_no_picture_says_why(tmp_path: Path, stills: Stills) -> None:
    job_id, failed = add_job(tmp_path), add_job(tmp_path, JobStatus.FAILED)
    (tmp_path / "data" / input_key(failed)).write_bytes(BEGINNING + bytes(2000))

    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/jobs/{job_id}/frame?index=20")
        assert answer.status_code == 409
        assert check_problem(answer)["detail"] == "The video has 20 frames, from 0 to 19."
        answer = await client.get(f"/v1/jobs/{failed}/frame")
        assert check_problem(answer)["type"].endswith("no-picture")
        answer = await client.get(f"/v1/jobs/{failed}/frame?boxes=1")
        assert check_problem(answer)["type"].endswith("no-result")
        assert (await client.get(f"/v1/jobs/{new_job_id()}/frame")).status_code == 404
        (tmp_path / "data" / output_key(job_id)).unlink()
        answer = await client.get(f"/v1/jobs/{job_id}/frame?boxes=1")
        assert check_problem(answer)["type"].endswith("file-gone")

    call(tmp_path, work)


def test_a_video_that_is_gone_has_no_pictures_whatever_was_kept(tmp_path: Path, stills: Stills) -> None:
    job_id = add_job(tmp_path)

    async def work(client: Client) -> None:
        picture(await client.get(f"/v1/jobs/{job_id}/frame"))
        (tmp_path / "data" / input_key(job_id)).unlink()
        answer = await client.get(f"/v1/jobs/{job_id}/frame")
        assert check_problem(answer)["detail"] == "The video has been deleted from the data folder."
        with JobStore.open(tmp_path / "data") as store:
            store.note(job_id, source_removed_at="2026-01-31T12:00:00.000000+00:00")
        await asyncio.sleep(0.2)
        answer = await client.get(f"/v1/jobs/{job_id}/frame")
        assert "removed by retention (the keep settings) at 2026-01-31" in check_problem(answer)["detail"]

    call(tmp_path, work)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("t=1&index=1", "index"),
        ("t=-1", "t"),
        ("t=nan", "t"),
        ("t=1e9", "t"),
        ("index=-1", "index"),
        ("index=1.5", "index"),
        ("width=1", "width"),
        ("width=99999", "width"),
        ("boxes=yes", "boxes"),
        ("wait=1000", "wait"),
        ("time=1", "time"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, query: str, field: str) -> None:
    job_id = add_job(tmp_path)

    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/jobs/{job_id}/frame?{query}")
        assert answer.status_code == 422
        assert [error["field"] for error in check_problem(answer)["errors"]] == [field]

    call(tmp_path, work)
