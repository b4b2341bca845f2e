"""Retention: remove videos, results and rejected files that are older, or together larger, than the settings keep.

Everything is kept unless a ``keep_…`` setting says otherwise. Only what has ended is ever looked at, the oldest
goes first, and a job's record stays and says since when its video or result is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from daemon.errors import DropframeError, MachineError, StoreLocked
from daemon.fs.folders import Folders
from daemon.fs.identity import shown
from daemon.ingest.names import OPTIONS_SUFFIX
from daemon.ingest.rejected import members, regular_bytes
from daemon.ingest.rejected import rejected_files as rejected_on_disk
from daemon.jobs import Job, JobStatus, input_key, is_job_id, output_key, utc_now
from daemon.logs import LogOnce
from daemon.objects.result_store import owed_by
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.threads import join
from daemon.worker.outbox import Outbox
from daemon.worker.outbox_exports import withdraw_exports

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
"""Time between two cleanings by the daemon."""
JOIN_SECONDS = 1.0
"""Time that a cleaning gets to end at shutdown; it can be cut off anywhere."""


class Kind(StrEnum):
    """What has a limit of its own."""

    SOURCE = "source"
    """The stored video of a job that has ended, and its options file."""
    RESULT = "result"
    """The result document of a completed job, and its copy in the outbox."""
    REJECTED = "rejected"
    """A rejected file, its reason and its options file."""


@dataclass(frozen=True)
class Expired:
    """One thing that retention may remove."""

    kind: Kind
    name: str
    """Below the data folder, or below the inbox for a rejected file."""
    since: datetime
    """When its job ended, or when it was rejected; aware."""
    size_bytes: int
    job_id: str | None = None


def limits(settings: Settings, kind: Kind) -> tuple[float, int]:
    """Return the days and the bytes that are kept of a kind; 0 means no limit."""
    return {
        Kind.SOURCE: (settings.keep_source_days, settings.keep_source_bytes),
        Kind.RESULT: (settings.keep_result_days, settings.keep_result_bytes),
        Kind.REJECTED: (settings.keep_rejected_days, settings.keep_rejected_bytes),
    }[kind]


def wanted(settings: Settings) -> bool:
    """Tell whether anything is ever to be removed."""
    return any(limit for kind in Kind for limit in limits(settings, kind))


def plan(settings: Settings, find: Callable[[str], Job | None], now: datetime) -> list[Expired]:
    """Return what is to be removed, the oldest of each kind first; change nothing.

    Args:
        settings: Folders and limits.
        find: Returns a job by its id.
        now: The present, aware.

    Raises:
        OSError: the data folder or the rejected files cannot be read.
    """
    found: list[Expired] = []
    for kind in Kind:
        days, most_bytes = limits(settings, kind)
        if not days and not most_bytes:
            continue
        held = rejected_files(settings) if kind is Kind.REJECTED else stored_files(settings, kind, find)
        oldest_first = sorted(held, key=lambda expired: (expired.since, expired.name))
        total = sum(expired.size_bytes for expired in oldest_first)
        for expired in oldest_first:
            too_old = bool(days) and now - expired.since > timedelta(days=days)
            too_much = bool(most_bytes) and total > most_bytes
            if not too_old and not too_much:
                break
            found.append(expired)
            total -= expired.size_bytes
    return found


def stored_files(settings: Settings, kind: Kind, find: Callable[[str], Job | None]) -> Iterator[Expired]:
    """Yield the stored videos of jobs that have ended, or the results of completed ones."""
    with contextlib.suppress(FileNotFoundError), os.scandir(settings.videos_dir) as entries:
        for entry in entries:
            job_id = entry.name[:36]
            key = input_key(job_id) if kind is Kind.SOURCE else output_key(job_id)
            if not is_job_id(job_id) or entry.name != Path(key).name:
                continue
            job = find(job_id)
            if job is None or not job.ended or (kind is Kind.RESULT and not _may_go(settings, job)):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    ended = datetime.fromisoformat(job.finished_at or job.updated_at)
                    yield Expired(kind, key, ended, status.st_size, job_id)


def _may_go(settings: Settings, job: Job) -> bool:
    """Tell whether there is a result, and no copy of it is owed to a bucket that is away: it may be the only one."""
    return job.status is JobStatus.COMPLETED and not (settings.result_store and owed_by(job))


def rejected_files(settings: Settings) -> Iterator[Expired]:
    """Yield the rejected files. A file without a reason beside it was put there by somebody else and is left alone."""
    for rejected in rejected_on_disk(settings.inbox_dir):
        yield Expired(Kind.REJECTED, rejected.path, rejected.since, rejected.size_bytes)


class Retention:
    """Cleans up once an hour, in a thread of its own: a folder that does not answer holds up nothing else.

    Args:
        settings: Folders and limits.
        store: Gets to know what is gone.
        outbox: Holds the copies of results.
    """

    def __init__(self, settings: Settings, store: JobStore, outbox: Outbox) -> None:
        self._settings = settings
        self._store = store
        self._outbox = outbox
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._log_once = LogOnce(log)

    def step(self, now: float) -> None:
        """Begin a cleaning if one is due and the settings ask for it.

        Args:
            now: Monotonic time in seconds.
        """
        if now < self._due or not wanted(self._settings) or (self._thread and self._thread.is_alive()):
            return
        self._due = now + EVERY_SECONDS
        self._thread = threading.Thread(target=self.clean, name="retention", daemon=True)
        self._thread.start()

    def shutdown(self) -> None:
        """End a cleaning that is going on."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def clean(self) -> list[Expired]:
        """Remove what is to be removed now; what cannot be removed stays for the next time.

        Returns:
            What is gone.
        """
        removed: list[Expired] = []
        try:
            for expired in plan(self._settings, self._store.find, datetime.now(UTC)):
                if self._stopping.is_set():
                    break
                try:
                    if self._remove(expired):
                        removed.append(expired)
                except (OSError, DropframeError) as error:
                    log.warning("Retention cannot remove the %s %s: %s", expired.kind, shown(expired.name), error)
        except (OSError, DropframeError) as error:
            self._log_once(f"Retention stopped at an error and tries again in an hour: {error}")
        else:
            self._log_once.solved()
        for kind in Kind:
            if sizes := [expired.size_bytes for expired in removed if expired.kind is kind]:
                log.info("Retention removed %d %s files, %d bytes.", len(sizes), kind, sum(sizes))
        return removed

    def _remove(self, expired: Expired) -> bool:
        if expired.job_id is None:
            return self._remove_rejected(expired)
        # The record comes first, so that no kill leaves one that promises what is gone; the next cleaning removes
        # what a kill left. Once it says so the job cannot be retried, so it stays ended while its video goes.
        job = self._note(expired.kind, expired.job_id, utc_now())
        path = self._settings.data_dir / expired.name
        try:
            if job.ended:
                if expired.kind is Kind.RESULT:
                    with path.open("rb") as document:
                        self._outbox.withdraw(job, document)
                    withdraw_exports(self._outbox, job)
                path.unlink()
        finally:
            if path.exists():
                self._note(expired.kind, expired.job_id, None)
        if expired.kind is Kind.SOURCE and job.ended:
            path.with_name(job.job_id + OPTIONS_SUFFIX).unlink(missing_ok=True)
        return job.ended

    def _note(self, kind: Kind, job_id: str, removed_at: str | None) -> Job:
        if kind is Kind.SOURCE:
            return self._store.note(job_id, source_removed_at=removed_at)
        return self._store.note(job_id, result_removed_at=removed_at)

    def _remove_rejected(self, expired: Expired) -> bool:
        folder, _, name = expired.name.rpartition("/")
        with Folders(self._settings.inbox_dir) as folders:
            descriptor = folders.get(folder)
            for member in members(name, descriptor):
                if regular_bytes(member, descriptor) is not None:
                    os.unlink(member, dir_fd=descriptor)
        return True


def clean_without_daemon(settings: Settings) -> list[Expired]:
    """Clean up now; return what is gone.

    Raises:
        MachineError: a daemon is running, which does it by itself.
        StoreError: the job store cannot be opened.
    """
    try:
        with JobStore.open(settings.data_dir) as store:
            outbox = Outbox(settings.outbox_dir, store.jobs(JobStatus.COMPLETED))
            return Retention(settings, store, outbox).clean()
    except StoreLocked as error:
        raise MachineError(
            "A daemon is running here and cleans up once an hour; while it runs, only --dry-run is possible."
        ) from error
