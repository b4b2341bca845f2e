"""Writes docs/endpoints.md from the application and from exchanges really made: ``python -m tests.endpoints_doc``."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import httpx

from daemon.derive.derivation import derive
from daemon.derive.files import DerivedKind, open_derived
from daemon.export.process import export
from daemon.export_formats import ExportRequest
from daemon.ipc import health, rejected_list
from daemon.ipc.rejected_list import RejectedList, RejectedRecord
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, input_key, new_job_id, output_key, utc_now
from daemon.search.index import SearchIndex, spans_of
from daemon.settings import Settings
from daemon.stills.files import StillRequest
from daemon.store.job_store import JobStore
from sidecar.app import make_app
from sidecar.problems import KINDS
from sidecar.tus_headers import PIECE_TYPE
from tests.unit.sidecar.test_app import HEAD, beat
from tests.unit.sidecar.test_document import write_document

PAGE = Path(__file__).parent.parent / "docs" / "endpoints.md"
HIDDEN = frozenset({"date", "x-request-id", "x-content-type-options", "referrer-policy", "vary"}) | {
    "cross-origin-resource-policy",
    "content-length",
    "content-security-policy",
    "accept-ranges",
}

REJECTED = RejectedRecord(
    "Holiday/notes.mp4",
    "rejected/Holiday/notes.mp4",
    "It is text, not an MP4. Dropframe takes MP4 files; convert it to MP4 and drop it again.",
    "2026-01-31T12:00:00.000000+00:00",
    1024,
)
INTRODUCTION = """# HTTP calls

The sidecar answers on `127.0.0.1:8000` unless told otherwise (`dropframe run --host --port`, settings `host` and
`port`). `python -m tests.endpoints_doc` writes this page from real exchanges, and a test compares it with
the application. The running sidecar shows the same at `/docs`, and for programs at `/openapi.json`.

* The calls under `/v1/video/` answer under `/video/` as well.
* A wrong value, and a field or query parameter that is not known, is 422; `errors` names each. Two fields that
  clients of other services send, `plugin_id` and `tool`, are accepted without effect, as `warnings` in the answer
  says.
* Ids are given whole; only the command line takes their first characters.
* Every answer has an `X-Request-Id`: yours, if you sent one of letters, digits, `.`, `_` and `-`. The log has it too.

## Access

On a loopback address no token is needed. Any other address is refused at start unless there is one:

```
dropframe token uploader --rights submit
```

prints a token once, and the line for `dropframe.toml`, which contains only its hash. Send it as
`Authorization: Bearer TOKEN`. A `read` token may use the GET calls, a `submit` token all. Without one every call
answers 401, `/healthz` too; only the files of the web page and `/docs` are sent to everybody.

The web page asks for a token and keeps it until its tab is closed. What a browser fetches by itself, such as videos,
comes without it: for these the page has a cookie, a pass from `/v1/session`. A pass can be used for GET calls alone,
for 15 minutes, and until the sidecar is started again. At other addresses that are opened in a browser the token is the
password, with any name.

The `Host` header must be the address, `localhost`, or a name in `allowed_hosts`. Pages of other web sites may call
only if their origin is in `allowed_origins`.

## Errors

Every error is `application/problem+json` (RFC 9457), from unknown addresses to defects:

EXAMPLE:error

Programs look at `type`, which does not change. These are all (after `urn:dropframe:problem:`):

KINDS

## Submitting

A 201 means that the video is on the disk and that the job survives anything from then on; before it, nothing of an
upload is kept. A 429 or 503 carries `Retry-After`. The first bytes are checked before the rest is accepted; a video
that is damaged further in makes the job `failed` with a reason. Fields may also be query parameters; the form wins.

With an `Idempotency-Key` of your own a submission can be sent again after a broken connection: the same key with the
same video (by its SHA-256) and options gets the same job, with `Idempotency-Replayed: true`. With another video or
other options it is 422, and nothing is kept; while the first is still under way it is 409 with `Retry-After`. Keys are
remembered for 7 days (`idempotency_days`), per token.

What an upload has announced in its `Content-Length` and not sent yet is kept free for it. An upload that does not fit
beside the others into what `min_free_bytes` leaves is 507 before any of it is taken; one without a length is ended with
507 when it no longer fits.

## Limits

`max_requests` calls are served at a time, `max_uploads` of them uploads; more are 503. One client has a share of these,
`max_requests_per_client` and `max_uploads_per_client`, which is never all. Calls that wait do not count among
them; a client may have `max_waits_per_client` of those. More are 429 with `Retry-After`. A client is an address (of
IPv6, the first 64 bits) and, where tokens are in use, a token: both are counted. Behind a reverse proxy all clients
have the proxy's address, unless `trusted_proxies` names it: then the last address in `X-Forwarded-For` that is not a
trusted proxy's counts.

## Below a path

A reverse proxy may show the sidecar below a path, such as `https://example.org/dropframe/`. Set `base_path` to
`/dropframe`, or have a proxy in `trusted_proxies` send `X-Forwarded-Prefix`; whether it takes the path off its requests
makes no difference. The page, its links, `Location` and `servers` in `/openapi.json` then have it.

## Following a job

`status` is `pending`, `running`, `completed` or `failed`; `progress` is a number, for now 0.0, 0.5 or 1.0. For a
progress bar use `frames_processed` and `frames_total`. `queue_position` is 0 for the job that is next. A cancelled
job is `failed` with `error_kind` `cancelled`. `summary.warnings` of a completed job are sentences on what its result
lacks, such as frames that the video lists and does not contain. Instead of polling, send the `ETag` as
`If-None-Match` with `?wait=20`: the answer comes when the job has changed, or is 304 after 20 seconds (at most
`max_wait_seconds`).

## Deleting a job

`DELETE /v1/jobs/{job_id}` deletes a job with its video, its result, the copy in the outbox and whatever else was made
of them. A job that runs has to be cancelled first (409). From then on its address answers 410, with the time in
`deleted_at`, for 30 days (`keep_deleted_days`), and then 404. A newer result under the same name stays in the outbox.

## Files

Results and videos carry `ETag` and `Last-Modified` for `If-None-Match`, `If-Modified-Since` and `If-Range`. A request
for several ranges of a video gets all of it. `Content-Disposition` gives them the video's name: `curl -OJ` saves
`match.mp4` and `match.mp4.json`.

## Texts, tracks and density

They are made from a result soon after its job has completed ([what they hold](derived.md)). Until then the answer is a
202 with `Retry-After`, or with `?wait=20` the file itself as soon as it is there. A 409 says why nothing can be made
from a result.

## Pictures

`GET /v1/jobs/{job_id}/frame?t=3.2` is a picture of the video as JPEG ([which](stills.md)). One that has to be made is
waited for; the answer is a 202 with `Retry-After` if that takes longer than `wait` (20 seconds by default).

## Search

`GET /v1/search?q=gate+b12` finds texts and objects of all videos ([how](search.md)). While `complete` is false the
index is being made, and there may be more.

## Exports

`GET /v1/jobs/{job_id}/export/{format}` sends a result as other programs read it ([which, and how they are
used](use-the-results.md)); `/v1/formats` lists the formats. A file is made when it is first asked for: until then the
answer is a 202 with `Retry-After`, or with `?wait=20` the file itself as soon as it is there. A 409 says what the
result lacks for the format, a 503 why a file could not be made just now; it is tried again when it is asked for again.

## The calls
"""


def normal(text: str) -> str:
    """Replace what differs from run to run."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "6f1c1f0e-5d0b-4b56-9c58-0a4f3c1d2e7b", text)
    text = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*\+00:00", "2026-01-31T12:00:00.000000+00:00", text)
    text = re.sub(r"last-modified: .*", "last-modified: Sat, 31 Jan 2026 12:00:00 GMT", text)
    text = re.sub(r"upload-expires: .*", "upload-expires: Sun, 01 Feb 2026 12:00:00 GMT", text)
    text = re.sub(r'"[0-9a-f]{32}"', '"5f2b…"', text)
    text = re.sub(r"\d+ bytes are free", "79000000000 bytes are free", text)
    text = re.sub(r"(?<=is )\d+\.\d s old", "0.6 s old", text)
    text = re.sub(r'"next_cursor": "[^"]+"', '"next_cursor": "MTIgNmYx…"', text)
    return re.sub(r"(seconds_sum|age_seconds|wait_seconds|free_bytes) [\d.e+]+", r"\1 …", text)


def shown(response: httpx.Response, curl: str) -> str:
    """Return an exchange as it stands on the page."""
    head = [f"HTTP/1.1 {response.status_code} {response.reason_phrase}"]
    head += [f"{name}: {value}" for name, value in response.headers.items() if name not in HIDDEN]
    kind = response.headers.get("content-type", "")
    body = f"({kind})"
    if "json" in kind:
        body = json.dumps(cut(response.json()), indent=2, ensure_ascii=False)
    elif kind.startswith("text/plain"):
        body = "\n".join(line for line in response.text.splitlines() if "jobs" in line or "queue" in line) + "\n…"
    return normal("```\n" + "\n".join([f"$ curl {curl}", *head, "", body]) + "\n```\n")


def cut(body: Any) -> Any:
    """Shorten what would fill pages."""
    if "openapi" in body:
        return {"openapi": body["openapi"], "info": body["info"], "paths": "…", "components": "…"}
    if "formats" in body:
        return {"formats": [*body["formats"][:1], "…"]}
    if "jobs" in body:
        return {
            **body,
            "jobs": [{name: job[name] for name in ("job_id", "status")} | {"…": "…"} for job in body["jobs"]],
        }
    return body


async def exchange(home: Path, store: JobStore) -> dict[str, tuple[httpx.Response, str]]:
    """Make one exchange for each call."""
    done, failed, waiting = (job.job_id for job in store.create([make_job(i) for i in range(3)]))
    found = {"bbox": [13.0, 137.2, 477.1, 446.0], "class": "bus", "class_id": 5, "confidence": 0.8682}
    block = {"bbox": [40.0, 30.0, 290.0, 62.0], "confidence": 0.97, "text": "HOME 2 - 1 AWAY"}
    result = {"detections": [found], "text": block["text"], "text_blocks": [block]}
    frames = [{"frame_index": i, "result": result, "timestamp_s": i / 25} for i in range(3)]
    (home / "data" / "video_jobs").mkdir()
    write_document(home / "data" / output_key(done), frames, ["HOME 2 - 1 AWAY"])
    (home / "data" / "video_jobs" / "v.mp4").write_bytes(HEAD)
    store.move(done, JobStatus.RUNNING, frames_total=3)
    summary = {"classes": {"bus": 3}, "detection_count": 3, "frame_count": 3, "warnings": []}
    store.move(
        done, JobStatus.COMPLETED, output_path=output_key(done), summary=summary, frames_processed=3, device="cpu"
    )
    store.move(failed, JobStatus.RUNNING, attempts=1, started_at=utc_now())
    store.move(failed, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message="It has no video track.")
    rejected_list.write(home / "data", RejectedList((REJECTED,), 1))
    health.write(home / "data", beat("2100-01-01T00:00:00+00:00"))
    app = make_app(Settings(home=home))
    made: dict[str, tuple[httpx.Response, str]] = {}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client,
    ):

        async def call(name: str, method: str, path: str, curl: str = "", **more: Any) -> None:
            response = await client.request(method, path, **more)
            address = f"localhost:8000{path}"
            address = f"'{address}'" if "?" in path else address
            made[name] = response, f"{curl or ('-X POST ' if method == 'POST' else '')}{address}"

        upload = {"file": ("match.mp4", HEAD)}
        await call("error", "GET", "/v1/jobs?limit=0&status=done")
        await call("POST /v1/video/submit", "POST", "/v1/video/submit", "-F file=@match.mp4 -F frame_stride=5 ",
                   files=upload, data={"frame_stride": "5"})  # fmt: skip
        await call("PUT /v1/video/submit/{filename}", "PUT", "/v1/video/submit/match.mp4?pipeline_id=yolo",
                   "-T match.mp4 ", content=HEAD)  # fmt: skip
        await call("GET /v1/video/status/{job_id}", "GET", f"/v1/video/status/{done}")
        await call("GET /v1/video/results/{job_id}", "GET", f"/v1/video/results/{done}?from_frame=1&limit=1")
        await call("GET /v1/jobs", "GET", "/v1/jobs?limit=2")
        await call("GET /v1/rejected", "GET", "/v1/rejected")
        await call("GET /v1/jobs/{job_id}", "GET", f"/v1/jobs/{failed}")
        await call("POST /v1/jobs/{job_id}/cancel", "POST", f"/v1/jobs/{waiting}/cancel")
        await call("POST /v1/jobs/{job_id}/retry", "POST", f"/v1/jobs/{failed}/retry")
        await call("DELETE /v1/jobs/{job_id}", "DELETE", f"/v1/jobs/{failed}", "-X DELETE ")
        await call("POST /v1/jobs/retry-failed", "POST", "/v1/jobs/retry-failed")
        await call("GET /v1/jobs/{job_id}/video", "GET", f"/v1/jobs/{done}/video", "-r 0-9 ",
                   headers={"range": "bytes=0-9"})  # fmt: skip
        tus = {"tus-resumable": "1.0.0"}
        piece = {**tus, "upload-offset": "0", "content-type": PIECE_TYPE}
        begun = {**tus, "upload-length": str(len(HEAD)), "upload-metadata": "filename bWF0Y2gubXA0"}
        await call("POST /v1/uploads", "POST", "/v1/uploads", "-X POST -H 'Tus-Resumable: 1.0.0' "
                   "-H 'Upload-Length: 140' -H 'Upload-Metadata: filename bWF0Y2gubXA0' ", headers=begun)  # fmt: skip
        upload_path = made["POST /v1/uploads"][0].headers["location"]
        await call("HEAD /v1/uploads/{job_id}", "HEAD", upload_path, "-I -H 'Tus-Resumable: 1.0.0' ", headers=tus)
        await call("POST /v1/uploads/{job_id}", "POST", upload_path, "-X POST -H 'Tus-Resumable: 1.0.0' "
                   "-H 'X-HTTP-Method-Override: HEAD' ", headers={**tus, "x-http-method-override": "HEAD"})  # fmt: skip
        await call("PATCH /v1/uploads/{job_id}", "PATCH", upload_path, "-X PATCH -H 'Tus-Resumable: 1.0.0' "
                   f"-H 'Upload-Offset: 0' -H 'Content-Type: {PIECE_TYPE}' --data-binary @match.mp4 ",
                   headers=piece, content=HEAD)  # fmt: skip
        await call("DELETE /v1/uploads/{job_id}", "DELETE", upload_path, "-X DELETE -H 'Tus-Resumable: 1.0.0' ",
                   headers=tus)  # fmt: skip
        for path in ("/v1/uploads", "/v1/uploads/{job_id}"):
            await call(f"OPTIONS {path}", "OPTIONS", path.replace("{job_id}", done), "-X OPTIONS ")
        derive(home / "data" / output_key(done), home / "data" / "derived" / done)
        for derived in DerivedKind:
            await call(f"GET /v1/jobs/{{job_id}}/{derived}", "GET", f"/v1/jobs/{done}/{derived}")
        (home / "data" / input_key(done)).write_bytes(HEAD)
        still = StillRequest(done, seconds=0.04, width=640, boxes=True).path(home / "data")
        still.parent.mkdir(parents=True)
        still.write_bytes(bytes(51_200))
        await call("GET /v1/jobs/{job_id}/frame", "GET", f"/v1/jobs/{done}/frame?t=0.04&width=640&boxes=1", "-OJ ")
        index = SearchIndex(home / "data")
        for job in store.jobs(JobStatus.COMPLETED):
            with (
                open_derived(home / "data", job.job_id, DerivedKind.TEXTS) as texts,
                open_derived(home / "data", job.job_id, DerivedKind.TRACKS) as tracks,
            ):
                index.put(job.sequence, job.job_id, "", spans_of(texts, tracks))
        index.set_complete(True)
        index.close()
        await call("GET /v1/search", "GET", "/v1/search?q=home+away&limit=1")
        export(home / "data", done, ExportRequest.of({"format": "csv", "classes": ["bus"]}), "match 0.mp4")
        await call("GET /v1/jobs/{job_id}/export/{format}", "GET", f"/v1/jobs/{done}/export/csv?classes=bus", "-OJ ")
        for path in (
            "/v1/formats",
            "/v1/pipelines",
            "/v1/session",
            "/healthz",
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/docs",
            "/",
        ):
            await call(f"GET {path}", "GET", path)
    return made


def make_job(number: int) -> Job:
    """Return a job of an upload."""
    return Job(new_job_id(), source=JobSource.HTTP, source_name=f"match {number}.mp4", input_path="video_jobs/v.mp4")


def page() -> str:
    """Return the page."""
    with tempfile.TemporaryDirectory() as folder, JobStore.open(Path(folder) / "data") as store:
        home = Path(folder)
        made = asyncio.run(exchange(home, store))
        described = made["GET /openapi.json"][0].json()
    kinds = [f"| {status} | `{kind}` | {meaning} |" for kind, (status, meaning) in KINDS.items()]
    text = INTRODUCTION.replace("EXAMPLE:error\n", shown(*made["error"]))
    text = text.replace("KINDS", "\n".join(["| status | type | meaning |", "| --- | --- | --- |", *kinds]))
    for path, calls in described["paths"].items():
        for method, call in calls.items():
            if path.startswith("/video/"):
                continue
            name = f"{method.upper()} {path}"
            text += f"\n### {name}\n\n{call['summary']}.\n\n{parameters(call)}"
            codes = ", ".join(code for code in call["responses"])
            text += f"Answers: {codes}.\n\n{shown(*made[name])}"
    return text


def parameters(call: dict[str, Any]) -> str:
    """Return the table of a call's parameters."""
    rows = [(p["name"], p["in"], p["schema"], p.get("description", "")) for p in call.get("parameters", ())]
    form = call.get("requestBody", {}).get("content", {}).get("multipart/form-data")
    if form:
        rows += [(n, "form", s, s.get("description", "")) for n, s in form["schema"]["properties"].items()]
    if not rows:
        return ""
    lines = [f"| `{name}` | {place} | {kind(schema)} | {text} |" for name, place, schema, text in rows]
    return "\n".join(["| parameter | in | values | |", "| --- | --- | --- | --- |", *lines]) + "\n\n"


def kind(schema: dict[str, Any]) -> str:
    """Say in a few words what a schema allows."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    text = str(schema.get("format") or schema["type"])
    if "maximum" in schema:
        text += (
            f" {schema['minimum']} to {schema['maximum']:g}" if schema["maximum"] < 10**6 else f" ≥ {schema['minimum']}"
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
