"""State: what the sidecar knows of jobs and the daemon, kept fresh by one task, and what it tells of a job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.errors import StoreError
from daemon.fs.space import free_bytes
from daemon.fs.storage import LocalStorageService
from daemon.ipc import health
from daemon.ipc.health import Heartbeat
from daemon.ipc.systemd import notify
from daemon.jobs import JobStatus
from daemon.settings import Settings
from sidecar.files import etag
from sidecar.job_view import JobView
from sidecar.problems import busy, unknown_job

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""Time between two looks at the job store and the spool: how late news can be."""
BEAT_SECONDS = 0.5
"""Time between two looks at the daemon's heartbeat."""
MISS_SECONDS = 0.01
"""Least time between two extra looks for ids that are not known."""

PROGRESS = {"pending": 0.0, "running": 0.5, "completed": 1.0, "failed": 1.0}
TOLD = (
    "job_id",
    "status",
    "pipeline_id",
    "source",
    "source_name",
    "options",
    "size_bytes",
    "sha256",
    "created_at",
    "updated_at",
    "started_at",
    "finished_at",
    "source_removed_at",
    "result_removed_at",
    "attempts",
    "error_kind",
    "error_message",
    "frames_processed",
    "frames_total",
    "device",
    "summary",
)
"""Fields of a record that callers are told as they are."""


@dataclass(frozen=True)
class Part:
    """One thing that must be well for Dropframe to work."""

    ok: bool
    detail: str
    """A sentence."""


class State:
    """Everything the endpoints read.

    Args:
        settings: Of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage = LocalStorageService(settings.data_dir)
        self.spool_dir = settings.data_dir / "spool"
        self.jobs = JobView(settings.data_dir, self.spool_dir)
        self.beat: Heartbeat | None = None
        self.store_problem: str | None = "The job store has not been read yet."
        self.stopping = False
        self._changed = asyncio.Event()
        self._told: dict[str, tuple[bytes, str]] = {}
        self._beat_due = 0.0
        self._looked = 0.0

    # Keeping up.

    def step(self, now: float, force: bool = False) -> None:
        """Look once at what may have changed, and wake those who wait for it.

        Args:
            now: Monotonic time in seconds.
            force: Look at the spool even if it seems unchanged.
        """
        news = False
        if now >= self._beat_due:
            self._beat_due = now + BEAT_SECONDS
            notify("WATCHDOG=1")
            before = self.beat
            self.beat = health.read(self.settings.data_dir) or before  # its age tells when it cannot be read
            news = before != self.beat
        try:
            news |= self.jobs.refresh(force)
        except StoreError as error:
            if self.store_problem is None:
                log.error("the job store cannot be read: %s", error)
            self.store_problem = "The job store cannot be read; the log of the sidecar says why."
        else:
            self.store_problem = None
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
        """Let everybody who waits look again."""
        self._told.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, seconds: float) -> None:
        """Return when something may have changed, or after that many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def stop(self) -> None:
        """Let everybody who waits go."""
        self.stopping = True
        self.wake()

    def close(self) -> None:
        """Let go of the files."""
        self.jobs.close()

    # Telling.

    def record(self, job_id: str) -> Mapping[str, Any]:
        """Return a job's record.

        Raises:
            Problem: 404 if there is none, 503 if that cannot be known.
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
        raise unknown_job()

    def tell(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job as callers see it."""
        told = {name: record.get(name) for name in TOLD}
        told["progress"] = PROGRESS[record["status"]]
        told["queue_position"] = self.jobs.queue_position(record)
        told["frames_per_second"] = told["eta_s"] = None
        if record["status"] == JobStatus.RUNNING:
            self._add_speed(told)
        return told

    def public_json(self, job_id: str) -> tuple[bytes, str]:
        """Return a job as callers see it, and an ETag of that; made once until something changes.

        Raises:
            Problem: 404 if there is none, 503 if that cannot be known.
        """
        told = self._told.get(job_id)
        if told is None:
            body = json.dumps(self.tell(self.record(job_id)), separators=(",", ":")).encode()
            told = self._told[job_id] = body, etag(body)
        return told

    def _add_speed(self, told: dict[str, Any]) -> None:
        beat = self.beat
        if beat is None or not beat.running or beat.running.get("job_id") != told["job_id"]:
            return
        told["frames_processed"] = max(told["frames_processed"], beat.running["frames_processed"])
        told["frames_total"] = told["frames_total"] or beat.running["frames_total"]
        speed = beat.running["frames_per_second"]
        told["frames_per_second"] = speed
        if speed and told["frames_total"]:
            told["eta_s"] = round(max(0, told["frames_total"] - told["frames_processed"]) / speed, 1)

    # Health.

    def beat_age_seconds(self) -> float | None:
        """Return how old the daemon's last sign of life is, or None if there is none."""
        return None if self.beat is None else health.age_seconds(self.beat, datetime.now(UTC))

    def lacks_object_weights(self) -> bool:
        """Tell whether a daemon runs that has loaded its models and none of them looks for objects."""
        age, beat = self.beat_age_seconds(), self.beat
        if beat is None or age is None or age > health.ALIVE_SECONDS or beat.state != "running":
            return False
        return not any(model["role"] == "objects" for model in beat.models)

    def scan_age_seconds(self) -> float | None:
        """Return how old the last good scan of the inbox is, or None if there was none."""
        age, beat = self.beat_age_seconds(), self.beat
        scan = beat.inbox.get("last_good_scan_age_s") if beat else None
        return None if scan is None or age is None else float(scan) + age

    @property
    def on_data_disk(self) -> Path:
        """A folder on the data disk that this process may write: in a sandbox the spool is the only one."""
        return self.spool_dir if self.spool_dir.is_dir() else self.settings.data_dir

    def free_bytes(self) -> int | None:
        """Return the free space of the data disk, or None if it cannot be asked."""
        try:
            return free_bytes(self.on_data_disk)
        except OSError:
            return None

    def health(self) -> dict[str, Part]:
        """Say of each part whether it is well."""
        return {
            "daemon": self._daemon_health(),
            "store": Part(self.store_problem is None, self.store_problem or "The job store is readable."),
            "disk": self._disk_health(),
            "inbox": self._inbox_health(),
        }

    def _daemon_health(self) -> Part:
        age = self.beat_age_seconds()
        if self.beat is None or age is None:
            return Part(False, "The daemon has never run here; start it with: dropframe daemon.")
        if age > health.ALIVE_SECONDS:
            return Part(False, f"The daemon's last sign of life is {age:.0f} s old; start it with: dropframe daemon.")
        if self.beat.state != "running":
            return Part(False, f"The daemon is {self.beat.state}.")
        if self.beat.paused:
            return Part(False, "The daemon has paused taking in and running; its log and dropframe health say why.")
        return Part(True, f"The daemon's last sign of life is {age:.1f} s old.")

    def _disk_health(self) -> Part:
        free, least = self.free_bytes(), self.settings.min_free_bytes
        if free is None:
            return Part(False, "The data folder cannot be reached or written.")
        if free < least:
            return Part(False, f"{free} bytes are free, fewer than min_free_bytes ({least}); make room.")
        return Part(True, f"{free} bytes are free.")

    def _inbox_health(self) -> Part:
        age, beat = self.scan_age_seconds(), self.beat
        if beat is None or age is None:
            return Part(False, "The inbox has not been scanned yet.")
        mode = beat.inbox.get("mode") or "unknown"
        if not beat.inbox.get("online", True):
            return Part(False, "The inbox cannot be reached; mount it again or check its folder.")
        if age > health.longest_scan_age_seconds(self.settings):
            return Part(False, f"The last good scan of the inbox is {age:.0f} s old ({mode}).")
        if beat.inbox.get("problem"):
            return Part(False, f"The inbox is not watched well ({mode}); the daemon's log says more.")
        return Part(True, f"The last good scan of the inbox is {age:.1f} s old ({mode}).")
