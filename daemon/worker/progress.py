"""How far jobs are that are being worked on: in memory, and now and then in their records."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from daemon.errors import StoreError
from daemon.logs import LogOnce
from daemon.pipeline.records import Progress
from daemon.store.group_commit import Change
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)

NOTE_SECONDS = 0.5
"""Time between two notes of progress in the job store."""
NOTE_SECONDS_OF_SEVERAL = 1.0
"""The same where several jobs may be under way."""


@dataclass(frozen=True)
class Running:
    """The job that is being worked on."""

    job_id: str
    since: float
    """Monotonic time in seconds."""
    progress: Progress
    first_frames: int
    """Frames that an earlier attempt had finished."""

    def frames_per_second(self, now: float) -> float:
        """Return the speed of this attempt."""
        return (self.progress.frames_processed - self.first_frames) / max(now - self.since, 1e-6)


class ProgressNotes:
    """Puts how far jobs are into their records: of all that are under way in one commit, now and then.

    Args:
        store: Keeps the records.
        clock: Monotonic time in seconds.
        seconds: Time between two commits.
    """

    def __init__(self, store: JobStore, clock: Callable[[], float], seconds: float = NOTE_SECONDS) -> None:
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """Held by the one thread that waits for the disk."""
        self._under_way: set[str] = set()
        self._latest: dict[str, Progress] = {}
        """What is not noted yet, by job id."""
        self._noted = 0.0
        self._log_once = LogOnce(log)

    def begin(self, job_id: str) -> None:
        """Expect the progress of a job."""
        with self._lock:
            if not self._under_way:
                self._noted = self._clock()
            self._under_way.add(job_id)

    def add(self, job_id: str, progress: Progress) -> None:
        """Take in how far a job is, and note it if it is time. That it cannot be recorded is not an error."""
        with self._lock:
            self._latest[job_id] = progress
        if self._is_due() and self._writing.acquire(blocking=False):
            try:
                if self._is_due():
                    self._note(self._take())
            finally:
                self._writing.release()

    def drop(self, job_id: str) -> None:
        """Note no more of a job until it has progress again: its record is about to be told more than that."""
        with self._writing, self._lock:
            self._latest.pop(job_id, None)

    def end(self, job_id: str) -> None:
        """Expect no more progress of a job."""
        self.drop(job_id)
        with self._lock:
            self._under_way.discard(job_id)

    def _is_due(self) -> bool:
        return self._clock() - self._noted >= self._seconds and not self._store.problem

    def _take(self) -> dict[str, dict[str, int | None]]:
        with self._lock:
            self._noted = self._clock()
            latest, self._latest = self._latest, {}
        return {
            job_id: {"frames_processed": progress.frames_processed, "frames_total": progress.frames_total}
            for job_id, progress in latest.items()
        }

    def _note(self, latest: dict[str, dict[str, int | None]]) -> None:
        try:
            if len(latest) == 1:
                for job_id, fields in latest.items():
                    self._store.note(job_id, durable=False, **fields)
            else:
                changes = [Change(job_id, fields, durable=False) for job_id, fields in latest.items()]
                self._store.change_all(changes)
                for change in changes:
                    change.result()
            self._log_once.solved()
        except StoreError as error:
            self._log_once(f"Progress cannot be recorded: {error}")


class ProgressRecorder:
    """Keeps the progress of one job at a time in memory, and has it noted.

    Args:
        notes: Puts it into the record.
        clock: Monotonic time in seconds.
    """

    def __init__(self, notes: ProgressNotes, clock: Callable[[], float]) -> None:
        self._notes = notes
        self._clock = clock
        self._job_id = ""
        self._begun = 0.0
        self.running: Running | None = None
        """The job that is being worked on, from its first progress on."""

    def begin(self, job_id: str) -> None:
        """Expect the progress of a job."""
        self.running = None
        self._job_id = job_id
        self._begun = self._clock()
        self._notes.begin(job_id)

    def report(self, progress: Progress) -> None:
        """Take in how far the job is."""
        first = progress.frames_processed if self.running is None else self.running.first_frames
        self.running = Running(self._job_id, self._begun, progress, first)
        self._notes.add(self._job_id, progress)

    def done(self) -> None:
        """There is no more progress to note."""
        self._notes.drop(self._job_id)

    def end(self) -> None:
        """Nothing is being worked on any more."""
        self.running = None
        self._notes.end(self._job_id)
