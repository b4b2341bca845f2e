"""CompletedCommand: a program of the operator's that is run for each job that completes (``on_completed``)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from daemon.fs.identity import shown
from daemon.webhook_settings import ON_COMPLETED, EventType
from daemon.webhooks.delivery import Delivery, DeliveryEnd
from daemon.webhooks.event import Event

TRY_AGAIN = 75
"""The exit code with which a program says that it is worth trying again later: ``EX_TEMPFAIL`` of sysexits.h."""
LOOK_SECONDS = 0.1
"""Time between two looks at the program."""
TAIL_BYTES = 500
"""Of what it says on its standard error, the end that is told."""
MOST_ERROR_BYTES = 64 << 20
"""A program that writes more on its standard error is ended."""


class CompletedCommand:
    """Runs the program in a process group of its own, which is ended as a whole.

    Args:
        command: The program and its arguments.
        seconds: Longest time of a run.
        folder: Where it runs.
        record: Returns what a job's program reads, by the job's id; None for a job that was deleted.
    """

    key = ON_COMPLETED
    types = frozenset({EventType.COMPLETED})

    def __init__(
        self, command: Sequence[str], seconds: float, folder: Path, record: Callable[[str], dict[str, Any] | None]
    ) -> None:
        self.name = shown(command[0])
        self._command = list(command)
        self._seconds = seconds
        self._folder = folder
        self._record = record
        self._aborted = False

    def deliver(self, event: Event) -> Delivery:
        """Run the program for the job that an event is about; a code of 0 says that it has done its work."""
        record = self._record(event.subject)
        if record is None:
            return Delivery(DeliveryEnd.DONE)  # nobody needs to hear of a job that has been deleted
        try:
            with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
                told.write(json.dumps(record).encode() + b"\n")
                told.seek(0)
                return self._run(told, said)
        except OSError as error:
            return Delivery(DeliveryEnd.AGAIN, f"{self.name} cannot be run: {error.strerror}.")

    def abort(self) -> None:
        """End a run that is going on."""
        self._aborted = True

    def _run(self, told: BinaryIO, said: BinaryIO) -> Delivery:
        process = subprocess.Popen(
            self._command,
            stdin=told,
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=self._folder,
            start_new_session=True,
        )
        try:
            problem = self._wait(process, said)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it started and has left behind
            process.wait()
        if self._aborted and problem:
            return Delivery(DeliveryEnd.AGAIN, problem)
        if problem:
            return Delivery(DeliveryEnd.FINAL, problem)
        return self._ended(process.returncode, said)

    def _wait(self, process: subprocess.Popen[bytes], said: BinaryIO) -> str | None:
        """Wait for the end of a run; return why it has to be ended, or None."""
        deadline = time.monotonic() + self._seconds
        while True:
            if _has_ended(process):
                return None
            if self._aborted:
                return "Dropframe is stopping."
            if time.monotonic() >= deadline:
                return f"{self.name} took longer than {self._seconds:g} s (on_completed_seconds) and was ended."
            if os.fstat(said.fileno()).st_size > MOST_ERROR_BYTES:
                return f"{self.name} wrote more than {MOST_ERROR_BYTES} bytes on its standard error and was ended."
            time.sleep(LOOK_SECONDS)

    def _ended(self, code: int, said: BinaryIO) -> Delivery:
        if code == 0:
            return Delivery(DeliveryEnd.DONE)
        said.seek(max(0, os.fstat(said.fileno()).st_size - TAIL_BYTES))
        words = shown(" ".join(said.read(TAIL_BYTES).decode(errors="replace").split()))
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        end = DeliveryEnd.AGAIN if code == TRY_AGAIN else DeliveryEnd.FINAL
        return Delivery(end, f"{self.name} {how}{f': {words}' if words else '.'}")


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, and leave it to be waited for: till then no other group has its number."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
