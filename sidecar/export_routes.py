"""ExportEndpoints: results as other programs read them. The daemon makes the files; here they are sent."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from daemon.errors import StorageError
from daemon.export.files import MOST_REQUESTS, ExportPlace, NotExported, NotExportedYet, ask_for
from daemon.export_formats import FORMATS, MOST_SECONDS, BadExport, ExportRequest
from sidecar.client import ClientGone, until_gone
from sidecar.document import ByteRange
from sidecar.files import (
    NO_STORE,
    SplicedFileResponse,
    Validators,
    closed_on_error,
    content_disposition,
    etag,
    is_unchanged,
    not_modified,
    one_range,
    wants_gzip,
    wants_range,
)
from sidecar.job_routes import job_id_of
from sidecar.limits import ClientLimits
from sidecar.problems import Problem, bad_fields, busy
from sidecar.query import Query
from sidecar.result_routes import file_gone, require_whole_result
from sidecar.state import State

RETRY_AFTER_SECONDS = 2
"""When to ask again for what is being made."""
LOOK_SECONDS = 0.25
"""Time between two looks whether it has been made."""
PACKED = frozenset({"application/zip", "application/vnd.apache.parquet", "video/mp4"})
"""What compressing makes no smaller."""


class ExportEndpoints:
    """Sends exports, and says which there are.

    Args:
        state: What is known of jobs, and where their files are.
        limits: Count the calls that wait.
    """

    def __init__(self, state: State, limits: ClientLimits) -> None:
        self._state = state
        self._limits = limits

    async def formats(self, request: Request) -> Response:
        """List the formats."""
        Query(request).check()
        return JSONResponse({"formats": [each.to_record() for each in FORMATS.values()]})

    async def export(self, request: Request) -> Response:
        """Send an export; 202 while it is made, with ``wait`` after that many seconds."""
        job_id = job_id_of(request)
        name = request.path_params["format"]
        if name not in FORMATS:
            raise Problem(404, f"There is no format {name[:100]!r}; /v1/formats lists them.", "unknown-format")
        wanted, seconds = self._wanted(request, name)
        record = self._state.record(job_id)
        require_whole_result(self._state, record)
        place, descriptor = await self._open(record, wanted)
        if descriptor is None:
            descriptor = await self._wait(request, record, place, seconds)
        if descriptor is None:
            body = {"job_id": job_id, "detail": "The export is being made."}
            return JSONResponse(body, 202, {"retry-after": str(RETRY_AFTER_SECONDS), **NO_STORE})
        return self._send(request, record, place, descriptor)

    def _wanted(self, request: Request, name: str) -> tuple[ExportRequest, float]:
        query = Query(request)
        seconds = query.seconds("wait", self._state.settings.max_wait_seconds) or 0.0
        values = {
            "classes": [part for part in (query.text("classes") or "").split(",") if part],
            "min_confidence": query.number("min_confidence", 1.0, 0.0),
            "from_s": query.seconds("from_s", MOST_SECONDS) or 0.0,
            "to_s": query.seconds("to_s", MOST_SECONDS),
            "conf": query.whole("conf", 0, 1, 0) == 1,
        }
        query.check()
        try:
            return ExportRequest.of({"format": name, **values}), seconds
        except BadExport as error:
            raise bad_fields(error.errors) from error

    async def _open(self, record: Mapping[str, Any], wanted: ExportRequest) -> tuple[ExportPlace, int | None]:
        """Open the file; the descriptor is None while it has still to be made."""

        def opened() -> tuple[ExportPlace, int | None]:
            place = ExportPlace.of(self._state.settings.data_dir, record["job_id"], wanted)
            try:
                with place.open() as file:
                    return place, os.dup(file.fileno())
            except NotExportedYet:
                return place, None

        try:
            return await asyncio.to_thread(opened)
        except NotExported as error:
            if error.final:
                raise Problem(409, str(error), "nothing-exported", job_id=record["job_id"]) from error
            raise busy(f"{error} It is tried again when you ask again.", "export-failed", 30) from error
        except (OSError, StorageError) as error:
            raise file_gone("result", record.get("result_removed_at")) from error

    async def _wait(
        self, request: Request, record: Mapping[str, Any], place: ExportPlace, seconds: float
    ) -> int | None:
        """Ask the daemon for the file, and return it once it is there, None if that takes longer."""
        await asyncio.to_thread(self._ask, place)
        if not seconds:
            return None
        with self._limits.waits.hold(request.scope), self._limits.requests.lend(request.scope):
            return await self._wait_until(request, record, place, time.monotonic() + seconds)

    async def _wait_until(
        self, request: Request, record: Mapping[str, Any], place: ExportPlace, deadline: float
    ) -> int | None:
        descriptor = None
        gone = asyncio.ensure_future(until_gone(request.receive))
        try:
            while descriptor is None and time.monotonic() < deadline and not self._state.stopping:
                if gone.done():
                    raise ClientGone
                await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
                _, descriptor = await self._open(record, place.request)
        finally:
            gone.cancel()
        return descriptor

    def _ask(self, place: ExportPlace) -> None:
        if self._state.disk.shortage():
            raise Problem(507, "The disk is too full for an export: what min_free_bytes says stays free.", "disk-full")
        try:
            asked = ask_for(self._state.spool_dir, place)
        except OSError as error:
            raise Problem(507, f"The export cannot be asked for: {error.strerror}.", "disk-full") from error
        if not asked:
            raise busy(f"{MOST_REQUESTS} exports are waited for; come again later.", "exports", 10)

    def _send(self, request: Request, record: Mapping[str, Any], place: ExportPlace, descriptor: int) -> Response:
        kind, status = place.request.kind, os.fstat(descriptor)
        zipped = kind.media_type not in PACKED and not wants_range(request) and wants_gzip(request)
        validators = Validators(etag(place.key, status.st_size, status.st_mtime_ns, zipped), status.st_mtime)
        headers = {"vary": "accept-encoding", **validators.headers(), "accept-ranges": "bytes"}
        if is_unchanged(validators, request, descriptor):
            return not_modified(headers)
        with closed_on_error(descriptor):
            span = one_range(request, status.st_size, validators)
        headers["content-type"] = kind.media_type
        shown = content_disposition(record["source_name"] or record["job_id"], kind.ending)
        headers["content-disposition"] = shown.replace("inline", "attachment", 1)
        code = 200
        if span is None:
            span = ByteRange(0, status.st_size)
        else:
            code = 206
            headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{status.st_size}"
        stall_seconds = self._state.settings.upload_stall_seconds
        return SplicedFileResponse(descriptor, [span], stall_seconds, code, headers, zipped)


def export_routes(state: State, limits: ClientLimits) -> list[Route]:
    """Return the routes."""
    endpoints = ExportEndpoints(state, limits)
    return [
        Route("/v1/formats", endpoints.formats),
        Route("/v1/jobs/{job_id}/export/{format}", endpoints.export),
    ]
