"""ResumableUploads: uploads in pieces that go on after a cut, by the tus protocol 1.0 (https://tus.io/protocols).

The core, with creation, creation-with-upload, termination and expiration. Between requests an upload is its files in
the spool (``daemon.ipc.partial_uploads``) and nothing else, so that it survives a kill of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial, wraps
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from daemon.containers import first_bytes_problem
from daemon.errors import StorageError
from daemon.ipc.partial_uploads import PartialUpload, PartialUploads
from daemon.jobs import new_job_id
from daemon.settings import Settings
from sidecar.files import NO_STORE
from sidecar.job_routes import job_id_of
from sidecar.metrics import Metrics
from sidecar.problems import Problem, bad_field, busy
from sidecar.state import State
from sidecar.submissions import Submissions
from sidecar.submit_options import source_name
from sidecar.tus_headers import PIECE_TYPE, announced_bytes, is_piece, metadata, number, refuse_unkept
from sidecar.upload_body import PieceBody, check_whole, too_large
from sidecar.upload_file import UploadFile, storage_problem, to_the_end

log = logging.getLogger(__name__)

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration"
NAME_KEYS = ("filename", "name")
IGNORED_KEYS = frozenset({"filetype", "type", "relativePath"})
"""What widely used clients send beside a name."""
TAKE_OVER_SECONDS = 10.0
"""How long a request waits for an older one of the same upload to end."""

T = TypeVar("T")
Endpoint = Callable[["ResumableUploads", Request], Awaitable[Response]]


def _versioned(endpoint: Endpoint) -> Endpoint:
    """Hold an endpoint to the protocol's version, and have each of its answers name it."""

    @wraps(endpoint)
    async def speak(self: ResumableUploads, request: Request) -> Response:
        try:
            if request.method != "OPTIONS" and request.headers.get("tus-resumable") != VERSION:
                raise Problem(412, f"Send Tus-Resumable: {VERSION}.", "tus-version", {"tus-version": VERSION})
            response = await endpoint(self, request)
        except Problem as problem:
            problem.headers |= {"tus-resumable": VERSION}
            raise
        response.headers["tus-resumable"] = VERSION
        return response

    return speak


@dataclass
class _Writer:
    """A request that adds to an upload."""

    task: asyncio.Task[None]
    is_ended: bool = False
    superseded: bool = False

    def end(self) -> None:
        """Cancel it, once: a second time would cut off what the first one has it put in order."""
        if not self.is_ended:
            self.is_ended = True
            self.task.cancel()


class ResumableUploads:
    """Endpoints for uploads in pieces.

    Args:
        settings: Limits.
        state: Knows the jobs and the spool.
        submissions: Takes what is whole.
        metrics: Counts.
    """

    def __init__(self, settings: Settings, state: State, submissions: Submissions, metrics: Metrics) -> None:
        self._settings = settings
        self._state = state
        self._submissions = submissions
        self._metrics = metrics
        self._uploads = PartialUploads(state.spool_dir)
        self._writers: dict[str, _Writer] = {}
        self._creating = asyncio.Lock()

    async def finish_what_is_whole(self) -> None:
        """Submit what a kill left complete; called once at start."""
        ids: list[str] = []
        with contextlib.suppress(OSError):
            ids = await self._run(self._uploads.ids)
        for job_id in ids:
            try:
                upload = await self._run(self._uploads.find, job_id)
                if upload is not None and await self._run(self._uploads.offset, upload) == upload.length:
                    await self._submit(upload)
            except Problem as problem:
                with contextlib.suppress(OSError):
                    await self._discard_if_wrong(job_id, problem)
                log.error("an upload that a kill cut off cannot be submitted: %s", problem)
            except (OSError, StorageError) as error:
                log.error("an upload that a kill cut off cannot be finished: %s", error)

    async def uploads(self, request: Request) -> Response:
        """Begin an upload, or say what is supported: one route, so that what it refuses names all that it allows."""
        return await (self.options if request.method == "OPTIONS" else self.create)(request)

    async def upload(self, request: Request) -> Response:
        """Serve an upload: one route as well. POST stands for the method that X-HTTP-Method-Override names."""
        method = request.method
        if method == "POST":
            method = request.headers.get("x-http-method-override", "").upper()
        calls = {"OPTIONS": self.options, "HEAD": self.offset, "PATCH": self.add, "DELETE": self.remove}
        if method not in calls:
            raise bad_field("X-HTTP-Method-Override", "With POST, send X-HTTP-Method-Override: PATCH, DELETE or HEAD.")
        return await calls[method](request)

    @_versioned
    async def options(self, request: Request) -> Response:
        """Say which version and extensions of tus are supported."""
        most = str(self._settings.max_video_bytes)
        return Response(
            status_code=204,
            headers={"tus-version": VERSION, "tus-extension": EXTENSIONS, "tus-max-size": most, **NO_STORE},
        )

    @_versioned
    async def create(self, request: Request) -> Response:
        """Begin an upload; its first piece may come with the request."""
        refuse_unkept(request)
        length = number(request, "upload-length")
        if problem := None if length else first_bytes_problem(b"", self._settings.containers):
            raise Problem(400, problem, "not-mp4")
        if length > self._settings.max_video_bytes:
            raise too_large(self._settings)
        values, given = metadata(request)
        name = next((values.pop(key) for key in NAME_KEYS if key in values), "video.mp4")
        values = {key: value for key, value in values.items() if key not in {*NAME_KEYS, *IGNORED_KEYS}}
        asked = self._submissions.read_options(values)
        self._submissions.check_room(length)
        upload = PartialUpload(
            new_job_id(), length, source_name(name), asked.pipeline_id, asked.options.to_record(), given
        )
        try:
            async with self._creating:  # counted one after the other, so that many at once are not too many
                with self._submissions.reservations.reserve(length):
                    if len(await self._run(self._uploads.ids)) >= self._settings.max_queue:
                        raise busy("Too many uploads have been begun; finish some, or give them up.", "queue-full", 60)
                    await self._run(self._uploads.create, upload)
        except OSError as error:
            raise _not_stored(error) from error
        log.info("upload begun", extra={"fields": {"job_id": upload.job_id, "name": upload.source_name}})
        if is_piece(request):
            try:
                await self._add(request, upload, 0)
            except BaseException:  # its client does not know where it is, and begins another
                await to_the_end(self._run(self._uploads.discard, upload.job_id))
                raise
        return await self._answer(upload, 201, {"location": f"/v1/uploads/{upload.job_id}"})

    @_versioned
    async def offset(self, request: Request) -> Response:
        """Say how much has come; a request that is still adding to it is ended first."""
        upload = await self._find(request)
        if upload is None:
            record = self._state.record(job_id_of(request))
            size = str(record["size_bytes"])
            return Response(headers={"upload-offset": size, "upload-length": size, **NO_STORE})
        await self._take_over(upload.job_id)
        await self._finish(upload)
        more = {"upload-metadata": upload.metadata} if upload.metadata else {}
        return await self._answer(upload, 200, {"upload-length": str(upload.length), **more})

    @_versioned
    async def add(self, request: Request) -> Response:
        """Add a piece; with the last one it is a job."""
        if not is_piece(request):
            raise Problem(415, f"Send the piece as {PIECE_TYPE}.")
        offset = number(request, "upload-offset")
        upload = await self._find(request)
        if upload is None:
            size = self._state.record(job_id_of(request))["size_bytes"]
            if offset != size:
                raise _wrong_offset(size)
            announced_bytes(request, 0)  # widely used clients ask so whether all has come, after a cut
            return Response(status_code=204, headers={"upload-offset": str(size), **NO_STORE})
        await self._add(request, upload, offset)
        return await self._answer(upload, 204)

    @_versioned
    async def remove(self, request: Request) -> Response:
        """Give up an upload."""
        job_id = job_id_of(request)
        await self._take_over(job_id)
        try:
            is_given_up = await self._run(self._uploads.discard, job_id)
        except OSError as error:
            raise _not_stored(error) from error
        if not is_given_up:
            self._state.record(job_id)
            raise Problem(409, "The upload is complete and has become a job; delete that.", "upload-ended")
        return Response(status_code=204)

    async def _find(self, request: Request) -> PartialUpload | None:
        """Return an upload, or None if it is not one, or not any more."""
        try:
            return await self._run(self._uploads.find, job_id_of(request))
        except (OSError, StorageError) as error:
            log.error("an upload cannot be read: %s", error)
            raise busy("The upload cannot be read at the moment; try again later.", "storage", 30) from error

    async def _answer(self, upload: PartialUpload, status: int, headers: dict[str, str] | None = None) -> Response:
        """Answer with the offset, which is durable by then."""
        if not await self._run(self._uploads.is_known, upload.job_id):  # it is a job, unless it was given up just now
            offset, more = self._state.record(upload.job_id)["size_bytes"], {}
        else:
            offset = await self._run(self._uploads.offset, upload)
            expires = await self._run(self._uploads.expires_at, upload.job_id, self._settings.upload_keep_hours * 3600)
            more = {"upload-expires": formatdate(expires, usegmt=True)}
        return Response(
            status_code=status, headers={"upload-offset": str(offset), **more, **NO_STORE, **(headers or {})}
        )

    async def _add(self, request: Request, upload: PartialUpload, offset: int) -> None:
        """Write a piece, after an older request for the same upload was ended; submit the video once it is whole."""
        await self._take_over(upload.job_id)
        if await self._finish(upload):
            if offset != upload.length:
                raise _wrong_offset(upload.length)
            return
        writer = _Writer(asyncio.ensure_future(self._write(request, upload, offset)))
        self._writers[upload.job_id] = writer
        writer.task.add_done_callback(lambda _: self._forget(upload.job_id, writer))
        try:
            await asyncio.shield(writer.task)
        except asyncio.CancelledError:
            if writer.superseded:
                raise Problem(409, "A later request goes on with this upload.", "upload-superseded") from None
            writer.end()
            await asyncio.wait([writer.task])
            raise

    def _forget(self, job_id: str, writer: _Writer) -> None:
        if self._writers.get(job_id) is writer:
            del self._writers[job_id]

    async def _take_over(self, job_id: str) -> None:
        """End the request that adds to an upload, if there is one: its client has most likely lost the line."""
        while (older := self._writers.get(job_id)) is not None:
            older.superseded = True
            older.end()
            await asyncio.wait([older.task], timeout=TAKE_OVER_SECONDS)
            if not older.task.done():
                raise _locked()
            self._forget(job_id, older)

    async def _write(self, request: Request, upload: PartialUpload, offset: int) -> None:
        missing = upload.length - offset
        announced = announced_bytes(request, missing)
        submissions = self._submissions
        try:
            with submissions.slots.hold(request.scope), submissions.reservations.reserve(announced) as room:
                part = UploadFile(self._uploads.part_path(upload.job_id), submissions.executor, room, resumed=True)
                try:
                    await part.open()
                    if part.size != offset:
                        raise _wrong_offset(part.size)
                    await PieceBody(request, self._settings, missing).store(part, self._metrics.count_upload_bytes)
                finally:
                    await part.keep()
                if part.size == upload.length:
                    await self._submit(upload)
        except BlockingIOError:
            raise _locked() from None
        except OSError as error:
            raise _not_stored(error) from error
        except Problem as problem:
            await self._discard_if_wrong(upload.job_id, problem)
            raise

    async def _finish(self, upload: PartialUpload) -> bool:
        """Submit an upload of which all has come, if an earlier request was cut off before that; tell whether it was.

        Its client believes that the upload is done, and sends nothing more.
        """
        try:
            if await self._run(self._uploads.offset, upload) < upload.length:
                return False
            await self._submit(upload)
        except FileNotFoundError:  # it is finished by now, or was given up
            self._state.record(upload.job_id)
        except OSError as error:
            raise _not_stored(error) from error
        except Problem as problem:
            await self._discard_if_wrong(upload.job_id, problem)
            raise
        return True

    async def _discard_if_wrong(self, job_id: str, problem: Problem) -> None:
        if problem.kind == "not-mp4":
            self._metrics.uploads["refused"] += 1
            await self._run(self._uploads.discard, job_id)

    async def _submit(self, upload: PartialUpload) -> None:
        """Make a job of an upload that is whole."""
        part = self._uploads.part_path(upload.job_id)
        with contextlib.suppress(FileNotFoundError):  # it was looked at before a kill came
            await self._run(check_whole, part, self._settings.containers)
        await to_the_end(self._promise(upload))

    async def _promise(self, upload: PartialUpload) -> None:
        self._submissions.announce(await self._run(self._uploads.submit, upload))
        self._metrics.uploads["accepted"] += 1

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._submissions.executor, partial(work, *arguments))


def _not_stored(error: OSError) -> Problem:
    log.error("a piece of an upload cannot be stored: %s", error.strerror)
    return storage_problem(error)


def _locked() -> Problem:
    return Problem(423, "Another request is writing to this upload; try again.", "upload-locked", {"retry-after": "5"})


def _wrong_offset(size: int) -> Problem:
    return Problem(
        409, f"{size} bytes of this upload have come; go on from there.", "upload-offset", {"upload-offset": str(size)}
    )
