"""Which shares the folders were on: what is known of them, and which are away."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from daemon.fs import mounts
from daemon.fs.mounts import Mount

LOCAL = Mount(Path("/"), "ext4")


class Machine:
    """A data folder, an inbox, and what each is mounted on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data, self.share, self.inbox = folder / "data", folder / "nas", folder / "nas" / "in"
        self.data.mkdir()
        self.inbox.mkdir(parents=True)
        self.of_inbox = self.nas = Mount(self.share, "nfs4")
        monkeypatch.setattr(mounts, "mount_of", lambda path: LOCAL if path == self.data else self.of_inbox)

    def remember(self) -> None:
        mounts.remember(self.data, [self.inbox])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_nothing_is_known_of_a_folder_that_was_never_used(machine: Machine) -> None:
    assert mounts.known(machine.data, machine.inbox) is None
    assert mounts.away(machine.data, machine.inbox) is None
    machine.remember()
    assert mounts.known(machine.data, machine.share / "im") is None


def test_a_share_that_is_mounted_is_remembered_and_not_away(machine: Machine) -> None:
    machine.remember()
    assert mounts.known(machine.data, machine.inbox) == machine.nas
    assert mounts.away(machine.data, machine.inbox) is None


def test_an_empty_mount_point_is_not_the_share_and_is_not_remembered_for_it(machine: Machine) -> None:
    machine.remember()
    machine.of_inbox = LOCAL
    for _ in range(2):
        assert f"nothing is mounted on {machine.share}" in (mounts.away(machine.data, machine.inbox) or "")
        machine.remember()
    (machine.data / mounts.NAME).unlink()
    assert mounts.away(machine.data, machine.inbox) is None


@pytest.mark.parametrize(
    ("number", "away"), [(errno.ENOENT, True), (errno.ESTALE, True), (errno.ENOTCONN, True), (errno.EACCES, False)]
)
def test_a_share_that_cannot_be_reached_is_away_and_one_without_leave_is_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int, away: bool
) -> None:
    machine.remember()

    def stat(path: Path) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", stat)
    assert (mounts.away(machine.data, machine.inbox) is not None) is away


def test_a_local_folder_is_no_share_whatever_it_is_mounted_on(machine: Machine) -> None:
    for local in (LOCAL, Mount(machine.inbox, "ext4")):  # as in the service's own view of the folders
        machine.of_inbox = local
        machine.remember()
    assert list(machine.data.iterdir()) == []


def test_a_bare_folder_that_is_mounted_in_the_place_of_the_share_is_not_the_share(machine: Machine) -> None:
    machine.remember()
    machine.of_inbox = Mount(machine.share, "ext4")
    assert mounts.away(machine.data, machine.inbox) is not None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"', b"\xff", b'{"/nas/in": 1}'])
def test_a_damaged_record_is_none(machine: Machine, content: bytes) -> None:
    (machine.data / mounts.NAME).write_bytes(content)
    assert mounts.away(machine.data, machine.inbox) is None
    machine.remember()
    assert mounts.known(machine.data, machine.inbox) == machine.nas
