"""State: what the sidecar knows of jobs and the daemon, kept fresh by one task, and the public view of a job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.errors import StoreError
from daemon.fs.space import DiskGuard
from daemon.fs.storage import LocalStorageService
from daemon.ipc import health
from daemon.ipc.health import Heartbeat, Part, judge
from daemon.ipc.systemd import notify
from daemon.jobs import JobStatus
from daemon.logs import LogOnce
from daemon.public_job import RunningFacts, to_public
from daemon.settings import Settings
from sidecar.files import etag
from sidecar.job_view import JobView
from sidecar.problems import busy, deleted_job, unknown_job

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""Time between two looks at the job store and the spool: how late a change can be seen."""
HEARTBEAT_SECONDS = 0.5
"""Time between two looks at the daemon's heartbeat."""
MISS_SECONDS = 0.01
"""Least time between two extra looks for ids that are not known."""


class State:
    """Everything the endpoints read.

    Args:
        settings: Of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage = LocalStorageService(settings.data_dir)
        self.spool_dir = settings.spool_dir
        self.jobs = JobView(settings.data_dir, self.spool_dir)
        self.heartbeat: Heartbeat | None = None
        self.store_problem: str | None = "The job store has not been read yet."
        self.stopping = False
        self._log_problem = LogOnce(log, logging.ERROR)
        self._changed = asyncio.Event()
        self._public: dict[str, tuple[bytes, str]] = {}
        self._heartbeat_due = 0.0
        self._looked = 0.0

    # Keeping up.

    def step(self, now: float, force: bool = False) -> None:
        """Look once for changes, and wake those who wait for them.

        Args:
            now: Monotonic time in seconds.
            force: Look at the spool even if it seems unchanged.
        """
        news = False
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + HEARTBEAT_SECONDS
            notify("WATCHDOG=1")
            before = self.heartbeat
            self.heartbeat = health.read(self.settings.data_dir) or before  # its age tells when it cannot be read
            news = before != self.heartbeat
        try:
            news |= self.jobs.refresh(force)
        except StoreError as error:
            self._log_problem(f"the job store cannot be read: {error}")
            self.store_problem = "The job store cannot be read; the log of the sidecar says why."
        else:
            self.store_problem = None
            self._log_problem.solved()
        if news:
            self.wake()

    async def main_loop(self) -> None:
        """Keep up until cancelled."""
        while True:
            try:
                self.step(time.monotonic())
            except Exception:
                log.exception("looking for changes failed and is tried again")
                await asyncio.sleep(1.0)
            await asyncio.sleep(POLL_SECONDS)

    def wake(self) -> None:
        """Wake everybody who waits, to look again."""
        self._public.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, seconds: float) -> None:
        """Return when something may have changed, or after that many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def stop(self) -> None:
        """Wake everybody who waits, for the last time."""
        self.stopping = True
        self.wake()

    def close(self) -> None:
        """Close the files."""
        self.jobs.close()

    # Public view.

    def record(self, job_id: str) -> Mapping[str, Any]:
        """Return a job's record.

        Raises:
            Problem: 404 if there is none, 410 if it was deleted, 503 if that cannot be known.
        """
        record = self.jobs.find(job_id)
        if record is None and time.monotonic() - self._looked > MISS_SECONDS:
            # It may be younger than the last look.
            self.step(time.monotonic(), force=True)
            self._looked = time.monotonic()
            record = self.jobs.find(job_id)
        if record is not None:
            return record
        if self.store_problem:
            raise busy(self.store_problem, "store", 5)
        if deleted_at := self.jobs.deleted_at(job_id):
            raise deleted_job(job_id, deleted_at)
        raise unknown_job()

    def to_public(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job as callers see it: the members of a PublicJob."""
        return to_public(record, self.jobs.queue_position(record), self._running_facts(record))

    def waiting_files(self) -> list[dict[str, Any]]:
        """Return the files of the inbox that are not jobs yet, with the reasons; none while no daemon looks at them."""
        heartbeat = self.heartbeat
        if heartbeat is None or not heartbeat.is_running(datetime.now(UTC)):
            return []
        return [asdict(file) for file in heartbeat.inbox.waiting]

    def _running_facts(self, record: Mapping[str, Any]) -> RunningFacts | None:
        running = self.heartbeat.all_running().get(record["job_id"]) if self.heartbeat else None
        if record["status"] != JobStatus.RUNNING or running is None:
            return None
        return RunningFacts(running.frames_processed, running.frames_total, running.frames_per_second)

    def public_json(self, job_id: str) -> tuple[bytes, str]:
        """Return a job as callers see it, and an ETag of that; made once until something changes.

        Raises:
            Problem: 404 if there is none, 503 if that cannot be known.
        """
        known = self._public.get(job_id)
        if known is None:
            body = json.dumps(self.to_public(self.record(job_id)), separators=(",", ":")).encode()
            known = self._public[job_id] = body, etag(body)
        return known

    # Health.

    @property
    def on_data_disk(self) -> Path:
        """A folder on the data disk that this process may write: in a sandbox the spool is the only one."""
        with contextlib.suppress(OSError):  # of a disk that fails; asking the data folder for its room says so
            if self.spool_dir.is_dir():
                return self.spool_dir
        return self.settings.data_dir

    @property
    def disk(self) -> DiskGuard:
        """What watches the free space of the data disk."""
        return DiskGuard(self.on_data_disk, self.settings.min_free_bytes)

    def health(self) -> dict[str, Part]:
        """Say of each part whether it is well."""
        now = datetime.now(UTC)
        return judge(self.heartbeat, self.settings, now, disk=self.disk, store_problem=self.store_problem)
