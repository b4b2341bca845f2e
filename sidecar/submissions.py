"""Submissions: an upload becomes a file and a ticket in the spool, and only then is answered."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
from sidecar.limits import Slots
from sidecar.metrics import Metrics
from sidecar.problems import Problem, bad_field, busy
from sidecar.query import refuse_repeated
from sidecar.reservations import Reservation, Reservations
from sidecar.state import State
from sidecar.submit_options import SubmitOptions, read_submit_options, source_name
from sidecar.upload_body import FORM_BYTES, UploadBody, check_whole, too_large
from sidecar.upload_file import UploadFile, storage_problem

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
REPLAYED = {"idempotency-replayed": "true"}


def key_in_use(why: str = "An upload with this Idempotency-Key is under way; try again.") -> Problem:
    """Say that another upload has the key and is not a submission, or not yet, or not any more."""
    return Problem(409, why, "key-in-use", {"retry-after": "5"})


class Submissions:
    """Receives uploads.

    Args:
        settings: Limits.
        state: Knows the queue and the jobs of keys.
        metrics: Counts.
        pipelines: Those there are.
        slots: Counts the uploads under way.
    """

    def __init__(
        self, settings: Settings, state: State, metrics: Metrics, pipelines: Mapping[str, Pipeline], slots: Slots
    ) -> None:
        self._settings = settings
        self._state = state
        self._metrics = metrics
        self._pipelines = pipelines
        self.slots = slots
        self.reservations = Reservations(lambda: state.disk)
        self._keys = IdempotencyKeys(state.spool_dir / "keys")
        # Threads of their own: a slow disk must not hold up those that read results.
        self.executor = ThreadPoolExecutor(settings.max_uploads, "upload")

    async def sweep_loop(self) -> None:
        """Forget old keys, now and then, until cancelled; what is left behind in the spool the daemon removes."""
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._keys.sweep, time.time(), self._settings.idempotency_days)
            await asyncio.sleep(SWEEP_SECONDS)

    def close(self) -> None:
        """Wait for the threads that write."""
        self.executor.shutdown()

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
        refuse_repeated(request.query_params)
        self.read_options(request.query_params)  # what is wrong is refused before the body
        body = UploadBody(request, self._settings)
        source_name(body.name)
        keys = request.headers.getlist("idempotency-key")
        if not keys:
            return await self._receive_new(request, body, None, None)
        if len(keys) > 1:
            raise Problem(400, "Send one Idempotency-Key, not several.", "bad-request")
        path = self._keys.path(request.scope.get("token_name", ""), keys[0])
        try:
            with self._keys.lock(path) as free:
                if not free:
                    raise key_in_use()
                holder = self._keys.find(path)
                record = None if holder is None else self._known(holder)
                if record is None:
                    return await self._receive_new(request, body, path, holder)
        except OSError as error:
            raise storage_problem(error) from error
        return await self._repeat(request, body, record)

    def read_options(self, values: Mapping[str, str]) -> SubmitOptions:
        """Check what a client asks for; see ``read_submit_options``."""
        return read_submit_options(values, self._pipelines, self._settings.default_pipeline)

    def _known(self, job_id: str) -> Mapping[str, Any] | None:
        """Return the record of the job that has a key, or None if there is no such job, at this very moment.

        Raises:
            Problem: 409, it is about to be deleted: what is sent with its key would be lost with it.
            OSError: the spool cannot be read.
        """
        if spool.deletion_requested(self._state.spool_dir, job_id):  # the request goes after the job, so it comes first
            raise key_in_use("The job that has this Idempotency-Key is being deleted; submit again in a moment.")
        self._state.step(time.monotonic(), force=True)  # another process may have answered or deleted just now
        try:
            return self._state.record(job_id)
        except Problem as problem:
            if problem.status not in (404, 410):
                raise
            return None

    async def _repeat(self, request: Request, body: UploadBody, record: Mapping[str, Any]) -> Response:
        """Answer as the first time, once the body has come and proved to be the same; nothing of it is kept."""
        digest, loop = hashlib.sha256(), asyncio.get_running_loop()
        with self.slots.hold(request.scope):
            async for pieces in body.pieces():
                await loop.run_in_executor(self.executor, digest.update, b"".join(pieces))
        try:
            still = self._known(record["job_id"])
        except OSError as error:
            raise storage_problem(error) from error
        if still is None:
            raise key_in_use("The job that has this Idempotency-Key was deleted meanwhile; submit again.")
        return self._replayed(record, self.read_options(body.values), body.size, digest.hexdigest())

    async def _receive_new(self, request: Request, body: UploadBody, key: Path | None, holder: str | None) -> Response:
        announced = int(request.headers.get("content-length", 0))
        self.check_room(announced)
        try:
            with self.slots.hold(request.scope), self.reservations.reserve(announced) as room:
                ticket, asked, owner = await self._store(body, room, key, holder)
        except OSError as error:
            log.error("an upload cannot be stored: %s", error.strerror)
            raise storage_problem(error) from error
        if owner != ticket.job_id:
            record = self._known(owner)
            if record is None:  # its commit has just failed, or is not over
                raise key_in_use()
            return self._replayed(record, asked, ticket.size_bytes, ticket.sha256)
        self.announce(ticket)
        return self._created(self._state.jobs.waiting.records[ticket.job_id], asked)

    def announce(self, ticket: Ticket) -> None:
        """Show a submission, which is safe by now, as a job that waits."""
        self._state.jobs.waiting.add(ticket)
        self._state.wake()
        told = {"job_id": ticket.job_id, "name": ticket.source_name, "bytes": ticket.size_bytes}
        log.info("submitted", extra={"fields": told})

    async def _store(
        self, body: UploadBody, room: Reservation, key: Path | None, holder: str | None
    ) -> tuple[Ticket, SubmitOptions, str]:
        """Put a video and its ticket into the spool; return that, what it asks for, and the job that has the key.

        Where that is another job than the ticket's, nothing of this one is left.
        """
        job_id, loop = new_job_id(), asyncio.get_running_loop()
        part_path = spool.part_path(self._state.spool_dir, job_id)
        part = UploadFile(part_path, self.executor, room, hashed=key is not None)
        try:
            await part.open()
            await body.store(part, self._metrics.count_upload_bytes)
            await loop.run_in_executor(self.executor, check_whole, part_path, self._settings.containers)
            asked = self.read_options(body.values)
            ticket = _ticket(job_id, source_name(body.name), asked, part)
            commit = partial(self._commit, ticket, key, holder)
            return ticket, asked, await asyncio.shield(loop.run_in_executor(self.executor, commit))
        finally:
            part.discard()  # after a commit the name is another, and this only lets go of the file

    def _replayed(self, record: Mapping[str, Any], asked: SubmitOptions, size: int, sha256: str | None) -> Response:
        """Answer with the job that has the key.

        Raises:
            Problem: 422, it was submitted with another video or other options.
        """
        # Until it has run, a job that was submitted to an older Dropframe has no hash.
        same_video = (size, sha256) == (record["size_bytes"], record["sha256"] or sha256)
        if not same_video or not asked.asked_for(record):
            raise bad_field("Idempotency-Key", "It was used for another video or other options; use a new one.")
        return self._created(record, asked, REPLAYED)

    def _commit(self, ticket: Ticket, key: Path | None, holder: str | None) -> str:
        if key is not None and (other := self._keys.keep(key, ticket.job_id, holder)) != ticket.job_id:
            return other
        # Should this fail, the key stays: a failing disk may keep the ticket after all, and then the job has its key.
        return spool.commit(self._state.spool_dir, ticket)

    def check_room(self, announced: int) -> None:
        """Refuse what cannot be taken, before any of it is read.

        Args:
            announced: Bytes of the body; 0 where the client does not say.
        """
        settings = self._settings
        if announced > settings.max_video_bytes + FORM_BYTES:
            raise too_large(settings)
        if self._state.stopping:
            raise busy("Dropframe is stopping; submit again in a moment.", "stopping", 10)
        if self._state.jobs.queue_length() >= settings.max_queue:
            raise busy(f"{settings.max_queue} jobs are waiting; submit when some have ended.", "queue-full", 60)

    def _created(
        self, record: Mapping[str, Any], asked: SubmitOptions, headers: Mapping[str, str] | None = None
    ) -> Response:
        public = {**self._state.to_public(record), "warnings": list(asked.warnings)}
        location = f"/v1/video/status/{record['job_id']}"
        return JSONResponse(public, 201, {"location": location, **NO_STORE, **(headers or {})})


def _ticket(job_id: str, name: str, asked: SubmitOptions, part: UploadFile) -> Ticket:
    return Ticket(
        TicketKind.SUBMIT,
        job_id,
        utc_now(),
        JobSource.HTTP,
        name,
        asked.pipeline_id,
        asked.options.to_record(),
        part.size,
        part.sha256,
    )
