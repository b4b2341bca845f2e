"""The application's middleware: what each request gets, whatever happens to it.

``RequestMiddleware`` is the outermost: an id, a log line, an entry in the metrics. ``GuardMiddleware`` decides who may
pass and answers with a problem where an endpoint has failed. Where pages of other sites may call, ``CrossOrigin``
stands between the two, so that such a page can read problems as well.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.auth import Guard, foreign_origin
from sidecar.client import ClientGone, ClientStalled
from sidecar.limits import Slots
from sidecar.logs import request_id
from sidecar.metrics import Metrics
from sidecar.problems import Problem, busy, internal_error

log = logging.getLogger("sidecar.requests")

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered also when there are too many requests."""
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_FIXED = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
TUS_HEADERS = ("Tus-Resumable", "Upload-Length", "Upload-Metadata", "Upload-Offset")
ALLOWED_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "If-Modified-Since", "If-None-Match", "Range"),
    "X-HTTP-Method-Override",
    *TUS_HEADERS,
)
EXPOSED_HEADERS = (
    "Content-Disposition",
    "ETag",
    "Last-Modified",
    "Location",
    "Retry-After",
    "X-Request-Id",
    "Idempotency-Replayed",
    *("Tus-Version", "Tus-Extension", "Tus-Max-Size", "Upload-Expires"),
    *TUS_HEADERS,
)


class RequestMiddleware:
    """Gives every request an id, one log line and an entry in the metrics.

    Args:
        app: What is behind it.
        metrics: Counts answers.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._health_status: dict[str, int] = {}
        """The last answer of each health path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        if not _ID.fullmatch(own_id):
            own_id = secrets.token_hex(8).encode()
        request_id.set(own_id.decode())
        more = [(b"x-request-id", own_id), *_FIXED]
        started, note = time.perf_counter(), ""
        scope["answered"] = 0

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["answered"] = message["status"]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, send_more)
        except ClientGone:
            note = "the client left"
        except ClientStalled:
            note = "the client took nothing for too long"
            raise
        except asyncio.CancelledError:
            note = "cut short at shutdown"
        finally:
            self._metrics.in_flight -= 1
            self._note(scope, time.perf_counter() - started, note)

    def _note(self, scope: Scope, seconds: float, note: str) -> None:
        status = scope["answered"]
        self._metrics.count(scope["method"], status, seconds)
        # Pages, monitors and programs ask all the time; a line for each answer would bury the others.
        known = self._is_known(scope["path"], status)
        usual = scope["method"] in ("GET", "HEAD") and (0 < status < 400 or known) and not note
        level = logging.DEBUG if usual else logging.INFO
        if log.isEnabledFor(level):
            _log(level, scope, status, seconds, note)

    def _is_known(self, path: str, status: int) -> bool:
        """Tell whether a health path answers as it did before."""
        if path not in HEALTH_PATHS:
            return False
        before, self._health_status[path] = self._health_status.get(path), status
        return before == status


def _log(level: int, scope: Scope, status: int, seconds: float, note: str) -> None:
    client = scope.get("client")
    fields = {
        "method": scope["method"],
        "path": scope["path"][:500],
        "status": status,
        "ms": round(seconds * 1000, 1),
        "client": client[0] if client else "",
    }
    if token := scope.get("token_name"):
        fields["token"] = token
    if note:
        fields["note"] = note
    log.log(level, "answered", extra={"fields": fields})


class CrossOrigin(CORSMiddleware):
    """Starlette's, with refusals in the one error shape.

    Args:
        app: What is behind it.
        origins: Of the sites whose pages may call.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Say whether a page may make a call; a browser asks without credentials, and nothing else is told."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            del response.headers["content-length"], response.headers["content-type"]
            return Response(status_code=204, headers=dict(response.headers))
        return foreign_origin().response()


class GuardMiddleware:
    """Lets pass who may call, while there is room, and answers where what is behind it has failed.

    Args:
        app: What is behind it.
        guard: Says who may pass.
        slots: Counts the requests being served.
    """

    def __init__(self, app: ASGIApp, guard: Guard, slots: Slots) -> None:
        self._app = app
        self._guard = guard
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope["token_name"] = self._guard.check(scope["method"], dict(scope["headers"]), scope["path"])
            if scope["path"] in HEALTH_PATHS:
                await self._app(scope, receive, send)
                return
            with self._slots.hold(scope):
                await self._app(scope, receive, send)
        except Problem as problem:
            await problem.response()(scope, receive, send)
        except (ClientGone, ClientStalled):
            raise
        except asyncio.CancelledError:
            if not scope["answered"]:
                stopping = busy("Dropframe is stopping; try again in a moment.", "stopping", 10)
                await stopping.response()(scope, receive, send)
            raise
        except Exception:
            log.exception("a request failed")
            if scope["answered"]:
                raise  # too late for another answer: the server closes the connection
            await internal_error().response()(scope, receive, send)
