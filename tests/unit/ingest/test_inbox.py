"""The inbox step by step: time is passed in, and only the tests about watching start a real watch."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.fs.mounts import Mount
from daemon.ingest import inbox as inbox_module
from daemon.ingest import root, scanner, stability, watcher
from daemon.ingest.inbox import Inbox
from daemon.ingest.model import Dropped, Ignored
from daemon.ingest.names import is_ignored
from daemon.settings import Settings
from tests.clips import make_clip


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """An inbox that is polled, and a clock."""

    def __init__(self, home: Path, **changes: object) -> None:
        self.settings = Settings(home=home, **({"watch": "polling", "close_grace_seconds": 0} | changes))  # type: ignore[arg-type]
        self.folder = self.settings.inbox_dir
        self.clock = Clock()
        self.inbox = Inbox(self.settings, lambda: None, self.clock)
        self.inbox.startup()

    def step(self, seconds: float = 0.0) -> list[Dropped]:
        self.clock.now += seconds
        return self.inbox.poll(self.clock.now)

    def steps(self, seconds: float) -> list[Dropped]:
        """Let time pass as the daemon does: a step whenever one is due. Return each content once."""
        found, end = self.step(), self.clock.now + seconds
        while self.clock.now < end:
            found += self.step(min(max(0.01, self.inbox.next_due(self.clock.now)), end - self.clock.now))
        return list(dict.fromkeys(found))

    def why(self) -> dict[str, str]:
        return {waiting.name: waiting.why for waiting in self.inbox.health().waiting}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.inbox.shutdown()


@pytest.fixture
def locks_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a share, or where the files belong to others."""
    monkeypatch.setattr(stability, "has_writer", lambda _: None)


def paths(found: list[Dropped]) -> list[str]:
    return [dropped.path for dropped in found]


# Whole files.


def test_a_whole_closed_file_is_ready_at_the_first_look(bench: Bench) -> None:
    make_clip(bench.folder / "a.mp4")
    [dropped] = bench.step()
    assert (dropped.path, dropped.reason, dropped.options_path) == ("a.mp4", None, None)
    assert dropped.identity.size == (bench.folder / "a.mp4").stat().st_size


def test_files_come_by_mtime_then_name(bench: Bench) -> None:
    for name, mtime in (("c.mp4", 5), ("a.mp4", 9), ("b.mp4", 5), ("z.mp4", 1)):
        os.utime(make_clip(bench.folder / name), (mtime, mtime))
    assert paths(bench.step()) == ["z.mp4", "b.mp4", "c.mp4", "a.mp4"]


def test_a_file_that_is_not_taken_comes_again_after_some_seconds(bench: Bench) -> None:
    make_clip(bench.folder / "a.mp4")
    assert len(bench.step()) == 1
    assert bench.step() == []
    assert bench.why() == {"a.mp4": "It is whole and waits to be taken in."}
    assert bench.steps(4.5) == []
    assert len(bench.steps(1)) == 1


def test_a_file_that_was_taken_is_forgotten(bench: Bench) -> None:
    path = make_clip(bench.folder / "a.mp4")
    bench.step()
    path.unlink()
    assert bench.steps(30) == []
    assert bench.inbox.health().waiting_count == 0


def test_the_same_name_dropped_again_is_handed_out_at_once(bench: Bench) -> None:
    make_clip(bench.folder / "a.mp4")
    bench.step()
    make_clip(bench.folder / "a.mp4", frames=12)
    assert paths(bench.steps(5)) == ["a.mp4"]


def test_a_file_left_alone_stays_so_until_its_content_changes(bench: Bench) -> None:
    path = make_clip(bench.folder / "a.mp4")
    [dropped] = bench.step()
    bench.inbox.acknowledge([Ignored(dropped, "It cannot be removed.")])
    assert bench.steps(200) == []
    assert bench.why() == {"a.mp4": "It cannot be removed."}
    make_clip(path, frames=12)
    assert len(bench.steps(70)) == 1


def test_a_great_many_are_handed_out_in_portions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "LOOKS_A_STEP", 4)
    for number in range(10):
        os.utime(make_clip(bench.folder / f"{number}.mp4"), (100 - number, 100 - number))
    found = bench.step()
    assert len(found) == 4
    assert bench.inbox.next_due(bench.clock.now) == 0
    for _ in range(8):
        found += bench.step()
    assert paths(found) == [f"{number}.mp4" for number in reversed(range(10))]


# Files that are not whole yet.


def test_a_half_copied_file_waits_and_is_taken_when_it_is_whole(bench: Bench) -> None:
    data = make_clip(bench.folder.parent / "whole.mp4").read_bytes()
    target = bench.folder / "a.mp4"
    for part in range(1, 5):
        target.write_bytes(data[: len(data) * part // 5])
        assert bench.steps(5) == []
        assert "not complete" in bench.why()["a.mp4"]
    target.write_bytes(data)
    assert paths(bench.steps(6)) == ["a.mp4"]


def test_a_file_that_is_open_for_writing_waits_however_long(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    path = make_clip(bench.folder / "a.mp4")
    with path.open("ab"):
        assert bench.steps(5000) == []
        assert bench.why() == {"a.mp4": "Another program still has it open for writing."}
    assert len(caplog.records) == 1
    assert paths(bench.steps(5)) == ["a.mp4"]


def test_one_waiting_file_does_not_hold_up_another(bench: Bench) -> None:
    with make_clip(bench.folder / "a.mp4").open("ab"):
        make_clip(bench.folder / "b.mp4")
        assert paths(bench.step()) == ["b.mp4"]


@pytest.mark.usefixtures("locks_say_nothing")
def test_without_locks_size_and_mtime_must_stay_the_same(bench: Bench) -> None:
    path = make_clip(bench.folder / "a.mp4")
    for mtime in range(5):
        os.utime(path, (mtime, mtime))
        assert bench.steps(1.5) == []
    assert paths(bench.steps(2)) == ["a.mp4"]


@pytest.mark.usefixtures("locks_say_nothing")
@pytest.mark.parametrize("year_2099_or_1980", [4_070_908_800, 315_532_800])
def test_an_odd_mtime_changes_nothing(bench: Bench, year_2099_or_1980: int) -> None:
    os.utime(make_clip(bench.folder / "a.mp4"), (year_2099_or_1980, year_2099_or_1980))
    assert bench.steps(1.9) == []
    assert paths(bench.steps(0.2)) == ["a.mp4"]


def test_a_fragmented_file_settles_even_when_it_is_closed(bench: Bench) -> None:
    make_clip(bench.folder / "a.mp4", fragmented=True)
    assert bench.steps(1.9) == []
    assert bench.why() == {"a.mp4": "It could still grow."}
    assert paths(bench.steps(0.2)) == ["a.mp4"]


def test_on_a_share_locks_are_not_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root, "mount_of", lambda _: Mount(Path("/"), "cifs"))
    remote = Bench(bench.folder.parent / "other", watch="auto")
    assert remote.inbox.health().mode == "polling"
    make_clip(remote.folder / "a.mp4")
    assert remote.steps(1.9) == []
    assert paths(remote.steps(0.2)) == ["a.mp4"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "It is empty."),
        (b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "Its index (moov) is not there."),
        (b"\0" * 4096, "Its beginning has not been written yet."),
    ],
)
def test_what_stays_incomplete_is_rejected_after_the_timeout(bench: Bench, content: bytes, reason: str) -> None:
    (bench.folder / "a.mp4").write_bytes(content)
    assert bench.steps(595) == []
    [dropped] = bench.steps(6)
    assert dropped.reason is not None
    assert dropped.reason.startswith(reason)


def test_a_cut_file_that_has_pictures_is_taken_after_the_timeout(bench: Bench) -> None:
    data = make_clip(bench.folder.parent / "whole.mp4", faststart=True).read_bytes()
    (bench.folder / "a.mp4").write_bytes(data[:-100])
    assert bench.steps(599) == []
    assert bench.why() == {"a.mp4": "It is not complete yet: 100 bytes are missing at its end."}
    [dropped] = bench.steps(2)
    assert (dropped.path, dropped.reason) == ("a.mp4", None)


def test_a_cut_file_without_a_picture_is_rejected_after_the_timeout_with_advice(bench: Bench) -> None:
    data = make_clip(bench.folder.parent / "whole.mp4", faststart=True).read_bytes()
    (bench.folder / "a.mp4").write_bytes(data[: data.index(b"mdat") - 4])
    [dropped] = bench.steps(601)
    assert dropped.reason is not None
    assert dropped.reason.endswith(
        "It is not a whole MP4. It has not grown for 10 minutes. "
        "Copy it again, best under a name that ends in .part, renamed when it is done."
    )


# Files that will never be jobs.


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.mp4", b"these are notes and no video", "It is text"),
        ("film.mkv", b"\x1a\x45\xdf\xa3" + b"\0" * 20, 'the setting containers = "all"'),
        ("a.mp4", b"\x1a\x45\xdf\xa3" + b"\0" * 20, "Matroska"),
    ],
)
def test_other_files_are_rejected_once_settled(bench: Bench, name: str, content: bytes, part: str) -> None:
    with (bench.folder / name).open("wb") as file:
        file.write(content)
        file.flush()
        assert bench.steps(10) == []
    [dropped] = bench.steps(6)
    assert part in str(dropped.reason)


def test_a_file_over_the_limit_is_rejected_without_reading_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_video_bytes=1 << 30)
    path = make_clip(bench.folder / "a.mp4")
    os.truncate(path, 10 << 40)
    started = time.monotonic()
    [dropped] = bench.step()
    assert time.monotonic() - started < 1
    assert "setting max_video_bytes" in str(dropped.reason)


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.mp4",
        "._a.mp4",
        "~$a.mp4",
        "a.mp4.part",
        "a.PARTIAL",
        "a.mp4.tmp",
        "a.crdownload",
        "a.filepart",
        "a.Download",
        "Thumbs.db",
        "desktop.ini",
        "mine.bak",
        "UPPER.BAK",
    ],
)
def test_unfinished_and_system_files_are_never_touched(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path, ignore=["*.bak"])
    make_clip(bench.folder / name)
    assert bench.steps(700) == []
    assert bench.inbox.health().waiting_count == 0


@pytest.mark.parametrize("folder", ["@eaDir", ".stfolder", "$RECYCLE.BIN", "lost+found", "rejected", ".x"])
def test_system_folders_and_the_rejected_files_are_not_looked_into(bench: Bench, folder: str) -> None:
    make_clip(bench.folder / folder / "a.mp4")
    assert bench.steps(10) == []


def test_ordinary_names_are_ours() -> None:
    assert not any(is_ignored(name) for name in ("a.mp4", "part.mp4", "50%off.mp4", "*.mp4", "tmp", "a b"))


def test_links_pipes_and_sockets_stay_and_are_shown_with_the_reason(bench: Bench) -> None:
    (bench.folder / "link.mp4").symlink_to("/etc/passwd")
    os.mkfifo(bench.folder / "pipe.mp4")
    (bench.folder / "folder.mp4").mkdir()
    (bench.folder / "into").symlink_to("/etc")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bench.folder / "s.mp4"))
    assert bench.steps(700) == []
    why = bench.why()
    assert "symbolic link" in why["link.mp4"]
    assert "symbolic link" in why["into"]
    assert "pipe" in why["pipe.mp4"]
    assert "socket" in why["s.mp4"]
    assert len(why) == 4


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        'it\'s "quoted".mp4',
        "two\nlines.mp4",
        "🎬 film.mp4",
        "x" * 251 + ".mp4",
        os.fsdecode(b"bad\xff.mp4"),
        "UPPER.MP4",
        "%d.mp4",
        "-rf.mp4",
        "back\\slash.mov",
    ],
)
def test_any_name_is_taken(bench: Bench, name: str) -> None:
    make_clip(bench.folder / name)
    assert paths(bench.step()) == [name]


def test_two_spellings_of_one_letter_are_two_files(bench: Bench) -> None:
    make_clip(bench.folder / "caf\u00e9.mp4")
    make_clip(bench.folder / "cafe\u0301.mp4")
    assert len(bench.step()) == 2


def test_an_unreadable_file_waits_in_sight_until_it_can_be_read(tmp_path: Path) -> None:
    # Permissions do not bind root, so the look is done by a child without privileges.
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    path = make_clip(tmp_path / "inbox" / "a.mp4")
    path.chmod(0)
    code = """
import json, os, sys
from pathlib import Path
from daemon.ingest.inbox import Inbox
from daemon.settings import Settings
Settings(home=sys.argv[1])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
inbox = Inbox(Settings(home=sys.argv[1], watch="polling", close_grace_seconds=0), lambda: None, lambda: 0.0)
inbox.startup()
found = [inbox.poll(float(now)) for now in range(0, 3000, 10)]
print(json.dumps([sum(map(len, found)), inbox.health().waiting[0].why]), flush=True)
sys.stdin.readline()
print(len(inbox.poll(5000.0)))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        found, why = json.loads(child.stdout.readline())
        assert found == 0
        assert why == "It cannot be read: its permissions do not let Dropframe read it."
        path.chmod(0o644)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline().strip() == "1"


# Folders.


def test_files_in_folders_are_found_down_to_the_depth_limit(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    make_clip(bench.folder / "1/2/3/4/5/a.mp4")
    make_clip(bench.folder / "1/2/3/4/5/6/b.mp4")
    assert paths(bench.step()) == ["1/2/3/4/5/a.mp4"]
    bench.steps(20)
    assert len(caplog.records) == 1
    assert "deep" in caplog.text


def test_a_folder_that_lies_too_deep_is_shown_as_waiting_and_is_not_ill_health(bench: Bench) -> None:
    make_clip(bench.folder / "1/2/3/4/5/6/b.mp4")
    bench.steps(20)
    beat = bench.inbox.health()
    assert (beat.problem, beat.waiting_count) == (None, 1)
    assert bench.why() == {"1/2/3/4/5/6/": "Folders more than 5 deep are not looked into; move their videos higher up."}
    shutil.rmtree(bench.folder / "1/2/3/4/5/6")
    bench.steps(200)
    assert bench.inbox.health().waiting == ()


def test_a_tree_of_a_thousand_levels_is_survived(bench: Bench) -> None:
    here = os.open(bench.folder, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    make_clip(bench.folder / "a.mp4")
    assert paths(bench.step()) == ["a.mp4"]
    subprocess.run(["rm", "-rf", str(bench.folder / "d")], check=True)


def test_a_folder_that_cannot_be_read_hides_nothing_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(bench.folder / "yolo/a.mp4")
    make_clip(bench.folder / "b.mp4")
    real = os.scandir

    def scandir(folder: int) -> object:
        if os.readlink(f"/proc/self/fd/{folder}").endswith("yolo"):
            raise OSError(errno.EIO, "Input/output error")
        return real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(scanner.os, "scandir", scandir)
        assert paths(bench.step()) == ["b.mp4"]
        assert "yolo cannot be read" in str(bench.inbox.health().problem)
        bench.steps(400)
        assert bench.inbox.health().last_good_scan_age_s is None, "there was no good scan"
        assert not bench.inbox.is_stuck(190, bench.clock.now), "and a new start would mend nothing"
    assert paths(bench.steps(bench.settings.poll_seconds + 1)) == ["yolo/a.mp4"]


def test_folders_that_cannot_be_read_are_said_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        (bench.folder / name).mkdir()
    real = os.scandir

    def scandir(folder: int) -> object:
        if not os.readlink(f"/proc/self/fd/{folder}").endswith(bench.folder.name):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(folder)

    monkeypatch.setattr(scanner.os, "scandir", scandir)
    for _ in range(10):
        bench.step(bench.settings.poll_seconds)
    assert [record.getMessage() for record in caplog.records] == [
        "The inbox folder one (and 1 more) cannot be read: Permission denied."
    ]


# Options files.


def test_an_options_file_goes_with_its_video(bench: Bench) -> None:
    make_clip(bench.folder / "yolo/a.mp4")
    (bench.folder / "yolo/a.mp4.options.json").write_text("{}")
    [dropped] = bench.step()
    assert dropped.options_path == "yolo/a.mp4.options.json"


def test_a_video_waits_for_an_options_file_that_is_being_written(bench: Bench) -> None:
    make_clip(bench.folder / "a.mp4")
    with (bench.folder / "a.mp4.options.json").open("w") as file:
        file.write('{"frame')
        file.flush()
        assert bench.steps(5) == []
        assert bench.why()["a.mp4"] == "It waits for its options file to be complete."
    assert paths(bench.steps(6)) == ["a.mp4"]


def test_an_options_file_without_a_video_is_rejected_after_the_timeout(bench: Bench) -> None:
    (bench.folder / "a.mp4.options.json").write_text("{}")
    assert bench.steps(595) == []
    [dropped] = bench.steps(6)
    assert "no video of that name came" in str(dropped.reason)


def test_an_options_file_waits_as_long_as_its_video_does(bench: Bench) -> None:
    with make_clip(bench.folder / "a.mp4").open("ab"):
        (bench.folder / "a.mp4.options.json").write_text("{}")
        assert bench.steps(2000) == []
    assert [d.options_path for d in bench.steps(6)] == ["a.mp4.options.json"]


# The folder itself.


def test_an_inbox_that_vanishes_is_offline_and_forgets_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (bench.folder / "a.mp4").write_bytes(b"")
    bench.steps(300)
    bench.folder.rename(bench.folder.parent / "away")
    assert bench.steps(400) == []
    health = bench.inbox.health()
    assert not health.online
    assert health.waiting_count == 1
    assert "offline" in str(health.problem)
    (bench.folder.parent / "away").rename(bench.folder)
    assert bench.steps(500) == [], "the time away does not count as quiet"
    assert bench.inbox.health().online
    assert bench.inbox.health().problem is None
    assert len(bench.steps(101)) == 1
    assert [r.message.split()[-1] for r in caplog.records] == ["directory.", "again."]


def test_an_inbox_that_is_made_anew_is_taken_up(bench: Bench) -> None:
    bench.step()
    shutil.rmtree(bench.folder)
    bench.steps(10)
    make_clip(bench.folder / "a.mp4")
    assert paths(bench.steps(3)) == ["a.mp4"]


def test_the_empty_mount_point_of_a_share_is_not_the_share(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = [Mount(bench.folder, "nfs4")]
    monkeypatch.setattr(root, "mount_of", lambda _: mounted[0])
    share = Bench(bench.folder.parent, watch="auto")
    (share.folder / "a.mp4").write_bytes(b"")
    share.steps(10)
    real_share = bench.folder.rename(bench.folder.parent / "share")
    bench.folder.mkdir()
    mounted[0] = Mount(Path("/"), "ext4")
    share.steps(10)
    assert not share.inbox.health().online
    assert "nothing is mounted" in str(share.inbox.health().problem)
    bench.folder.rmdir()
    real_share.rename(bench.folder)
    mounted[0] = Mount(bench.folder, "nfs4")
    share.steps(3)
    assert share.inbox.health().online
    assert share.inbox.health().waiting_count == 1


def test_a_share_with_a_hiccup_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.step()

    def scandir(_: int) -> object:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(scanner.os, "scandir", scandir)
        make_clip(bench.folder / "a.mp4")
        assert bench.steps(60) == []
        assert bench.inbox.health().last_good_scan_age_s == pytest.approx(60)
    assert len(caplog.records) == 1
    assert paths(bench.steps(3)) == ["a.mp4"]
    assert bench.inbox.health().problem is None


# Watching.


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, watch="events")
    yield made
    made.inbox.shutdown()


def wait_for_hints(bench: Bench) -> None:
    end = time.monotonic() + 5
    while bench.inbox.next_due(bench.clock.now) > 0 and time.monotonic() < end:
        time.sleep(0.005)


def test_an_event_brings_a_file_without_a_scan(watched: Bench) -> None:
    watched.step()
    make_clip(watched.folder / "a.mp4")
    found, end = watched.step(), time.monotonic() + 20
    while not found and time.monotonic() < end:  # the first event may be another one, and no scan is due
        wait_for_hints(watched)
        found = watched.step()
    assert paths(found) == ["a.mp4"]
    assert watched.inbox.health().mode == "events"


@pytest.mark.usefixtures("locks_say_nothing")
def test_a_close_event_counts_after_a_moment_where_locks_say_nothing(watched: Bench) -> None:
    watched.step()
    make_clip(watched.folder / "a.mp4")
    wait_for_hints(watched)
    assert watched.step() == []
    time.sleep(0.05)  # for the event of the close, should only that of the making have come
    assert paths(watched.steps(0.3)) == ["a.mp4"]


def test_dropped_events_lead_to_a_full_scan(watched: Bench) -> None:
    watched.step()
    watching = watched.inbox._root.watch
    assert watching is not None
    with watching._lock:  # events are not taken note of while this is held
        make_clip(watched.folder / "a.mp4")
        watching._hints.overflow = True
    time.sleep(0.1)
    watching.collect()
    watching.on_queue_overflow()
    assert paths(watched.step()) == ["a.mp4"]
    assert watched.inbox.health().overflows == 1


def test_the_canary_proves_that_events_arrive(watched: Bench) -> None:
    watched.step()
    assert watched.inbox.health().canary_age_s is None
    time.sleep(0.1)
    watched.step(6)
    assert watched.inbox.health().canary_age_s == 6
    assert watched.inbox.health().problem is None
    assert watched.inbox.health().waiting_count == 0


def test_a_watch_that_has_died_is_made_anew_and_then_given_up(watched: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher.Watch, "on_event", lambda *_: None)
    watched.step()
    first = watched.inbox._root.watch
    watched.steps(8)
    assert watched.inbox._root.watch is not first
    assert watched.inbox.health().mode == "events"
    watched.steps(8)
    assert watched.inbox.health().mode == "polling"
    assert watched.inbox.health().problem == "Events do not arrive, so the inbox is polled."
    make_clip(watched.folder / "a.mp4")
    assert paths(watched.steps(3)) == ["a.mp4"]


def test_a_thread_that_has_ended_is_noticed_at_once(watched: Bench) -> None:
    watched.step()
    first = watched.inbox._root.watch
    assert first is not None
    first.stop()
    watched.step()
    assert watched.inbox._root.watch is not first


@pytest.mark.parametrize(
    ("limit", "setting"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_instances")]
)
def test_where_no_watch_can_be_had_the_inbox_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, setting: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(limit, "inotify limit reached")

    monkeypatch.setattr(watcher.InotifyFD, "add_callback", refuse)
    bench = Bench(tmp_path, watch="auto")
    assert bench.inbox.health().mode == "polling"
    assert f"inotify limit reached; raise fs.inotify.{setting}" in str(bench.inbox.health().problem)
    make_clip(bench.folder / "a.mp4")
    assert paths(bench.step()) == ["a.mp4"]


def test_a_folder_that_moves_is_watched_under_its_new_name(watched: Bench) -> None:
    make_clip(watched.folder / "yolo/deep/a.mp4")
    assert len(watched.step()) == 1
    (watched.folder / "yolo").rename(watched.folder / "ocr_only")
    time.sleep(0.1)
    assert paths(watched.step()) == ["ocr_only/deep/a.mp4"]
    make_clip(watched.folder / "ocr_only/deep/b.mp4")
    time.sleep(0.1)
    assert paths(watched.step()) == ["ocr_only/deep/b.mp4"]


def test_starting_and_ending_leaks_no_descriptor(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    Bench(tmp_path, watch="events").inbox.shutdown()
    before = descriptors()
    for _ in range(5):
        bench = Bench(tmp_path, watch="events")
        make_clip(bench.folder / "yolo/a.mp4")
        bench.steps(10)
        bench.inbox.shutdown()
    assert descriptors() == before


def test_what_is_tried_again_at_a_time_is_not_said_to_resume_by_itself_as_well() -> None:
    why = "Intake is paused. No room. It resumes by itself."
    tracked = stability.TrackedFile("a.mp4", first_seen=0, why=why, blocked=why, offer_again=10)
    assert tracked.explain(0) == "Intake is paused. No room. It is tried again in 10 s."
