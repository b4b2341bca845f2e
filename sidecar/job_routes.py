"""JobEndpoints: a job's status, the list of jobs, and what may be requested for a job."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.ipc import spool
from daemon.ipc.spool import TicketKind
from daemon.jobs import ErrorKind, JobSource, JobStatus, is_job_id, why_no_retry
from sidecar.client import ClientGone, until_gone
from sidecar.files import NO_STORE, REVALIDATE, matches, not_modified
from sidecar.job_view import Place
from sidecar.problems import Problem, unknown_job
from sidecar.query import MOST_JOBS, Query
from sidecar.state import State
from sidecar.upload_file import storage_problem

log = logging.getLogger(__name__)

ENDED = (JobStatus.COMPLETED, JobStatus.FAILED)
SCAN_JOBS = 1000
"""Looked at before others get their turn."""

Record = Mapping[str, Any]


def job_id_of(request: Request) -> str:
    """Return the job id in a request's path.

    Raises:
        Problem: 404, it is not written as an id.
    """
    job_id: str = request.path_params["job_id"]
    if not is_job_id(job_id):
        raise unknown_job()
    return job_id


class JobEndpoints:
    """Endpoints for jobs: each takes a request, and returns a response or raises a Problem.

    Args:
        state: What is known of jobs.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    async def status(self, request: Request) -> Response:
        """Send a job; with ``wait``, once it has changed."""
        job_id = job_id_of(request)
        body, tag = self._state.public_json(job_id)
        if request.scope["query_string"]:
            query = Query(request)
            seconds = query.seconds("wait", self._state.settings.max_wait_seconds)
            query.check()
            if seconds is not None:
                body, tag = await self._wait(request, job_id, tag, seconds)
        if matches(request.headers.get("if-none-match"), tag):
            return not_modified({"etag": tag})
        return Response(body, headers={"etag": tag, **REVALIDATE}, media_type="application/json")

    async def _wait(self, request: Request, job_id: str, tag: str, seconds: float) -> tuple[bytes, str]:
        """Return the job once it differs from what the client knows, or has ended, or the time is over."""
        deadline = time.monotonic() + seconds
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
        return self._state.record(job_id)["status"] in ENDED

    async def jobs(self, request: Request) -> Response:
        """List jobs, newest first."""
        query = Query(request)
        limit = query.whole("limit", 1, MOST_JOBS, 50)
        status = query.choice("status", JobStatus)
        keep = _filter(query)
        place = _place(query)
        query.check()
        found = await self._find(limit + 1, status, keep, place)
        page = found[:limit]
        following = _cursor(page[-1]) if len(found) > limit else None
        counts = {str(name): count for name, count in self._state.jobs.counts().items()}
        public = [self._state.to_public(record) for record in page]
        body = {"jobs": public, "next_cursor": following, "counts": counts, "waiting": self._state.waiting_files()}
        return JSONResponse(body, headers=NO_STORE)

    async def _find(
        self, count: int, status: JobStatus | None, keep: Callable[[Record], bool] | None, place: Place | None
    ) -> list[Record]:
        """Return at least that many jobs that fit and come after a place, as far as there are that many."""
        found: list[Record] = []
        if status in (None, JobStatus.PENDING):
            found += filter(keep, self._state.jobs.waiting_before(place))
        below = float("inf")
        if place:
            below = self._state.jobs.order.sequences.get(place.job_id) or place.sequence or below
        while len(found) < count:
            batch = self._state.jobs.jobs_before(below, status, count if keep is None else SCAN_JOBS)
            if not batch:
                break
            found += filter(keep, batch)
            below = batch[-1]["sequence"]
            if keep is not None:
                await asyncio.sleep(0)  # a filter may look at every job; others must not wait for that
        return found

    async def cancel(self, request: Request) -> Response:
        """Request that a job be cancelled."""
        record = self._state.record(job_id_of(request))
        if record["status"] in ENDED:
            raise _wrong_state(record, "only one that is pending or running can be cancelled")
        return await self._ask(TicketKind.CANCEL, record)

    async def retry(self, request: Request) -> Response:
        """Request that a failed job be tried again."""
        record = self._state.record(job_id_of(request))
        if why := why_no_retry(record):
            raise _wrong_state(record, why)
        return await self._ask(TicketKind.RETRY, record)

    async def retry_failed(self, request: Request) -> Response:
        """Request that all failed jobs be tried again that can be, except those that a person cancelled."""
        ids = [
            record["job_id"]
            for record in self._state.jobs.with_status(JobStatus.FAILED)
            if record["error_kind"] != ErrorKind.CANCELLED and not why_no_retry(record)
        ]
        await asyncio.to_thread(self._request, TicketKind.RETRY, ids)
        return JSONResponse({"requested": len(ids)}, 202, NO_STORE)

    async def _ask(self, kind: TicketKind, record: Record) -> Response:
        await asyncio.to_thread(self._request, kind, [record["job_id"]])
        location = f"/v1/video/status/{record['job_id']}"
        public = {**self._state.to_public(record), "requested": kind}
        return JSONResponse(public, 202, {**NO_STORE, "location": location})

    def _request(self, kind: TicketKind, ids: list[str]) -> None:
        try:
            for job_id in ids:
                spool.request(self._state.spool_dir, kind, job_id)
        except OSError as error:
            log.error("a ticket cannot be written: %s", error.strerror)
            raise storage_problem(error) from error


def _wrong_state(record: Record, why: str) -> Problem:
    status = str(record["status"])
    return Problem(409, f"The job is {status}; {why}.", "wrong-state", job_id=record["job_id"], job_status=status)


def _filter(query: Query) -> Callable[[Record], bool] | None:
    """Return what decides which jobs a list shows, or None if it shows all."""
    tests: list[Callable[[Record], bool]] = []
    source = query.choice("source", JobSource)
    if source is not None:
        tests.append(lambda record: bool(record["source"] == source))
    pipeline_id = query.text("pipeline_id")
    if pipeline_id is not None:
        tests.append(lambda record: bool(record["pipeline_id"] == pipeline_id))
    if name := (query.text("name") or "").casefold():
        tests.append(lambda record: name in record["source_name"].casefold())
    after, before = query.moment("created_after"), query.moment("created_before")
    if after is not None:
        tests.append(lambda record: bool(record["created_at"] > after))
    if before is not None:
        tests.append(lambda record: bool(record["created_at"] < before))
    return (lambda record: all(test(record) for test in tests)) if tests else None


def _cursor(record: Record) -> str:
    text = f"{record['sequence'] or 0} {record['job_id']} {record['created_at']}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(query: Query) -> Place | None:
    cursor = query.text("cursor")
    if not cursor:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        sequence, job_id, created_at = text.split(" ")
        if not is_job_id(job_id) or not re.fullmatch(r"[0-9]{1,18}", sequence):
            raise ValueError
    except ValueError:
        query.refuse("cursor", "cursor must be the next_cursor of an earlier answer.")
        return None
    return Place(job_id, created_at, int(sequence))
