"""SidecarServer: uvicorn with deadlines, limits and the one error shape where it has none of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon.errors import MachineError
from daemon.settings import Settings
from sidecar.problems import MEDIA_TYPE, Problem, busy

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 3
"""Open requests have this long to end; an upload that is still arriving then is cut, and its part removed."""
KEEP_ALIVE_SECONDS = 5
MAX_HEADER_BYTES = 65_536
BODY_BYTES = 256 << 10
"""Most bytes of a body that wait for the application before reading pauses."""
READ_BYTES = 1 << 20
"""Taken from a connection at a time: less work for each byte of an upload than with the 256 KiB of asyncio."""
BACKLOG = 1024
"""Connections that may wait to be accepted."""
ACCEPTED_AT_ONCE = 8
"""In a turn of the loop: those above the limit are closed a few turns later, before there is no file left for more."""
SPARE_FILES = 64
"""Open files that connections leave for everything else."""


class Connection(H11Protocol):
    """A connection with a deadline for each head, and for what is left of a body after its answer."""

    header_seconds = 10.0
    max_connections = 1000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; above the limit the connection that has waited longest without a request makes room."""
        self._deadline: asyncio.TimerHandle | None = None
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # an attribute of asyncio's own
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and not self._make_room():
            problem = busy("Too many connections are open; try again in a moment.", "connections", 2)
            transport.write(_raw(problem))
            transport.close()
            return
        self._set_deadline()

    def _make_room(self) -> bool:
        idle = [c for c in self.connections if isinstance(c, Connection) and c is not self and c.idle]
        oldest = min(idle, key=lambda c: c.deadline_at, default=None)
        if oldest is None:
            return False
        oldest.transport.abort()
        self.connections.discard(oldest)
        return True

    @property
    def idle(self) -> bool:
        """Whether no request is being served."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def deadline_at(self) -> float:
        """Loop time of the deadline, seconds."""
        return self._deadline.when() if self._deadline else 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self.transport.is_closing():
            return
        if self._deadline is None:
            if self.idle:
                self._set_deadline()
            elif self._take_body(data):
                return
        try:
            super().data_received(data)
        except UnicodeDecodeError:  # a request target outside ASCII
            self.send_400_response("")
            return
        if not self.idle:
            self._clear_deadline()

    def _take_body(self, data: bytes) -> bool:
        """Hand bytes from the middle of a body on as they are; return False if h11 must look at them.

        By way of h11 each byte is copied four times. Uploads of 500 MB over the loopback into the spool, medians of 12
        paired rounds (``python -m benchmarks.servers``): 0.78 s this way, 1.39 s by way of h11, 0.98 s with uvicorn's
        httptools protocol and the same reads of 1 MiB; as a form 0.84 s, 1.33 s and 1.04 s.

        Only h11's count of what is still to come must be kept right. Where h11 is made otherwise than we know,
        everything goes by way of it.
        """
        reader = getattr(self.conn, "_reader", None)
        known = type(reader).__name__ == "ContentLengthReader"
        remaining = getattr(reader, "_remaining", 0) if known else 0
        if (
            remaining <= len(data)
            or self.conn.their_state is not h11.SEND_BODY
            or self.conn.our_state not in (h11.SEND_RESPONSE, h11.SEND_BODY)
            or self.conn.trailing_data[0]
        ):
            return False
        reader._remaining = remaining - len(data)  # type: ignore[union-attr]
        cycle: Any = self.cycle
        cycle.body = cycle.body + data if cycle.body else data
        if len(cycle.body) > BODY_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()
        return True

    def on_response_complete(self) -> None:
        """Wait for the next request, but not for ever for the rest of this one's body."""
        self._clear_deadline()
        if self.conn.their_state is h11.SEND_BODY:
            self._set_deadline()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the one error shape, and close."""
        self._clear_deadline()
        if self.transport.is_closing():
            return
        error = Problem(400, "That is not a well-formed HTTP request.", "bad-request")
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_raw(error))
        self.transport.close()

    def _set_deadline(self) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(self.header_seconds, self._too_late)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self.transport.write(_raw(Problem(408, "The head of the request came too slowly; send it again.")))
        self.transport.close()


def _raw(problem: Problem) -> bytes:
    """Return a whole HTTP answer."""
    body = problem.body()
    lines = [
        f"HTTP/1.1 {problem.status} {problem.to_record()['title']}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "connection: close",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class SidecarServer(uvicorn.Server):
    """uvicorn's server, ended by a signal with exit code 0.

    Args:
        config: Of uvicorn.
        on_stop: Called once when it is to end.
        on_start: Called with the port once it listens.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None], on_start: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._on_start = on_start

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let signals set a flag; a second one ends what is left at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: Any = None) -> None:
        """Listen.

        Raises:
            MachineError: the address cannot be used.
        """
        try:
            await super().startup(sockets)
        except SystemExit as error:  # how uvicorn ends when it cannot listen
            raise _cannot_listen(self.config, error.__context__) from error
        if self.started:
            for listening in self.servers[0].sockets:
                with listening.dup() as same:
                    same.listen(BACKLOG)
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: Any = None) -> None:
        """Refuse new requests, give open ones a few seconds, then end them."""
        self._on_stop()
        await super().shutdown(sockets)


def _cannot_listen(config: uvicorn.Config, error: BaseException | None) -> MachineError:
    address = f"{config.host}, port {config.port}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return MachineError(
            f"Another program listens on {address} already (ss -ltnp shows which). End it, or set another port: "
            "port in dropframe.toml, or --port."
        )
    return MachineError(f"The sidecar cannot listen on {address}: {error}. Set another host or port.")


def make_server(settings: Settings, app: Any, on_start: Callable[[int], None]) -> SidecarServer:
    """Return a server that is ready to run."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connection = type(
        "LimitedConnection",
        (Connection,),
        {
            "header_seconds": settings.header_seconds,
            "max_connections": max(8, min(settings.max_connections, limit - SPARE_FILES)),
        },
    )
    config = uvicorn.Config(
        app,
        host=settings.host.strip("[]"),
        port=settings.port,
        backlog=ACCEPTED_AT_ONCE,
        http=connection,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return SidecarServer(config, app.state.stop, on_start)
