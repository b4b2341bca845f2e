"""Status: what the daemon says of itself, whatever its folders do."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon import status
from daemon.fs import space
from daemon.ipc import health
from daemon.ipc.health import InboxBeat, OutboxBeat, RunningBeat, WaitingBeat
from daemon.ipc.receivers import ReceiverBeat
from daemon.pipeline.client import Ready
from daemon.pipeline.records import Progress
from daemon.settings import Settings
from daemon.status import OutboxMonitor, Status
from daemon.worker.outbox import Outbox
from daemon.worker.worker import Running


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outbox_that_was_not_looked_at_says_nothing(tmp_path: Path) -> None:
    assert OutboxMonitor(Outbox(tmp_path), tmp_path).health() == OutboxBeat(None, None)


def test_an_outbox_that_is_gone_is_told_once_and_so_is_its_return(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "outbox"
    folder.mkdir()
    monitor = OutboxMonitor(Outbox(folder), folder)
    for _ in range(2):
        monitor.step()
        assert monitor.health() == OutboxBeat(True, None)
        shutil.rmtree(folder)
        monitor.step()
        monitor.step()
        problem = f"The outbox {folder} cannot be used: No such file or directory."
        assert monitor.health() == OutboxBeat(False, problem)
        folder.mkdir()
    assert [record.getMessage() for record in caplog.records] == [problem, problem]


def test_an_outbox_that_cannot_be_written_is_not_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(status, "free_bytes", read_only)
    monitor = OutboxMonitor(Outbox(tmp_path), tmp_path)
    monitor.step()
    assert monitor.health() == OutboxBeat(False, f"The outbox {tmp_path} cannot be used: Read-only file system.")


def test_an_outbox_that_hangs_holds_up_nobody_and_is_offline_after_a_while(tmp_path: Path) -> None:
    asked, released = threading.Event(), threading.Event()

    class Hanging:
        def check(self) -> None:
            asked.set()
            released.wait()

    clock = Clock()
    monitor = OutboxMonitor(Hanging(), tmp_path, clock)  # type: ignore[arg-type]
    monitor.start()
    try:
        assert asked.wait(10)
        assert monitor.health() == OutboxBeat(None, None)
        clock.now += health.SILENT_SECONDS
        assert monitor.health() == OutboxBeat(False, f"The outbox {tmp_path} has not answered for 15 s.")
        monitor.stop()  # comes back
    finally:
        released.set()
        monitor._thread.join(10)
    assert not monitor._thread.is_alive()


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    """Stand-ins for the daemon's parts, with the attributes that are told."""
    inbox = InboxBeat(
        mode="events",
        file_system="ext4",
        online=True,
        last_good_scan_age_s=1.5,
        canary_age_s=None,
        waiting_count=1,
        waiting=(WaitingBeat("a.mp4", 5, 2.0, "It grows."),),
        overflows=3,
        problem=None,
    )
    return {
        "settings": Settings(home=tmp_path, min_free_bytes=7),
        "store": SimpleNamespace(problem=None),
        "queue": SimpleNamespace(size=lambda: 4),
        "consumer": SimpleNamespace(health=lambda: inbox),
        "intake": SimpleNamespace(short_of_space=lambda: None),
        "worker": SimpleNamespace(running=None, running_besides=[], totals={"frames": 9.0, "text_seconds": 1.23456}),
        "pipeline": SimpleNamespace(ready=Ready("cpu", [{"name": "m", "role": "text"}]), slots=lambda: ()),
        "outbox": SimpleNamespace(health=lambda: OutboxBeat(True)),
        "auto_pull": SimpleNamespace(note="yolo11n is being fetched (5 %).", percent=5),
        "notifications": SimpleNamespace(
            totals={"events_delivered": 2}, health=lambda: (ReceiverBeat("3f9a2c71", "https://example.org/…", 3),)
        ),
    }


def test_everything_is_told_and_read_again(parts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    parts["worker"].running = Running("j", 0.0, Progress(30, 50, 1), 0)
    Status(**parts).write("running")
    beat = health.read(tmp_path / "data")
    assert beat is not None
    assert (beat.state, beat.pid, beat.device, beat.paused) == ("running", os.getpid(), "cpu", None)
    assert (beat.weights_note, beat.weights_percent) == ("yolo11n is being fetched (5 %).", 5)
    assert (beat.queue_length, beat.min_free_bytes, beat.outbox) == (4, 7, OutboxBeat(True))
    assert beat.inbox.waiting == (WaitingBeat("a.mp4", 5, 2.0, "It grows."),)
    assert (beat.inbox.last_good_scan_age_s, beat.inbox.overflows) == (1.5, 3)
    assert beat.running == RunningBeat("j", 30, 50, beat.running.frames_per_second if beat.running else 0.0)
    assert (beat.counters, beat.stage_seconds_total) == ({"frames": 9, "events_delivered": 2}, {"text": 1.235})
    assert beat.receivers == (ReceiverBeat("3f9a2c71", "https://example.org/…", 3),)


def test_until_the_models_are_loaded_it_is_starting(parts: dict[str, Any]) -> None:
    parts["pipeline"].ready = None
    reporter = Status(**parts)
    assert [reporter.heartbeat(state).state for state in ("running", "stopping")] == ["starting", "stopping"]


def test_a_free_space_that_cannot_be_asked_keeps_nothing_from_being_told(
    parts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> int:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "data").mkdir()
    monkeypatch.setattr(space, "free_bytes", fails)
    Status(**parts).write("running")
    beat = health.read(tmp_path / "data")
    assert beat is not None
    assert beat.free_bytes is None


def test_a_heartbeat_that_cannot_be_written_ends_nothing(parts: dict[str, Any]) -> None:
    Status(**parts).write("running")  # into a folder that is not there


@pytest.mark.parametrize(("intake", "store"), [("Full.", None), (None, "It cannot be written.")])
def test_why_the_daemon_has_paused_is_told(parts: dict[str, Any], intake: str | None, store: str | None) -> None:
    parts["intake"].short_of_space = lambda: intake
    parts["store"].problem = store
    assert Status(**parts).heartbeat("running").paused == (intake or store)
