"""running_sidecar: the real sidecar process on a free port of the loopback, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
START_SECONDS = 120.0


@dataclass
class Sidecar:
    """A process that listens."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    home: Path
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def spool(self) -> Path:
        return self.home / "data" / "spool"

    def log(self) -> list[dict[str, Any]]:
        """Every line of the log; fails if one is not JSON."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def rss_bytes(self) -> int:
        """Memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_ms(self) -> float:
        """Processor time of the process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> socket.socket:
        """Open a raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def exchange(self, data: bytes) -> bytes:
        """Send bytes, return all that comes until the other side closes or 3 s have passed."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return read_all(connection)

    def left_in_spool(self) -> list[str]:
        """Names of videos and tickets, finished or not."""
        return sorted(p.name for p in self.spool.glob("*") if p.is_file()) if self.spool.exists() else []


def read_answer(connection: socket.socket) -> bytes:
    """Read one whole answer, as far as its length says."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if end and (length is None or len(body) >= int(length[1])):
            return received
        data = connection.recv(65_536)
        if not data:
            return received
        received += data


def read_all(connection: socket.socket, seconds: float = 3.0) -> bytes:
    """Read until the other side closes or nothing came for so long."""
    connection.settimeout(seconds)
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while data := connection.recv(65_536):
            received += data
    return received


@contextlib.contextmanager
def running_sidecar(home: Path, *flags: str, **settings: Any) -> Iterator[Sidecar]:
    """Start it and end it.

    Args:
        home: Of everything.
        flags: More command line flags.
        settings: By name; lists as lists.
    """
    home.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DROPFRAME_")}
    for name, value in settings.items():
        environment["DROPFRAME_" + name.upper()] = json.dumps(value) if isinstance(value, list) else str(value)
    log_path = home / f"sidecar-{time.monotonic_ns()}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "--home", str(home), "--port", "0", *flags],
            cwd=ROOT,
            env=environment,
            stderr=log,
        )
    try:
        yield Sidecar(process, wait_for_port(process, log_path), log_path, home)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def wait_for_port(process: subprocess.Popen[bytes], log_path: Path) -> int:
    """Return the port that a started sidecar has logged."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for line in log_path.read_text().splitlines():
            if '"listening"' in line:
                port: int = json.loads(line)["port"]
                return port
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"the sidecar did not start: {log_path.read_text()}")
