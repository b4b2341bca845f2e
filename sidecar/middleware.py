"""RequestMiddleware: every request gets an id, the guard, a limit, one log line and an answer, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.auth import Guard
from sidecar.client import ClientGone, ClientStalled
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


class RequestMiddleware:
    """The outermost middleware.

    Args:
        app: What is behind it.
        guard: Says who may pass.
        metrics: Counts answers.
        max_requests: Served at a time.
    """

    def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics, max_requests: int) -> None:
        self._app = app
        self._guard = guard
        self._metrics = metrics
        self._max_requests = max_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        own_id = headers.get(b"x-request-id", b"")
        if not _ID.fullmatch(own_id):
            own_id = secrets.token_hex(8).encode()
        request_id.set(own_id.decode())
        origin = self._guard.allowed_origin(headers) if b"origin" in headers else None
        more = [(b"x-request-id", own_id), *_FIXED, *_allow_origin(origin)]
        started, status = time.perf_counter(), 0

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        self._metrics.in_flight += 1
        note = ""
        try:
            answer = self._answer_here(scope, headers, origin)
            if answer is not None:
                await answer.response()(scope, receive, send_more)
            elif origin and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await _preflight(send_more)
            else:
                await self._app(scope, receive, send_more)
        except ClientGone:
            note = "the client left"
        except ClientStalled:
            note = "the client took nothing for too long"
            raise
        except asyncio.CancelledError:
            note = "cut short at shutdown"
            if not status:
                problem = busy("Dropframe is stopping; try again in a moment.", "stopping", 10)
                await problem.response()(scope, receive, send_more)
        except Exception:
            log.exception("a request failed")
            if status:
                raise  # too late for another answer: the server closes the connection
            await internal_error().response()(scope, receive, send_more)
        finally:
            self._metrics.in_flight -= 1
            seconds = time.perf_counter() - started
            self._metrics.count(scope["method"], status, seconds)
            # Pages, monitors and programs ask all the time; a line for each answer would bury the others.
            usual = scope["method"] in ("GET", "HEAD") and 0 < status < 400 and not note
            level = logging.DEBUG if usual else logging.INFO
            if log.isEnabledFor(level):
                _log(level, scope, status, seconds, note)

    def _answer_here(self, scope: Scope, headers: Mapping[bytes, bytes], origin: str | None) -> Problem | None:
        """Let a request pass, or say why not."""
        if origin and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            return None  # a browser asks without credentials whether its page may call; nothing else is told
        try:
            scope["token_name"] = self._guard.check(scope["method"], headers)
        except Problem as problem:
            return problem
        if self._metrics.in_flight > self._max_requests and scope["path"] not in HEALTH_PATHS:
            return busy("Too many requests are being served; try again in a moment.", "requests", 2)
        return None


def _allow_origin(origin: str | None) -> list[tuple[bytes, bytes]]:
    if origin is None:
        return [(b"vary", b"origin")]
    return [
        (b"vary", b"origin"),
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"etag, location, retry-after, x-request-id, idempotency-replayed"),
    ]


async def _preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT"),
        (b"access-control-allow-headers", b"authorization, content-type, idempotency-key, if-none-match, range"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


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
