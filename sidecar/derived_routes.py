"""DerivedEndpoint: texts, tracks and density of a job's video. The daemon derives them; here they are sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from daemon.derive.files import DerivedKind, NotDerivedYet, NothingDerived, open_derived, request_derivation
from daemon.errors import StorageError
from sidecar.client import ClientGone, until_gone
from sidecar.derived_page import MOST_ENTRIES, PAGED, USUAL_ENTRIES, BadCursor, DerivedList, WantedPage
from sidecar.document import ByteRange
from sidecar.files import (
    NO_STORE,
    SplicedFileResponse,
    Validators,
    closed_on_error,
    etag,
    is_unchanged,
    not_modified,
    wants_gzip,
)
from sidecar.job_routes import job_id_of
from sidecar.limits import ClientLimits
from sidecar.problems import Problem, bad_field
from sidecar.query import Query
from sidecar.result_routes import file_gone, require_whole_result
from sidecar.state import State

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2
"""When to ask again for what is being made."""
LOOK_SECONDS = 0.25
"""Time between two looks whether it has been made."""


class DerivedEndpoint:
    """Sends one kind of what is derived.

    Args:
        state: What is known of jobs, and where their files are.
        limits: Count the calls that wait.
        kind: Which.
    """

    def __init__(self, state: State, limits: ClientLimits, kind: DerivedKind) -> None:
        self._state = state
        self._limits = limits
        self._kind = kind

    async def __call__(self, request: Request) -> Response:
        """Send the file; 202 while it is made, with ``wait`` after that many seconds."""
        job_id = job_id_of(request)
        query = Query(request)
        seconds = query.seconds("wait", self._state.settings.max_wait_seconds) or 0.0
        wanted = _wanted_page(query) if self._kind in PAGED else None
        query.check()
        record = self._state.record(job_id)
        require_whole_result(self._state, record)
        descriptor = await self._open(record)
        if descriptor is None:
            descriptor = await self._wait(request, record, seconds)
        if descriptor is None:
            detail = f"This job has no {self._kind} yet; ask again in {RETRY_AFTER_SECONDS} s."
            headers = {"retry-after": str(RETRY_AFTER_SECONDS), **NO_STORE}
            return JSONResponse({"job_id": job_id, "detail": detail}, 202, headers)
        return await asyncio.to_thread(self._send, request, job_id, descriptor, wanted)

    async def _open(self, record: Mapping[str, Any]) -> int | None:
        """Open the file, or return None while it has still to be made."""
        directory = self._state.settings.data_dir
        try:
            file = await asyncio.to_thread(open_derived, directory, record["job_id"], self._kind)
        except NothingDerived as error:
            raise Problem(409, str(error), "nothing-derived", job_id=record["job_id"]) from error
        except NotDerivedYet:
            return None
        except (OSError, StorageError) as error:
            raise file_gone("result", record.get("result_removed_at")) from error
        with file:
            return os.dup(file.fileno())

    async def _wait(self, request: Request, record: Mapping[str, Any], seconds: float) -> int | None:
        """Ask the daemon for the file, and return it once it is there, None if that takes longer."""
        with contextlib.suppress(OSError):  # the daemon finds out by itself within a minute
            await asyncio.to_thread(request_derivation, self._state.spool_dir, record["job_id"])
        if not seconds:
            return None
        with self._limits.waits.hold(request.scope), self._limits.requests.lend(request.scope):
            return await self._wait_until(request, record, time.monotonic() + seconds)

    async def _wait_until(self, request: Request, record: Mapping[str, Any], deadline: float) -> int | None:
        descriptor = None
        gone = asyncio.ensure_future(until_gone(request.receive))
        try:
            while descriptor is None and time.monotonic() < deadline and not self._state.stopping:
                if gone.done():
                    raise ClientGone
                await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
                descriptor = await self._open(record)
        finally:
            gone.cancel()
        return descriptor

    def _send(self, request: Request, job_id: str, descriptor: int, wanted: WantedPage | None) -> Response:
        status = os.fstat(descriptor)
        zipped = wants_gzip(request)
        validators = Validators(etag(job_id, status.st_size, status.st_mtime_ns, wanted, zipped), status.st_mtime)
        headers = {"vary": "accept-encoding", **validators.headers()}
        if is_unchanged(validators, request, descriptor):
            return not_modified(headers)
        # Without its own brace and line break.
        rest: list[bytes | ByteRange] = [ByteRange(2, status.st_size)]
        try:
            with closed_on_error(descriptor):
                if wanted is not None:
                    rest = DerivedList(descriptor, self._kind).page(wanted)
        except BadCursor as error:
            raise bad_field("cursor", str(error)) from error
        headers["content-type"] = "application/json"
        pieces = [f'{{\n"job_id": {json.dumps(job_id)},\n'.encode(), *rest]
        return SplicedFileResponse(descriptor, pieces, self._state.settings.upload_stall_seconds, 200, headers, zipped)


def _wanted_page(query: Query) -> WantedPage | None:
    """Return which entries are wanted, or None for all."""
    cursor = query.text("cursor")
    limit = query.whole("limit", 1, MOST_ENTRIES, 0)
    return None if cursor is None and not limit else WantedPage(cursor or "", limit or USUAL_ENTRIES)


def derived_routes(state: State, limits: ClientLimits) -> list[Route]:
    """Return the routes, one for each kind."""
    return [
        Route(f"/v1/jobs/{{job_id}}/{kind}", DerivedEndpoint(state, limits, kind).__call__, methods=["GET"])
        for kind in DerivedKind
    ]
