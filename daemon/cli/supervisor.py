"""Run processes side by side: restart one that dies, stop all together."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
_prctl: Any = None
with contextlib.suppress(TypeError):  # of Windows, which has no library of all
    _prctl = getattr(ctypes.CDLL(None), "prctl", None)

FINAL = frozenset({0, 2, 5})
"""Exit codes after which a restart would change nothing: done; wrong settings or an unusable machine at first."""
LONGEST_WAIT_SECONDS = 30.0
STABLE_SECONDS = 60.0
"""A process that ran this long is restarted soon; one that dies earlier waits longer each time."""
STOP_SECONDS = 9.5
STEP_SECONDS = 0.2


def supervise(commands: Mapping[str, Sequence[str]], on_step: Callable[[], None] = lambda: None) -> int:
    """Run commands until a signal comes or one of them cannot be run at all.

    Args:
        commands: Program and arguments by the name to show.
        on_step: Called several times a second.

    Returns:
        The exit code to end with: 0 after a signal, else that of the process that gave up.
    """
    stopping: list[int] = []  # not an Event: setting one in the thread that waits for it could wait for ever
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    processes = {name: Supervised(name, command) for name, command in commands.items()}
    try:
        while not stopping:
            for process in processes.values():
                ended = process.step(time.monotonic())
                if ended is not None:
                    return ended
            on_step()
            time.sleep(STEP_SECONDS)
        return 0
    finally:
        for process in processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in processes.values():
            process.wait(max(0.0, deadline - time.monotonic()))


def _end_with(parent: int) -> None:
    """Have the kernel end this process when the one that started it is killed, so that none is left alone."""
    if _prctl is not None:  # only Linux has it
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


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
        self._has_run = False

    def step(self, now: float) -> int | None:
        """Start the process if that is due; notice if it has exited.

        Args:
            now: Monotonic time in seconds.

        Returns:
            An exit code after which a restart makes no sense, else None.
        """
        if self._process is None:
            if now >= self._due:
                self._start(now)
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        if now - self._started > STABLE_SECONDS:
            self._wait_seconds = 1.0
            self._has_run = True
        # One that has run well may find a folder or a port away for a while when it is started again.
        if code == 0 or (code in FINAL and not self._has_run):
            log.warning("%s exited with code %d; shutting down", self._name, code)
            return code
        self._start_later(now, f"exited with code {code}")
        return None

    def _start(self, now: float) -> None:
        try:
            # A session of its own: a Ctrl-C in the terminal comes to us alone, and we end them in order.
            self._process = subprocess.Popen(
                self._command, start_new_session=True, preexec_fn=functools.partial(_end_with, os.getpid())
            )
        except OSError as error:  # too many processes, or too little memory, just now
            self._start_later(now, f"could not be started ({error.strerror})")
        self._started = now

    def _start_later(self, now: float, why: str) -> None:
        log.warning("%s %s; restarting in %.0f s", self._name, why, self._wait_seconds)
        self._due = now + self._wait_seconds
        self._wait_seconds = min(LONGEST_WAIT_SECONDS, self._wait_seconds * 2)

    def terminate(self) -> None:
        """Ask the process to exit."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until it exits; kill it if it does not in time."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("%s did not exit in time; killing it", self._name)
            self._process.kill()
            self._process.wait()
