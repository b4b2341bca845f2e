"""The endpoints: each takes a request, reads the state, and returns a response or raises a Problem."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from daemon.errors import StorageError
from daemon.ipc import spool
from daemon.ipc.spool import TicketKind
from daemon.jobs import ErrorKind, JobSource, JobStatus, output_key, timestamp, why_no_retry
from daemon.pipeline.pipelines import Pipeline
from sidecar.client import ClientGone, until_gone
from sidecar.document import ResultDocument, Span
from sidecar.files import SplicedFileResponse, etag, matches, not_modified, one_range, wants_gzip
from sidecar.job_view import Place
from sidecar.metrics import CONTENT_TYPE, Metrics
from sidecar.problems import DETAILS, Problem, bad_field, unknown_job
from sidecar.state import State
from sidecar.submissions import Submissions
from sidecar.upload_file import storage_problem

log = logging.getLogger(__name__)

PAGE_DIR = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cache-control": "private, no-cache",
}
NO_STORE = {"cache-control": "no-store"}
JSON = {"content-type": "application/json"}
RETENTION = "was removed by retention (the keep settings)"
LACKS_WEIGHTS = (
    "It needs object weights and there are none, so its jobs fail: put an Ultralytics .pt into data/models/ and start "
    "Dropframe again."
)
MOST_JOBS = 500
MOST_FRAMES = 100_000
SCAN_JOBS = 1000
"""Looked at before others get their turn."""
_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Endpoints:
    """All endpoints; what they share is handed in.

    Args:
        state: What is known of jobs and the daemon.
        submissions: Receives uploads.
        metrics: Counts.
        pipelines: Those there are.
        openapi: Body of ``/openapi.json``.
    """

    def __init__(
        self,
        state: State,
        submissions: Submissions,
        metrics: Metrics,
        pipelines: Mapping[str, Pipeline],
        openapi: dict[str, Any],
    ) -> None:
        self._state = state
        self._submissions = submissions
        self._metrics = metrics
        self._pipelines = pipelines
        self._openapi = openapi
        self._page_files = _page_files()

    # The calls that every client knows.

    async def submit(self, request: Request) -> Response:
        """Take an upload."""
        return await self._submissions.receive(request)

    async def status(self, request: Request) -> Response:
        """Say how a job is; with ``wait``, once it has changed."""
        job_id = _job_id(request)
        body, tag = self._state.public_json(job_id)
        if "wait" in request.query_params:
            body, tag = await self._wait(request, job_id, tag)
        if matches(request.headers.get("if-none-match"), tag):
            return not_modified(tag)
        return Response(body, headers={"etag": tag, "cache-control": "private, no-cache", **JSON})

    async def _wait(self, request: Request, job_id: str, tag: str) -> tuple[bytes, str]:
        """Return the job once it is another than the client knows, or has ended, or the time is over."""
        deadline = time.monotonic() + _seconds(request, "wait", self._state.settings.max_wait_seconds)
        known = request.headers.get("if-none-match")
        first = tag if known is None or matches(known, tag) else None
        gone = asyncio.ensure_future(until_gone(request.receive))
        try:
            while tag == first and not self._state.stopping and not self._ended(job_id):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                if gone.done():
                    raise ClientGone
                await self._state.wait_for_change(min(left, 1.0))
                tag = self._state.public_json(job_id)[1]
        finally:
            gone.cancel()
        return self._state.public_json(job_id)

    def _ended(self, job_id: str) -> bool:
        return self._state.record(job_id)["status"] in (JobStatus.COMPLETED, JobStatus.FAILED)

    async def results(self, request: Request) -> Response:
        """Send a completed job's result document, or some of its frames."""
        record = self._state.record(_job_id(request))
        if record["status"] != JobStatus.COMPLETED:
            told = self._state.tell(record)
            because = f": {told['error_message']}" if told["error_message"] else "."
            raise Problem(
                404,
                f"The job is {told['status']}, so there is no result{because}",
                "no-result",
                job_id=told["job_id"],
                job_status=told["status"],
            )
        part = "from_frame" in request.query_params or "limit" in request.query_params
        from_frame = _whole(request, "from_frame", 0, 2**53, 0)
        limit = _whole(request, "limit", 1, MOST_FRAMES, 0) or None
        key = record["output_path"] or output_key(record["job_id"])
        descriptor = self._open(key, record.get("result_removed_at"))
        try:
            status = os.fstat(descriptor)
            zipped = wants_gzip(request)
            tag = etag(
                record["job_id"],
                record["updated_at"],
                status.st_size,
                status.st_mtime_ns,
                part,
                from_frame,
                limit,
                zipped,
            )
            vary = {"vary": "accept-encoding"}
            if matches(request.headers.get("if-none-match"), tag):
                os.close(descriptor)
                return not_modified(tag, vary)
            first = {name: record[name] for name in ("job_id", "created_at", "updated_at")}
            pieces = await asyncio.to_thread(_result_pieces, descriptor, first, part, from_frame, limit)
        except StorageError as error:
            os.close(descriptor)
            log.error("job %s: %s", record["job_id"], error)
            raise Problem(500, "The stored result is damaged; run the job again.", "damaged-result") from error
        except BaseException:
            os.close(descriptor)
            raise
        headers = {**vary, "etag": tag, "content-type": "application/json", "cache-control": "private, no-cache"}
        return SplicedFileResponse(descriptor, pieces, self._state.settings.upload_stall_seconds, 200, headers, zipped)

    # Jobs.

    async def jobs(self, request: Request) -> Response:
        """List jobs, newest first."""
        limit = _whole(request, "limit", 1, MOST_JOBS, 50)
        asked = _choice(request, "status", JobStatus)
        status = None if asked is None else JobStatus(asked)
        keep = _filter(request)
        place = _place(request.query_params.get("cursor"))
        found: list[Mapping[str, Any]] = []
        if status in (None, JobStatus.PENDING):
            found += filter(keep, self._state.jobs.waiting_before(place))
        below = float("inf")
        if place:
            below = self._state.jobs.order.sequences.get(place.job_id) or place.sequence or below
        while len(found) <= limit:
            batch = self._state.jobs.jobs_before(below, status, limit + 1 if keep is None else SCAN_JOBS)
            if not batch:
                break
            found += filter(keep, batch)
            below = batch[-1]["sequence"]
            if keep is not None:
                await asyncio.sleep(0)  # a filter may look at every job; others must not wait for that
        page = found[:limit]
        following = _cursor(page[-1]) if len(found) > limit else None
        counts = {str(name): count for name, count in self._state.jobs.counts().items()}
        told = [self._state.tell(record) for record in page]
        return JSONResponse({"jobs": told, "next_cursor": following, "counts": counts}, headers=NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """Ask for a job to be ended."""
        record = self._state.record(_job_id(request))
        if record["status"] in (JobStatus.COMPLETED, JobStatus.FAILED):
            raise _wrong_state(record, "only one that is pending or running can be cancelled")
        return await self._ask(TicketKind.CANCEL, record)

    async def retry(self, request: Request) -> Response:
        """Ask for a failed job to be tried again."""
        record = self._state.record(_job_id(request))
        if why := why_no_retry(record):
            raise _wrong_state(record, why)
        return await self._ask(TicketKind.RETRY, record)

    async def retry_failed(self, request: Request) -> Response:
        """Ask for all failed jobs to be tried again that can be, but those that a person cancelled."""
        ids = [
            record["job_id"]
            for record in self._state.jobs.with_status(JobStatus.FAILED)
            if record["error_kind"] != ErrorKind.CANCELLED and not why_no_retry(record)
        ]
        await asyncio.to_thread(self._request, TicketKind.RETRY, ids)
        return JSONResponse({"requested": len(ids)}, 202, NO_STORE)

    async def _ask(self, kind: TicketKind, record: Mapping[str, Any]) -> Response:
        await asyncio.to_thread(self._request, kind, [record["job_id"]])
        told = self._state.tell(record)
        location = f"/v1/video/status/{record['job_id']}"
        return JSONResponse({**told, "requested": kind}, 202, {**NO_STORE, "location": location})

    def _request(self, kind: TicketKind, ids: list[str]) -> None:
        try:
            for job_id in ids:
                spool.request(self._state.spool_dir, kind, job_id)
        except OSError as error:
            log.error("a ticket cannot be written: %s", error.strerror)
            raise storage_problem(error) from error

    async def video(self, request: Request) -> Response:
        """Send a job's video, or a range of it."""
        record = self._state.record(_job_id(request))
        descriptor = self._open_video(record)
        try:
            status = os.fstat(descriptor)
            tag = etag(record["job_id"], status.st_size, status.st_mtime_ns)
            headers = {"etag": tag, "accept-ranges": "bytes", "cache-control": "private, no-cache"}
            if matches(request.headers.get("if-none-match"), tag):
                os.close(descriptor)
                return not_modified(tag)
            span = one_range(request, status.st_size, tag)
        except BaseException:
            os.close(descriptor)
            raise
        headers |= {"content-type": "video/mp4", "content-disposition": "inline"}
        code = 200
        if span is None:
            span = Span(0, status.st_size)
        else:
            code = 206
            headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{status.st_size}"
        return SplicedFileResponse(descriptor, [span], self._state.settings.upload_stall_seconds, code, headers)

    def _open_video(self, record: Mapping[str, Any]) -> int:
        # While its ticket waits, the video is where the upload left it; the daemon may move it between two looks.
        for key in (record["input_path"], f"spool/{record['job_id']}.mp4"):
            with contextlib.suppress(Problem):
                return self._open(key)
        return self._open(record["input_path"], record.get("source_removed_at"))

    def _open(self, key: str, removed_at: str | None = None) -> int:
        try:
            return os.open(self._state.storage.path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, StorageError) as error:
            why = f"That file {RETENTION} at {removed_at}." if removed_at else "That file is not kept any more."
            raise Problem(404, why, "file-gone") from error

    # About Dropframe itself.

    async def pipelines(self, request: Request) -> Response:
        """List the pipelines."""
        default = self._state.settings.default_pipeline
        beat = self._state.beat
        lacking = beat is not None and beat.lacks_object_weights(datetime.now(UTC))
        listed = [
            {
                "pipeline_id": name,
                "description": p.description,
                "default": name == default,
                "problem": LACKS_WEIGHTS if p.needs_objects and lacking else None,
            }
            for name, p in self._pipelines.items()
        ]
        return JSONResponse({"pipelines": listed}, headers=NO_STORE)

    async def healthz(self, request: Request) -> Response:
        """Say that this process is alive."""
        return JSONResponse({"status": "alive"}, headers=NO_STORE)

    async def readyz(self, request: Request) -> Response:
        """Say whether everything works, and what does not."""
        health = self._state.health()
        parts = {name: asdict(part) for name, part in health.items()}
        if all(part.ok for part in health.values()):
            return JSONResponse({"status": "ready", "parts": parts}, headers=NO_STORE)
        problems = " ".join(part.detail for part in health.values() if not part.ok)
        raise Problem(503, problems, "not-ready", {"retry-after": "5"}, parts=parts)

    async def metrics(self, request: Request) -> Response:
        """Give the figures that Prometheus reads."""
        return PlainTextResponse(self._metrics.page(self._state), headers=NO_STORE, media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """Describe the calls for programs."""
        return JSONResponse(self._openapi, headers={"cache-control": "private, no-cache"})

    async def page(self, request: Request) -> Response:
        """Send a file of the web page."""
        name = {"/": "index.html", "/docs": "docs.html"}.get(request.scope["path"])
        name = name or request.path_params.get("name", "")
        if name not in self._page_files:
            raise Problem(404, DETAILS[404])
        content, kind = self._page_files[name]
        tag = etag(content)
        if matches(request.headers.get("if-none-match"), tag):
            return not_modified(tag)
        return Response(content, headers={**PAGE_HEADERS, "etag": tag, "content-type": kind})


def _page_files() -> dict[str, tuple[bytes, str]]:
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    return {
        entry.name: (entry.read_bytes(), f"{kinds[entry.suffix]}; charset=utf-8")
        for entry in sorted(PAGE_DIR.iterdir())
        if entry.suffix in kinds
    }


def _job_id(request: Request) -> str:
    job_id: str = request.path_params["job_id"]
    if not _JOB_ID.fullmatch(job_id):
        raise unknown_job()
    return job_id


def _wrong_state(record: Mapping[str, Any], why: str) -> Problem:
    status = str(record["status"])
    return Problem(409, f"The job is {status}; {why}.", "wrong-state", job_id=record["job_id"], job_status=status)


def _whole(request: Request, name: str, least: int, most: int, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,16}", text) or not least <= int(text) <= most:
        raise bad_field(name, f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def _seconds(request: Request, name: str, most: float) -> float:
    text = request.query_params[name]
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?([eE]-[0-9]{1,3})?", text) or float(text) > most:
        raise bad_field(name, f"{name} must be a number of seconds from 0 to {most:g}.")
    return float(text)


def _choice(request: Request, name: str, kind: type[StrEnum]) -> str | None:
    text = request.query_params.get(name)
    if text is None or text in list(kind):
        return text
    raise bad_field(name, f"{name} must be one of {', '.join(kind)}.")


def _filter(request: Request) -> Callable[[Mapping[str, Any]], bool] | None:
    """Return what decides which jobs a list shows, or None if it shows all."""
    tests: list[Callable[[Mapping[str, Any]], bool]] = []
    source = _choice(request, "source", JobSource)
    if source is not None:
        tests.append(lambda record: bool(record["source"] == source))
    pipeline_id = request.query_params.get("pipeline_id")
    if pipeline_id is not None:
        tests.append(lambda record: bool(record["pipeline_id"] == pipeline_id))
    if name := request.query_params.get("name", "").casefold():
        tests.append(lambda record: name in record["source_name"].casefold())
    after, before = _moment(request, "created_after"), _moment(request, "created_before")
    if after is not None:
        tests.append(lambda record: bool(record["created_at"] > after))
    if before is not None:
        tests.append(lambda record: bool(record["created_at"] < before))
    return (lambda record: all(test(record) for test in tests)) if tests else None


def _moment(request: Request, name: str) -> str | None:
    """Return a time as the store writes it, so that times compare as texts."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a "+" in a query that was not escaped
        return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise bad_field(name, f"{name} must be a time such as 2026-01-31T12:00:00Z.") from None


def _cursor(record: Mapping[str, Any]) -> str:
    text = f"{record['sequence'] or 0} {record['job_id']} {record['created_at']}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(cursor: str | None) -> Place | None:
    if not cursor:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        sequence, job_id, created_at = text.split(" ")
        if not _JOB_ID.fullmatch(job_id) or not re.fullmatch(r"[0-9]{1,18}", sequence):
            raise ValueError
    except ValueError:
        raise bad_field("cursor", "cursor must be the next_cursor of an earlier answer.") from None
    return Place(job_id, created_at, int(sequence))


def _result_pieces(
    descriptor: int, first: dict[str, Any], part: bool, from_frame: int, limit: int | None
) -> list[bytes | Span]:
    """Return the document with some keys before its own, or a part of it."""
    document = ResultDocument(descriptor)
    if not part:
        return [_members(first), Span(1, document.size)]
    excerpt = document.excerpt(from_frame, limit)
    frames: list[bytes | Span] = [excerpt.frames] if excerpt.frames.end > excerpt.frames.start else []
    return [
        _members({**first, "next_frame": excerpt.next_frame}),
        excerpt.head,
        b"\n" if frames else b"",
        *frames,
        b"\n",
        excerpt.tail,
    ]


def _members(values: Mapping[str, Any]) -> bytes:
    return b"{\n" + b"".join(f"{json.dumps(name)}: {json.dumps(value)},\n".encode() for name, value in values.items())
