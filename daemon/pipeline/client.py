"""PipelineProcess: the parent's end of the pipeline process. It outlives whatever happens to the child."""

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
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon import errors
from daemon.errors import (
    DropframeError,
    Interrupted,
    JobError,
    MachineError,
    PipelineDied,
    PipelineStalled,
    ResourceUnavailable,
)
from daemon.fs.identity import shown
from daemon.ipc.child import resident_bytes, without_credentials
from daemon.pipeline.patience import Patience
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.weights_watch import Seen, WeightsWatch
from daemon.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Time between two looks at a running child: its memory, and whether it should stop."""


@dataclass(frozen=True)
class RunRequest:
    """One run of ``VideoFilePipelineService.run_on_file``."""

    file_path: Path
    pipeline_id: str
    frame_stride: int
    max_frames: int | None
    output_path: Path
    source_name: str

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "file_path": str(self.file_path), "output_path": str(self.output_path)}


@dataclass(frozen=True)
class Ready:
    """What a child says once its models are loaded."""

    device: str
    """``cpu`` or ``cuda:N``."""
    models: list[dict[str, Any]]
    """ModelInfo records, for a 1280x720 video."""


class ModelsRefused(Exception):
    """A child says that it cannot load its models; ``error`` says why."""

    def __init__(self, error: DropframeError) -> None:
        super().__init__(str(error))
        self.error = error


class PipelineProcess:
    """Keeps one pipeline process, starting it when needed.

    Args:
        settings: Handed to the child; time and memory limits are kept here.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: _Child | None = None
        self._was_ready = False
        self._weights = WeightsWatch(settings)
        self._memory_limit = settings.memory_limit_bytes or machine_memory() * 6 // 10
        self.ready: Ready | None = None
        """What is loaded, once a child has started."""

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> Ready:
        """Start the child if it is not up, and wait until its models are loaded.

        One that is up is replaced if other weights have been put in place since; should they be unusable, it stays.

        Raises:
            MachineError: the device, the text engine or a library is missing.
            ModelError: the weights cannot be used.
            PipelineDied: the child ended while it loaded.
            ResourceUnavailable: no process can be started now, or it is refused though a child was ready before.
            PipelineStalled: it did not get ready within ``start_seconds``.
            Interrupted: ``should_stop`` said so.
        """
        if self._child is not None and self.ready is not None and self._child.alive:
            if (seen := self._weights.changed()) is None:
                return self.ready
            return self._exchange(self.ready, seen, should_stop)
        self.close()
        seen = self._weights.now()
        try:
            self._child, self.ready = self._load(should_stop)
        except ModelsRefused as refused:
            error = refused.error
            if self._was_ready:  # it worked before: somebody is exchanging weights, so it is not the job's fault
                raise ResourceUnavailable(f"The pipeline cannot be started again just now: {error}") from error
            raise error from None
        self._weights.loaded(seen)
        self._was_ready = True
        return self.ready

    def _exchange(self, before: Ready, seen: Seen, should_stop: Callable[[], bool]) -> Ready:
        """Load other weights beside the child that is up, so that one is up whatever happens."""
        self._weights.loaded(seen)
        try:
            child, ready = self._load(should_stop)
        except Interrupted:
            raise
        except (DropframeError, ModelsRefused) as error:
            name = shown(Path(seen[0]).name)
            log.warning("%s cannot be used, so what was loaded before stays in use: %s", name, error)
            return before
        self.close()
        self._child, self.ready = child, ready
        log.info("%s is used from now on", shown(Path(seen[0]).name))
        return ready

    def _load(self, should_stop: Callable[[], bool]) -> tuple[_Child, Ready]:
        """Start a child and wait until its models are loaded; raises what ``start`` does, and ModelsRefused."""
        try:
            child = _Child(self._settings)
        except OSError as failed:  # too many processes, too little memory, or its program is being exchanged
            raise ResourceUnavailable(f"The pipeline process cannot be started: {failed.strerror}.") from failed
        deadline = time.monotonic() + self._settings.start_seconds
        try:
            while (answer := child.answer(LOOK_SECONDS)) is None:
                if should_stop():
                    raise Interrupted("Dropframe is stopping.")
                if time.monotonic() > deadline:
                    raise PipelineStalled(
                        f"The models were not loaded within {self._settings.start_seconds:.0f} s (start_seconds)."
                    )
                self._check_memory(child)
            if answer["kind"] == "refused":
                raise ModelsRefused(_error(answer))
        except BaseException:
            child.kill()
            raise
        return child, Ready(answer["device"], answer["models"])

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RunReport:
        """Run one request and wait for its end.

        Raises:
            JobError: the run ended without a result; the kind says why. After PipelineDied and
                PipelineStalled the next run gets a fresh child.
            MachineError: a child could not be started.
        """
        self.start(should_stop)
        child = self._child
        assert child is not None
        patience = Patience(self._settings)
        child.send(kind="run", **request.to_record())
        try:
            while True:
                answer = child.answer(LOOK_SECONDS)
                patience.looked()
                if answer is None:
                    self._check_memory(child)
                elif answer["kind"] == "progress":
                    progress = Progress(answer["frames_processed"], answer["frames_total"], answer["steps"])
                    patience.progressed(progress.steps)
                    on_progress(progress)
                elif answer["kind"] == "done":
                    return RunReport(**answer["report"])
                else:
                    raise _error(answer)
                if not patience.stopping and should_stop():
                    patience.stopping = True
                    child.send(kind="stop")
                patience.check()
        except BaseException as error:  # also what on_progress raises
            if not child.answered_last or isinstance(error, PipelineDied):  # it is still at work, or dead
                self.close()
            raise

    def _check_memory(self, child: _Child) -> None:
        if child.resident_bytes() > self._memory_limit:
            raise PipelineDied(
                f"The pipeline used more than {self._memory_limit / 1e9:.1f} GB of memory on this video and was "
                "ended (memory_limit_bytes)."
            )

    def resident_bytes(self) -> int:
        """Return the memory that the child holds, 0 without one."""
        return 0 if self._child is None else self._child.resident_bytes()

    def close(self) -> None:
        """End the child and everything that it started."""
        if self._child is not None:
            self._child.kill()
            self._child = None
            self.ready = None


class _Child:
    """A running pipeline process and the thread that reads its answers."""

    def __init__(self, settings: Settings) -> None:
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
        # Secrets are no business of the process that reads strangers' videos.
        told = {**settings.model_dump(mode="json", exclude={"webhooks"}), "webhooks": []}
        self._write({"parent": os.getpid(), "settings": told})

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, **request: Any) -> None:
        if request["kind"] == "run":
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
        return resident_bytes(self._process.pid)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


def _error(answer: Mapping[str, Any]) -> errors.DropframeError:
    kind = getattr(errors, answer["error"], errors.TransientError)
    if not issubclass(kind, JobError | MachineError):
        kind = errors.TransientError
    error: errors.DropframeError = kind(answer["message"])
    return error


def machine_memory() -> int:
    """Return the memory that this machine, or the container that we run in, has in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no limit, or none that we can see
        return total
    return min(total, limit)
