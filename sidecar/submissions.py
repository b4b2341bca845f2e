"""Submissions: an upload becomes a file and a ticket in the spool, and only then is answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.ipc import spool
from daemon.ipc.spool import Ticket, TicketKind
from daemon.jobs import JobSource, new_job_id, utc_now
from daemon.pipeline.pipelines import Pipeline
from daemon.settings import Settings
from sidecar.client import ClientGone
from sidecar.files import NO_STORE
from sidecar.idempotency import IdempotencyKeys
from sidecar.metrics import Metrics
from sidecar.problems import Problem, bad_field, busy
from sidecar.state import State
from sidecar.submit_options import SubmitOptions, read_submit_options, source_name
from sidecar.upload_body import FORM_BYTES, UploadBody, too_large
from sidecar.upload_file import UploadFile, disk_full, storage_problem

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
REPLAYED = {"idempotency-replayed": "true"}


def key_in_use() -> Problem:
    """Say that another upload has the key and is not a submission, or not yet."""
    return Problem(
        409, "An upload with this Idempotency-Key is under way; try again.", "key-in-use", {"retry-after": "5"}
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
        self._read_options(request.query_params)  # what is wrong is refused before the body
        body = UploadBody(request, self._settings)
        source_name(body.name)
        key = request.headers.get("idempotency-key")
        if key is None:
            return await self._receive_new(request, body, None, None)
        path = self._keys.path(request.scope.get("token_name", ""), key)
        if path in self._busy_keys:
            raise key_in_use()
        self._busy_keys.add(path)
        try:
            holder = await asyncio.to_thread(self._keys.find, path)
            record = None if holder is None else self._known(holder)
            if record is None:
                return await self._receive_new(request, body, path, holder)
        finally:
            self._busy_keys.discard(path)
        return await self._repeat(body, record)

    def _read_options(self, values: Mapping[str, str]) -> SubmitOptions:
        return read_submit_options(values, self._pipelines, self._settings.default_pipeline)

    def _known(self, job_id: str) -> Mapping[str, Any] | None:
        try:
            return self._state.record(job_id)
        except Problem as problem:
            if problem.status != 404:
                raise
            return None

    async def _repeat(self, body: UploadBody, record: Mapping[str, Any]) -> Response:
        """Answer as the first time, once the body has come: it must have the same size and the same options."""
        async for _ in body.pieces():
            pass
        asked = self._read_options(body.values)
        if body.size != record["size_bytes"] or not asked.asked_for(record):
            raise bad_field("Idempotency-Key", "It was used for another video or other options; use a new one.")
        return self._created(record, asked, REPLAYED)

    async def _receive_new(self, request: Request, body: UploadBody, key: Path | None, holder: str | None) -> Response:
        self._check_room(int(request.headers.get("content-length", 0)))
        job_id = new_job_id()
        part = UploadFile(spool.part_path(self._state.spool_dir, job_id), self._executor, self._state.disk)
        self._metrics.uploads_active += 1
        try:
            await part.open()
            await body.store(part, self._metrics.count_upload_bytes)
            asked = self._read_options(body.values)
            ticket = _ticket(job_id, source_name(body.name), asked, part.size)
            commit = partial(self._commit, ticket, key, holder)
            other = await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._executor, commit))
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
            return self._created(record, asked, REPLAYED)
        self._state.jobs.waiting.add(ticket)
        self._state.wake()
        log.info("submitted", extra={"fields": {"job_id": job_id, "name": ticket.source_name, "bytes": part.size}})
        return self._created(self._state.jobs.waiting.records[job_id], asked)

    def _commit(self, ticket: Ticket, key: Path | None, holder: str | None) -> str:
        if key is not None and (other := self._keys.keep(key, ticket.job_id, holder)) != ticket.job_id:
            return other
        # Should this fail, the key stays: a failing disk may keep the ticket after all, and then the job has its key.
        return spool.commit(self._state.spool_dir, ticket)

    def _check_room(self, announced: int) -> None:
        """Refuse what cannot be taken, before any of it is read.

        Args:
            announced: Bytes of the body; 0 where the client does not say.
        """
        settings = self._settings
        if announced > settings.max_video_bytes + FORM_BYTES:
            raise too_large(settings)
        if self._state.stopping:
            raise busy("Dropframe is stopping; submit again in a moment.", "stopping", 10)
        if self._metrics.uploads_active >= settings.max_uploads:
            raise busy(f"{settings.max_uploads} uploads are under way; submit when one has ended.", "uploads", 10)
        if self._state.jobs.queue_length() >= settings.max_queue:
            raise busy(f"{settings.max_queue} jobs are waiting; submit when some have ended.", "queue-full", 60)
        try:
            room = self._state.disk.room()
        except OSError as error:
            raise storage_problem(error) from error
        if room < announced:
            raise disk_full()

    def _created(
        self, record: Mapping[str, Any], asked: SubmitOptions, headers: Mapping[str, str] | None = None
    ) -> Response:
        public = {**self._state.to_public(record), "warnings": list(asked.warnings)}
        location = f"/v1/video/status/{record['job_id']}"
        return JSONResponse(public, 201, {"location": location, **NO_STORE, **(headers or {})})


def _ticket(job_id: str, name: str, asked: SubmitOptions, size_bytes: int) -> Ticket:
    return Ticket(
        TicketKind.SUBMIT,
        job_id,
        utc_now(),
        JobSource.HTTP,
        name,
        asked.pipeline_id,
        asdict(asked.options),
        size_bytes,
    )
