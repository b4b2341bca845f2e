"""A service that speaks S3 (moto, a process of its own), and a bad line to it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests import programs

KEY_ID, SECRET = "AKIAEXAMPLEKEYID0001", "a-Secret/That+Nobody-May-Read"
SIGNED = {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, Signature=x"}
REGION = "us-east-1"
START_SECONDS = 60.0
ANSWERS = {
    "503": ("503 Slow Down", "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"),
    "expired": (
        "400 Bad Request",
        f"<Error><Code>ExpiredToken</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><Message>{SECRET}</Message></Error>",
    ),
    "denied": ("403 Forbidden", f"<Error><Code>AccessDenied</Code><Message>{KEY_ID}</Message></Error>"),
}
"""What the line answers itself. A service that repeats what nobody may read is the worst case."""


@dataclass
class Service:
    """An empty service, and what it holds."""

    url: str

    def make(self, bucket: str) -> None:
        httpx.put(f"{self.url}/{bucket}", headers=SIGNED).raise_for_status()

    def put(self, bucket: str, key: str, content: bytes) -> None:
        httpx.put(f"{self.url}/{bucket}/{key}", headers=SIGNED, content=content, timeout=60).raise_for_status()

    def get(self, bucket: str, key: str) -> bytes:
        return httpx.get(f"{self.url}/{bucket}/{key}", headers=SIGNED, timeout=60).raise_for_status().content

    def delete(self, bucket: str, key: str) -> None:
        httpx.delete(f"{self.url}/{bucket}/{key}", headers=SIGNED).raise_for_status()

    def keys(self, bucket: str) -> list[str]:
        listed = httpx.get(f"{self.url}/{bucket}?list-type=2", headers=SIGNED).raise_for_status().text
        return sorted(part.partition("</Key>")[0] for part in listed.split("<Key>")[1:])


@contextlib.contextmanager
def running_service(log: Path) -> Iterator[Service]:
    """Run moto's server."""
    program = programs.find("moto")
    assert program is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    with open(log, "wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            service = Service(f"http://127.0.0.1:{port}")
            deadline = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(service.url)
                    break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield service
        finally:
            process.kill()


@dataclass
class Line:
    """A line to a service that does what is set here."""

    url: str = ""
    answer: str | None = None
    """Instead of the service: one of ANSWERS."""
    refuses: bool = False
    """Every connection is ended at once."""
    is_silent: bool = False
    """Requests are taken and nothing comes back."""
    cut_after: int | None = None
    """A connection is cut when so many bytes have come from the service."""
    cut_sending_after: int | None = None
    """The same of bytes to the service."""
    pause_seconds: float = 0.0
    """Between two pieces of what the service says."""
    heard: str = ""
    """The heads of the first requests of connections."""


@contextlib.contextmanager
def line_to(service: Service) -> Iterator[Line]:
    """Listen on a port that leads to a service."""
    line, target = Line(), ("127.0.0.1", int(service.url.rpartition(":")[2]))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        over = threading.Event()
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                with contextlib.suppress(ConnectionError):
                    near, _ = listening.accept()
                    if over.is_set():
                        near.close()
                        return
                    threads.append(threading.Thread(target=_serve, args=(line, near, target)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield line
        finally:
            over.set()
            socket.create_connection(listening.getsockname()).close()
            line.refuses = True
            for thread in (accepting, *threads):
                thread.join()


def _serve(line: Line, near: socket.socket, target: tuple[str, int]) -> None:
    with contextlib.suppress(OSError), near:
        near.settimeout(0.2)
        if line.refuses:
            return
        if (answer := line.answer) is not None:  # it may be another one by the time it is sent
            near.settimeout(5)
            near.recv(65_536)
            status, body = ANSWERS[answer]
            near.sendall(
                f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
            )
            return
        with socket.create_connection(target) as far:
            far.settimeout(0.2)
            back = threading.Thread(target=_pass_on, args=(line, far, near, False))
            back.start()
            _pass_on(line, near, far, True)
            back.join()


def _pass_on(line: Line, source: socket.socket, target: socket.socket, sending: bool) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while not line.refuses:
            try:
                piece = source.recv(65_536)
            except TimeoutError:
                continue
            if line.is_silent and not sending:
                continue
            most = line.cut_sending_after if sending else line.cut_after
            if not piece or (most is not None and passed + len(piece) > most):
                target.sendall(piece[: max(0, (most or 0) - passed)])
                break
            if sending and not passed:
                line.heard += piece.partition(b"\r\n\r\n")[0].decode("latin-1")
            target.sendall(piece)
            passed += len(piece)
            if not sending and line.pause_seconds:
                time.sleep(line.pause_seconds)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
