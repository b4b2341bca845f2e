"""What the service manager is told, and when it is told nothing, so that it starts us again."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.ingest.inbox import Inbox
from daemon.ipc.systemd import notify
from daemon.settings import Settings


class Manager:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Return what was sent since the last call."""
        lines: list[str] = []
        try:
            while True:
                lines += self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@dropframe-test-{os.getpid()}"
    made = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield made
    made.close()


def test_the_service_manager_hears_what_is_said(manager: Manager) -> None:
    notify("READY=1", "WATCHDOG=1")
    assert manager.heard() == ["READY=1", "WATCHDOG=1"]


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_a_service_manager_that_is_gone_or_does_not_read_holds_nothing_up(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _ in range(10_000):  # more than its socket holds
        notify("WATCHDOG=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("WATCHDOG=1")


def test_an_inbox_whose_scans_have_ended_is_stuck_and_one_that_is_away_is_not(tmp_path: Path) -> None:
    now = [100.0]
    inbox = Inbox(Settings(home=tmp_path, watch="polling"), lambda: None, lambda: now[0])
    inbox.startup()
    try:
        assert not inbox.is_stuck(30, now[0])
        now[0] = 131.0
        assert inbox.is_stuck(30, now[0]), "it has not scanned yet"
        inbox.poll(now[0])
        assert not inbox.is_stuck(30, now[0])
        now[0] = 162.0
        assert inbox.is_stuck(30, now[0])
        shutil.rmtree(tmp_path / "inbox")
        inbox.poll(now[0])
        assert not inbox.is_stuck(30, now[0]), "a new start would not bring the share back"
    finally:
        inbox.shutdown()
