"""TroubledLine: a line to a real sidecar that is killed, and lines that are cut, when so many bytes have passed."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.sidecar_process import Sidecar, running_sidecar

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""
PIECE_BYTES = 256 << 10


class TroubledLine:
    """Passes connections on to a sidecar, which is started again after each kill.

    Args:
        home: Of the sidecar.
        troubles: How many bytes from clients have passed, and what happens then: ``kill`` or ``cut``.
        settings: Of the sidecar.
    """

    def __init__(self, home: Path, troubles: Sequence[tuple[int, str]], **settings: Any) -> None:
        self.happened: list[str] = []
        self.sidecar: Sidecar
        self._home = home
        self._settings = settings
        self._troubles = list(troubles)
        self._passed = 0
        self._lock = threading.Lock()
        self._sidecars = contextlib.ExitStack()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> TroubledLine:
        self.sidecar = self._sidecars.enter_context(running_sidecar(self._home, **self._settings))
        self._run(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, as closing does not
        self._server.close()
        for connection in list(self._open):
            self._close(connection)
        for thread in self._threads:
            thread.join()
        self._sidecars.close()

    def _run(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self._open.add(near)
                try:
                    far = socket.create_connection(("127.0.0.1", self.sidecar.port), 30)
                except OSError:  # it is being started again
                    self._close(near)
                    continue
                self._open.add(far)
                self._run(self._carry, near, far, True)
                self._run(self._carry, far, near, False)

    def _carry(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                if from_client and self._makes_trouble(len(data)):
                    break
                target.sendall(data)
        for connection in (source, target):
            self._close(connection)

    def _makes_trouble(self, size: int) -> bool:
        with self._lock:
            self._passed += size
            if not self._troubles or self._passed < self._troubles[0][0]:
                return False
            _, trouble = self._troubles.pop(0)
            if trouble == "kill":
                self.sidecar.process.send_signal(signal.SIGKILL)
                self.sidecar.process.wait()
                self.sidecar = self._sidecars.enter_context(running_sidecar(self._home, **self._settings))
            self.happened.append(trouble)
            return True

    def _close(self, connection: socket.socket) -> None:
        self._open.discard(connection)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
        connection.close()
