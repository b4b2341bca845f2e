"""UploadBody: the bytes of a video as they arrive in a request, held to the limits on size and pace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.requests import Request

from daemon.container_checks import HEAD_BYTES
from daemon.containers import first_bytes_problem, last_bytes_problem
from daemon.settings import Settings
from sidecar.client import ClientGone
from sidecar.multipart import FormReader, boundary_of
from sidecar.problems import Problem
from sidecar.upload_file import UploadFile

FORM_BYTES = 2 << 20
"""A form may be larger than its file by this much."""
CLOSE = {"connection": "close"}


def too_large(settings: Settings) -> Problem:
    """Return a 413."""
    return Problem(413, f"Videos of up to {settings.max_video_bytes} bytes are accepted.", "too-large")


class UploadBody:
    """The body of a submission: a form, or the video itself.

    Args:
        request: Whose.
        settings: Limits.

    Raises:
        Problem: 415 or 400, it is neither.
    """

    def __init__(self, request: Request, settings: Settings) -> None:
        self._request = request
        self._settings = settings
        self._form: FormReader | None = None
        if request.method == "POST":
            self._form = FormReader(boundary_of(request.headers.get("content-type", "")))
        self.size = 0
        """Bytes of video that have come."""

    @property
    def name(self) -> str:
        """The video's name as the client gave it."""
        if self._form is not None:
            return self._form.file_name or ""
        return str(self._request.path_params["filename"])

    @property
    def values(self) -> dict[str, str]:
        """What is asked for, as far as it has come; a form wins over the query."""
        asked = dict(self._request.query_params)
        return asked if self._form is None else asked | self._form.given()

    async def pieces(self) -> AsyncIterator[list[memoryview]]:
        """Yield the video's bytes as they come.

        Raises:
            Problem: 408 if they come too slowly, 413 if there are too many, 400 or 422 for a wrong form.
            ClientGone: the body ends before it is whole.
        """
        most = self._settings.max_video_bytes + FORM_BYTES
        async for data in received(self._request, self._settings, most):
            found = [memoryview(data)] if self._form is None else self._form.feed(data)
            self.size += sum(map(len, found))
            if self.size > self._settings.max_video_bytes:
                raise too_large(self._settings)
            yield found
        if self._form is not None:
            self._form.check_complete()

    async def store(self, file: UploadFile, count: Callable[[int], None]) -> None:
        """Write the video to the disk as it comes, once its first bytes look like a video that is taken.

        Args:
            file: Where to.
            count: Called with the number of bytes each time that some have come.

        Raises:
            Problem: as ``pieces``; 400 if it is not a video that is taken, 507 if the disk is nearly full.
            ClientGone: the body ends before it is whole.
            OSError: the disk refuses.
        """
        early: list[memoryview] = []
        checked = False
        async for pieces in self.pieces():
            count(sum(map(len, pieces)))
            if not checked:
                early += pieces
                if sum(map(len, early)) < HEAD_BYTES:
                    continue
                _check_first_bytes(early, self._settings.containers)
                checked, pieces, early = True, early, []
            if pieces:
                await file.write(pieces)
        if not checked:
            _check_first_bytes(early, self._settings.containers)
        await file.write(early)
        await file.finish()


class PieceBody:
    """A piece of a video that comes in several requests.

    Args:
        request: Whose body it is.
        settings: Limits.
        missing: Bytes of the video that have not come.
    """

    def __init__(self, request: Request, settings: Settings, missing: int) -> None:
        self._request = request
        self._settings = settings
        self._missing = missing

    async def store(self, file: UploadFile, count: Callable[[int], None]) -> None:
        """Write it as it comes, once the video's first bytes are there and look like one.

        Args:
            file: The part, open.
            count: Called with the number of bytes each time that some have come.

        Raises:
            Problem: 408 if it comes too slowly, 413 if it is more than is missing, 400 if it is not a video, 507 if the
                disk is nearly full.
            ClientGone: the body ends before it is whole; what has come is written.
            OSError: the disk refuses.
        """
        head = file.head(HEAD_BYTES)
        early: list[memoryview] = []  # what may not be of a video waits: then none of it is kept
        checked = len(head) == HEAD_BYTES
        async for data in received(self._request, self._settings, self._missing):
            count(len(data))
            self._missing -= len(data)
            early.append(memoryview(data))
            if not checked:
                head += data[: HEAD_BYTES - len(head)]
                if len(head) < HEAD_BYTES and self._missing:
                    continue
                _check_first_bytes([memoryview(head)], self._settings.containers)
                checked = True
            await file.write(early)
            early = []
        await file.write(early)  # too few to tell; the next piece is looked at together with them


async def received(request: Request, settings: Settings, most: int) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes, held to the limits on size and pace.

    Raises:
        Problem: 408 if it comes too slowly, 413 if there is more than allowed.
        ClientGone: it ends before it is whole.
    """
    loop = asyncio.get_running_loop()
    started, size = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout(settings.upload_stall_seconds):
                message = await request.receive()
        except TimeoutError:
            raise Problem(408, "Nothing was received for too long; submit again.", headers=CLOSE) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        body = message.get("body", b"")
        size += len(body)
        if size > most:
            raise too_large(settings)
        _check_pace(settings, size, loop.time() - started)
        if body:
            yield body
        if not message.get("more_body", False):
            return


def _check_pace(settings: Settings, size: int, seconds: float) -> None:
    slow = seconds > settings.upload_stall_seconds and size < seconds * settings.upload_min_rate
    if slow or seconds > settings.upload_max_seconds:
        raise Problem(408, "The upload is too slow; submit again over a faster connection.", headers=CLOSE)


def _check_first_bytes(pieces: list[memoryview], containers: str) -> None:
    if problem := first_bytes_problem(b"".join(pieces)[:HEAD_BYTES], containers):
        raise Problem(400, problem, "not-mp4")


def check_whole(path: Path, containers: str) -> None:
    """Look whether a video that has come can be analysed, be it cut.

    Raises:
        Problem: 400, it can't.
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        if problem := last_bytes_problem(file, os.fstat(file.fileno()).st_size, containers):
            raise Problem(400, problem, "not-mp4")
