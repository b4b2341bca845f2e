"""What a client says of an upload in pieces in its headers (tus 1.0)."""

from __future__ import annotations

import base64
import re

from starlette.requests import Request

from sidecar.problems import Problem, bad_field

PIECE_TYPE = "application/offset+octet-stream"
MOST_METADATA = 16_384


def is_piece(request: Request) -> bool:
    """Tell whether a body is a piece; parameters of its type say nothing that matters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == PIECE_TYPE


def refuse_unkept(request: Request) -> None:
    """Refuse what a client would rely on in vain."""
    if "upload-defer-length" in request.headers:
        raise bad_field("Upload-Defer-Length", "Send Upload-Length instead: how long the video is must be known.")
    if "upload-concat" in request.headers:
        raise bad_field("Upload-Concat", "Leave it out: a video is sent in one upload, its pieces one after the other.")
    if "idempotency-key" in request.headers:
        raise bad_field(
            "Idempotency-Key",
            "Leave it out: an upload in pieces is told by its Location, and goes on there after a cut.",
        )


def number(request: Request, header: str) -> int:
    """Return a number of bytes.

    Raises:
        Problem: 422, it is missing or not a whole number.
    """
    text = request.headers.get(header, "")
    if not re.fullmatch("[0-9]{1,18}", text):
        raise bad_field(header, f"Send {header} as a whole number of bytes.")
    return int(text)


def announced_bytes(request: Request, missing: int) -> int:
    """Return how long a piece is.

    Raises:
        Problem: 413, that is more than is missing.
    """
    announced = int(request.headers.get("content-length", missing))
    if 0 <= missing < announced:
        raise Problem(413, f"Only {missing} bytes of this upload are missing.", "too-large")
    return announced


def metadata(request: Request) -> tuple[dict[str, str], str]:
    """Return what the client says of the video, by key, and the header as it came.

    Raises:
        Problem: 422, it is too long or malformed, or names a key twice.
    """
    header = request.headers.get("upload-metadata", "").strip()
    wrong = bad_field("upload-metadata", "Send keys with values in Base64, separated by commas, of 16 kB at most.")
    if len(header) > MOST_METADATA:
        raise wrong
    values = {}
    for pair in filter(None, (pair.strip() for pair in header.split(","))):
        key, _, value = pair.partition(" ")
        if key in values:
            raise bad_field("upload-metadata", f"It names {key} twice; name each key once.")
        try:
            values[key] = base64.b64decode(value.strip(), validate=True).decode()
        except ValueError:
            raise wrong from None
    return values, header
