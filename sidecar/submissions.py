"""Submissions: an upload becomes a file and a ticket in the spool, and only then is answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.fs.space import free_bytes
from daemon.ipc import spool
from daemon.ipc.spool import Ticket, TicketKind
from daemon.jobs import JobSource, Options, new_job_id, utc_now
from daemon.mp4 import submission_problem
from daemon.pipeline.pipelines import Pipeline
from daemon.settings import Settings
from sidecar.client import ClientGone
from sidecar.idempotency import IdempotencyKeys
from sidecar.metrics import Metrics
from sidecar.multipart import FIELDS, FormReader, boundary_of
from sidecar.problems import Problem, bad_field, bad_fields, busy
from sidecar.state import State
from sidecar.upload_file import UploadFile, disk_full, storage_problem

log = logging.getLogger(__name__)

HEAD_BYTES = 64
"""Of the file are looked at before more is taken."""
FORM_BYTES = 2 << 20
"""A form may be larger than its file by so much."""
NAME_BYTES = 255
SWEEP_SECONDS = 60.0
CLOSE = {"connection": "close"}
MOST = 2**31 - 1
_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class SubmitOptions:
    """How a video is to be analysed."""

    pipeline_id: str
    options: Options


def read_submit_options(values: Mapping[str, str], pipelines: Mapping[str, Pipeline], default: str) -> SubmitOptions:
    """Check what a client asks for.

    Args:
        values: ``pipeline_id``, ``frame_stride``, ``max_frames``; what is missing or empty has its default.
        pipelines: Those there are.
        default: Pipeline id where none is given.

    Raises:
        Problem: 422 naming each wrong field, 404 for an unknown pipeline.
    """
    errors: dict[str, str] = {}
    numbers: dict[str, int | None] = {"frame_stride": 1, "max_frames": None}
    for name in numbers:
        text = values.get(name, "").strip()
        if not text:
            continue
        number = int(text) if _NUMBER.fullmatch(text) else 0
        if not 1 <= number <= MOST:
            errors[name] = f"{name} must be a whole number from 1 to {MOST}."
        numbers[name] = number
    if errors:
        raise bad_fields(errors)
    pipeline_id = values.get("pipeline_id", "").strip() or default
    if pipeline_id not in pipelines:
        known = ", ".join(sorted(pipelines))
        raise Problem(404, f"There is no pipeline of that id; there are {known}.", "unknown-pipeline")
    return SubmitOptions(pipeline_id, Options(numbers["frame_stride"] or 1, numbers["max_frames"]))


def source_name(given: str) -> str:
    """Return a client's file name without its folders, for people and never for the disk.

    Raises:
        Problem: 422 if it holds a NUL or leads upwards.
    """
    parts = given.replace("\\", "/").split("/")
    if "\0" in given or ".." in parts:
        raise bad_field("file", "Its name must hold no NUL and no '..'.")
    name = parts[-1] or "video.mp4"
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name.encode()[:NAME_BYTES].decode("utf-8", "ignore")


def key_in_use() -> Problem:
    """Say that another upload has the key and is no submission, or not one yet."""
    return Problem(
        409, "An upload with this Idempotency-Key is under way; ask again.", "key-in-use", {"retry-after": "5"}
    )


class Submissions:
    """Receives uploads.

    Args:
        settings: Limits.
        state: Knows the queue and the jobs of keys.
        metrics: Counts.
        pipelines: Those there are.
    """

    def __init__(self, settings: Settings, state: State, metrics: Metrics, pipelines: Mapping[str, Pipeline]) -> None:
        self._settings = settings
        self._state = state
        self._metrics = metrics
        self._pipelines = pipelines
        self._keys = IdempotencyKeys(state.spool_dir / "keys")
        self._busy_keys: set[Path] = set()
        # Threads of their own: a slow disk must not hold up those that read results.
        self._executor = ThreadPoolExecutor(settings.max_uploads, "upload")

    async def sweep_loop(self) -> None:
        """Forget old keys, now and then, until cancelled; what is left behind in the spool the daemon removes."""
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._keys.sweep, time.time(), self._settings.idempotency_days)
            await asyncio.sleep(SWEEP_SECONDS)

    def close(self) -> None:
        """Wait for the threads that write."""
        self._executor.shutdown()

    async def receive(self, request: Request) -> Response:
        """Take an upload, as a form or as the body itself.

        Raises:
            Problem: it is refused; nothing of it is left.
            ClientGone: nobody is there to be answered; nothing of it is left.
        """
        counted = "failed"
        try:
            response = await self._receive_once(request)
            counted = "repeated" if "idempotency-replayed" in response.headers else "accepted"
        except Problem as problem:
            counted = "refused" if problem.status < 500 else "failed"
            raise
        except (ClientGone, asyncio.CancelledError):
            counted = "cut"
            raise
        finally:
            self._metrics.uploads[counted] += 1
        return response

    async def _receive_once(self, request: Request) -> Response:
        self._check_head(request)
        key = request.headers.get("idempotency-key")
        if key is None:
            return await self._receive_new(request, None, None)
        path = self._keys.path(request.scope.get("token_name", ""), key)
        if path in self._busy_keys:
            raise key_in_use()
        self._busy_keys.add(path)
        try:
            holder = await asyncio.to_thread(self._keys.find, path)
            record = None if holder is None else self._known(holder)
            if record is None:
                return await self._receive_new(request, path, holder)
        finally:
            self._busy_keys.discard(path)
        return await self._repeat(request, record)

    def _check_head(self, request: Request) -> None:
        """Refuse what is wrong before the body; a repetition is held to it as well."""
        read_submit_options(_asked(request), self._pipelines, self._settings.default_pipeline)
        if _form(request) is None:
            source_name(request.path_params["filename"])

    def _known(self, job_id: str) -> Mapping[str, Any] | None:
        try:
            return self._state.record(job_id)
        except Problem as problem:
            if problem.status != 404:
                raise
            return None

    async def _repeat(self, request: Request, record: Mapping[str, Any]) -> Response:
        """Answer as the first time, once the body has come: it must be of the same size and for the same end."""
        values = _asked(request)
        form = _form(request)
        size = 0
        async for data in self._body(request):
            size += len(data) if form is None else sum(map(len, form.feed(data)))
        if form is not None:
            form.check_complete()
            values |= form.given()
        wish = read_submit_options(values, self._pipelines, self._settings.default_pipeline)
        first = (record["size_bytes"], record["pipeline_id"], record["options"])
        if (size, wish.pipeline_id, asdict(wish.options)) != first:
            raise bad_field("Idempotency-Key", "It was used for another video or other options; take a new one.")
        return _created(self._state.tell(record), {"idempotency-replayed": "true"})

    async def _receive_new(self, request: Request, key: Path | None, holder: str | None) -> Response:
        values, form, given = _asked(request), _form(request), request.path_params.get("filename", "")
        self._check_room(request)
        job_id = new_job_id()
        part = UploadFile(spool.part_path(self._state.spool_dir, job_id), self._executor, self._settings.min_free_bytes)
        self._metrics.uploads_active += 1
        try:
            await part.open()
            await self._collect(request, form, part)
            if form is not None:
                form.check_complete()
                values |= form.given()
                given = form.file_name or ""
            wish = read_submit_options(values, self._pipelines, self._settings.default_pipeline)
            ticket = Ticket(
                TicketKind.SUBMIT,
                job_id,
                utc_now(),
                JobSource.HTTP,
                source_name(given),
                wish.pipeline_id,
                asdict(wish.options),
                part.size,
            )
            loop = asyncio.get_running_loop()
            commit = loop.run_in_executor(self._executor, partial(self._commit, ticket, wish.options, key, holder))
            other = await asyncio.shield(commit)
        except OSError as error:
            log.error("an upload cannot be stored: %s", error.strerror)
            raise storage_problem(error) from error
        finally:
            self._metrics.uploads_active -= 1
            part.discard()  # after a commit the name is another, and this only lets go of the file
        if other != job_id:
            record = self._known(other)
            if record is None:  # its commit has just failed, or is not over
                raise key_in_use()
            return _created(self._state.tell(record), {"idempotency-replayed": "true"})
        self._state.jobs.waiting.add(ticket)
        self._state.wake()
        log.info("submitted", extra={"fields": {"job_id": job_id, "name": ticket.source_name, "bytes": part.size}})
        return _created(self._state.tell(self._state.jobs.waiting.records[job_id]))

    def _commit(self, ticket: Ticket, options: Options, key: Path | None, holder: str | None) -> str:
        if key is not None and (other := self._keys.keep(key, ticket.job_id, holder)) != ticket.job_id:
            return other
        # Should this fail, the key stays: a sick disk may keep the ticket all the same, and then the job has its key.
        return spool.commit(
            self._state.spool_dir,
            ticket.job_id,
            source=ticket.source,
            source_name=ticket.source_name,
            pipeline_id=ticket.pipeline_id,
            options=options,
        )

    def _check_room(self, request: Request) -> None:
        """Refuse what cannot be taken, before any of it is read."""
        settings = self._settings
        announced = int(request.headers.get("content-length", 0))
        if announced > settings.max_video_bytes + FORM_BYTES:
            raise self._too_large()
        if self._state.stopping:
            raise busy("Dropframe is stopping; submit again in a moment.", "stopping", 10)
        if self._metrics.uploads_active >= settings.max_uploads:
            raise busy(f"{settings.max_uploads} uploads are under way; submit when one has ended.", "uploads", 10)
        if self._state.jobs.queue_length() >= settings.max_queue:
            raise busy(f"{settings.max_queue} jobs wait already; submit when some have ended.", "queue-full", 60)
        try:
            free = free_bytes(self._state.on_data_disk)
        except OSError as error:
            raise storage_problem(error) from error
        if free - announced < settings.min_free_bytes:
            raise disk_full()

    def _too_large(self) -> Problem:
        return Problem(413, f"Videos of up to {self._settings.max_video_bytes} bytes are taken.", "too-large")

    async def _collect(self, request: Request, form: FormReader | None, part: UploadFile) -> None:
        """Write the video's bytes to the disk as they arrive, once the first of them look like an MP4."""
        head, size, checked = b"", 0, False
        early: list[memoryview] = []
        async for data in self._body(request):
            pieces = [memoryview(data)] if form is None else form.feed(data)
            fresh = sum(map(len, pieces))
            size += fresh
            self._metrics.upload_bytes += fresh
            if size > self._settings.max_video_bytes:
                raise self._too_large()
            if not checked:
                early += pieces
                head = b"".join(early)[:HEAD_BYTES] if early else b""
                if len(head) < HEAD_BYTES:
                    continue
                _check_first_bytes(head)
                checked, pieces, early = True, early, []
            if pieces:
                await part.write(pieces)
        if not checked and (form is None or form.file_name is not None):
            _check_first_bytes(head)
        await part.write(early)
        await part.finish()

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body's pieces, no slower and no longer than the limits allow.

        Raises:
            Problem: 408 if it comes too slowly, 413 if it is too large.
            ClientGone: it ends before it is whole.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        started, received = loop.time(), 0
        while True:
            try:
                async with asyncio.timeout(settings.upload_stall_seconds):
                    message = await request.receive()
            except TimeoutError:
                raise Problem(408, "Nothing came for too long; submit again.", headers=CLOSE) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            body = message.get("body", b"")
            received += len(body)
            if received > settings.max_video_bytes + FORM_BYTES:
                raise self._too_large()
            seconds = loop.time() - started
            slow = seconds > settings.upload_stall_seconds and received < seconds * settings.upload_min_rate
            if slow or seconds > settings.upload_max_seconds:
                raise Problem(408, "The upload is too slow; submit again on a faster line.", headers=CLOSE)
            if body:
                yield body
            if not message.get("more_body", False):
                return


def _asked(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.query_params.items() if name in FIELDS}


def _form(request: Request) -> FormReader | None:
    """Return a reader of a form, or None where the body is the video itself."""
    if request.method != "POST":
        return None
    return FormReader(boundary_of(request.headers.get("content-type", "")))


def _check_first_bytes(head: bytes) -> None:
    if problem := submission_problem(head):
        raise Problem(400, problem, "not-mp4")


def _created(told: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    location = f"/v1/video/status/{told['job_id']}"
    return JSONResponse(told, 201, {"location": location, "cache-control": "no-store", **(headers or {})})
