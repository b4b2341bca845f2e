"""Clocks of a run: how long each stage was busy, how far the checksum is, and a call again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from daemon.errors import Interrupted
from daemon.pipeline.records import Frame, Progress

PROGRESS_SECONDS = 0.5
"""Time between two reports of progress."""
STOPPED = "The run was stopped; its finished segments are kept."


class Hashing:
    """Counts the steps of a checksum, or of a search in the video, and ends it with the run."""

    def __init__(self, should_stop: Callable[[], bool], on_step: Callable[[], None] = lambda: None) -> None:
        self._should_stop = should_stop
        self._on_step = on_step
        self._stopped = False
        self.steps = 0

    def stop(self) -> None:
        """Make the next step the last."""
        self._stopped = True

    def step(self) -> None:
        """Count a step."""
        self.steps += 1
        self._on_step()
        if self._stopped or self._should_stop():
            raise Interrupted(STOPPED)


class StageClock:
    """How long a stage has been busy and how often."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.steps = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time spent in the block."""
        begun = time.monotonic()
        yield
        self.seconds += time.monotonic() - begun
        self.steps += 1

    def making(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass frames on, counting the time that making them takes."""
        frames = iter(frames)
        while True:
            with self.running():
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


def never_down(on_progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return what tells of progress the most frames that there have been, and how far the work is now."""
    most = 0

    def report(progress: Progress) -> None:
        nonlocal most
        most = max(most, progress.frames_processed)
        on_progress(replace(progress, frames_processed=most))

    return report


@contextmanager
def every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call something again and again, from a thread, while the block runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
