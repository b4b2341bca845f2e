"""PipelineChild: a running pipeline process, and the thread that reads its answers."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from daemon.errors import PipelineDied
from daemon.ipc.child import resident_bytes, without_credentials
from daemon.settings import Settings

log = logging.getLogger(__name__)


class PipelineChild:
    """A running pipeline process and the thread that reads its answers."""

    def __init__(self, settings: Settings, cores: Sequence[int] | None) -> None:
        # A fresh program, never a fork: threads and CUDA do not survive one. A session of its own, so that
        # it is ended together with what it started.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "daemon.pipeline.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=without_credentials(),
        )
        self._answers: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self.answered_last = True
        """Whether the last run has been answered, so that the child is idle."""
        self._reader = threading.Thread(target=self._read, name="pipeline-answers", daemon=True)
        try:
            self._reader.start()
        except RuntimeError as error:  # too many threads just now
            self._process.kill()
            self._process.wait()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        self._write({"parent": os.getpid(), "settings": settings.for_children(), "cores": cores})

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, **request: Any) -> None:
        """Send one request."""
        if request["kind"] != "stop":
            self.answered_last = False
        self._write(request)

    def _write(self, value: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it died; answer() says how
            log.debug("the pipeline process no longer reads")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._answers.put(json.loads(line))
            except ValueError:  # killed in the middle of a line
                break
        self._answers.put(None)

    def answer(self, seconds: float) -> Mapping[str, Any] | None:
        """Return the next answer, or None if none comes in time.

        Raises:
            PipelineDied: the child is dead.
        """
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        if answer is None:
            raise PipelineDied(f"The pipeline process {self._how_it_ended()} on this video.")
        if answer["kind"] in ("done", "error"):
            self.answered_last = True
        return answer

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with code {code}"

    def resident_bytes(self) -> int:
        """Return the memory that it holds."""
        return resident_bytes(self._process.pid)

    def kill(self) -> None:
        """End it and everything that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
