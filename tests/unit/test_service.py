"""The daemon's end: whatever fails, is slow or is asked for twice, it comes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from daemon import service as service_module
from daemon.derive.derivation import derive
from daemon.derive.files import folder_of
from daemon.errors import MachineError, StoreError
from daemon.export import client as export_client
from daemon.export.client import AtWork, Exports
from daemon.follow_ups import FollowUps
from daemon.jobs import Job, JobStatus, input_key, new_job_id, output_key
from daemon.pipeline.auto_pull import AutoPull
from daemon.service import DaemonService
from daemon.settings import Settings
from daemon.status import Status
from daemon.store.job_store import JobStore
from daemon.store.tinydb_table import MemoryStorage
from daemon.webhooks.notifications import Notifications
from daemon.worker.outbox import ERROR, Outbox
from daemon.worker.owed_objects import OwedObjects
from tests.derived_documents import write_document


class Told:
    """Any part of the daemon: writes down what it is told."""

    def __init__(self, told: list[str], name: str) -> None:
        self._told, self._name = told, name

    def __getattr__(self, method: str) -> Any:
        return lambda *_: self._told.append(f"{self._name}.{method}")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def service(tmp_path: Path, told: list[str]) -> DaemonService:
    made = DaemonService(Settings(home=tmp_path))
    made.auto_pull = AutoPull(made._settings)
    threads = ("retention", "follow_ups", "deletion", "_outbox_monitor")
    for name in ("worker", "intake", "consumer", "pipeline", "queue", "store", *threads):
        setattr(made, name, Told(told, name))
    made.status = Status(
        made._settings,
        made.store,
        made.queue,
        made.consumer,
        made.intake,
        made.worker,
        made.pipeline,
        made._outbox_monitor,
        AutoPull(made._settings),
        Notifications(made._settings, JobStore(MemoryStorage()), []),
    )
    made._thread = threading.Thread(target=lambda: None)
    made._thread.start()
    return made


def test_a_job_store_that_fails_does_not_keep_the_daemon_from_ending(
    service: DaemonService, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(state: str) -> None:
        told.append(state)
        raise StoreError("The disk fails.")

    monkeypatch.setattr(service.status, "heartbeat", fails)
    service.shutdown()
    service._force_exit.cancel()
    assert told == [
        "worker.stop",
        "intake.stop",
        "stopping",
        "consumer.stop",
        "retention.shutdown",
        "follow_ups.stop",
        "deletion.shutdown",
        "_outbox_monitor.stop",
        "pipeline.close",
    ]


def test_the_worker_is_not_waited_for_beyond_the_promised_time_however_long_the_others_take(
    service: DaemonService, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, waits = [100.0], []

    def slow(*_: object) -> bool:
        clock[0] += 1.5
        return True

    monkeypatch.setattr(service_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(service.status, "write", lambda state: None)
    monkeypatch.setattr(service_module, "join", lambda thread, seconds=None: waits.append(seconds))
    monkeypatch.setattr(service.retention, "shutdown", slow, raising=False)
    monkeypatch.setattr(service.deletion, "shutdown", slow, raising=False)
    monkeypatch.setattr(service.consumer, "stop", slow, raising=False)
    monkeypatch.setattr(service.follow_ups, "stop", slow, raising=False)
    service.shutdown()
    service._force_exit.cancel()
    assert waits[0] == service_module.STOP_SECONDS - 6.0


def test_what_follows_up_jobs_ends_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(7, timeout=10)
    follow_ups = FollowUps(
        Settings(home=tmp_path), JobStore(MemoryStorage()), Outbox(tmp_path), SimpleQueue(), OwedObjects()
    )
    follow_ups._parts = [SimpleNamespace(stop=together.wait) for _ in follow_ups._parts]  # type: ignore[assignment]
    follow_ups.stop()
    assert not together.broken


def test_exports_that_hang_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_client, "JOIN_SECONDS", 0.3)
    exports, hangs = Exports(Settings(home=tmp_path), lambda job_id: None), threading.Event()
    for name in "abcdef":
        thread = threading.Thread(target=hangs.wait, daemon=True)
        thread.start()
        exports._at_work[name] = AtWork(thread, Any)  # type: ignore[arg-type]
    begun = time.monotonic()
    exports.stop()
    hangs.set()
    assert time.monotonic() - begun < 1.2


@pytest.mark.parametrize(
    "name", ["inbox", "outbox", "derive", "search", "stills", "exports", "outbox-exports", "rejections", "worker"]
)
def test_when_one_part_does_not_start_those_that_did_are_stopped(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    before = set(threading.enumerate())
    settings = Settings(home=tmp_path, min_free_bytes=0)
    with pytest.raises(RuntimeError):
        DaemonService(settings).run()
    left = [thread.name for thread in set(threading.enumerate()) - before if not isinstance(thread, threading.Timer)]
    assert left == [], "they go on with a job store that is closed"
    monkeypatch.undo()
    JobStore.open(settings.data_dir).close()


def test_what_was_interrupted_and_cannot_be_put_right_for_want_of_room_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("The change could not be stored.") from OSError(errno.ENOSPC, "No space left on device")

    settings = Settings(home=tmp_path, min_free_bytes=0)
    with JobStore.open(settings.data_dir) as store:
        [job] = store.create([Job(new_job_id(), input_path="x")])
        store.move(job.job_id, JobStatus.RUNNING)
    monkeypatch.setattr(JobStore, "move", full)
    with pytest.raises(MachineError, match="make room, then start again"):
        DaemonService(settings).run()


def test_a_second_signal_in_the_middle_of_the_first_changes_nothing(service: DaemonService) -> None:
    """The second handler runs inside the first, as signals do; a lock that the first holds would hang it."""
    lock, calls = threading.Lock(), []

    def stop_copying() -> None:
        assert lock.acquire(timeout=1), "the second handler waits for the first, which waits for it"
        calls.append("stop")
        signal.raise_signal(signal.SIGUSR1)
        lock.release()

    service._stop_copying = stop_copying
    before = signal.signal(signal.SIGUSR1, lambda *_: service.stop())
    try:
        service.stop()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == ["stop"]
    service.main_loop()  # ends at once


def test_unfinished_files_in_the_data_folder_are_swept_at_start(
    service: DaemonService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MachineError("This is as far as the test goes.")

    data = tmp_path / "data"
    for folder in ("video_jobs", "models/exported/.export-ab"):
        (data / folder).mkdir(parents=True)
    left = [data / folder / ".7-abcdef012345.tmp" for folder in ("", "video_jobs", "models/exported")]
    for path in left:
        path.write_bytes(b"half")
    for path in (*left, data / "models/exported/.export-ab"):
        os.utime(path, (0, 0))
    monkeypatch.setattr(service_module, "make_executor", refuse)
    with pytest.raises(MachineError), contextlib.ExitStack() as stack:
        service.startup(stack)
    assert [path for path in (*left, data / "models/exported/.export-ab") if path.exists()] == []


def test_the_outbox_knows_at_start_which_errors_are_newer_than_what_is_still_to_run(
    service: DaemonService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MachineError("This is as far as the test goes.")

    with JobStore.open(tmp_path / "data") as store:
        older, newer = store.create([Job(new_job_id(), source_name="a.mp4") for _ in range(2)])
        store.move(newer.job_id, JobStatus.FAILED)
    monkeypatch.setattr(service_module, "JobWorker", refuse)
    with pytest.raises(MachineError), contextlib.ExitStack() as stack:
        service.startup(stack)
    error = service._outbox.path(newer, ERROR)
    error.write_text("{}")
    assert service._outbox.publish(older, io.BytesIO(b"{}")) is not None
    assert error.exists()


def test_a_deleted_job_goes_with_what_was_derived_from_its_result(tmp_path: Path) -> None:
    service = DaemonService(Settings(home=tmp_path))
    job_id = new_job_id()
    with JobStore.open(tmp_path / "data") as store:
        service.store = store
        service._make_parts(frozenset({"yolo_ocr"}))
        for folder in (service._settings.videos_dir, tmp_path / "outbox"):
            folder.mkdir()
        derive(write_document(tmp_path / "data" / output_key(job_id), []), folder_of(tmp_path / "data", job_id))
        [job] = store.create([Job(job_id, JobStatus.COMPLETED, input_path=input_key(job_id), source_name="a.mp4")])
        store.delete(job)
        service.deletion.remove()
        assert store.deleted.unfinished_ids() == []
        assert not folder_of(tmp_path / "data", job_id).exists()


HANGS = """
import contextlib, sys, threading
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from daemon import service as module
from daemon.settings import Settings
from daemon.status import Status

module.FORCE_EXIT_SECONDS = 0.5
module.STOP_SECONDS = 0.1
service = module.DaemonService(Settings(home=Path(sys.argv[1])))
nothing = SimpleNamespace(stop=lambda *_: True, shutdown=lambda: None, close=lambda: None, write=lambda state: None)
service.worker = service.intake = service.consumer = service.pipeline = nothing
service.retention = service.status = service._outbox_monitor = nothing
service._thread = threading.Thread(target=threading.Event().wait)
service._thread.start()
service.shutdown()
"""


def test_a_worker_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "Dropframe could not end in time" in ended.stderr
    assert time.monotonic() - begun < 20
