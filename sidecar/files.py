"""SplicedFileResponse: an answer made of bytes and of parts of one open file, sent in constant memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sidecar.client import ClientGone, ClientStalled, until_gone
from sidecar.document import ByteRange
from sidecar.problems import Problem

NO_STORE = {"cache-control": "no-store"}
REVALIDATE = {"cache-control": "private, no-cache"}
"""Kept by the client, and asked about each time."""
CHUNK_BYTES = 256 << 10
GZIP_LEVEL = 1
_UNFIT = re.compile(r'[\x00-\x1f\x7f-\x9f"/\\\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
"""What a file's name must not have: it separates folders, ends the header, or makes the name read as another."""
_NOT_PLAIN = re.compile("[^ -$&-~]")
"""Beyond ASCII; and %, as some browsers decode what follows it."""
_ATTRIBUTE = "!#$&+-.^_`|~"
"""What RFC 8187 lets stand as it is."""
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
MOST_DIGITS = 18
"""Of a position that any file can have; a longer one means its end."""


class SplicedFileResponse(Response):
    """Sends pieces one after another and closes the file.

    Args:
        descriptor: The open file; closed at the end, however that comes.
        pieces: Bytes, and spans of the file.
        stall_seconds: A client that reads nothing for this long is disconnected.
        status_code: Of the answer.
        headers: Of the answer; the length is added.
        zipped: Compress on the way.
    """

    def __init__(
        self,
        descriptor: int,
        pieces: Sequence[bytes | ByteRange],
        stall_seconds: float,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        zipped: bool = False,
    ) -> None:
        self._descriptor = descriptor
        self._pieces = pieces
        self._stall_seconds = stall_seconds
        self._zipped = zipped
        self.status_code = status_code
        self.background = None
        self.init_headers(dict(headers or {}))
        if zipped:
            self.headers["content-encoding"] = "gzip"
        else:
            length = sum(len(p) if isinstance(p, bytes) else p.end - p.start for p in pieces)
            self.headers["content-length"] = str(length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything.

        Raises:
            ClientGone: the client has disconnected.
            ClientStalled: it reads nothing.
            EOFError: the file has become shorter.
        """
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(start)
            if scope["method"] != "HEAD":
                async for data in self._zip() if self._zipped else self._read():
                    if gone.done():
                        raise ClientGone
                    try:
                        async with asyncio.timeout(self._stall_seconds):
                            await send({"type": "http.response.body", "body": data, "more_body": True})
                    except TimeoutError:
                        raise ClientStalled from None
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            os.close(self._descriptor)

    async def _read(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            position = piece.start
            while position < piece.end:
                count = min(CHUNK_BYTES, piece.end - position)
                data = await asyncio.to_thread(os.pread, self._descriptor, count, position)
                if not data:  # shorter than promised: the connection is closed, so nobody takes it for whole
                    raise EOFError("a stored file became shorter while it was sent")
                position += len(data)
                yield data

    async def _zip(self) -> AsyncIterator[bytes]:
        packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
        async for data in self._read():
            if packed := await asyncio.to_thread(packer.compress, data):
                yield packed
        yield packer.flush()


def etag(*parts: object) -> str:
    """Return a strong ETag that differs when any of the parts does."""
    return '"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:32] + '"'


def matches(header: str | None, tag: str) -> bool:
    """Tell whether an If-None-Match names a tag; weakly compared, as RFC 9110 (13.1.2) wants."""
    if not header:
        return False
    return header.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in header.split(",")]


def content_disposition(source_name: str, ending: str = "") -> str:
    """Return the header that gives what is shown or saved the name of a video (RFC 6266).

    Args:
        source_name: Of the video; its folders are left out.
        ending: To be put after it.
    """
    name = _UNFIT.sub("_", source_name.rpartition("/")[2] or "video.mp4") + ending
    plain = _NOT_PLAIN.sub("_", name)
    header = f'inline; filename="{plain}"'
    # What the plain form cannot say is said in UTF-8 as well (RFC 8187).
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE)}"


@contextlib.contextmanager
def closed_on_error(descriptor: int) -> Iterator[None]:
    """Close an open file if the block fails; otherwise it stays open for the response."""
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def is_unchanged(validators: Validators, request: Request, descriptor: int) -> bool:
    """Tell whether a client has an open file already; the file is closed unless it is to be sent.

    Raises:
        Problem: 412, as ``Validators.unchanged``.
    """
    with closed_on_error(descriptor):
        unchanged = validators.unchanged(request)
    if unchanged:
        os.close(descriptor)
    return unchanged


def not_modified(headers: Mapping[str, str]) -> Response:
    """Return a 304 with the headers that the 200 would have."""
    return Response(status_code=304, headers={**REVALIDATE, **headers})


@dataclass(frozen=True)
class Validators:
    """What a client compares to know whether its copy of a file is still good."""

    etag: str
    modified: float
    """Seconds since 1970."""

    @property
    def last_modified(self) -> str:
        """The time as HTTP writes it, in whole seconds."""
        return formatdate(int(self.modified), usegmt=True)

    def headers(self) -> dict[str, str]:
        """Return both as headers."""
        return {"etag": self.etag, "last-modified": self.last_modified, **REVALIDATE}

    def unchanged(self, request: Request) -> bool:
        """Tell whether a client has this already: by ETag, else by time (RFC 9110, 13.2.2).

        Raises:
            Problem: 412, it wants another one than there is.
        """
        if not self._is_wanted(request):
            raise Problem(
                412, "It is not the one that If-Match or If-Unmodified-Since asks for; get it anew.", "precondition"
            )
        tags = request.headers.get("if-none-match")
        if tags is not None:
            return matches(tags, self.etag)
        since = _http_date(request.headers.get("if-modified-since"))
        return since is not None and int(self.modified) <= since

    def _is_wanted(self, request: Request) -> bool:
        tags = request.headers.get("if-match")
        if tags is not None:
            return tags.strip() == "*" or self.etag in [part.strip() for part in tags.split(",")]
        since = _http_date(request.headers.get("if-unmodified-since"))
        return since is None or int(self.modified) <= since

    def allow_range(self, request: Request) -> bool:
        """Tell whether a range may be sent: If-Range must name exactly this (RFC 9110, 13.1.5)."""
        wanted = request.headers.get("if-range", self.etag)
        return wanted in (self.etag, self.last_modified)


def _http_date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def wants_gzip(request: Request) -> bool:
    """Tell whether a client accepts gzip."""
    for part in request.headers.get("accept-encoding", "").split(","):
        name, _, quality = part.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", quality)
    return False


def wants_range(request: Request) -> bool:
    """Tell whether a request wants a part of a file."""
    return request.method == "GET" and request.headers.get("range", "").lower().startswith("bytes=")


def _position(digits: str) -> int:
    """Return a position in a file, however many digits a client writes."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= MOST_DIGITS else 10**MOST_DIGITS


def one_range(request: Request, size: int, validators: Validators) -> ByteRange | None:
    """Return the part of a file that a request wants, or None for all of it: also where it wants several parts.

    Only GET has ranges (RFC 9110, 14.2).

    Raises:
        Problem: 416, the range is outside the file, or malformed.
    """
    header = request.headers.get("range", "")
    if not wants_range(request) or "," in header or not validators.allow_range(request):
        return None
    unsatisfiable = {"content-range": f"bytes */{size}"}
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        raise Problem(416, "Ask for a range of bytes such as bytes=0-1023.", headers=unsatisfiable)
    if not found[1]:
        start, end = max(0, size - _position(found[2])), size
    else:
        start, end = _position(found[1]), min(size, _position(found[2] or str(size)) + 1)
    if start >= end:
        raise Problem(416, f"That range is outside the file, which has {size} bytes.", headers=unsatisfiable)
    return ByteRange(start, end)
