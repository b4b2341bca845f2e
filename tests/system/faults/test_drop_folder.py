"""Faults of the drop folder: group A of the fault list in docs/reliability.md."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.ipc.health import InboxBeat
from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.system.running import Daemon, cpu_seconds, running, wait_for
from tests.system.shares import mounted

pytestmark = pytest.mark.slow

SETTINGS = {"DROPFRAME_DEFAULT_PIPELINE": "ocr_only", "DROPFRAME_SETTLE_SECONDS": "0.5"}
POLLING = {**SETTINGS, "DROPFRAME_WATCH": "polling", "DROPFRAME_POLL_SECONDS": "0.5"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=2, size=(64, 48), faststart=True)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that several tests share; each drops files of its own names."""
    with running(tmp_path_factory.mktemp("home"), **SETTINGS) as made:
        yield made


def inbox_health(daemon: Daemon) -> InboxBeat:
    beat = daemon.beat()
    return InboxBeat() if beat is None else beat.inbox


def jobs_of(daemon: Daemon, *names: str) -> Counter[str]:
    """Wait until each of these has ended; count the jobs of each."""
    for name in names:
        daemon.wait_job(name, seconds=120)
    return Counter(job.source_name for job in daemon.jobs() if job.source_name in names)


def test_a_file_that_is_never_closed_is_shown_and_holds_up_nobody(daemon: Daemon, clip: Path) -> None:
    with (daemon.inbox / "never closed.mp4").open("wb") as file:
        file.write(clip.read_bytes())
        file.flush()
        daemon.drop(clip, "beside it.mp4")
        daemon.wait_job("beside it.mp4")

        def shown() -> bool:
            waiting = {w.name: w.why for w in inbox_health(daemon).waiting}
            return "open for writing" in waiting.get("never closed.mp4", "")

        wait_for(shown, 30)
        assert daemon.job("never closed.mp4") is None
    assert jobs_of(daemon, "never closed.mp4") == {"never closed.mp4": 1}


def test_many_events_of_one_file_are_one_job(daemon: Daemon, clip: Path) -> None:
    """An indexer or a virus scanner that touches, opens and changes the mode of a file that waits."""
    with (daemon.inbox / "touched.mp4").open("wb") as keeps_it_waiting:
        keeps_it_waiting.write(clip.read_bytes())
        keeps_it_waiting.flush()
        for number in range(20):
            os.chmod(daemon.inbox / "touched.mp4", 0o600 + number % 2)
            os.utime(daemon.inbox / "touched.mp4")
            (daemon.inbox / "touched.mp4").open("ab").close()
    assert jobs_of(daemon, "touched.mp4") == {"touched.mp4": 1}


def test_names_of_all_kinds_have_results_of_their_own(daemon: Daemon, clip: Path) -> None:
    """Among them one letter in two spellings, which are two files, and what a shell or a decoder would take apart."""
    names = ["caf\u00e9.mp4", "cafe\u0301.mp4", "50%off%d.mp4", "*.mp4", "new\nline.mp4", "\x1b[31mred.mp4", "-i.mp4"]
    for name in names:
        daemon.drop(clip, name)
    assert jobs_of(daemon, *names) == dict.fromkeys(names, 1)
    assert {f"{name}.json" for name in names} <= set(daemon.results())
    assert "\x1b[31m" not in daemon.log()


def test_times_far_off_change_nothing(daemon: Daemon, clip: Path) -> None:
    for year, seconds in (("1980", 315_532_800), ("2099", 4_070_908_800)):
        partial = daemon.inbox / f".{year}.part"
        shutil.copyfile(clip, partial)
        os.utime(partial, (seconds, seconds))
        partial.rename(daemon.inbox / f"{year}.mp4")
    assert jobs_of(daemon, "1980.mp4", "2099.mp4") == {"1980.mp4": 1, "2099.mp4": 1}


def test_the_same_name_in_each_state_of_a_job_is_a_job_each_time(daemon: Daemon, tmp_path: Path) -> None:
    """Dropped again while the one before is running, queued and done."""
    long = make_clip(tmp_path / "long.mp4", frames=150, text="FIRST")
    other = [make_clip(tmp_path / f"{n}.mp4", frames=2 + n, size=(64, 48), faststart=True) for n in range(3)]
    daemon.drop(long, "again.mp4")
    daemon.wait_job("again.mp4", JobStatus.RUNNING)
    for next_one in other[:2]:
        daemon.drop(next_one, "again.mp4")
        taken(daemon, "again.mp4")
    wait_for(lambda: all(job.ended for job in daemon.jobs()), 120)
    daemon.drop(other[2], "again.mp4")
    taken(daemon, "again.mp4")
    wait_for(lambda: all(job.ended for job in daemon.jobs()), 120)
    sizes = [job.size_bytes for job in daemon.jobs() if job.source_name == "again.mp4"]
    assert sizes == [path.stat().st_size for path in (long, *other)]


def taken(daemon: Daemon, name: str) -> None:
    """Wait until a file has left the inbox; while it is there, another of its name would take its place."""
    wait_for(lambda: not (daemon.inbox / name).exists(), 60)


def named(daemon: Daemon, name: str) -> int:
    return sum(job.source_name == name for job in daemon.jobs())


def test_a_link_that_takes_a_files_place_again_and_again_is_never_followed(
    daemon: Daemon, clip: Path, tmp_path: Path
) -> None:
    canary = make_clip(tmp_path / "canary.mp4", frames=3, text="SECRET", faststart=True)
    place, link, file = daemon.inbox / "flip.mp4", daemon.inbox / ".link", daemon.inbox / ".file"
    done = threading.Event()

    def exchange() -> None:
        while not done.is_set():
            link.symlink_to(canary)
            link.rename(place)
            shutil.copyfile(clip, file)
            file.rename(place)

    thread = threading.Thread(target=exchange)
    thread.start()
    wait_for(lambda: named(daemon, "flip.mp4") >= 5, 180)
    done.set()
    thread.join()
    wait_for(lambda: not place.exists() and all(job.ended for job in daemon.jobs()), 60)
    secret = canary.read_bytes()
    kept = [*(daemon.data / "video_jobs").glob("*.mp4"), *(daemon.inbox / "rejected").rglob("*.mp4")]
    assert len(kept) >= 5
    assert [path for path in kept if path.is_symlink() or path.read_bytes() == secret] == []
    assert canary.read_bytes() == secret


def test_a_tree_of_a_thousand_levels_moved_in_does_not_end_watching(tmp_path: Path, daemon: Daemon, clip: Path) -> None:
    deep = daemon.home / "deep"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    deep.rename(daemon.inbox / "deep")
    try:
        wait_for(lambda: any(file.name.startswith("deep/") for file in inbox_health(daemon).waiting), 90)
        daemon.drop(clip, "after the tree.mp4")
        assert jobs_of(daemon, "after the tree.mp4") == {"after the tree.mp4": 1}
        assert inbox_health(daemon).mode == "events"
    finally:
        subprocess.run(["rm", "-rf", str(daemon.inbox / "deep")], check=True)


def test_a_tree_that_is_copied_in_is_taken_whole_and_the_rest_by_the_rule(
    tmp_path: Path, daemon: Daemon, clip: Path
) -> None:
    tree = tmp_path / "ocr_only"
    for number in range(120):
        folder = tree / f"day {number // 10}" / f"camera {number}"
        folder.mkdir(parents=True)
        shutil.copyfile(clip, folder / f"tree {number}.mp4")
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "Thumbs.db").write_bytes(b"x")
    subprocess.run(["cp", "-r", tree, daemon.inbox], check=True)
    names = [f"ocr_only/day {n // 10}/camera {n}/tree {n}.mp4" for n in range(120)]
    wait_for(lambda: {Path(job.source_name).name for job in daemon.jobs()} >= {Path(n).name for n in names}, 120)
    counts = Counter(Path(job.source_name).name for job in daemon.jobs())
    assert {counts[Path(name).name] for name in names} == {1}
    wait_for(lambda: not list((daemon.inbox / "ocr_only").rglob("*.mp4")), 60)
    assert len(list((daemon.inbox / "ocr_only").rglob("Thumbs.db"))) == 120


@pytest.mark.needs("strace")
def test_a_share_with_stale_handles_is_asked_again_with_one_line_in_the_log(tmp_path: Path, clip: Path) -> None:
    """What an NFS client says for a minute after its server was changed; strace says it here."""
    with running(tmp_path, **POLLING) as daemon:
        waiting = (daemon.inbox / "waiting.mp4").open("wb")  # known before, and not to be forgotten
        waiting.write(clip.read_bytes())
        waiting.flush()
        wait_for(lambda: inbox_health(daemon).waiting_count == 1, 30)
        inject = ["-e", "trace=getdents64", "-e", "inject=getdents64:error=ESTALE", "-o", "/dev/null"]
        with subprocess.Popen(["strace", "-f", "-qq", *inject, "-p", str(daemon.pid)]) as tracer:
            wait_for(lambda: "Stale" in (inbox_health(daemon).problem or ""), 60)
            daemon.drop(clip, "meanwhile.mp4")
            time.sleep(3)  # several scans fail
            assert daemon.jobs() == []
            assert inbox_health(daemon).waiting_count == 1
            tracer.send_signal(signal.SIGINT)
        waiting.close()
        assert jobs_of(daemon, "waiting.mp4", "meanwhile.mp4") == {"waiting.mp4": 1, "meanwhile.mp4": 1}
        wait_for(lambda: not inbox_health(daemon).problem, 30)
        assert daemon.log().count("The inbox folder itself cannot be read: Stale file handle.") == 1


def test_polling_a_large_tree_costs_little(tmp_path: Path) -> None:
    """20,000 files in 2,000 folders, polled every two seconds, the default."""
    for number in range(2000):
        folder = tmp_path / "inbox" / f"{number // 100}" / f"{number}"
        folder.mkdir(parents=True)
        for file in range(10):
            (folder / f"{file}.mp4.part").touch()
    with running(tmp_path, DROPFRAME_WATCH="polling") as daemon:
        wait_for(lambda: inbox_health(daemon).last_good_scan_age_s is not None, 60)
        before, begun = cpu_seconds(daemon.pid), time.monotonic()
        time.sleep(10)
        share = (cpu_seconds(daemon.pid) - before) / (time.monotonic() - begun)
        print(f"polling 20,000 files in 2,000 folders takes {share:.1%} of a core")
        assert share < 0.3


def test_a_source_that_cannot_be_removed_is_taken_once(tmp_path: Path, clip: Path) -> None:
    """The share becomes read-only once the files are there, and stays so over a restart."""
    inbox, share = tmp_path / "home" / "inbox", tmp_path / "share"
    share.mkdir()
    with mounted(inbox, "--bind", share), running(inbox.parent, **POLLING) as daemon:
        daemon.send(signal.SIGSTOP)
        for number in range(3):
            shutil.copyfile(clip, inbox / f"{number}.mp4")
        subprocess.run(["mount", "-o", "remount,bind,ro", str(inbox)], check=True)
        daemon.send(signal.SIGCONT)
        names = [f"{number}.mp4" for number in range(3)]
        assert jobs_of(daemon, *names) == dict.fromkeys(names, 1)
        daemon.kill()
        subprocess.run(["mount", "-o", "remount,bind,rw", str(inbox)], check=True)
        daemon.start()
        daemon.wait_ready()
        daemon.drop(clip, "new.mp4")
        assert jobs_of(daemon, *names, "new.mp4") == dict.fromkeys([*names, "new.mp4"], 1)
        assert sorted(path.name for path in share.glob("*.mp4")) == names
        daemon.stop()


def test_an_inbox_that_is_moved_away_and_made_anew_is_attached_again(tmp_path: Path, clip: Path) -> None:
    with running(tmp_path, **SETTINGS) as daemon:
        daemon.inbox.rename(tmp_path / "elsewhere")
        wait_for(lambda: inbox_health(daemon).online is False, 30)
        daemon.inbox.mkdir()
        wait_for(lambda: inbox_health(daemon).online is True, 30)
        daemon.drop(clip, "a.mp4")
        assert jobs_of(daemon, "a.mp4") == {"a.mp4": 1}
        shutil.copyfile(clip, tmp_path / "elsewhere" / "b.mp4")
        daemon.drop(clip, "c.mp4")
        assert jobs_of(daemon, "c.mp4") == {"c.mp4": 1}
        assert daemon.job("b.mp4") is None
        assert inbox_health(daemon).mode == "events"
