"""Bench: a worker over an in-memory store, with a pipeline that is played and a clock that is moved by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from daemon.errors import Interrupted
from daemon.fs.identity import identity_of
from daemon.fs.storage import LocalStorageService
from daemon.ingest.intake import Intake
from daemon.ingest.put_back import ClaimedSources
from daemon.jobs import Claim, Job, JobSource, JobStatus, input_key, new_job_id
from daemon.pipeline.client import RunRequest
from daemon.pipeline.records import Progress, RunReport
from daemon.queue import InMemoryQueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.store.tinydb_table import MemoryStorage
from daemon.worker.outbox import Outbox
from daemon.worker.worker import JobWorker

PENDING, RUNNING, COMPLETED, FAILED = JobStatus
Act = Callable[[RunRequest], object] | Exception
SUMMARY = {"frame_count": 10, "frames_expected": 10}


class Played:
    """A pipeline that writes a document, or does what it is told to do instead."""

    lanes = 1

    def has_room(self) -> bool:
        return True

    def __init__(self) -> None:
        self.requests: list[RunRequest] = []
        self.next: list[Act] = []
        """What the next runs do instead of ending well."""
        self.should_stop: Callable[[], bool] = lambda: False
        self.on_progress: Callable[[Progress], None] = lambda progress: None

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Be ready."""

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_placed: Callable[[], None] = lambda: None,
    ) -> RunReport:
        self.requests.append(request)
        self.on_progress, self.should_stop = on_progress, should_stop
        act = self.next.pop(0) if self.next else None
        if isinstance(act, Exception):
            raise act
        if act is not None:
            act(request)
        if should_stop():
            raise Interrupted("The run was stopped.")
        request.output_path.write_bytes(document(request.source_name))
        return RunReport(10, 10, "abc", 5, "cpu", dict(SUMMARY), {"text": 0.5}, 1.0)


def document(name: str, device: str = "cpu") -> bytes:
    """Return a small result document."""
    head = f'"models": [{{"device": "{device}"}}],\n"options": {{}},\n"results": [\n]'
    source = json.dumps({"name": name, "sha256": "abc", "size_bytes": 5})
    summary = json.dumps({**SUMMARY, "texts": []})
    return f'{{\n{head},\n"source": {source},\n"summary": {summary},\n"video": {{}}\n}}\n'.encode()


class Bench:
    """A worker over an in-memory store, with a clock that is moved by hand."""

    def __init__(self, home: Path, min_free_bytes: int = 0) -> None:
        self.settings = Settings(home=home, min_free_bytes=min_free_bytes, retry_seconds=5)
        for folder in (self.settings.inbox_dir, self.settings.outbox_dir):
            folder.mkdir()
        self.outbox_dir = self.settings.outbox_dir
        self.store = JobStore(MemoryStorage())
        self.storage = LocalStorageService(self.settings.data_dir)
        self.pipeline = Played()
        self.now = 1000.0
        self.start()

    def start(self) -> None:
        """As after a restart."""
        self.queue = InMemoryQueueService()
        self.intake = Intake(self.settings, self.store, self.queue, self.storage, frozenset({"yolo_ocr"}))
        self.sources = ClaimedSources(self.settings, self.store, self.storage)
        self.intake.recover()
        self.outbox = Outbox(self.outbox_dir, self.store.jobs(COMPLETED))
        self.worker = JobWorker(
            self.store,
            self.queue,
            self.storage,
            self.sources,
            self.pipeline,
            self.outbox,
            self.settings,
            clock=lambda: self.now,
        )
        for job in self.store.jobs(RUNNING):
            self.store.move(job.job_id, PENDING)
        for job in self.store.jobs(PENDING):
            self.queue.enqueue(job.job_id, job.sequence)

    def add(self, name: str = "a.mp4", source: JobSource = JobSource.INBOX) -> str:
        job_id = new_job_id()
        path = self.storage.path(input_key(job_id))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
        claim = Claim(name, identity_of(path.stat()))
        [job] = self.store.create(
            [Job(job_id, input_path=input_key(job_id), source=source, source_name=name, claim=claim)]
        )
        self.queue.enqueue(job_id, job.sequence)
        return job_id

    def step(self, seconds: float = 0.0) -> bool:
        self.now += seconds
        return self.worker.run_once(self.now)

    def job(self, job_id: str) -> Job:
        return self.store.get(job_id)

    def published(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.outbox_dir)): p.read_bytes() for p in self.outbox_dir.rglob("*") if p.is_file()}

    def kept(self) -> list[str]:
        return sorted(p.name.partition("_results")[2] for p in self.settings.data_dir.rglob("*_results*"))

    def runs(self) -> int:
        return len(self.pipeline.requests)
