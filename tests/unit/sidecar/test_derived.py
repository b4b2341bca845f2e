"""Texts, tracks and density over HTTP: sent when they are there, 202 while they are made, else the reason why not."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from pathlib import Path

import pytest

from daemon.derive import files
from daemon.derive.client import Derivations
from daemon.derive.derivation import derive
from daemon.jobs import Job, JobStatus, new_job_id, output_key
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from sidecar import schemas
from sidecar.app import make_app
from tests.derived_documents import Clip, Shown, frame, frames_of, write_document
from tests.unit.sidecar.test_app import Client, call, check_problem

ANSWERS = {
    "texts": schemas.TextsAnswer,
    "tracks": schemas.TracksAnswer,
    "density": schemas.DensityAnswer,
}


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    with JobStore.open(tmp_path / "data") as store:
        [job] = store.create([Job(new_job_id(), source_name="match.mp4")])
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    clip = Clip("", 60, [Shown("HOME 1 - 0 AWAY", 0, 59)], noise=0.0, missed=0.0)
    write_document(tmp_path / "data" / output_key(job.job_id), frames_of(clip))
    (tmp_path / "data" / "spool").mkdir()
    return job.job_id


def make(home: Path, job_id: str) -> None:
    derive(files.document_of(home / "data", job_id), files.folder_of(home / "data", job_id))


def test_what_is_there_is_sent_whole_and_only_once(tmp_path: Path, job_id: str) -> None:
    make(tmp_path, job_id)

    async def work(client: Client) -> None:
        for kind, model in ANSWERS.items():
            answer = await client.get(f"/v1/jobs/{job_id}/{kind}")
            assert answer.status_code == 200
            assert model.model_validate(answer.json()).model_dump()["job_id"] == job_id
            unchanged = await client.get(f"/v1/jobs/{job_id}/{kind}", headers={"if-none-match": answer.headers["etag"]})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
        texts = (await client.get(f"/v1/jobs/{job_id}/texts")).json()["texts"]
        assert [(text["text"], text["start_s"], text["end_s"]) for text in texts] == [("HOME 1 - 0 AWAY", 0.0, 2.4)]

    call(tmp_path, work)


@pytest.mark.parametrize("count", [0, 1, 7, 4000])
def test_texts_and_tracks_come_in_pages_that_make_the_whole(tmp_path: Path, job_id: str, count: int) -> None:
    make(tmp_path, job_id)
    folder = files.folder_of(tmp_path / "data", job_id)
    box = [0.0, 1.0, 2.0, 3.0]
    span = {"start_s": 0.0, "end_s": 1.0, "first_frame": 0, "last_frame": 9, "confidence": 0.5}
    entries = {
        "texts": [{**span, "text": f"{n} ]}}\n]," + "x" * 200, "bbox": box, "reads": 1} for n in range(count)],
        "tracks": [{**span, "track_id": n + 1, "class": "cat", "boxes": 2, "best_bbox": box} for n in range(count)],
    }
    for kind, made in entries.items():
        path = folder / f"{kind}.json"
        head = path.read_bytes().split(b"\n")[1]
        more = '"frames": [\n{"frame_index": 1, "track_ids": [1]}\n]\n' if kind == "tracks" else ""
        lines = ",\n".join(json.dumps(entry) for entry in made)
        body = f'"{kind}": [\n{lines}' + ("\n" if made else "") + "]" + (",\n" if more else "\n") + more + "}\n"
        path.write_bytes(b"{\n" + head + b"\n" + body.encode())

    async def work(client: Client) -> None:
        for kind, made in entries.items():
            path = f"/v1/jobs/{job_id}/{kind}"
            whole = (await client.get(path)).json()
            assert whole[kind] == made
            for limit in (1, 3, 3999, 4000, 10_000) if count < 10 else (3999, 4000, 700):
                found, cursor, pages = [], "", 0
                while cursor is not None:
                    answer = await client.get(path, params={"limit": limit, "cursor": cursor})
                    assert answer.status_code == 200, answer.text
                    page = answer.json()
                    assert page["derived_from"] == whole["derived_from"]
                    assert page.get("frames", []) == []
                    found += page[kind]
                    cursor, pages = page["next_cursor"], pages + 1
                    again = await client.get(
                        path,
                        params={"limit": 5},
                        headers={"if-none-match": answer.headers["etag"]},
                    )
                    assert again.status_code == 200  # another page is another answer
                assert found == made
                assert pages == max(1, -(-count // limit))
            assert len((await client.get(path, params={"cursor": ""})).json()[kind]) == min(1000, count)

    call(tmp_path, work)


@pytest.mark.parametrize("cursor", ["x", "MTAgYWJj", "\u4e2d", "a" * 500, "MTAg" * 20])
def test_what_is_not_a_cursor_is_refused(tmp_path: Path, job_id: str, cursor: str) -> None:
    make(tmp_path, job_id)

    async def work(client: Client) -> None:
        for query in ({"cursor": cursor}, {"limit": "0"}, {"limit": "10001"}):
            problem = check_problem(await client.get(f"/v1/jobs/{job_id}/texts", params=query))
            assert problem["errors"][0]["field"] in query
        assert check_problem(await client.get(f"/v1/jobs/{job_id}/density?limit=5"))["status"] == 422

    call(tmp_path, work)


def test_a_cursor_holds_though_the_file_was_made_anew_and_not_for_another_result(tmp_path: Path, job_id: str) -> None:
    clip = Clip("", 60, [Shown("HOME 1 - 0 AWAY", 0, 20), Shown("GATE B12", 30, 59)], noise=0.0, missed=0.0)
    document = files.document_of(tmp_path / "data", job_id)
    write_document(document, frames_of(clip))
    make(tmp_path, job_id)

    async def work(client: Client) -> None:
        path = f"/v1/jobs/{job_id}/texts"
        cursor = (await client.get(f"{path}?limit=1")).json()["next_cursor"]
        mark = base64.urlsafe_b64decode(cursor + "==").split(b" ")[1]
        for place in (b"10000000000000000000000", b"9223372036854775807", b"1", b"-5"):
            forged = base64.urlsafe_b64encode(place + b" " + mark).decode().rstrip("=")
            assert (await client.get(path, params={"cursor": forged})).status_code == 422
        files.forget(tmp_path / "data", job_id)
        make(tmp_path, job_id)
        page = (await client.get(path, params={"cursor": cursor})).json()
        assert [text["text"] for text in page["texts"]] == ["GATE B12"]
        write_document(document, frames_of(Clip("", 90, clip.shown, noise=0.0, missed=0.0)))
        make(tmp_path, job_id)
        problem = check_problem(await client.get(path, params={"cursor": cursor}))
        assert "begin again without it" in problem["detail"]

    call(tmp_path, work)


def test_what_is_being_made_is_202_and_asked_of_the_daemon(tmp_path: Path, job_id: str) -> None:
    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/jobs/{job_id}/texts")
        assert answer.status_code == 202
        assert int(answer.headers["retry-after"]) > 0
        schemas.BeingMade.model_validate(answer.json())
        assert [path.name for path in (tmp_path / "data" / "spool").iterdir()] == [f"{job_id}.derive"]

    call(tmp_path, work)


def test_who_waits_gets_it_when_the_daemon_has_made_it(tmp_path: Path, job_id: str) -> None:
    derivations = Derivations(Settings(home=tmp_path, min_free_bytes=0), lambda: 1)

    async def work(client: Client) -> None:
        asked = asyncio.create_task(client.get(f"/v1/jobs/{job_id}/density?wait=50"))
        await asyncio.sleep(0.1)
        thread = threading.Thread(target=derivations.step)
        thread.start()
        answer = await asked
        thread.join()
        assert answer.status_code == 200
        assert sum(answer.json()["density"]["frames"]) == 60

    call(tmp_path, work)


@pytest.mark.parametrize("what", ["texts", "export/csv"])
def test_who_waits_for_it_counts_as_one_who_waits_and_not_as_a_request(tmp_path: Path, job_id: str, what: str) -> None:
    app = make_app(Settings(home=tmp_path, max_requests=2, max_waits_per_client=3, min_free_bytes=0))

    async def work(client: Client) -> None:
        path = f"/v1/jobs/{job_id}/{what}"
        waits = []
        for _ in range(3):
            waits.append(asyncio.create_task(client.get(path + "?wait=2")))
            await asyncio.sleep(0.2)
        assert check_problem(await client.get(path + "?wait=2"))["status"] == 429
        assert (await client.get(path)).status_code == 202
        assert [answer.status_code for answer in await asyncio.gather(*waits)] == [202] * 3

    call(tmp_path, work, app)


def test_why_nothing_can_be_derived_is_said(tmp_path: Path, job_id: str) -> None:
    files.write_problem(
        files.folder_of(tmp_path / "data", job_id),
        files.document_of(tmp_path / "data", job_id).stat().st_size,
        "The result document ends early; run the job again.",
    )

    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/jobs/{job_id}/tracks")
        assert check_problem(answer)["detail"] == "The result document ends early; run the job again."
        assert answer.status_code == 409
        check_problem(await client.get(f"/v1/jobs/{job_id}/tracks?from=3"))
        files.document_of(tmp_path / "data", job_id).unlink()
        gone = await client.get(f"/v1/jobs/{job_id}/tracks")
        assert check_problem(gone)["type"].endswith("file-gone")

    call(tmp_path, work)


def test_a_job_that_has_not_completed_has_none(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        [job] = store.create([Job(new_job_id(), source_name="waits.mp4")])

    async def work(client: Client) -> None:
        answer = await client.get(f"/v1/jobs/{job.job_id}/texts")
        assert check_problem(answer)["job_status"] == "pending"
        assert (await client.get(f"/v1/jobs/{new_job_id()}/texts")).status_code == 404

    call(tmp_path, work)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("from_s=0", [0, 5, 10, 15, 20]),
        ("from_s=0.4", [5, 10, 15, 20]),
        ("from_s=0.41&limit=2", [10, 15]),
        ("from_s=0.4&from_frame=11", [15, 20]),
        ("from_s=1.6", [20]),
        ("from_s=1.7", []),
    ],
)
def test_a_result_can_be_read_from_a_time_on(tmp_path: Path, job_id: str, query: str, wanted: list[int]) -> None:
    frames = [frame(n * 5, round(n * 0.4, 6), [], []) for n in range(5)]
    write_document(files.document_of(tmp_path / "data", job_id), frames)

    async def work(client: Client) -> None:
        answer = (await client.get(f"/v1/video/results/{job_id}?{query}")).json()
        assert [each["frame_index"] for each in answer["results"]] == wanted

    call(tmp_path, work)


def test_a_result_without_times_cannot_be_read_from_a_time_on(tmp_path: Path, job_id: str) -> None:
    frames = [{"frame_index": n, "result": {"detections": [], "text": ""}} for n in range(5)]
    write_document(files.document_of(tmp_path / "data", job_id), frames)

    async def work(client: Client) -> None:
        answer = check_problem(await client.get(f"/v1/video/results/{job_id}?from_s=1"))
        assert answer["errors"] == [{"field": "from_s", "message": "The frames of the stored result have no times."}]
        wrong = check_problem(await client.get(f"/v1/video/results/{job_id}?from_s=-1"))
        assert wrong["errors"][0]["field"] == "from_s"

    call(tmp_path, work)
