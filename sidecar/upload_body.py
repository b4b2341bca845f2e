"""UploadBody: the bytes of a video as they arrive in a request, held to the limits on size and pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request

from daemon.container_checks import HEAD_BYTES
from daemon.containers import first_bytes_problem
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
        async for data in self._received():
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
                self._check_first_bytes(early)
                checked, pieces, early = True, early, []
            if pieces:
                await file.write(pieces)
        if not checked:
            self._check_first_bytes(early)
        await file.write(early)
        await file.finish()

    async def _received(self) -> AsyncIterator[bytes]:
        settings, loop = self._settings, asyncio.get_running_loop()
        started, received = loop.time(), 0
        while True:
            try:
                async with asyncio.timeout(settings.upload_stall_seconds):
                    message = await self._request.receive()
            except TimeoutError:
                raise Problem(408, "Nothing was received for too long; submit again.", headers=CLOSE) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            body = message.get("body", b"")
            received += len(body)
            if received > settings.max_video_bytes + FORM_BYTES:
                raise too_large(settings)
            self._check_pace(received, loop.time() - started)
            if body:
                yield body
            if not message.get("more_body", False):
                return

    def _check_pace(self, received: int, seconds: float) -> None:
        settings = self._settings
        slow = seconds > settings.upload_stall_seconds and received < seconds * settings.upload_min_rate
        if slow or seconds > settings.upload_max_seconds:
            raise Problem(408, "The upload is too slow; submit again over a faster connection.", headers=CLOSE)

    def _check_first_bytes(self, pieces: list[memoryview]) -> None:
        if problem := first_bytes_problem(b"".join(pieces)[:HEAD_BYTES], self._settings.containers):
            raise Problem(400, problem, "not-mp4")
