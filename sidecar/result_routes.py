"""ResultEndpoints: what a job leaves: its result document and its video."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from daemon.container_checks import HEAD_BYTES
from daemon.containers import media_type
from daemon.derive.files import AGAIN, READ, check_whole
from daemon.errors import StorageError
from daemon.ipc.spool import video_name
from daemon.jobs import JobStatus, output_key
from sidecar.document import ByteRange, ResultDocument
from sidecar.files import (
    SplicedFileResponse,
    Validators,
    closed_on_error,
    content_disposition,
    etag,
    is_unchanged,
    not_modified,
    one_range,
    wants_gzip,
)
from sidecar.job_routes import job_id_of
from sidecar.problems import Problem, bad_field
from sidecar.query import MOST_FRAME_INDEX, MOST_RESULTS, MOST_SECONDS, Query
from sidecar.state import State

log = logging.getLogger(__name__)

OPENED = READ | os.O_NONBLOCK
"""Whatever it has become meanwhile, a pipe too, is not waited for."""
RETENTION = "was removed by retention (the keep settings)"


@dataclass(frozen=True)
class WantedPart:
    """Which frames of a result a client wants."""

    whole: bool
    from_frame: int
    limit: int | None
    """Most frames; None means all that follow."""
    from_s: float | None = None
    """Only those that are shown at this time or later."""


class ResultEndpoints:
    """Endpoints for files: each takes a request, and returns a response or raises a Problem.

    Args:
        state: What is known of jobs, and where their files are.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    async def results(self, request: Request) -> Response:
        """Send a completed job's result document, or some of its frames."""
        record = self._state.record(job_id_of(request))
        wanted = _wanted_part(request)
        require_result(record)
        descriptor = open_result(self._state, record)
        zipped = wants_gzip(request)
        with closed_on_error(descriptor):
            validators = _of_result(record, os.fstat(descriptor), wanted, zipped)
        headers = {"vary": "accept-encoding", **validators.headers()}
        if is_unchanged(validators, request, descriptor):
            return not_modified(headers)
        first = {name: record[name] for name in ("job_id", "created_at", "updated_at")}
        try:
            with closed_on_error(descriptor):
                pieces = await asyncio.to_thread(_result_pieces, descriptor, first, wanted)
        except StorageError as error:
            raise damaged_result(record, error) from error
        headers["content-type"] = "application/json"
        headers["content-disposition"] = content_disposition(record["source_name"], ".json")
        return SplicedFileResponse(descriptor, pieces, self._state.settings.upload_stall_seconds, 200, headers, zipped)

    async def video(self, request: Request) -> Response:
        """Send a job's video, or a range of it."""
        record = self._state.record(job_id_of(request))
        descriptor = self._open_video(record)
        status = os.fstat(descriptor)
        validators = Validators(etag(record["job_id"], status.st_size, status.st_mtime_ns), status.st_mtime)
        if is_unchanged(validators, request, descriptor):
            return not_modified(validators.headers())
        with closed_on_error(descriptor):
            span = one_range(request, status.st_size, validators)
            content_type = media_type(os.pread(descriptor, HEAD_BYTES, 0))
        headers = {
            **validators.headers(),
            "accept-ranges": "bytes",
            "content-type": content_type,
            "content-disposition": content_disposition(record["source_name"]),
        }
        code = 200
        if span is None:
            span = ByteRange(0, status.st_size)
        else:
            code = 206
            headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{status.st_size}"
        return SplicedFileResponse(descriptor, [span], self._state.settings.upload_stall_seconds, code, headers)

    def _open_video(self, record: Mapping[str, Any]) -> int:
        # While its ticket waits, the video is where the upload left it; the daemon may move it between two looks.
        with contextlib.suppress(Problem):
            return self._open(record["input_path"])
        with contextlib.suppress(OSError):
            return os.open(self._state.spool_dir / video_name(record["job_id"]), OPENED)
        return self._open(record["input_path"], record.get("source_removed_at"))

    def _open(self, key: str, removed_at: str | None = None) -> int:
        try:
            return os.open(self._state.storage.path(key), OPENED)
        except (OSError, StorageError) as error:
            raise file_gone("video", removed_at) from error


def _wanted_part(request: Request) -> WantedPart:
    query = Query(request)
    from_frame = query.whole("from_frame", 0, MOST_FRAME_INDEX, 0)
    limit = query.whole("limit", 1, MOST_RESULTS, 0) or None
    from_s = query.seconds("from_s", MOST_SECONDS)
    query.check()
    return WantedPart(not request.query_params, from_frame, limit, from_s)


def file_gone(what: str, removed_at: str | None) -> Problem:
    """Return a 404 for a file that was there once.

    Args:
        what: It is: ``video`` or ``result``.
        removed_at: When retention removed it, if it did.
    """
    if removed_at:
        return Problem(404, f"The {what} {RETENTION} at {removed_at}.", "file-gone")
    again = "; submit the video again" if what == "result" else ""
    return Problem(404, f"The {what} has been deleted from the data folder{again}.", "file-gone")


def damaged_result(record: Mapping[str, Any], error: StorageError) -> Problem:
    """Return a 500 for a result that cannot be sent as it is."""
    log.error("job %s: %s", record["job_id"], error)
    return Problem(500, f"The stored result is damaged; {AGAIN}.", "damaged-result", job_id=record["job_id"])


def open_result(state: State, record: Mapping[str, Any]) -> int:
    """Open a completed job's result; the caller closes the descriptor.

    Raises:
        Problem: 404, it is gone; 500, it is not whole.
    """
    try:
        descriptor = os.open(state.storage.path(record["output_path"] or output_key(record["job_id"])), OPENED)
    except (OSError, StorageError) as error:
        raise file_gone("result", record.get("result_removed_at")) from error
    try:
        with closed_on_error(descriptor):
            check_whole(descriptor)
    except StorageError as error:
        raise damaged_result(record, error) from error
    return descriptor


def require_whole_result(state: State, record: Mapping[str, Any]) -> None:
    """Make sure that a job has completed, and that what is made of its result can be made.

    Raises:
        Problem: 404, it has not, or its result is gone; 500, the result is not whole.
    """
    require_result(record)
    os.close(open_result(state, record))


def require_result(record: Mapping[str, Any]) -> None:
    """Make sure that a job has completed.

    Raises:
        Problem: 404, it has not.
    """
    if record["status"] == JobStatus.COMPLETED:
        return
    because = f": {record['error_message']}" if record["error_message"] else "."
    raise Problem(
        404,
        f"The job is {record['status']}, so there is no result{because}",
        "no-result",
        job_id=record["job_id"],
        job_status=record["status"],
    )


def _of_result(record: Mapping[str, Any], status: os.stat_result, wanted: WantedPart, zipped: bool) -> Validators:
    """The answer holds the record's time as well as the file, so it changes with either."""
    tag = etag(record["job_id"], record["updated_at"], status.st_size, status.st_mtime_ns, wanted, zipped)
    return Validators(tag, max(status.st_mtime, datetime.fromisoformat(record["updated_at"]).timestamp()))


def _result_pieces(descriptor: int, first: Mapping[str, Any], wanted: WantedPart) -> list[bytes | ByteRange]:
    """Return the document with some keys before its own, or a part of it."""
    document = ResultDocument(descriptor)
    if wanted.whole:
        return [_members(first), ByteRange(1, document.size)]
    from_frame = wanted.from_frame
    if wanted.from_s is not None:
        try:
            from_frame = max(from_frame, document.frame_at(wanted.from_s))
        except StorageError as error:
            raise bad_field("from_s", str(error)) from error
    excerpt = document.excerpt(from_frame, wanted.limit)
    frames: list[bytes | ByteRange] = [excerpt.frames] if excerpt.frames.end > excerpt.frames.start else []
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
