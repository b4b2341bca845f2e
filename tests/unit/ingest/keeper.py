"""A home that keeps files, stepped by hand; imports little, because processes that are to be killed start with it."""

from __future__ import annotations

from pathlib import Path

from daemon.fs.storage import LocalStorageService
from daemon.ingest.consumer import InboxConsumer
from daemon.ingest.intake import Intake
from daemon.jobs import Job, JobStatus
from daemon.queue import InMemoryQueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore


class Keeper:
    """Inbox and intake of a home that keeps files, as the daemon puts them together, stepped by hand."""

    def __init__(self, home: Path, **changes: object) -> None:
        wanted = {"watch": "polling", "min_free_bytes": 0, "close_grace_seconds": 0, "inbox_mode": "keep"} | changes
        self.settings = Settings(home=home, **wanted)  # type: ignore[arg-type]
        self.folder = self.settings.inbox_dir
        self.now = 1000.0
        self.start()

    def start(self) -> None:
        self.store = JobStore.open(self.settings.data_dir)
        self.storage = LocalStorageService(self.settings.data_dir)
        self.queue = InMemoryQueueService()
        pipelines = frozenset({"yolo_ocr", "ocr_only"})
        self.consumer = InboxConsumer(self.settings, lambda: self.now)
        self.intake = Intake(self.settings, self.store, self.queue, self.storage, pipelines, monotonic=lambda: self.now)
        self.consumer.inbox.is_kept = self.intake.kept.knows
        self.intake.recover()
        self.consumer.inbox.startup()

    def end(self) -> None:
        self.consumer.inbox.shutdown()
        self.store.close()

    def restart(self) -> None:
        self.end()
        self.start()

    def pass_time(self, seconds: float) -> None:
        """Step whenever a step is due."""
        end = self.now + seconds
        while True:
            self.consumer.step(self.now, self.intake, lambda: None)
            if self.now >= end:
                break
            self.now = min(end, self.now + max(0.01, self.consumer.inbox.next_due(self.now)))

    def jobs(self) -> list[str]:
        return [job.source_name for job in self.store.jobs()]

    def complete(self, sha256: str | None = None) -> None:
        """Let all jobs run, as a worker would."""
        for job in self.store.jobs(JobStatus.PENDING):
            self.store.move(job.job_id, JobStatus.RUNNING)
            self.store.move(job.job_id, JobStatus.COMPLETED, sha256=sha256)

    def stored(self, job: Job) -> Path:
        return self.storage.path(job.input_path)

    def why(self) -> dict[str, str]:
        return {waiting.name: waiting.why for waiting in self.consumer.health().waiting}
