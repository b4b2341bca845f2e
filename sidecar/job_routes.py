"""JobEndpoints: a job's status, the list of jobs, and what may be requested for a job."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.ipc import spool
from daemon.ipc.ticket import TicketKind
from daemon.jobs import ErrorKind, JobStatus, is_job_id, why_no_retry
from daemon.store.paging import Place, cursor_of, place_of
from sidecar.client import ClientGone, until_gone
from sidecar.files import NO_STORE, REVALIDATE, matches, not_modified
from sidecar.job_filter import JobFilter
from sidecar.limits import ClientLimits
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
        limits: Count the calls that wait.
    """

    def __init__(self, state: State, limits: ClientLimits) -> None:
        self._state = state
        self._limits = limits
        self._scanning = asyncio.Lock()

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
        known = request.headers.get("if-none-match")
        first = tag if known is None or matches(known, tag) else None
        if tag == first and not self._ended(job_id):
            with self._limits.waits.hold(request.scope), self._limits.requests.lend(request.scope):
                await self._wait_for_change(request, job_id, tag, seconds)
        return self._state.public_json(job_id)

    async def _wait_for_change(self, request: Request, job_id: str, first: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        gone = asyncio.ensure_future(until_gone(request.receive))
        try:
            while self._state.public_json(job_id)[1] == first and not self._state.stopping and not self._ended(job_id):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                if gone.done():
                    raise ClientGone
                await self._state.wait_for_change(min(left, 1.0))
        finally:
            gone.cancel()

    def _ended(self, job_id: str) -> bool:
        return self._state.record(job_id)["status"] in ENDED

    async def jobs(self, request: Request) -> Response:
        """List jobs, newest first."""
        query = Query(request)
        limit = query.whole("limit", 1, MOST_JOBS, 50)
        status = query.choice("status", JobStatus)
        wanted = JobFilter.of(query)
        place = _place(query)
        query.check()
        found = await self._find(limit + 1, status, wanted, place)
        page = found[:limit]
        following = cursor_of(page[-1]) if len(found) > limit else None
        counts = {str(name): count for name, count in self._state.jobs.counts().items()}
        public = [self._state.to_public(record) for record in page]
        body = {"jobs": public, "next_cursor": following, "counts": counts, "waiting": self._state.waiting_files()}
        return JSONResponse(body, headers=NO_STORE)

    async def _find(self, count: int, status: JobStatus | None, wanted: JobFilter, place: Place | None) -> list[Record]:
        """Return at least that many jobs that fit and come after a place, as far as there are that many."""
        jobs = self._state.jobs
        found: list[Record] = []
        if status in (None, JobStatus.PENDING):
            found += wanted.select(jobs.waiting_before(place))
        below = float("inf")
        if place:
            below = jobs.order.sequences.get(place.job_id) or place.sequence or below
        if wanted.shows_all:
            return found + jobs.jobs_before(below, status, count)
        # A filter may look at every job. Others get their turn after each step, and one list is made at a time, so that
        # a turn is short however many are asked for.
        async with self._scanning:
            while len(found) < count and (batch := jobs.jobs_before(below, status, SCAN_JOBS)):
                found += wanted.select(batch)
                below = batch[-1]["sequence"]
                await asyncio.sleep(0)
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

    async def job(self, request: Request) -> Response:
        """Send a job, or delete it: one route, so that what it refuses names all that it allows."""
        return await (self.delete if request.method == "DELETE" else self.status)(request)

    async def delete(self, request: Request) -> Response:
        """Request that a job be deleted, with its video, its result and what was made of them."""
        record = self._state.record(job_id_of(request))
        if record["status"] == JobStatus.RUNNING:
            raise _wrong_state(record, "cancel it first, and delete it once it has ended")
        return await self._ask(TicketKind.DELETE, record)

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
            spool.request(self._state.spool_dir, kind, *ids)
        except OSError as error:
            log.error("a ticket cannot be written: %s", error.strerror)
            raise storage_problem(error) from error


def _wrong_state(record: Record, why: str) -> Problem:
    status = str(record["status"])
    return Problem(409, f"The job is {status}; {why}.", "wrong-state", job_id=record["job_id"], job_status=status)


def _place(query: Query) -> Place | None:
    cursor = query.text("cursor")
    if not cursor:
        return None
    try:
        return place_of(cursor)
    except ValueError:
        query.refuse("cursor", "cursor must be the next_cursor of an earlier answer.")
        return None
