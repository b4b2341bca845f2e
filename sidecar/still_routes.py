"""StillEndpoint: single pictures of a job's video. The daemon has them made; here they are sent."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.errors import StorageError, StoredFileMissing
from daemon.stills.files import (
    LEAST_WIDTH,
    MOST_WIDTH,
    NoStill,
    NotMadeYet,
    StillRequest,
    ask_for,
    open_still,
    video_of,
)
from sidecar.client import ClientGone, until_gone
from sidecar.document import ByteRange
from sidecar.files import (
    NO_STORE,
    SplicedFileResponse,
    Validators,
    content_disposition,
    etag,
    is_unchanged,
    not_modified,
)
from sidecar.job_routes import job_id_of
from sidecar.limits import ClientLimits
from sidecar.problems import Problem, busy
from sidecar.query import MOST_FRAME_INDEX, MOST_SECONDS, Query
from sidecar.result_routes import file_gone, require_whole_result
from sidecar.state import State
from sidecar.upload_file import storage_problem

WAIT_SECONDS = 20.0
"""How long a picture is waited for, unless the client says otherwise: browsers ask but once."""
LOOK_SECONDS = 0.05
"""Time between two looks whether it has been made."""
RETRY_AFTER_SECONDS = 2
"""When to ask again for one that is being made."""


class Switch(StrEnum):
    """A parameter that is on or off."""

    OFF = "0"
    ON = "1"


class StillEndpoint:
    """Sends pictures.

    Args:
        state: What is known of jobs, and where their files are.
        limits: Counts the calls that wait.
    """

    def __init__(self, state: State, limits: ClientLimits) -> None:
        self._state = state
        self._limits = limits

    async def __call__(self, request: Request) -> Response:
        """Send a picture; 202 if it takes longer than is waited for."""
        job_id = job_id_of(request)
        wanted, seconds = self._wanted(request, job_id)
        record = self._state.record(job_id)
        if wanted.boxes:
            require_whole_result(self._state, record)
        descriptor = await self._open(record, wanted)
        if descriptor is None:
            descriptor = await self._wait(request, record, wanted, seconds)
        if descriptor is None:
            body = {"job_id": job_id, "detail": "The picture is being made."}
            return JSONResponse(body, 202, {"retry-after": str(RETRY_AFTER_SECONDS), **NO_STORE})
        return self._send(request, record, wanted, descriptor)

    def _wanted(self, request: Request, job_id: str) -> tuple[StillRequest, float]:
        query, most_wait = Query(request), self._state.settings.max_wait_seconds
        seconds = query.seconds("t", MOST_SECONDS)
        index = query.whole("index", 0, MOST_FRAME_INDEX, -1)
        width = query.whole("width", LEAST_WIDTH, MOST_WIDTH, 0)
        boxes = query.choice("boxes", Switch) == Switch.ON
        wait = query.seconds("wait", most_wait)
        if seconds is not None and index >= 0:
            query.refuse("index", "Send t or index, not both.")
        query.check()
        wanted = StillRequest(job_id, index if index >= 0 else None, seconds, width, boxes)
        return wanted, min(WAIT_SECONDS, most_wait) if wait is None else wait

    async def _open(self, record: Mapping[str, Any], wanted: StillRequest) -> int | None:
        """Open the picture, or return None while it has still to be made."""
        try:
            return await asyncio.to_thread(self._descriptor, wanted)
        except NoStill as error:
            raise _problem(error, wanted) from error
        except NotMadeYet:
            return None
        except (OSError, StorageError) as error:
            missing = isinstance(error, StoredFileMissing)
            raise file_gone("video", record.get("source_removed_at") if missing else None) from error

    def _descriptor(self, wanted: StillRequest) -> int:
        data_dir = self._state.settings.data_dir
        video_of(data_dir, self._state.spool_dir, wanted.job_id)
        with open_still(data_dir, wanted) as file:
            return os.dup(file.fileno())

    async def _wait(
        self, request: Request, record: Mapping[str, Any], wanted: StillRequest, seconds: float
    ) -> int | None:
        """Ask the daemon for the picture, and return it once it is there, None if that takes longer."""
        heartbeat = self._state.heartbeat
        if heartbeat is None or not heartbeat.is_alive(datetime.now(UTC)):
            raise busy("Pictures are made by the daemon, which is not running.", "pictures", 10)
        try:
            await asyncio.to_thread(ask_for, self._state.spool_dir, wanted)
        except NoStill as error:
            raise _problem(error, wanted) from error
        except OSError as error:
            raise storage_problem(error) from error
        with self._limits.waits.hold(request.scope), self._limits.requests.lend(request.scope):
            return await self._until_made(request, record, wanted, time.monotonic() + seconds)

    async def _until_made(
        self, request: Request, record: Mapping[str, Any], wanted: StillRequest, deadline: float
    ) -> int | None:
        descriptor = None
        gone = asyncio.ensure_future(until_gone(request.receive))
        try:
            while descriptor is None and time.monotonic() < deadline and not self._state.stopping:
                if gone.done():
                    raise ClientGone
                await asyncio.sleep(LOOK_SECONDS)
                descriptor = await self._open(record, wanted)
        finally:
            gone.cancel()
        return descriptor

    def _send(self, request: Request, record: Mapping[str, Any], wanted: StillRequest, descriptor: int) -> Response:
        status = os.fstat(descriptor)
        validators = Validators(etag(wanted.name, status.st_size, status.st_mtime_ns), status.st_mtime)
        if is_unchanged(validators, request, descriptor):
            return not_modified(validators.headers())
        headers = {
            **validators.headers(),
            "content-type": "image/jpeg",
            "content-disposition": content_disposition(record["source_name"], ".jpg"),
        }
        pieces = [ByteRange(0, status.st_size)]
        return SplicedFileResponse(descriptor, pieces, self._state.settings.upload_stall_seconds, 200, headers)


def _problem(error: NoStill, wanted: StillRequest) -> Problem:
    if error.passing:
        return busy(str(error), "pictures", 10)
    return Problem(409, str(error), "no-picture", job_id=wanted.job_id)
