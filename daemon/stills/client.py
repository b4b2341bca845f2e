"""StillsProcess: the parent's end of the process that makes pictures; Stills: makes those that are asked for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.errors import DropframeError, Interrupted, StoredFileMissing
from daemon.fs.atomic import sweep
from daemon.fs.space import DiskGuard
from daemon.ipc.child import resident_bytes, without_credentials
from daemon.jobs import is_job_id, output_key
from daemon.logs import LogOnce
from daemon.pipeline.video_limits import Limits
from daemon.settings import Settings
from daemon.stills import files
from daemon.stills.files import NoStill, NotMadeYet, StillRequest
from daemon.threads import join

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
"""Time between two looks at what is asked for."""
FRESH_SECONDS = 0.1
"""A folder changed so lately may change again without another time stamp."""
WATCH_SECONDS = 0.1
"""Time between two looks at a child: its memory, and whether it should stop."""
MOST_SECONDS = 60.0
"""A picture that takes longer is given up."""
MEMORY_BYTES = 2_000_000_000
"""A child that holds more is ended."""
IDLE_SECONDS = 60.0
"""A child that has nothing to do for so long is ended."""
SWEEP_SECONDS = 60.0
"""Time between two looks for pictures whose video is gone."""
LEFTOVER_SECONDS = 60.0
"""Age at which an unfinished file was left by a child that was killed."""
KEPT_PART = 0.8
"""Of the pictures that are kept at most; so much is left when they have become too many."""
JOIN_SECONDS = 2.0
"""Time that the thread gets to end its child at shutdown."""


class StillsProcess:
    """Keeps one process that makes pictures, starting it when needed; used by one thread, which must outlive it.

    Args:
        settings: What a video may be.
    """

    def __init__(self, settings: Settings) -> None:
        self._limits = asdict(Limits.of(settings))
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self._child is not None

    def make(
        self,
        video: Path,
        document: Path,
        output: Path,
        request: StillRequest,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make a picture and wait for it.

        Args:
            video: Of the job.
            document: Its result, if it has one.
            output: Where the picture goes; it appears whole or not at all.
            request: Which picture.
            should_stop: Asked several times a second.

        Raises:
            NoStill: there is none; or not now, if it is ``passing``.
            Interrupted: ``should_stop`` said so.
        """
        wanted = {"index": request.index, "seconds": request.seconds, "width": request.width, "boxes": request.boxes}
        paths = {"video": str(video), "document": str(document), "output": str(output)}
        try:
            answer = self._exchange(wanted | paths, should_stop)
        except OSError as error:
            self.close()
            raise NoStill(f"The process that makes pictures cannot be used: {error.strerror}.", True) from error
        except BaseException:
            self.close()
            raise
        if answer["problem"] is not None:
            raise NoStill(answer["problem"], answer["passing"])

    def _exchange(self, request: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        child = self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        deadline = time.monotonic() + MOST_SECONDS
        while not select.select([child.stdout], [], [], WATCH_SECONDS)[0]:
            if should_stop():
                raise Interrupted("Dropframe is stopping.")
            if time.monotonic() > deadline:
                raise NoStill(f"The picture could not be made within {MOST_SECONDS:.0f} s.")
            if resident_bytes(child.pid) > MEMORY_BYTES:
                raise NoStill(f"The picture takes more than {MEMORY_BYTES / 1e9:.0f} GB of memory.")
        line = child.stdout.readline()
        if not line.endswith(b"\n"):
            raise _died(child)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        # A session of its own, so that it is ended together with what it started.
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "daemon.stills.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=without_credentials(),
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps({"parent": os.getpid(), "limits": self._limits}).encode() + b"\n")
        return child

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


def _died(child: subprocess.Popen[bytes]) -> NoStill:
    code = child.wait()
    if code == -signal.SIGKILL:  # somebody ended it, perhaps for memory that others need
        return NoStill("The process that makes pictures was ended; try again.", passing=True)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return NoStill(f"The process that makes pictures {how} on this video.")


class Stills:
    """Makes the pictures that are asked for in the spool, in a thread of its own, one at a time.

    Args:
        settings: Of the home.
        clock: Monotonic time in seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._data_dir, self._spool_dir = settings.data_dir, settings.spool_dir
        self._clock = clock
        self._process = StillsProcess(settings)
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="stills", daemon=True)
        self._stamp = 0
        self._used = self._sweep_due = 0.0
        self._kept_bytes = 0
        self._log_once = LogOnce(log)

    def start(self) -> None:
        """Begin to look for requests."""
        self._thread.start()

    def stop(self) -> None:
        """End the process and the thread."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def _loop(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.step()
            except Interrupted:
                break
            except (OSError, DropframeError) as error:
                self._log_once(f"Making pictures goes on after an error: {error}")
                self._stopping.wait(1.0)
            except Exception:
                log.exception("Making pictures goes on after an unexpected error")
                self._stopping.wait(1.0)
        self._process.close()

    def step(self) -> None:
        """Do what is due: make what is asked for, remove what is not to be kept, end a process that is idle.

        Raises:
            Interrupted: Dropframe is stopping.
            OSError: a folder cannot be used just now.
        """
        now = self._clock()
        if now >= self._sweep_due:
            self._sweep_due = now + SWEEP_SECONDS
            self._sweep()
        if self._has_changed():
            for path, request in list(files.requests(self._spool_dir)):
                path.unlink(missing_ok=True)
                if request is not None:
                    self._serve(request)
                    self._used = self._clock()
        if self._process.runs and self._clock() - self._used > IDLE_SECONDS:
            self._process.close()

    def close(self) -> None:
        """End the process, where no thread was started."""
        self._process.close()

    def _has_changed(self) -> bool:
        """Tell whether the spool may hold a request that has not been seen."""
        try:
            stamp = self._spool_dir.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if stamp == self._stamp:
            return False
        self._stamp = 0 if time.time_ns() - stamp < FRESH_SECONDS * 1e9 else stamp
        return True

    def _serve(self, request: StillRequest) -> None:
        try:
            video = files.video_of(self._data_dir, self._spool_dir, request.job_id)
            files.open_still(self._data_dir, request).close()
        except (StoredFileMissing, NoStill):
            return
        except NotMadeYet:
            pass
        else:
            return
        output = request.path(self._data_dir)
        try:
            self._make(video, output, request)
        except NoStill as problem:
            output = output.with_name(request.name + files.PROBLEM)
            files.write_problem(self._data_dir, request, problem)
        self._log_once.solved()
        self._bound(output)
        if not video.exists() and not self._has_video(request.job_id):  # its job was deleted meanwhile
            files.forget(self._data_dir, request.job_id)

    def _make(self, video: Path, output: Path, request: StillRequest) -> None:
        if problem := self._disk.shortage():
            log.warning("No picture is made: %s", problem)
            raise NoStill("The disk is too full for a picture.", passing=True)
        document = self._data_dir / output_key(request.job_id)
        output.parent.mkdir(parents=True, exist_ok=True)
        self._process.make(video, document, output, request, self._stopping.is_set)

    def _has_video(self, job_id: str) -> bool:
        with contextlib.suppress(StoredFileMissing):
            files.video_of(self._data_dir, self._spool_dir, job_id)
            return True
        return False

    def _bound(self, new: Path) -> None:
        """Count a new file, and remove the oldest ones if there are too many."""
        with contextlib.suppress(FileNotFoundError):
            self._kept_bytes += _taken_bytes(new.stat())
        most = self._settings.keep_stills_bytes
        if not most or self._kept_bytes <= most:
            return
        kept = sorted(self._kept(), key=lambda file: file[1].st_mtime_ns)
        self._kept_bytes = sum(_taken_bytes(status) for _, status in kept)
        for path, status in kept:
            if self._kept_bytes <= most * KEPT_PART:
                break
            if path != new:
                path.unlink(missing_ok=True)
                self._kept_bytes -= _taken_bytes(status)

    def _kept(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for job_id in self._ids():
            folder = files.folder_of(self._data_dir, job_id)
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                found += [(Path(entry.path), entry.stat(follow_symlinks=False)) for entry in entries]
        return found

    def _ids(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [name for name in os.listdir(self._data_dir / files.FOLDER) if is_job_id(name)]
        return []

    def _sweep(self) -> None:
        """Remove the pictures of videos that are gone, and what killed processes left; count the others."""
        for job_id in self._ids():
            if not self._has_video(job_id):
                files.forget(self._data_dir, job_id)
            else:
                sweep(files.folder_of(self._data_dir, job_id), LEFTOVER_SECONDS)
        self._kept_bytes = sum(_taken_bytes(status) for _, status in self._kept())


def _taken_bytes(status: os.stat_result) -> int:
    return status.st_blocks * 512
