from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner

from daemon.cli.main import app as commands
from daemon.derive import files
from daemon.derive.derivation import derive
from daemon.errors import SettingsError, StorageError
from daemon.ipc import health, spool
from daemon.ipc.slots import SlotBeat
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, Options, new_job_id, output_key, utc_now
from daemon.public_job import PublicJob
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.tokens import Rights, new_token
from sidecar import schemas
from sidecar.app import make_app
from sidecar.files import content_disposition
from sidecar.pages import PAGE_DIR
from tests.clips import BEGINNING, make_clip
from tests.unit.sidecar.test_document import frame, write_document

HEAD = BEGINNING + bytes(100)
Client = httpx.AsyncClient
Work = Callable[[Client], Awaitable[None]]


def call(home: Path, work: Work, app: Starlette | None = None, **settings: Any) -> None:
    """Run some calls against the application, without a server."""

    async def main() -> None:
        opened = app or make_app(Settings(home=home, **settings))
        transport = httpx.ASGITransport(opened, raise_app_exceptions=False)
        async with (
            opened.router.lifespan_context(opened),
            Client(transport=transport, base_url="http://localhost:8000") as client,
        ):
            await work(client)

    asyncio.run(main())


def routes(app: Starlette) -> list[tuple[str, str]]:
    """Every method and path of the application, with plausible values in the path."""
    found = []
    for route in app.routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{job_id\}", new_job_id(), route.path)
        path = re.sub(r"\{name:path\}|\{filename:path\}", "index.html", path)
        found += [(method, path) for method in sorted(route.methods or ())]
    return found


def check_problem(response: httpx.Response) -> dict[str, Any]:
    """The one error shape, wherever an error comes from."""
    assert response.status_code >= 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == response.status_code
    assert body["type"].startswith("urn:dropframe:problem:")
    assert body["detail"][-1] in ".;" or body["detail"].endswith(".mp4."), body["detail"]
    if response.status_code == 422:
        assert all({"field", "message"} == set(error) for error in body["errors"])
    for leak in ("/tmp", str(Path.cwd()), "Traceback", ".py", "site-packages"):
        assert leak not in response.text
    return body


def test_every_route_answers_a_wrong_method_in_the_one_error_shape(tmp_path: Path) -> None:
    app = make_app(Settings(home=tmp_path))

    async def work(client: Client) -> None:
        for _, path in routes(app):
            response = await client.request("TRACE", path)
            assert response.status_code == 405
            assert response.headers["allow"]
            check_problem(response)

    call(tmp_path, work, app)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1/video/status/", 404),
        ("GET", "/v1/jobs/", 404),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/%2e%2e%2fapp.py", 404),
        ("GET", "/page/app.py", 404),
        ("GET", "/v1/video/status/not-an-id", 404),
        ("GET", "/v1/video/status/%00", 404),
        ("GET", "/v1/video/status/..%2f..%2fjobs.json", 404),
        ("GET", f"/v1/video/status/{new_job_id()}", 404),
        ("GET", f"/v1/video/results/{new_job_id()}", 404),
        ("GET", f"/v1/jobs/{new_job_id()}/video", 404),
        ("POST", f"/v1/jobs/{new_job_id()}/cancel", 404),
        ("POST", f"/v1/jobs/{new_job_id()}/retry", 404),
        ("GET", "/v1/jobs?limit=0", 422),
        ("GET", "/v1/jobs?limit=x", 422),
        ("GET", "/v1/jobs?limit=501", 422),
        ("GET", "/v1/jobs?status=done", 422),
        ("GET", "/v1/jobs?source=mail", 422),
        ("GET", "/v1/jobs?cursor=x", 422),
        ("GET", "/v1/jobs?cursor=%C3%A9", 422),
        ("GET", "/v1/jobs?created_after=yesterday", 422),
        ("GET", "/v1/jobs?created_before=99999-01-01", 422),
        ("GET", "/v1/jobs?skip=10", 422),
        ("GET", f"/v1/video/results/{new_job_id()}?frame=1", 404),
        ("PUT", "/v1/video/submit/a.mp4?pipeline=yolo", 422),
        ("POST", "/v1/video/submit", 415),
        ("POST", "/v1/video/submit?frame_stride=0", 422),
        ("PUT", "/v1/video/submit/a.mp4?max_frames=1.5", 422),
        ("PUT", "/v1/video/submit/a.mp4?pipeline_id=none", 404),
        ("PUT", "/v1/video/submit/a.mp4", 400),
        ("PUT", "/v1/video/submit/..%2fa.mp4", 422),
        ("PUT", "/v1/video/submit/a%00.mp4", 422),
        ("GET", "/readyz", 503),
    ],
)
def test_errors_have_one_shape(tmp_path: Path, method: str, path: str, status: int) -> None:
    async def work(client: Client) -> None:
        response = await client.request(method, path)
        assert response.status_code == status
        check_problem(response)

    call(tmp_path, work)


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        form = {"frame_stride": "0", "max_frames": "many", "colour": "blue"}
        response = await client.post("/v1/video/submit", data=form, files={"file": ("a.mp4", HEAD)})
        named = [error["field"] for error in check_problem(response)["errors"]]
        assert named == ["frame_stride", "max_frames", "colour"]
        response = await client.get("/v1/jobs?limit=0&status=done&source=mail&cursor=x&created_after=y&skip=10")
        named = [error["field"] for error in check_problem(response)["errors"]]
        assert sorted(named) == ["created_after", "cursor", "limit", "skip", "source", "status"]

    call(tmp_path, work)


def test_an_unknown_field_is_refused_with_the_name_that_was_probably_meant(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        for given, meant in (("pipeline", "pipeline_id"), ("stride", "frame_stride"), ("max_frame", "max_frames")):
            for sent in ({"data": {given: "5"}}, {"params": {given: "5"}}):
                response = await client.post("/v1/video/submit", files={"file": ("a.mp4", HEAD)}, **sent)
                assert check_problem(response)["errors"] == [
                    {"field": given, "message": f"There is no option {given!r} (did you mean {meant}?)."}
                ]
        response = await client.get("/v1/jobs?skip=10")
        assert "the parameters are limit, status, source, pipeline_id, name" in check_problem(response)["detail"]
        response = await client.get("/v1/jobs?" + "&".join(f"a{i}{'x' * 500}=1" for i in range(100)))
        assert len(check_problem(response)["errors"]) == 10
        assert len(response.content) < 10_000
        assert (await client.get("/v1/jobs")).json()["counts"]["pending"] == 0

    call(tmp_path, work)


def test_fields_of_other_services_are_accepted_with_a_warning(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        form = {"plugin_id": "ocr", "tool": "", "pipeline_id": "yolo"}
        response = await client.post("/v1/video/submit", data=form, files={"file": ("a.mp4", HEAD)})
        assert response.status_code == 201
        assert [text.split()[0] for text in response.json()["warnings"]] == ["plugin_id", "tool"]
        assert response.json()["pipeline_id"] == "yolo"
        response = await client.put("/v1/video/submit/a.mp4?tool=x", content=HEAD)
        assert len(response.json()["warnings"]) == 1
        response = await client.put("/v1/video/submit/a.mp4", content=HEAD)
        assert response.json()["warnings"] == []

    call(tmp_path, work)


def test_a_defect_answers_500_and_tells_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(Settings(home=tmp_path))

    async def broken(request: Request) -> Response:
        raise RuntimeError("secret in /tmp/x.py")

    app.router.routes.append(Route("/broken", broken))

    async def work(client: Client) -> None:
        response = await client.get("/broken")
        assert response.status_code == 500
        assert "secret" not in response.text
        check_problem(response)

    call(tmp_path, work, app)
    assert "secret" in caplog.text


def test_every_route_refuses_without_a_token_and_submitting_ones_with_a_reading_one(tmp_path: Path) -> None:
    secret, token = new_token("reader", Rights.READ)
    app = make_app(Settings(home=tmp_path, tokens=[str(token)]))
    pages = [("GET", "/"), ("GET", "/docs"), ("GET", "/page/index.html")]
    walked = [route for route in routes(app) if route[0] == "OPTIONS" or ("GET", route[1]) not in pages]
    assert len(walked) > 30

    async def work(client: Client) -> None:
        for method, path in [*walked, ("GET", "/nope"), ("OPTIONS", "/v1/jobs")]:
            for sent in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic Og=="}):
                response = await client.request(method, path, headers=sent)
                assert response.status_code == 401, path
                assert response.headers["www-authenticate"]
                if method != "HEAD":
                    check_problem(response)
            response = await client.request(method, path, headers={"authorization": f"Bearer {secret}"})
            assert (response.status_code == 403) == (method in ("POST", "PUT", "PATCH", "DELETE")), path
        for method, path in pages:  # the same for everybody; they ask for a token themselves
            assert (await client.request(method, path)).status_code == 200
            assert (await client.request("POST", path)).status_code == 405

    call(tmp_path, work, app)


def test_a_page_gets_a_pass_for_what_it_cannot_send_a_token_with(tmp_path: Path) -> None:
    made = [new_token(name, rights) for name, rights in (("reader", Rights.READ), ("writer", Rights.SUBMIT))]
    settings = {"tokens": [str(token) for _, token in made]}

    async def work(client: Client) -> None:
        for secret, token in made:
            response = await client.get("/v1/session", headers={"authorization": f"Bearer {secret}"})
            check_public(schemas.SessionAnswer, response)
            body = response.json()
            assert (body["token"], body["rights"]) == (token.name, token.rights)
            sent = {"cookie": f"other=1; {body['cookie']}"}
            assert (await client.get("/v1/jobs", headers=sent)).status_code == 200
            assert (await client.post("/v1/jobs/retry-failed", headers=sent)).status_code == 401
            again = (await client.get("/v1/session", headers=sent)).json()
            assert again == {"token": token.name, "rights": "read", "cookie": None, "cookie_seconds": None}
        assert (await client.get("/v1/session")).status_code == 401

    call(tmp_path, work, **settings)


def test_a_page_is_told_that_no_token_is_needed(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        body = (await client.get("/v1/session")).json()
        assert body == {"token": None, "rights": "submit", "cookie": None, "cookie_seconds": None}

    call(tmp_path, work)


def test_a_page_of_an_allowed_site_may_ask_and_call(tmp_path: Path) -> None:
    _, token = new_token("page", Rights.SUBMIT)
    settings = {"allowed_origins": ["https://ok.example"], "tokens": [str(token)]}

    async def work(client: Client) -> None:
        asks = {"origin": "https://ok.example", "access-control-request-method": "POST"}
        response = await client.options("/v1/video/submit", headers=asks)
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == "https://ok.example"
        response = await client.options("/v1/video/submit", headers={**asks, "origin": "https://evil.example"})
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers

    call(tmp_path, work, **settings)


def test_a_page_of_an_allowed_site_can_read_problems_and_is_told_what_it_may_not_send(tmp_path: Path) -> None:
    _, token = new_token("page", Rights.SUBMIT)
    settings = {"allowed_origins": ["https://OK.example/"], "tokens": [str(token)]}
    ok = {"origin": "https://ok.example"}

    async def work(client: Client) -> None:
        for path, status in (("/v1/jobs", 401), ("/nope", 401)):
            response = await client.get(path, headers=ok)
            assert response.status_code == status
            check_problem(response)
            assert response.headers["access-control-allow-origin"] == ok["origin"]
            exposed = response.headers["access-control-expose-headers"].lower()
            assert "location" in exposed
            assert "last-modified" in exposed
            assert "origin" in response.headers["vary"].lower()
        for asks in (
            {"access-control-request-method": "TRACE"},
            {"access-control-request-method": "POST", "access-control-request-headers": "x-other"},
        ):
            response = await client.options("/v1/jobs", headers={**ok, **asks})
            assert response.status_code == 403
            check_problem(response)
        asks = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization,range"}
        response = await client.options("/v1/jobs", headers={**ok, **asks})
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["x-request-id"]
        assert "PUT" in response.headers["access-control-allow-methods"]

    call(tmp_path, work, **settings)


def test_a_request_id_is_kept_if_it_is_plain_and_replaced_if_not(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        for sent, kept in (("abc-1", True), ("a b", False), ("x" * 65, False), ('"}', False)):
            response = await client.get("/healthz", headers={"x-request-id": sent})
            assert (response.headers["x-request-id"] == sent) == kept

    call(tmp_path, work)


def check_public(model: type[BaseModel], response: httpx.Response) -> None:
    """An answer has the members of its model, of their types, and no others."""

    def members(kind: Any, value: Any) -> None:
        assert set(value) <= {field.alias or name for name, field in kind.model_fields.items()}
        assert {f.alias or name for name, f in kind.model_fields.items() if f.is_required()} <= set(value)

    members(model, response.json())
    for job in response.json().get("jobs", ()):
        members(PublicJob, job)
    model.model_validate_json(response.content, strict=True)


# Reading.


def test_a_job_is_told_in_every_state(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        first, second, third = store.create([Job(new_job_id(), input_path="x") for _ in range(3)])

        async def work(client: Client) -> None:
            async def told(job: Job) -> dict[str, Any]:
                await asyncio.sleep(0.15)
                response = await client.get(f"/video/status/{job.job_id}")
                assert response.status_code == 200
                check_public(PublicJob, response)
                assert (await client.get(f"/v1/jobs/{job.job_id}")).json() == response.json()
                body: dict[str, Any] = response.json()
                return body

            seen = await told(second)
            assert (seen["status"], seen["progress"], seen["queue_position"]) == ("pending", 0.0, 1)
            store.move(first.job_id, JobStatus.RUNNING, frames_total=100, frames_processed=10)
            now = store.get(first.job_id).updated_at
            running = {"job_id": first.job_id, "frames_processed": 40, "frames_total": 100, "frames_per_second": 20.0}
            health.write(tmp_path / "data", beat(now, running))
            await asyncio.sleep(0.6)
            seen = await told(first)
            assert (seen["status"], seen["progress"], seen["queue_position"]) == ("running", 0.5, None)
            assert (seen["frames_processed"], seen["frames_per_second"], seen["eta_s"]) == (40, 20.0, 3.0)
            store.move(first.job_id, JobStatus.COMPLETED, output_path=output_key(first.job_id))
            assert (await told(first))["progress"] == 1.0
            store.move(third.job_id, JobStatus.FAILED, error_message="No.", error_kind=ErrorKind.PERMANENT)
            seen = await told(third)
            assert (seen["status"], seen["progress"], seen["error_message"]) == ("failed", 1.0, "No.")
            response = await client.get(f"/v1/video/results/{third.job_id}")
            assert response.status_code == 404
            assert check_problem(response)["job_status"] == "failed"

        call(tmp_path, work)


def beat(now: str, running: dict[str, Any] | None = None, **changes: Any) -> health.Heartbeat:
    values: dict[str, Any] = {
        "pid": 1,
        "version": "0",
        "started_at": now,
        "updated_at": now,
        "state": "running",
        "device": "cpu",
        "models": [],
        "inbox": {
            "mode": "events",
            "online": True,
            "last_good_scan_age_s": 1.0,
            "waiting_count": 0,
            "waiting": [],
            "overflows": 0,
            "problem": None,
        },
        "paused": None,
        "queue_length": 0,
        "outbox": {"online": True, "problem": None},
        "running": running,
        "free_bytes": 10**12,
        "min_free_bytes": 0,
        "counters": {"frames": 5, "jobs_completed": 1},
        "stage_seconds_total": {"decode": 1.5},
        **changes,
    }
    return health.parse(json.dumps(values))


def test_an_unchanged_status_is_304_and_waiting_ends_at_once_when_it_changes(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job = store.create([Job(new_job_id(), input_path="x")])[0]
        path = f"/v1/video/status/{job.job_id}"

        async def work(client: Client) -> None:
            loop = asyncio.get_running_loop()
            tag = (await client.get(path)).headers["etag"]
            unchanged = await client.get(path, headers={"if-none-match": f'"x", W/{tag}'})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            started = loop.time()
            waited = await client.get(path + "?wait=0.3", headers={"if-none-match": tag})
            assert waited.status_code == 304
            assert 0.25 < loop.time() - started < 2
            started = loop.time()
            loop.call_later(0.2, store.move, job.job_id, JobStatus.RUNNING)
            changed = await client.get(path + "?wait=30", headers={"if-none-match": tag})
            assert loop.time() - started < 3
            assert changed.json()["status"] == "running"
            stale = await client.get(path + "?wait=30", headers={"if-none-match": tag})
            assert stale.json()["status"] == "running"
            store.move(job.job_id, JobStatus.FAILED)
            await asyncio.sleep(0.15)
            assert (await client.get(path + "?wait=30")).json()["status"] == "failed"
            for wrong in ("x", "-1", "61", "nan", "1e3"):
                assert (await client.get(f"{path}?wait={wrong}")).status_code == 422
            assert (await client.get(f"{path}?timeout=1")).status_code == 422

        call(tmp_path, work)


def complete(store: JobStore, home: Path, count: int) -> tuple[Job, dict[str, Any]]:
    job = store.create([Job(new_job_id(), input_path="x")])[0]
    path = home / "data" / output_key(job.job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = write_document(path, [frame(i) for i in range(count)])
    store.move(job.job_id, JobStatus.RUNNING)
    return store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id)), document


def test_a_result_is_the_document_with_the_jobs_id_and_times(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job, document = complete(store, tmp_path, 300)
        path = f"/v1/video/results/{job.job_id}"

        async def work(client: Client) -> None:
            plain = await client.get(path, headers={"accept-encoding": "identity"})
            added = {"job_id": job.job_id, "created_at": job.created_at, "updated_at": job.updated_at}
            assert plain.json() == {**document, **added}
            assert len(plain.content) == int(plain.headers["content-length"])
            zipped = await client.get(path, headers={"accept-encoding": "br, gzip"})
            assert zipped.headers["content-encoding"] == "gzip"
            assert zipped.content == plain.content
            assert zipped.headers["etag"] != plain.headers["etag"]
            assert "content-encoding" not in (await client.get(path, headers={"accept-encoding": "gzip;q=0"})).headers
            again = await client.get(
                path, headers={"if-none-match": plain.headers["etag"], "accept-encoding": "identity"}
            )
            assert (again.status_code, again.content) == (304, b"")
            head = await client.head(path, headers={"accept-encoding": "identity"})
            assert (head.headers["content-length"], head.content) == (plain.headers["content-length"], b"")
            await check_modified_since(client, path, plain)
            part = (await client.get(path + "?from_frame=10&limit=5")).json()
            assert part == {**document, **added, "results": document["results"][10:15], "next_frame": 15}
            last = (await client.get(path + "?from_frame=299")).json()
            assert (last["results"], last["next_frame"]) == (document["results"][299:], None)
            assert (await client.get(path + "?from_frame=900")).json()["results"] == []
            for wrong in ("from_frame=-1", "limit=0", "limit=x", "from_frame=1e3", "colour=blue"):
                assert (await client.get(f"{path}?{wrong}")).status_code == 422

        call(tmp_path, work)


@pytest.mark.expects_error_log
def test_a_damaged_or_vanished_result_is_a_problem(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job, _ = complete(store, tmp_path, 3)
        path = f"/v1/video/results/{job.job_id}"
        stored = tmp_path / "data" / output_key(job.job_id)

        async def work(client: Client) -> None:
            stored.write_bytes(b"")
            for query in ("", "?limit=1"):
                response = await client.get(path + query)
                assert response.status_code == 500
                check_problem(response)
            stored.unlink()
            response = await client.get(path)
            assert response.status_code == 404
            check_problem(response)

        call(tmp_path, work)


def test_a_list_shows_every_job_once_while_others_come(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        names = [f"clip {i}.mp4" for i in range(23)]
        old = [job.job_id for job in store.create([Job(new_job_id(), source_name=n) for n in names])]
        (tmp_path / "a.mp4").write_bytes(b"x")

        def submit() -> str:
            return spool.submit(
                tmp_path / "data" / "spool",
                tmp_path / "a.mp4",
                source=JobSource.HTTP,
                source_name="a.mp4",
                pipeline_id="yolo",
                options=Options(),
            )

        waiting = [submit() for _ in range(5)]

        async def work(client: Client) -> None:
            seen: list[str] = []
            cursor = ""
            while True:
                page = (await client.get(f"/v1/jobs?limit=3{cursor}")).json()
                seen += [job["job_id"] for job in page["jobs"]]
                assert all("results" not in job for job in page["jobs"])
                if page["next_cursor"] is None:
                    break
                cursor = f"&cursor={page['next_cursor']}"
                submit()
                store.create([Job(waiting.pop(0))] if waiting else [Job(new_job_id())])
                await asyncio.sleep(0.12)
            assert len(seen) == len(set(seen))
            assert set(old) <= set(seen)
            assert [job_id for job_id in seen if job_id in old] == old[::-1]

        call(tmp_path, work)


def test_a_list_is_filtered(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        jobs = store.create([Job(new_job_id(), source_name=f"Straße {i}.mp4") for i in range(9)])
        jobs += store.create([Job(new_job_id(), source=JobSource.HTTP, pipeline_id="yolo", source_name="x.mp4")])
        store.move(jobs[3].job_id, JobStatus.FAILED)
        ids = [job.job_id for job in jobs]

        async def work(client: Client) -> None:
            async def listed(**query: str) -> list[int]:
                page = (await client.get("/v1/jobs", params={"limit": "500", **query})).json()
                assert page["counts"] == {"pending": 9, "running": 0, "completed": 0, "failed": 1}
                return [ids.index(job["job_id"]) for job in page["jobs"]]

            assert await listed() == list(range(9, -1, -1))
            assert await listed(status="failed") == [3]
            assert await listed(status="running") == []
            assert await listed(source="http") == [9]
            assert await listed(pipeline_id="yolo_ocr") == list(range(8, -1, -1))
            assert await listed(name="STRASSE 4") == [4]
            assert await listed(created_after=jobs[9].created_at) == []
            assert await listed(created_before=jobs[9].created_at, status="pending") == [8, 7, 6, 5, 4, 2, 1, 0]
            assert await listed(created_after="2001-01-01") == list(range(9, -1, -1))

        call(tmp_path, work)


# Asking.


def tickets(home: Path) -> list[tuple[str, str]]:
    return [(t.kind, t.job_id) for t in spool.tickets(home / "data" / "spool")]


def test_cancel_and_retry_are_tickets_for_the_right_states_only(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        waits, failed, cancelled, done, refused = store.create([Job(new_job_id(), input_path="x") for _ in range(5)])
        store.move(failed.job_id, JobStatus.RUNNING, started_at=utc_now())
        for job in (failed, refused):
            store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT)
        store.move(cancelled.job_id, JobStatus.FAILED, error_kind=ErrorKind.CANCELLED)
        store.move(done.job_id, JobStatus.RUNNING)
        store.move(done.job_id, JobStatus.COMPLETED)

        async def work(client: Client) -> None:
            async def ask(job: Job, what: str) -> int:
                response = await client.post(f"/v1/jobs/{job.job_id}/{what}")
                if response.status_code >= 400:
                    check_problem(response)
                else:
                    assert response.json()["requested"] == what
                return response.status_code

            assert [await ask(job, "cancel") for job in (waits, failed, done)] == [202, 409, 409]
            assert [await ask(job, "retry") for job in (cancelled, waits, done, refused)] == [202, 409, 409, 409]
            assert sorted(tickets(tmp_path)) == [("cancel", waits.job_id), ("retry", cancelled.job_id)]
            response = await client.post("/v1/jobs/retry-failed")
            assert (response.status_code, response.json()) == (202, {"requested": 1})
            assert ("retry", failed.job_id) in tickets(tmp_path)
            answer = await client.post(f"/v1/jobs/{refused.job_id}/retry")
            assert "it was refused before it could start" in check_problem(answer)["detail"]

        call(tmp_path, work)


def test_deleting_is_a_ticket_for_any_job_that_does_not_run(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        waits, runs, done = store.create([Job(new_job_id(), input_path="x") for _ in range(3)])
        for job in (runs, done):
            store.move(job.job_id, JobStatus.RUNNING)
        store.move(done.job_id, JobStatus.COMPLETED)

        async def work(client: Client) -> None:
            async def delete(job_id: str) -> httpx.Response:
                return await client.delete(f"/v1/jobs/{job_id}")

            for job in (waits, done):
                answer = await delete(job.job_id)
                assert (answer.status_code, answer.json()["requested"]) == (202, "delete")
            assert sorted(tickets(tmp_path)) == sorted([("delete", waits.job_id), ("delete", done.job_id)])
            answer = await delete(runs.job_id)
            assert answer.status_code == 409
            assert "cancel it first" in check_problem(answer)["detail"]
            assert (await delete(new_job_id())).status_code == 404
            answer = await client.patch(f"/v1/jobs/{done.job_id}")
            assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}

        call(tmp_path, work)


def test_a_deleted_job_is_gone_with_the_time_and_not_in_any_list(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job, stays = store.create([Job(new_job_id(), input_path="x") for _ in range(2)])

        async def work(client: Client) -> None:
            assert (await client.get(f"/v1/jobs/{job.job_id}")).status_code == 200
            store.delete(job)
            await asyncio.sleep(0.2)
            when = store.deleted.at(job.job_id)
            for path in (f"/v1/jobs/{job.job_id}", f"/video/status/{job.job_id}", f"/v1/video/results/{job.job_id}"):
                answer = await client.get(path)
                assert answer.status_code == 410
                assert check_problem(answer)["deleted_at"] == when
            assert (await client.get(f"/v1/jobs/{job.job_id}/video")).status_code == 410
            assert (await client.delete(f"/v1/jobs/{job.job_id}")).status_code == 410
            page = (await client.get("/v1/jobs")).json()
            assert [each["job_id"] for each in page["jobs"]] == [stays.job_id]
            assert page["counts"]["pending"] == 1
            store.deleted.finish(job)
            store.deleted.forget("9999")
            await asyncio.sleep(0.2)
            assert (await client.get(f"/v1/jobs/{job.job_id}")).status_code == 404

        call(tmp_path, work)


def test_retrying_all_that_failed_is_one_ticket(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        made = store.create([Job(new_job_id(), input_path="x") for _ in range(40)])
        for job in made:
            store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.TRANSIENT)

        async def work(client: Client) -> None:
            assert (await client.post("/v1/jobs/retry-failed")).json() == {"requested": 40}
            [ticket] = spool.tickets(tmp_path / "data" / "spool")
            assert set(ticket.jobs) == {job.job_id for job in made}

        call(tmp_path, work)


# The video.


def test_a_video_is_sent_whole_or_in_one_range(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job = store.create([Job(new_job_id(), input_path="video_jobs/v.mp4")])[0]
        content = bytes(range(256)) * 4096
        (tmp_path / "data" / "video_jobs").mkdir()
        (tmp_path / "data" / "video_jobs" / "v.mp4").write_bytes(content)
        path = f"/v1/jobs/{job.job_id}/video"
        size = len(content)

        async def work(client: Client) -> None:
            whole = await client.get(path)
            assert (whole.content, whole.headers["accept-ranges"]) == (content, "bytes")
            for wanted, start, end in [
                ("0-0", 0, 1),
                ("10-19", 10, 20),
                ("1000000-", 1_000_000, size),
                ("-5", size - 5, size),
                (f"5-{size * 2}", 5, size),
                (f"-{size * 2}", 0, size),
            ]:
                response = await client.get(path, headers={"range": f"bytes={wanted}"})
                assert response.status_code == 206
                assert response.content == content[start:end]
                assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
            thousand = ",".join(f"{i}-{i}" for i in range(1000))
            for wanted in ("0-1,3-4", f"0-1,{size}-", thousand):
                response = await client.get(path, headers={"range": f"bytes={wanted}"})
                assert (response.status_code, response.content) == (200, content)
                assert "content-range" not in response.headers
            for wanted in (f"{size}-", "5-4", "-0", "-", "a-b"):
                response = await client.get(path, headers={"range": f"bytes={wanted}"})
                assert response.status_code == 416
                assert response.headers["content-range"] == f"bytes */{size}"
                check_problem(response)
            tag = whole.headers["etag"]
            both = {"range": "bytes=0-1", "if-range": '"other"'}
            assert (await client.get(path, headers=both)).status_code == 200
            assert (await client.get(path, headers={**both, "if-range": tag})).status_code == 206
            assert (await client.get(path, headers={"if-none-match": tag})).status_code == 304
            assert (await client.get(path, headers={"range": "lines=0-1"})).status_code == 200
            modified = whole.headers["last-modified"]
            assert (await client.get(path, headers={**both, "if-range": modified})).status_code == 206
            assert (await client.get(path, headers={**both, "if-range": BEFORE})).status_code == 200
            assert (await client.get(path, headers={**both, "if-range": f"W/{tag}"})).status_code == 200
            await check_modified_since(client, path, whole)

        call(tmp_path, work)


BEFORE = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Fri, 06 Nov 2099 08:49:37 GMT"


async def check_modified_since(client: Client, path: str, whole: httpx.Response) -> None:
    """A client that knows the time has it answered by time, and one that knows an ETag by ETag (RFC 9110, 13.2.2)."""
    for since, status in ((whole.headers["last-modified"], 304), (AFTER, 304), (BEFORE, 200), ("never", 200)):
        response = await client.get(path, headers={"if-modified-since": since, "accept-encoding": "identity"})
        assert response.status_code == status
        assert response.headers["etag"] == whole.headers["etag"]
        assert response.headers["last-modified"] == whole.headers["last-modified"]
    other = await client.get(path, headers={"if-modified-since": AFTER, "if-none-match": '"other"'})
    assert other.status_code == 200


# About itself.


@pytest.mark.expects_error_log
def test_readiness_says_which_part_is_not_ready(tmp_path: Path) -> None:
    def now(seconds_ago: float = 0.0) -> str:
        from datetime import UTC, datetime, timedelta

        return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()

    async def work(client: Client) -> None:
        async def wrong(written: health.Heartbeat) -> set[str]:
            health.write(tmp_path / "data", written)
            await asyncio.sleep(0.65)
            response = await client.get("/readyz")
            if response.status_code == 200:
                return set()
            assert response.headers["retry-after"]
            return {name for name, part in check_problem(response)["parts"].items() if not part["ok"]}

        assert await wrong(beat(now())) == set()
        assert await wrong(beat(now(30))) == {"daemon"}
        assert await wrong(beat(now(), state="starting")) == {"daemon"}
        assert await wrong(beat(now(), paused="Full: /tmp/secret.")) == {"daemon"}
        inbox = asdict(beat(now()).inbox)
        assert await wrong(beat(now(), inbox={**inbox, "online": False})) == {"inbox"}
        assert await wrong(beat(now(), inbox={**inbox, "last_good_scan_age_s": 999.0})) == {"inbox"}
        assert await wrong(beat(now(), inbox={**inbox, "last_good_scan_age_s": None})) == {"inbox"}
        assert await wrong(beat(now(), inbox={**inbox, "problem": "x"})) == {"inbox"}
        assert await wrong(beat(now(), outbox={"online": False, "problem": "/tmp/secret"})) == {"outbox"}
        (tmp_path / "data" / "jobs.json").write_bytes(b"\0" * 100)
        assert await wrong(beat(now())) == {"store"}

    call(tmp_path, work)

    async def full(client: Client) -> None:
        response = await client.get("/readyz")
        assert not check_problem(response)["parts"]["disk"]["ok"]

    call(tmp_path, full, min_free_bytes=10**18)


def test_a_pipeline_that_lacks_its_weights_says_so_while_the_daemon_knows(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lives = "2100-01-01T00:00:00+00:00"
    text, objects = {"name": "a", "role": "text"}, {"name": "b", "role": "objects"}
    beats = [
        (None, False),
        (beat(lives, models=[text]), True),
        (beat(lives, models=[text, objects]), False),
        (beat(lives, state="starting"), False),
        (beat("2020-01-01T00:00:00+00:00", models=[text]), False),
    ]
    for last, lacking in beats:
        if last is not None:
            health.write(tmp_path / "data", last)

        async def work(client: Client, lacking: bool = lacking) -> None:
            told = {p["pipeline_id"]: p["problem"] for p in (await client.get("/v1/pipelines")).json()["pipelines"]}
            assert (told["yolo"] is not None) == lacking
            assert (told["yolo_ocr"], told["ocr_only"]) == (None, None)

        call(tmp_path, work)


def test_the_figures_are_in_the_form_that_prometheus_reads(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    with JobStore.open(tmp_path / "data") as store:
        store.create([Job(new_job_id())])
        health.write(tmp_path / "data", beat(datetime.now(UTC).isoformat()))

        async def work(client: Client) -> None:
            await client.get("/nope")
            response = await client.get("/metrics")
            assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
            families = {family.name: family for family in text_string_to_metric_families(response.text)}
            values = {
                (sample.name, *sorted(sample.labels.items())): sample.value
                for family in families.values()
                for sample in family.samples
            }
            assert values["dropframe_jobs", ("status", "pending")] == 1
            assert values["dropframe_http_requests_total", ("method", "GET"), ("status", "404")] == 1
            assert values["dropframe_stage_seconds_total", ("stage", "decode")] == 1.5
            assert values["dropframe_daemon_frames_total",] == 5
            assert values["dropframe_http_request_seconds_bucket", ("le", "+Inf")] == 1
            assert values["dropframe_http_request_seconds_count",] == 1
            bounds = [key[1][1] for key in values if key[0] == "dropframe_http_request_seconds_bucket"]
            assert bounds == ["0.001", "0.005", "0.02", "0.1", "0.5", "2", "10", "+Inf"]
            names = [text.split()[2] for text in response.text.splitlines() if text.startswith("# TYPE")]
            assert len(names) == len(set(names))
            assert not [name for name in values if name[0].endswith("_created")]
            for wanted in ("queue_length", "queue_oldest_wait_seconds", "frames_per_second", "inbox_scan_age_seconds"):
                assert f"dropframe_{wanted}" in names

    call(tmp_path, work)


def test_all_running_jobs_and_each_slot_are_told(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    with JobStore.open(tmp_path / "data") as store:
        jobs = store.create([Job(new_job_id(), input_path="x") for _ in range(2)])
        for job in jobs:
            store.move(job.job_id, JobStatus.RUNNING)
        first, second = (
            {"job_id": job.job_id, "frames_processed": 40, "frames_total": 100, "frames_per_second": speed}
            for job, speed in zip(jobs, (20.0, 5.0), strict=True)
        )
        slots = [SlotBeat(0, (0,), "cpu", jobs[0].job_id, 7, 1.5, 2), SlotBeat(1, (1,), None, None, 0, 0.0, 0)]
        now = datetime.now(UTC).isoformat()
        health.write(
            tmp_path / "data", beat(now, first, running_besides=[second], slots=[vars(slot) for slot in slots])
        )

        async def work(client: Client) -> None:
            for job, speed in zip(jobs, (20.0, 5.0), strict=True):
                assert (await client.get(f"/v1/jobs/{job.job_id}")).json()["frames_per_second"] == speed
            lines = (await client.get("/metrics")).text.splitlines()
            assert {
                "dropframe_frames_per_second 25.0",
                'dropframe_slot_up{slot="0"} 1.0',
                'dropframe_slot_up{slot="1"} 0.0',
                'dropframe_slot_memory_bytes{slot="0"} 7.0',
                'dropframe_slot_busy_seconds_total{slot="0"} 1.5',
                'dropframe_slot_ended_total{slot="0"} 2.0',
            } <= set(lines)

        call(tmp_path, work)


def test_each_answer_has_the_members_of_its_model(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        done, _ = complete(store, tmp_path, 3)
        waiting, failed = store.create([Job(new_job_id(), input_path="x") for _ in range(2)])
        store.move(failed.job_id, JobStatus.FAILED, error_message="No.", error_kind=ErrorKind.CANCELLED)
        health.write(tmp_path / "data", beat("2100-01-01T00:00:00+00:00"))

        async def work(client: Client) -> None:
            for method, path, model in [
                ("PUT", "/v1/video/submit/a.mp4", schemas.SubmittedJob),
                ("GET", f"/v1/video/status/{done.job_id}", PublicJob),
                ("GET", f"/v1/video/results/{done.job_id}", schemas.PublicResult),
                ("GET", f"/v1/video/results/{done.job_id}?limit=1", schemas.PublicResult),
                ("GET", "/v1/jobs?limit=2", schemas.JobPage),
                ("POST", f"/v1/jobs/{waiting.job_id}/cancel", schemas.RequestedJob),
                ("POST", f"/v1/jobs/{failed.job_id}/retry", schemas.RequestedJob),
                ("POST", "/v1/jobs/retry-failed", schemas.RetryAllAnswer),
                ("GET", "/v1/pipelines", schemas.PipelineList),
                ("GET", "/v1/session", schemas.SessionAnswer),
                ("GET", "/healthz", schemas.AliveAnswer),
                ("GET", "/readyz", schemas.ReadyAnswer),
                ("POST", f"/v1/jobs/{done.job_id}/cancel", schemas.PublicProblem),
                ("GET", "/v1/jobs?limit=0", schemas.PublicProblem),
            ]:
                response = await client.request(method, path, content=HEAD if method == "PUT" else None)
                check_public(model, response)

        call(tmp_path, work)


def test_a_description_for_programs_names_what_they_are_made_from(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        described = (await client.get("/openapi.json")).json()
        calls = [call for methods in described["paths"].values() for call in methods.values()]
        ids = [call["operationId"] for call in calls]
        assert len(ids) == len(set(ids))
        tags = {tag["name"] for tag in described["tags"]}
        assert all(set(call["tags"]) <= tags for call in calls)
        assert {"license", "contact"} <= set(described["info"])
        assert described["servers"]
        assert described["components"]["schemas"]["Job"]["properties"]["progress"]["type"] == "number"
        assert "enum" not in described["components"]["schemas"]["Job"]["properties"]["progress"]

    call(tmp_path, work)


def test_the_description_is_valid_and_names_every_route(tmp_path: Path) -> None:
    app = make_app(Settings(home=tmp_path))

    async def work(client: Client) -> None:
        described = (await client.get("/openapi.json")).json()
        named = {(m.upper(), path) for path, calls in described["paths"].items() for m in calls}
        served = {
            (method, route.path.replace(":path", ""))
            for route in app.routes
            if isinstance(route, Route)
            for method in route.methods or ()
            if (method != "HEAD" or "GET" not in (route.methods or ())) and not route.path.startswith("/page/")
        }
        assert named == served
        for name, schema in described["components"]["schemas"].items():
            jsonschema.Draft202012Validator.check_schema(schema)
            assert json.dumps(schema), name

    call(tmp_path, work, app)


def test_the_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        for path in ("/", "/docs"):
            response = await client.get(path)
            assert response.headers["content-type"].startswith("text/html")
            assert "default-src 'self'" in response.headers["content-security-policy"]
            for asset in re.findall(r'(?:src|href)="([^"#]+)"', response.text):
                assert not re.match(r"/|[a-z]+:", asset), asset  # a proxy may show the page below a path
                assert (await client.get(urljoin(path, asset))).status_code == 200

    call(tmp_path, work)


def test_every_address_in_the_scripts_of_the_pages_is_relative() -> None:
    for script in PAGE_DIR.glob("*.js"):
        assert re.findall(r"""(?:fetch|ask|open|href:|src:)\W*["'`]/.*""", script.read_text()) == []


@pytest.mark.parametrize(
    ("source_name", "plain", "whole"),
    [
        ("match.mp4", "match.mp4", None),
        ("2026/01/my match.mp4", "my match.mp4", None),
        ("Ä 🎬.mp4", "_ _.mp4", "%C3%84%20%F0%9F%8E%AC.mp4"),
        ('a"b\\c;d=e%41.mp4', "a_b_c;d=e_41.mp4", "a_b_c%3Bd%3De%2541.mp4"),
        ("two\r\nlines\t\x7f\x85.mp4", "two__lines___.mp4", None),
        ("fdp\u202e4pm.exe", "fdp_4pm.exe", None),
        ("a\u2028b", "a_b", None),
        ("", "video.mp4", None),
        ("...", "...", None),
    ],
)
def test_a_download_has_the_name_of_the_video(source_name: str, plain: str, whole: str | None) -> None:
    for ending in ("", ".json"):
        header = content_disposition(source_name, ending)
        more = "" if whole is None else f"; filename*=UTF-8''{whole}{ending}"
        assert header == f'inline; filename="{plain}{ending}"{more}'
        header.encode("ascii")


def test_the_video_and_the_result_come_with_the_name_of_the_video(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job = store.create([Job(new_job_id(), source_name="Müller/Ä.mp4", input_path="video_jobs/v.mp4")])[0]
        store.move(job.job_id, JobStatus.RUNNING)
        (tmp_path / "data" / "video_jobs").mkdir(exist_ok=True)
        write_document(tmp_path / "data" / output_key(job.job_id), [frame(i) for i in range(3)])
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
        (tmp_path / "data" / "video_jobs" / "v.mp4").write_bytes(HEAD)

        async def work(client: Client) -> None:
            result = await client.get(f"/v1/video/results/{job.job_id}?from_frame=1")
            assert (
                result.headers["content-disposition"]
                == """inline; filename="_.mp4.json"; filename*=UTF-8''%C3%84.mp4.json"""
            )
            video = await client.get(f"/v1/jobs/{job.job_id}/video", headers={"range": "bytes=0-9"})
            assert video.headers["content-disposition"] == """inline; filename="_.mp4"; filename*=UTF-8''%C3%84.mp4"""

        call(tmp_path, work)


def test_a_page_file_is_sent_once_and_always_whole(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        for path in ("/", "/docs", "/page/app.js"):
            whole = await client.get(path)
            assert whole.headers["cache-control"] == "private, no-cache"
            tag, modified = whole.headers["etag"], whole.headers["last-modified"]
            for known in ({"if-none-match": tag}, {"if-modified-since": modified}):
                again = await client.get(path, headers=known)
                assert (again.status_code, again.content) == (304, b"")
            for wanted in ("bytes=0-1", "bytes=x", "bytes=99999999-", "lines=1"):
                ranged = await client.get(path, headers={"range": wanted})
                assert (ranged.status_code, ranged.content) == (200, whole.content)
            head = await client.head(path)
            assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")

    call(tmp_path, work)


def test_too_many_requests_are_told_to_come_again_but_health_answers(tmp_path: Path) -> None:
    ended = asyncio.Event()
    app = make_app(Settings(home=tmp_path, max_requests=3))

    async def slow(request: Request) -> Response:
        await ended.wait()
        return Response()

    app.router.routes.append(Route("/slow", slow))

    async def work(client: Client) -> None:
        async with contextlib.AsyncExitStack() as clients:
            others = [await clients.enter_async_context(client_from(app, f"192.0.2.{n}")) for n in range(3)]
            slow_ones = [asyncio.create_task(other.get("/slow")) for other in others]
            await asyncio.sleep(0.2)
            refused = await client.get("/v1/jobs")
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            check_problem(refused)
            assert (await client.get("/healthz")).status_code == 200
            ended.set()
            assert all(response.status_code == 200 for response in await asyncio.gather(*slow_ones))
            assert (await client.get("/v1/jobs")).status_code == 200

    call(tmp_path, work, app)


def client_from(app: Starlette, address: str, **headers: str) -> Client:
    """Return a client that calls from an address."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
    return Client(transport=transport, base_url="http://localhost:8000", headers=headers)


def test_calls_that_wait_count_for_themselves_and_have_a_limit_for_each_client(tmp_path: Path) -> None:
    app = make_app(Settings(home=tmp_path, max_requests=3, max_waits_per_client=5))
    with JobStore.open(tmp_path / "data") as store:
        job = store.create([Job(new_job_id())])[0]

        async def work(client: Client) -> None:
            path = f"/v1/video/status/{job.job_id}"
            async with client_from(app, "192.0.2.1") as other:
                waits = [asyncio.create_task(client.get(path + "?wait=30")) for _ in range(2)]
                await asyncio.sleep(0.2)
                waits += [asyncio.create_task(client.get(path + "?wait=30")) for _ in range(2)]
                await asyncio.sleep(0.2)
                waits += [asyncio.create_task(client.get(path + "?wait=30"))]
                await asyncio.sleep(0.1)
                refused = await client.get(path + "?wait=30")
                assert (refused.status_code, check_problem(refused)["type"][22:]) == (429, "client-limit")
                assert "max_waits_per_client" in check_problem(refused)["detail"]
                assert int(refused.headers["retry-after"]) > 0
                # One who does not wait, or is another, is answered.
                assert (await client.get(path)).status_code == 200
                waits += [asyncio.create_task(other.get(path + "?wait=30"))]
                await asyncio.sleep(0.2)
                store.move(job.job_id, JobStatus.RUNNING)
                assert [response.status_code for response in await asyncio.gather(*waits)] == [200] * 6
                assert (await client.get(path + "?wait=0.1")).status_code == 200

        call(tmp_path, work, app)


def test_a_token_has_a_share_wherever_it_is_used_from(tmp_path: Path) -> None:
    secrets, tokens = zip(*(new_token(name, Rights.READ) for name in ("one", "two")), strict=True)
    app = make_app(Settings(home=tmp_path, max_waits_per_client=1, tokens=[str(token) for token in tokens]))
    with JobStore.open(tmp_path / "data") as store:
        job = store.create([Job(new_job_id())])[0]
        path = f"/v1/video/status/{job.job_id}?wait=30"

        async def work(client: Client) -> None:
            asked = []
            async with contextlib.AsyncExitStack() as clients:
                for secret, address in ((0, "192.0.2.1"), (0, "192.0.2.2"), (1, "192.0.2.3"), (1, "192.0.2.1")):
                    one = client_from(app, address, authorization=f"Bearer {secrets[secret]}")
                    asked.append(asyncio.create_task((await clients.enter_async_context(one)).get(path)))
                    await asyncio.sleep(0.1)
                store.move(job.job_id, JobStatus.RUNNING)
                assert [response.status_code for response in await asyncio.gather(*asked)] == [200, 429, 200, 429]

        call(tmp_path, work, app)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.9", "203.0.113.7", "192.0.2.9"),  # anybody can send that
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),  # the first is what the client made up
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "10.2.0.1", "10.2.0.1"),
    ],
)
def test_only_a_trusted_proxy_says_who_the_client_is(tmp_path: Path, peer: str, forwarded: str, client: str) -> None:
    seen = []
    app = make_app(Settings(home=tmp_path, trusted_proxies=["10.0.0.0/8", "fd00::1"]))

    async def look(request: Request) -> Response:
        seen.append(request.scope["client"][0])
        return Response()

    app.router.routes.append(Route("/look", look))

    async def work(_: Client) -> None:
        async with client_from(app, peer, **{"x-forwarded-for": forwarded}) as caller:
            await caller.get("/look")

    call(tmp_path, work, app)
    assert seen == [client]


def test_a_proxy_that_is_neither_address_nor_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'gateway' is not one"):
        make_app(Settings(home=tmp_path, trusted_proxies=["10.0.0.1", "gateway"]))


@pytest.mark.parametrize(
    ("base_path", "forwarded", "sent", "prefix"),
    [
        ("/dropframe", "", "/dropframe", "/dropframe"),  # as a proxy that leaves the path
        ("/dropframe", "", "", "/dropframe"),  # as one that takes it off
        ("", "/a/b", "", "/a/b"),
        ("", "/a/b/", "/a/b", "/a/b"),
        ("/dropframe", "/other", "", "/other"),
        ("", "//evil.example.org", "", ""),
        ("", '/a"><b', "", ""),
    ],
)
def test_everything_works_below_a_path(tmp_path: Path, base_path: str, forwarded: str, sent: str, prefix: str) -> None:
    app = make_app(Settings(home=tmp_path, base_path=base_path, trusted_proxies=["10.0.0.1"]))

    async def work(_: Client) -> None:
        async with client_from(app, "10.0.0.1", **{"x-forwarded-prefix": forwarded}) as client:
            submitted = await client.put(f"{sent}/v1/video/submit/a.mp4", content=HEAD)
            location = f"/v1/video/status/{submitted.json()['job_id']}"
            assert submitted.headers["location"] == prefix + location
            assert (await client.get(sent + location)).status_code == 200
            described = (await client.get(f"{sent}/openapi.json")).json()
            assert [server["url"] for server in described["servers"]] == [prefix or "/"]
            for path in ("/", "/docs", "/page/app.js", "/healthz", "/v1/jobs"):
                assert (await client.get(sent + path)).status_code == 200, path

    call(tmp_path, work, app)


def test_who_is_not_trusted_chooses_no_path(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        sent = {"x-forwarded-prefix": "/elsewhere"}
        submitted = await client.put("/v1/video/submit/a.mp4", content=HEAD, headers=sent)
        assert submitted.headers["location"].startswith("/v1/")

    call(tmp_path, work)


def test_the_path_itself_leads_to_the_page(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        answer = await client.get("/dropframe")
        assert (answer.status_code, answer.headers["location"]) == (308, "/dropframe/")

    call(tmp_path, work, base_path="/dropframe")


def test_files_that_wait_in_the_inbox_are_listed_with_the_reason(tmp_path: Path) -> None:
    file = {
        "name": "a.mp4",
        "size_bytes": 7,
        "age_s": 3.0,
        "why": "There is no room. It is tried again in 5 s.",
    }
    inbox = {"mode": "events", "online": True, "last_good_scan_age_s": 1.0, "waiting_count": 1, "waiting": [file]}
    inbox |= {"overflows": 0, "problem": None}
    (tmp_path / "data").mkdir()

    async def work(client: Client) -> None:
        assert (await client.get("/v1/jobs")).json()["waiting"] == [file]

    async def nobody(client: Client) -> None:
        assert (await client.get("/v1/jobs")).json()["waiting"] == []

    health.write(tmp_path / "data", beat(utc_now(), inbox=inbox))
    call(tmp_path, work)
    assert listed_by_command(tmp_path) == [file]
    for last in (beat("2026-11-20T00:00:00.000000+00:00", inbox=inbox), beat(utc_now(), inbox=inbox, state="stopping")):
        health.write(tmp_path / "data", last)
        call(tmp_path, nobody)
        assert listed_by_command(tmp_path) == []


def listed_by_command(home: Path) -> list[dict[str, Any]]:
    told = CliRunner().invoke(commands, ["jobs", "--json", "--home", str(home)])
    assert told.exit_code == 0, told.output
    waiting: list[dict[str, Any]] = json.loads(told.stdout)["waiting"]
    return waiting


# Doors to one result.


def doors(job_id: str) -> list[str]:
    """Every address that sends a job's result or what is made of it."""
    made = [
        f"/v1/jobs/{job_id}/{rest}" for rest in ("texts", "tracks", "density", "export/csv", "frame?index=0&boxes=1")
    ]
    return [f"/v1/video/results/{job_id}", f"/v1/video/results/{job_id}?limit=1", *made]


@pytest.mark.expects_error_log
@pytest.mark.parametrize("damage", ["half", "frame", "empty", "folder", "zeros"])
def test_a_damaged_result_is_told_at_every_door_with_what_can_be_done(tmp_path: Path, damage: str) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job, _ = complete(store, tmp_path, 30)
        stored = tmp_path / "data" / output_key(job.job_id)
        whole = stored.read_bytes()
        stored.unlink()
        if damage == "folder":
            stored.mkdir()
        else:
            half = whole[: len(whole) // 2]
            frames = whole[: whole.index(b'{"frame_index": 9') - 2]
            made = {"half": half, "frame": frames, "empty": b"", "zeros": half + bytes(len(whole) - len(half))}
            stored.write_bytes(made[damage])

        async def work(client: Client) -> None:
            for path in doors(job.job_id):
                answer = await client.get(path)
                problem = check_problem(answer)
                assert (answer.status_code, problem["type"]) == (500, "urn:dropframe:problem:damaged-result"), path
                assert "submit the video again" in problem["detail"]
                assert "run the job again" not in problem["detail"]

        call(tmp_path, work)
        told = CliRunner().invoke(commands, ["results", job.job_id, "--home", str(tmp_path)])
        assert isinstance(told.exception, StorageError)
        assert told.stdout == ""


def test_a_result_that_a_person_deleted_is_told_at_every_door(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job, _ = complete(store, tmp_path, 3)
        (tmp_path / "data" / output_key(job.job_id)).unlink()
        told = "has been deleted from the data folder; submit the video again."

        async def work(client: Client) -> None:
            for path in doors(job.job_id):
                problem = check_problem(await client.get(path))
                assert problem["detail"] == f"The result {told}", path

        call(tmp_path, work)
        answer = CliRunner().invoke(commands, ["results", job.job_id, "--home", str(tmp_path)])
        assert f"The result of job {job.job_id} {told}" in str(answer.exception)


def test_a_file_that_is_not_the_one_asked_for_is_not_sent(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job = store.create([Job(new_job_id(), input_path="video_jobs/v.mp4")])[0]
        done, _ = complete(store, tmp_path, 3)
        (tmp_path / "data" / "video_jobs" / "v.mp4").write_bytes(bytes(1000))
        derive(files.document_of(tmp_path / "data", done.job_id), files.folder_of(tmp_path / "data", done.job_id))

        async def work(client: Client) -> None:
            result = f"/v1/video/results/{done.job_id}"
            for path in (f"/v1/jobs/{job.job_id}/video", result, f"/v1/jobs/{done.job_id}/texts"):
                whole = await client.get(path)
                tag, modified = whole.headers["etag"], whole.headers["last-modified"]
                for headers, status in (
                    ({"if-match": '"other"'}, 412),
                    ({"if-match": f"W/{tag}"}, 412),
                    ({"if-unmodified-since": BEFORE}, 412),
                    ({"if-match": '"other"', "range": "bytes=0-1"}, 412),
                    ({"if-match": f'"other", {tag}'}, 200),
                    ({"if-match": "*", "if-unmodified-since": BEFORE}, 200),
                    ({"if-unmodified-since": modified}, 200),
                    ({"if-unmodified-since": "never"}, 200),
                ):
                    for method in ("GET", "HEAD"):
                        answer = await client.request(method, path, headers=headers)
                        assert answer.status_code == status, (path, headers)

        call(tmp_path, work)


def test_head_has_no_ranges_and_a_range_may_have_any_number_of_digits(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        job = store.create([Job(new_job_id(), input_path="video_jobs/v.mp4")])[0]
        (tmp_path / "data" / "video_jobs").mkdir()
        (tmp_path / "data" / "video_jobs" / "v.mp4").write_bytes(bytes(1000))

        async def work(client: Client) -> None:
            path = f"/v1/jobs/{job.job_id}/video"
            for wanted in ("bytes=0-1", "bytes=5000-", "bytes=x"):
                head = await client.head(path, headers={"range": wanted})
                assert (head.status_code, head.headers["content-length"]) == (200, "1000")
            for wanted, told in (
                (f"bytes=0-{'9' * 20}", "bytes 0-999/1000"),
                (f"bytes=10-{'9' * 5000}", "bytes 10-999/1000"),
                (f"bytes=-{'9' * 20}", "bytes 0-999/1000"),
                (f"bytes={'0' * 30}1-2", "bytes 1-2/1000"),
                ("Bytes=1-2", "bytes 1-2/1000"),
            ):
                answer = await client.get(path, headers={"range": wanted})
                assert (answer.status_code, answer.headers.get("content-range")) == (206, told)
            assert (await client.get(path, headers={"range": f"bytes={'9' * 20}-"})).status_code == 416

        call(tmp_path, work)


# Uploads in pieces.

TUS = {"tus-resumable": "1.0.0"}


def test_an_upload_that_cannot_become_a_job_is_refused_at_its_creation(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        for headers, status, said in (
            ({"upload-length": "0"}, 400, "It is empty."),
            ({"upload-length": "00"}, 400, "It is empty."),
            ({"upload-defer-length": "1"}, 422, "Send Upload-Length instead"),
            ({"upload-length": "10", "idempotency-key": "k"}, 422, "Leave it out"),
        ):
            answer = await client.post("/v1/uploads", headers={**TUS, **headers})
            assert answer.status_code == status
            assert said in check_problem(answer)["detail"]
            assert answer.headers["tus-resumable"] == "1.0.0"
        assert not list((tmp_path / "data" / "spool").rglob("*.json"))

    call(tmp_path, work)


def test_a_client_that_can_only_post_names_the_method_and_a_wrong_method_is_told_all(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        made = await client.post("/v1/uploads", headers={**TUS, "upload-length": "5000"})
        address = made.headers["location"]
        piece = {**TUS, "upload-offset": "0", "content-type": "Application/offset+octet-stream; charset=binary"}
        override = {"x-http-method-override": "PATCH"}
        added = await client.post(address, headers={**piece, **override}, content=BEGINNING[:20])
        assert (added.status_code, added.headers["upload-offset"]) == (204, "20")
        for wrong in ({}, {"x-http-method-override": "PUT"}):
            assert (await client.post(address, headers={**TUS, **wrong})).status_code == 422
        for path, methods in (("/v1/uploads", "OPTIONS, POST"), (address, "OPTIONS, HEAD, PATCH, DELETE, POST")):
            refused = await client.put(path)
            assert set(refused.headers["allow"].split(", ")) == set(methods.split(", "))
            check_problem(refused)
        gone = await client.post(address, headers={**TUS, "x-http-method-override": "DELETE"})
        assert gone.status_code == 204
        assert (await client.head(address, headers=TUS)).status_code == 404

    call(tmp_path, work)


def test_an_upload_with_a_damaged_record_can_be_given_up(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        address = (await client.post("/v1/uploads", headers={**TUS, "upload-length": "5000"})).headers["location"]
        [record] = (tmp_path / "data" / "spool").rglob("*.json")
        record.write_text("{")
        assert (await client.delete(address, headers=TUS)).status_code == 204
        assert not list(record.parent.iterdir())

    call(tmp_path, work)


# Keys.


def test_a_key_whose_job_is_being_deleted_is_free_once_that_is_done(tmp_path: Path) -> None:
    video = make_clip(tmp_path / "clip.mp4", frames=2).read_bytes()

    async def work(client: Client) -> None:
        async def put() -> httpx.Response:
            headers = {"idempotency-key": "k"}
            return await client.put("/v1/video/submit/a.mp4", content=video, headers=headers)

        first = (await put()).json()["job_id"]
        assert (await put()).json()["job_id"] == first
        assert (await client.delete(f"/v1/jobs/{first}")).status_code == 202
        refused = await put()
        assert refused.status_code == 409
        assert "is being deleted" in check_problem(refused)["detail"]
        assert refused.headers["retry-after"]
        for ticket in spool.tickets(tmp_path / "data" / "spool"):  # as the daemon does
            if ticket.job_id == first:
                (tmp_path / "data" / "spool" / ticket.name).unlink()
        again = await put()
        assert (again.status_code, "idempotency-replayed" in again.headers) == (201, False)
        assert again.json()["job_id"] != first
        twice = [("idempotency-key", "k"), ("idempotency-key", "l")]
        answer = await client.put("/v1/video/submit/a.mp4", content=video, headers=twice)
        assert answer.status_code == 400
        check_problem(answer)

    call(tmp_path, work)
