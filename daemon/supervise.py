"""Start processes side by side, start again one that dies, end all together."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

FINAL = frozenset({0, 2, 5})
"""Exit codes after which starting again would change nothing: done, wrong settings, unusable machine."""
LONGEST_WAIT_SECONDS = 30.0
STABLE_SECONDS = 60.0
"""A process that ran this long starts again at once; one that dies sooner waits longer each time."""
STOP_SECONDS = 9.5


def supervise(commands: Mapping[str, Sequence[str]]) -> int:
    """Run commands until a signal comes or one of them cannot be run at all.

    Args:
        commands: Program and arguments by the name to show.

    Returns:
        The exit code to end with: 0 after a signal, else that of the process that gave up.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    processes = {name: Supervised(name, command) for name, command in commands.items()}
    code = 0
    try:
        while not stopping.wait(0.2):
            for process in processes.values():
                ended = process.step(time.monotonic())
                if ended is not None:
                    code = ended
                    stopping.set()
    finally:
        for process in processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in processes.values():
            process.wait(max(0.0, deadline - time.monotonic()))
    return code


class Supervised:
    """One command and its process.

    Args:
        name: Shown in messages.
        command: Program and arguments.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._name = name
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._due = 0.0
        self._wait_seconds = 1.0

    def step(self, now: float) -> int | None:
        """Start the process if it is due, notice if it ended.

        Args:
            now: Monotonic time in seconds.

        Returns:
            An exit code after which starting again makes no sense, else None.
        """
        if self._process is None:
            if now >= self._due:
                # A session of its own: a Ctrl-C in the terminal comes to us alone, and we end them in order.
                self._process = subprocess.Popen(self._command, start_new_session=True)
                self._started = now
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        if code in FINAL:
            return code
        if now - self._started > STABLE_SECONDS:
            self._wait_seconds = 1.0
        log.warning("the %s ended with code %d and is started again in %.0f s", self._name, code, self._wait_seconds)
        self._due = now + self._wait_seconds
        self._wait_seconds = min(LONGEST_WAIT_SECONDS, self._wait_seconds * 2)
        return None

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait for its end, then make it end."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("the %s did not end in time and is killed", self._name)
            self._process.kill()
            self._process.wait()
