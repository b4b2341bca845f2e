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
KINDS = {
    "bad-request": (400, "It is not well-formed HTTP."),
    "bad-form": (400, "The form does not fit its boundary, ends early, or has too much besides its file."),
    "not-mp4": (400, "The file is not a video that is taken, or ends before anything in it can be shown."),
    "no-token": (401, "A token is needed, and it is missing or unknown."),
    "rights": (403, "The token may read only."),
    "foreign-origin": (403, "The page that calls belongs to another site."),
    "not-found": (404, "There is nothing at this address."),
    "unknown-job": (404, "No job has that id."),
    "unknown-pipeline": (404, "No pipeline has that id."),
    "unknown-format": (404, "There is no such format of exports."),
    "no-result": (404, "The job is not completed; `job_status` says what it is."),
    "file-gone": (404, "The video or the result has been deleted."),
    "method-not-allowed": (405, "The address does not answer to that method."),
    "request-timeout": (408, "The request came too slowly."),
    "wrong-state": (409, "That cannot be done to a job in this state; `job_status` says which it is."),
    "nothing-derived": (409, "Nothing can be derived from the result; `detail` says why."),
    "no-picture": (409, "There is no such picture of the video, or it cannot be decoded; `detail` says why."),
    "nothing-exported": (409, "The result does not have what the format needs; `detail` says what."),
    "key-in-use": (409, "An upload with the same Idempotency-Key is under way, or its job is being deleted."),
    "upload-offset": (409, "The piece does not begin where the upload ends; `Upload-Offset` says where that is."),
    "upload-superseded": (409, "A later request of the client goes on with the upload."),
    "upload-ended": (409, "The upload is complete, and a job."),
    "job-deleted": (410, "The job was deleted; `deleted_at` says when."),
    "precondition": (412, "The file is not the one that `If-Match` or `If-Unmodified-Since` asks for."),
    "tus-version": (412, "That version of tus is not supported; `Tus-Version` says which one is."),
    "too-large": (413, "The video is larger than `max_video_bytes`, or a piece than what is missing of its upload."),
    "unsupported-media-type": (415, "The body is not of the type that the call takes."),
    "range-not-satisfiable": (416, "The range is outside the file, or malformed."),
    "unknown-host": (421, "The Host header does not name this service."),
    "bad-field": (422, "A field, query parameter or header is wrong or unknown; `errors` names each."),
    "upload-locked": (423, "Another request writes to the upload."),
    "client-limit": (429, "The client has its share of requests, waiting calls or uploads open."),
    "internal-server-error": (500, "A defect of Dropframe; its log has the reason under the request id."),
    "damaged-result": (500, "The stored result cannot be read."),
    "not-ready": (503, "Of `/readyz`: a part is not well; `parts` says which."),
    "queue-full": (503, "`max_queue` jobs are waiting, or as many uploads in pieces have been begun."),
    "uploads": (503, "`max_uploads` uploads are under way."),
    "requests": (503, "`max_requests` requests are being served, or too many calls wait."),
    "connections": (503, "`max_connections` connections are open."),
    "exports": (503, "100 exports are waited for."),
    "export-failed": (503, "The export could not be made just now; `detail` says why."),
    "storage": (503, "The disk refuses the upload for another reason than being full."),
    "store": (503, "The job store cannot be read at the moment."),
    "pictures": (503, "No picture can be made at the moment; `detail` says why."),
    "search": (503, "The search took too long."),
    "stopping": (503, "Dropframe is stopping."),
    "disk-full": (
        507,
        "The disk has no room for the video beside what other uploads have announced, or for an export.",
    ),
}
"""The last part of every ``type``: its status and what it means. They never change: programs look at them."""
USUAL_KINDS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    415: "unsupported-media-type",
    416: "range-not-satisfiable",
    500: "internal-server-error",
}
"""By status, where a problem names no kind of its own."""
TITLES = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
"""As in RFC 9110; older Pythons have other words for these."""


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status code.
        detail: One sentence that the caller can act on; holds no path and no stack trace.
        kind: One of ``KINDS``; by default the usual one of the status.
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
        self.kind = kind or USUAL_KINDS[status]
        self.headers = dict(headers or {})
        self.extra = extra

    def to_record(self) -> dict[str, Any]:
        """Return the body."""
        return {
            "type": f"urn:dropframe:problem:{self.kind}",
            "title": TITLES.get(self.status) or HTTPStatus(self.status).phrase,
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
    return Problem(404, "There is no job with that id; ids come from the answer to a submission.", "unknown-job")


def deleted_job(job_id: str, deleted_at: str) -> Problem:
    """Return a 410 for a job that was deleted."""
    return Problem(410, f"The job was deleted at {deleted_at}.", "job-deleted", job_id=job_id, deleted_at=deleted_at)


def busy(detail: str, kind: str, seconds: int) -> Problem:
    """Return a 503 that says when to try again."""
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
    kind = USUAL_KINDS.get(error.status_code, "bad-request")
    return Problem(error.status_code, detail, kind, error.headers).response()
