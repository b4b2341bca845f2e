"""One Dropframe an inbox: who has it, who waits, and who takes over from one that died."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import MachineError
from daemon.fs.mounts import Mount
from daemon.ingest import owner, root
from daemon.ingest.owner import BEAT_SECONDS, OWNER, STALE_SECONDS, InboxOwner
from daemon.settings import Settings
from tests.clips import make_clip
from tests.unit.ingest.test_inbox import Bench, Clock, paths


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.inbox.shutdown()


@pytest.fixture
def on_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root, "mount_of", lambda _: Mount(Path("/"), "nfs4"))


@pytest.fixture
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0)


# A local disk.


@pytest.mark.parametrize("file_system", ["ext4", "nfs4"])
def test_a_second_home_refuses_to_start_and_says_who_has_the_inbox(
    tmp_path: Path, inbox: Path, benches: list[Bench], monkeypatch: pytest.MonkeyPatch, file_system: str
) -> None:
    monkeypatch.setattr(root, "mount_of", lambda _: Mount(Path("/"), file_system))
    first = Bench(tmp_path / "first", inbox_dir=inbox)
    benches.append(first)
    with pytest.raises(MachineError) as refused:
        Bench(tmp_path / "second", inbox_dir=inbox)
    said = str(refused.value)
    for part in (str(inbox), str(tmp_path / "first"), socket.gethostname(), f"process {os.getpid()}", "inbox_dir"):
        assert part in said
    make_clip(inbox / "a.mp4")
    assert paths(first.steps(5)) == ["a.mp4"], "the first goes on"
    first.inbox.shutdown()
    assert not (inbox / OWNER).exists()
    benches.append(Bench(tmp_path / "second", inbox_dir=inbox))
    assert paths(benches[-1].steps(5)) == ["a.mp4"]


def test_the_file_names_host_process_home_and_since_when(tmp_path: Path, inbox: Path, benches: list[Bench]) -> None:
    benches.append(Bench(tmp_path / "first", inbox_dir=inbox))
    said = json.loads((inbox / OWNER).read_bytes())
    assert (said["host"], said["pid"], said["home"]) == (socket.gethostname(), os.getpid(), str(tmp_path / "first"))
    assert said["since"].startswith("2")


@pytest.mark.parametrize("file_system", ["ext4", "nfs4"])
def test_the_owner_file_is_not_a_file_that_waits(
    tmp_path: Path, inbox: Path, benches: list[Bench], monkeypatch: pytest.MonkeyPatch, file_system: str
) -> None:
    monkeypatch.setattr(root, "mount_of", lambda _: Mount(Path("/"), file_system))
    bench = Bench(tmp_path / "first", inbox_dir=inbox)
    benches.append(bench)
    assert bench.steps(1000) == []
    assert bench.inbox.health().waiting_count == 0
    assert bench.inbox.health().problem is None
    assert [path.name for path in inbox.iterdir()] == [OWNER]


HOLDER = """
import os, signal, sys
from daemon.ingest.owner import InboxOwner
from daemon.settings import Settings
owner = InboxOwner(Settings(home=sys.argv[1], inbox_dir=sys.argv[2]))
print(owner.refusal(on_share=len(sys.argv) > 3), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_owner(home: Path, inbox: Path, *flags: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLDER, home, inbox, *flags], capture_output=True, text=True, check=False
    )
    assert done.stdout == "None\n", done.stderr
    assert (inbox / OWNER).exists()


def test_the_lock_of_a_killed_process_holds_up_nobody(tmp_path: Path, inbox: Path) -> None:
    killed_owner(tmp_path / "first", inbox)
    for home in ("first", "second"):
        mine = InboxOwner(Settings(home=tmp_path / home, inbox_dir=inbox))
        assert mine.refusal(on_share=False) is None
        assert json.loads((inbox / OWNER).read_bytes())["home"] == str(tmp_path / home)
        mine.release()


@pytest.mark.usefixtures("looks_each_time")
def test_an_inbox_that_comes_later_and_belongs_to_another_is_waited_for(tmp_path: Path, benches: list[Bench]) -> None:
    first, second = Bench(tmp_path / "first"), Bench(tmp_path / "second")
    benches += [first, second]
    make_clip(first.folder / "a.mp4")
    second.folder.rename(tmp_path / "away")
    second.step(1)
    first.folder.rename(second.folder)  # as when the share of the first is mounted there
    assert second.steps(300) == []
    health = second.inbox.health()
    assert (health.online, health.waiting_count) == (True, 0)
    assert str(tmp_path / "first") in str(health.problem)
    assert not second.inbox.is_stuck(60, second.clock.now), "a new start would mend nothing"
    first.inbox._root._owner.forget()
    assert paths(second.steps(5)) == ["a.mp4"]
    assert second.inbox.health().problem is None


@pytest.mark.usefixtures("looks_each_time")
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_an_owner_file_that_was_cleared_away_is_made_anew(
    tmp_path: Path, inbox: Path, benches: list[Bench], how: str
) -> None:
    first = Bench(tmp_path / "first", inbox_dir=inbox)
    benches.append(first)
    (inbox / OWNER).unlink()
    if how == "replaced":
        (inbox / OWNER).write_text("{}")
    first.steps(5)
    with pytest.raises(MachineError):
        Bench(tmp_path / "second", inbox_dir=inbox)


def test_a_planted_name_of_another_file_is_not_written_through(tmp_path: Path, inbox: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, inbox / OWNER)
    mine = InboxOwner(Settings(home=tmp_path / "first", inbox_dir=inbox))
    assert mine.refusal(on_share=False) is None
    assert victim.read_text() == "precious"
    mine.forget()
    (inbox / OWNER).unlink()
    (inbox / OWNER).symlink_to(victim)
    assert mine.refusal(on_share=False) is None
    assert victim.read_text() == "precious"
    mine.release()


def test_where_no_file_can_be_written_that_is_said_once_and_work_goes_on(
    tmp_path: Path, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(inbox)  # stands for a folder that may only be read, which root may write to all the same
    clock = Clock()
    mine = InboxOwner(Settings(home=tmp_path / "first", inbox_dir=inbox), clock)
    for _ in range(5):
        clock.now += BEAT_SECONDS
        assert mine.refusal(on_share=False) is None
        assert mine.refusal(on_share=True) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Nothing keeps another Dropframe" in caplog.text


@pytest.mark.parametrize("starts_first", ["the machine whose disk it is", "the machine that mounts it"])
def test_a_folder_that_is_a_share_for_another_machine_has_one_owner_too(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch, starts_first: str
) -> None:
    clock = Clock()
    here = InboxOwner(Settings(home=tmp_path / "here", inbox_dir=inbox), clock)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    there = InboxOwner(Settings(home=tmp_path / "there", inbox_dir=inbox), clock)
    pair = [(here, False), (there, True)]
    if starts_first != "the machine whose disk it is":
        pair.reverse()
    for _ in range(50):
        answers = [who.refusal(on_share=on_share) is None for who, on_share in pair]
        assert answers == [True, False], "the first keeps it"
        clock.now += BEAT_SECONDS
    pair[0][0].forget()  # it dies
    clock.now += STALE_SECONDS
    assert pair[1][0].refusal(on_share=pair[1][1]) is None
    pair[1][0].release()


def test_a_copy_of_a_home_is_another_home(tmp_path: Path, inbox: Path, benches: list[Bench]) -> None:
    first = Bench(tmp_path / "first", inbox_dir=inbox)
    benches.append(first)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    code = HOLDER.replace("os.kill(os.getpid(), signal.SIGKILL)", "")
    for flags in ([], ["share"]):
        command = [sys.executable, "-c", code, tmp_path / "copy", inbox, *flags]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "belongs to another Dropframe" in said


# A share.


class Pair:
    """Two homes on one share, and a clock."""

    def __init__(self, tmp_path: Path, inbox: Path) -> None:
        self.clock = Clock()
        self.first, self.second = (
            InboxOwner(Settings(home=tmp_path / name, inbox_dir=inbox), self.clock) for name in ("first", "second")
        )

    def refused(self, who: InboxOwner, after: float = 0.0) -> bool:
        self.clock.now += after
        return who.refusal(on_share=True) is not None


@pytest.fixture
def pair(tmp_path: Path, inbox: Path) -> Pair:
    return Pair(tmp_path, inbox)


def test_on_a_share_an_owner_that_is_heard_of_is_not_taken_over_from(pair: Pair) -> None:
    for _ in range(100):
        assert not pair.refused(pair.first, BEAT_SECONDS)
        assert pair.refused(pair.second)
    assert pair.second.was_heard_of()


def test_on_a_share_an_owner_that_is_gone_is_taken_over_from_after_a_while(pair: Pair, inbox: Path) -> None:
    assert not pair.refused(pair.first)
    os.utime(inbox / OWNER, (1, 1))
    assert not pair.second.was_heard_of()
    assert pair.refused(pair.second)
    for _ in range(int(STALE_SECONDS / BEAT_SECONDS) - 1):
        assert pair.refused(pair.second, BEAT_SECONDS)
    assert not pair.refused(pair.second, BEAT_SECONDS)


def test_on_a_share_one_that_slept_and_was_taken_over_from_takes_nothing_more(pair: Pair) -> None:
    assert not pair.refused(pair.first)
    assert pair.refused(pair.second)
    assert not pair.refused(pair.second, STALE_SECONDS)
    for _ in range(50):
        assert pair.refused(pair.first, BEAT_SECONDS)
        assert not pair.refused(pair.second)
    pair.second.release()
    assert not pair.refused(pair.first, BEAT_SECONDS)


def test_on_a_share_a_long_copy_keeps_the_inbox(pair: Pair) -> None:
    assert not pair.refused(pair.first)
    assert pair.refused(pair.second)
    for _ in range(60):
        pair.clock.now += BEAT_SECONDS
        pair.first.refresh(on_share=True)
        assert pair.refused(pair.second)


def test_on_a_share_a_killed_daemon_has_its_inbox_again_at_once(tmp_path: Path, inbox: Path) -> None:
    killed_owner(tmp_path / "first", inbox, "share")
    mine = InboxOwner(Settings(home=tmp_path / "first", inbox_dir=inbox))
    assert mine.refusal(on_share=True) is None
    mine.release()
    assert list(inbox.iterdir()) == []


def test_on_a_share_two_copies_of_one_home_do_not_both_have_the_inbox(tmp_path: Path, inbox: Path) -> None:
    clock = Clock()
    settings = Settings(home=tmp_path / "first", inbox_dir=inbox)
    one, copy = InboxOwner(settings, clock), InboxOwner(settings, clock)
    assert one.refusal(on_share=True) is None
    assert copy.refusal(on_share=True) is None
    for _ in range(20):
        clock.now += BEAT_SECONDS
        assert [one.refusal(on_share=True) is None, copy.refusal(on_share=True) is None] == [False, True]


def test_on_a_share_of_two_that_start_together_one_has_the_inbox(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [pair.second._read, lambda: None]  # it looks before the first has written, and again afterwards
    monkeypatch.setattr(pair.second, "_read", lambda: answers.pop()())
    assert not pair.refused(pair.first)
    assert pair.refused(pair.second)


@pytest.mark.usefixtures("on_a_share")
def test_an_owner_on_a_share_of_which_nothing_was_heard_for_long_is_waited_for(
    tmp_path: Path, inbox: Path, benches: list[Bench]
) -> None:
    killed_owner(tmp_path / "first", inbox, "share")
    os.utime(inbox / OWNER, (1, 1))
    second = Bench(tmp_path / "second", inbox_dir=inbox)
    benches.append(second)
    assert str(tmp_path / "first") in str(second.inbox.health().problem)
