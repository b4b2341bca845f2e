"""Searching over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.jobs import Job, JobStatus, new_job_id, output_key
from daemon.search.index import SearchIndex, delete_index
from daemon.search.reader import CHECK, FILE, FoundKind
from daemon.store.job_store import JobStore
from sidecar import schemas
from tests.unit.sidecar.test_app import Client, call, check_problem


@pytest.fixture
def ids(tmp_path: Path) -> list[str]:
    """Jobs in order of arrival, each with three texts and an object."""
    with JobStore.open(tmp_path / "data") as store:
        jobs = store.create([Job(new_job_id(), source_name=f"match {n}.mp4") for n in range(3)])
        for job in jobs:
            store.move(job.job_id, JobStatus.RUNNING)
            store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    index = SearchIndex(tmp_path / "data")
    for job in jobs:
        spans = [(FoundKind.OBJECT, "person", 0.0, 9.0, 3, [1.0, 2.0, 3.0, 4.0], 0.9, 2)]
        spans += [(FoundKind.TEXT, f"GOAL {n}", n, n + 1.0, n * 25, [0.0] * 4, 0.9, 25) for n in range(3)]
        index.put(job.sequence, job.job_id, "", spans)
    index.set_complete(True)
    index.close()
    (tmp_path / "data" / "spool").mkdir()
    return [job.job_id for job in jobs]


def test_hits_come_by_pages_the_newest_video_first(tmp_path: Path, ids: list[str]) -> None:
    async def work(client: Client) -> None:
        seen, cursor = [], ""
        while cursor is not None:
            answer = await client.get("/v1/search", params={"q": "goal", "limit": 4, "cursor": cursor})
            assert answer.status_code == 200
            page = schemas.SearchAnswer.model_validate(answer.json())
            assert page.complete
            seen += [(hit.source_name, hit.text) for hit in page.hits]
            cursor = answer.json()["next_cursor"]
        assert seen == [(f"match {n}.mp4", f"GOAL {m}") for n in (2, 1, 0) for m in range(3)]
        objects = (await client.get("/v1/search?q=person&kind=object&limit=1")).json()["hits"]
        assert objects == [
            {
                "job_id": ids[2],
                "source_name": "match 2.mp4",
                "kind": "object",
                "text": "person",
                "start_s": 0.0,
                "end_s": 9.0,
                "frame_index": 3,
                "bbox": [1.0, 2.0, 3.0, 4.0],
                "confidence": 0.9,
                "count": 2,
            }
        ]

    call(tmp_path, work)


def test_a_deleted_job_and_one_without_its_result_are_not_found(tmp_path: Path, ids: list[str]) -> None:
    with JobStore.open(tmp_path / "data") as store:
        store.deleted.add(store.get(ids[2]), "2026-01-01T00:00:00Z")
        store.note(ids[0], result_removed_at="2026-01-01T00:00:00Z")

    async def work(client: Client) -> None:
        hits = (await client.get("/v1/search?q=goal")).json()["hits"]
        assert {hit["job_id"] for hit in hits} == {ids[1]}

    call(tmp_path, work)


def test_an_index_that_is_damaged_or_missing_costs_an_answer_that_says_so(tmp_path: Path, ids: list[str]) -> None:
    index = tmp_path / "data" / FILE
    index.write_bytes(index.read_bytes()[:5000])

    async def work(client: Client) -> None:
        answer = await client.get("/v1/search?q=goal")
        assert answer.json() == {"hits": [], "next_cursor": None, "complete": False}
        assert (tmp_path / "data" / "spool" / CHECK).exists()
        delete_index(tmp_path / "data")
        answer = await client.get("/v1/search?q=goal")
        assert answer.json() == {"hits": [], "next_cursor": None, "complete": False}

    call(tmp_path, work)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("q=", "q"),
        ("q=%00%E2%80%AE", "q"),
        ("q=" + "a" * 10_000, "q"),
        ("q=goal&limit=0", "limit"),
        ("q=goal&limit=501", "limit"),
        ("q=goal&cursor=1;2", "cursor"),
        ("q=goal&cursor=" + "9" * 30, "cursor"),
        ("q=goal&kind=face", "kind"),
        ("q=goal&offset=3", "offset"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, ids: list[str], query: str, field: str) -> None:
    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/search?{query}")
        assert answer.status_code == 422
        assert [error["field"] for error in check_problem(answer)["errors"]] == [field]

    call(tmp_path, work)


@pytest.mark.parametrize(
    "query", ['"', "%22goal", "goal%22", "NEAR(", "*", "%ff%fe", "%ED%A0%80", "goal%00x", "' OR 1=1 --"]
)
def test_a_hostile_query_gets_an_answer_or_a_sentence(tmp_path: Path, ids: list[str], query: str) -> None:
    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/search?q={query}")
        assert answer.status_code in (200, 422)
        if answer.status_code == 422:
            check_problem(answer)
        assert len((await client.get("/v1/search?q=goal")).json()["hits"]) == 9

    call(tmp_path, work)
