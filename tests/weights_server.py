"""A server of weights on this machine, which can be slow, break off, or send something else."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from daemon.pipeline.pull import Official

CONTENT = np.random.default_rng(7).bytes(400_000)
OTHER = CONTENT[:-1] + b"!"


@dataclass
class Server:
    """Serves CONTENT, and can break off. It also answers as a proxy does: whatever address it is asked for."""

    url: str = ""
    content: bytes = CONTENT
    send_at_most: int | None = None
    pause_seconds: float = 0.0
    """Between two pieces of a hundredth of the content."""
    ranges: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def official(self, name: str = "tiny") -> dict[str, Official]:
        return {name: Official(self.url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())}


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    state = Server()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            state.addresses.append(self.path)
            if state.status != 200:
                self.send_error(state.status)
                return
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(state.content) - first))
            self.end_headers()
            body = state.content[first:][: state.send_at_most]
            with contextlib.suppress(ConnectionError):  # the other side may have heard enough
                for start in range(0, len(body), len(CONTENT) // 100):
                    self.wfile.write(body[start : start + len(CONTENT) // 100])
                    if state.pause_seconds and over.wait(state.pause_seconds):
                        return

        def log_message(self, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/m.pt"
    try:
        yield state
    finally:
        over.set()
        http.shutdown()
        thread.join()
        http.server_close()


def wait_until(what: object, seconds: float = 10.0) -> None:
    """Wait until a callable says so."""
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
