"""Problem: the one error shape, ``application/problem+json`` (RFC 9457), made here for every path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status code.
        detail: One sentence that the caller can act on; holds no path and no stack trace.
        kind: Last part of ``type``, by which programs tell problems apart.
        headers: More response headers.
        extra: More members of the body.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        kind: str = "",
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind or HTTPStatus(status).phrase.lower().replace(" ", "-").replace("'", "")
        self.headers = dict(headers or {})
        self.extra = extra

    def to_record(self) -> dict[str, Any]:
        """Return the body."""
        return {
            "type": f"urn:dropframe:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }

    def body(self) -> bytes:
        """Return the body as bytes."""
        return json.dumps(self.to_record()).encode()

    def response(self) -> Response:
        """Return it as a response."""
        return Response(self.body(), self.status, {"cache-control": "no-store", **self.headers}, MEDIA_TYPE)


def bad_field(name: str, message: str) -> Problem:
    """Return a 422 that names one field."""
    return bad_fields({name: message})


def bad_fields(errors: Mapping[str, str]) -> Problem:
    """Return a 422 that names each wrong field and says what is wrong with it."""
    names = " and ".join(errors)
    return Problem(
        422,
        f"Correct {names}: {' '.join(errors.values())}",
        "bad-field",
        errors=[{"field": name, "message": message} for name, message in errors.items()],
    )


def unknown_job() -> Problem:
    """Return a 404 for an id that no job has."""
    return Problem(404, "There is no job with that id; ids come from the answer to a submit.", "unknown-job")


def busy(detail: str, kind: str, seconds: int) -> Problem:
    """Return a 503 that says when to come again."""
    return Problem(503, detail, kind, {"retry-after": str(seconds)})


DETAILS = {
    404: "There is nothing at this address; /docs lists the calls.",
    405: "This address does not answer to that method; the Allow header lists those that it answers to.",
}


def internal_error() -> Problem:
    """Return the 500 of a defect; what happened is in the log under the request's id."""
    return Problem(500, "Dropframe failed to answer; its log has the reason under the request id of this answer.")


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer with a problem that was raised."""
    assert isinstance(error, Problem)
    return error.response()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer with what Starlette itself raises: unknown routes, wrong methods, malformed bodies."""
    assert isinstance(error, HTTPException)
    detail = DETAILS.get(error.status_code, error.detail)
    return Problem(error.status_code, detail, headers=error.headers).response()
