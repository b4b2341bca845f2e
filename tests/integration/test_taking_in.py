"""Real files dropped in real ways under a real watch, and kills at every step of taking them in."""

from __future__ import annotations

import io
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.fs.storage import LocalStorageService
from daemon.ingest.inbox import Inbox
from daemon.ingest.intake import Intake
from daemon.ingest.put_back import ClaimedSources
from daemon.ipc import spool, spool_sweep
from daemon.jobs import Job, JobSource, Options
from daemon.queue import InMemoryQueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from tests.clips import make_clip

PIPELINES = frozenset({"yolo_ocr", "yolo", "ocr_only"})


class Taker:
    """The part of the daemon that takes files in, with its own thread."""

    def __init__(self, home: Path, **changes: object) -> None:
        self.settings = Settings(home=home, **({"min_free_bytes": 0, "close_grace_seconds": 0} | changes))  # type: ignore[arg-type]
        self.store = JobStore.open(self.settings.data_dir)
        self.queue = InMemoryQueueService()
        self.storage = LocalStorageService(self.settings.data_dir)
        self.intake = Intake(self.settings, self.store, self.queue, self.storage, PIPELINES)
        self.sources = ClaimedSources(self.settings, self.store, self.storage)
        self.woken = threading.Event()
        self.inbox = Inbox(self.settings, self.woken.set)
        self.folder = self.settings.inbox_dir
        self.intake.recover()
        self.inbox.startup()
        self._stop = False
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop:
            self.step()
            self.woken.wait(min(1.0, self.inbox.next_due(time.monotonic())))
            self.woken.clear()

    def step(self) -> None:
        self.inbox.acknowledge(self.intake.take(self.inbox.poll(time.monotonic())))
        self.intake.take_tickets()

    def close(self) -> None:
        self._stop = True
        self.woken.set()
        self._thread.join()
        self.inbox.shutdown()
        self.store.close()

    def jobs(self) -> list[Job]:
        return self.store.jobs()

    def stored(self, job: Job) -> bytes:
        return self.storage.path(job.input_path).read_bytes()


@pytest.fixture(params=["events", "polling"])
def taker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Taker]:
    before = threading.active_count()
    made = Taker(tmp_path / "home", watch=request.param, poll_seconds=0.2, settle_seconds=0.4)
    yield made
    made.close()
    assert threading.active_count() == before


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", faststart=True)


def wait_until(done: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def takes_exactly(taker: Taker, count: int, watch_on_seconds: float = 0.7) -> list[Job]:
    wait_until(lambda: len(taker.jobs()) >= count)
    time.sleep(watch_on_seconds)
    jobs = taker.jobs()
    assert len(jobs) == count
    return jobs


# Ways of writing a file.


def test_a_copied_file_is_taken_once(taker: Taker, clip: Path) -> None:
    subprocess.run(["cp", "-p", clip, taker.folder / "a.mp4"], check=True)
    [job] = takes_exactly(taker, 1)
    assert taker.stored(job) == clip.read_bytes()
    assert not (taker.folder / "a.mp4").exists()


def test_a_file_moved_in_is_taken_once(taker: Taker, clip: Path) -> None:
    data = clip.read_bytes()
    clip.rename(taker.folder / "a.mp4")
    [job] = takes_exactly(taker, 1)
    assert taker.stored(job) == data


def test_a_file_renamed_from_part_is_taken_once(taker: Taker, clip: Path) -> None:
    part = taker.folder / "a.mp4.part"
    shutil.copyfile(clip, part)
    time.sleep(0.5)
    assert taker.jobs() == []
    part.rename(taker.folder / "a.mp4")
    takes_exactly(taker, 1)


def test_a_slow_writer_is_waited_for(taker: Taker, clip: Path) -> None:
    data = clip.read_bytes()
    with (taker.folder / "a.mp4").open("wb", buffering=0) as file:
        for part in range(4):
            file.write(data[part * len(data) // 4 : (part + 1) * len(data) // 4])
            time.sleep(0.6)
            assert taker.jobs() == []
    [job] = takes_exactly(taker, 1)
    assert taker.stored(job) == data


def test_room_reserved_first_and_filled_slowly_is_waited_for(taker: Taker, clip: Path) -> None:
    data = clip.read_bytes()
    with (taker.folder / "a.mp4").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(data))
        for part in range(4):
            time.sleep(0.6)
            file.write(data[part * len(data) // 4 : (part + 1) * len(data) // 4])
        assert taker.jobs() == []
    [job] = takes_exactly(taker, 1)
    assert taker.stored(job) == data


def test_a_writer_that_opens_the_file_again_and_again_is_waited_for(taker: Taker, clip: Path) -> None:
    data = clip.read_bytes()
    for part in range(4):
        with (taker.folder / "a.mp4").open("ab") as file:
            file.write(data[part * len(data) // 4 : (part + 1) * len(data) // 4])
        time.sleep(0.6)
    [job] = takes_exactly(taker, 1)
    assert taker.stored(job) == data


def test_a_folder_copied_in_is_taken_whole(taker: Taker, clip: Path, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"tree/yolo/{number % 4}/deep").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, tmp_path / f"tree/yolo/{number % 4}/deep/{number}.mp4")
    subprocess.run(["cp", "-r", tmp_path / "tree/yolo", taker.folder], check=True)
    jobs = takes_exactly(taker, 20)
    assert {job.pipeline_id for job in jobs} == {"yolo"}


def test_many_touches_of_a_waiting_file_are_one_job(taker: Taker, clip: Path) -> None:
    with (taker.folder / "a.mp4").open("wb") as file:
        file.write(clip.read_bytes())
        for number in range(20):
            os.utime(taker.folder / "a.mp4", (number, number))
            os.chmod(taker.folder / "a.mp4", 0o600 + number % 2)
            with (taker.folder / "a.mp4").open("ab"):
                pass
    takes_exactly(taker, 1)


def test_odd_names_are_all_taken_and_odd_things_are_not(taker: Taker, clip: Path) -> None:
    names = ["a b.mp4", "'\".mp4", "a\nb.mp4", "🎬.mp4", "x" * 251 + ".mp4", "é.mp4", "e\u0301.mp4"]
    names.append(os.fsdecode(b"bad\xff.mp4"))
    (taker.folder / "folder.mp4").mkdir()
    (taker.folder / "link.mp4").symlink_to(clip)
    os.mkfifo(taker.folder / "pipe.mp4")
    for name in names:
        shutil.copyfile(clip, taker.folder / name)
    jobs = takes_exactly(taker, len(names))
    assert {job.source_name for job in jobs} == {
        os.fsencode(name).decode("utf-8", "backslashreplace") for name in names
    }
    assert sorted(os.listdir(taker.folder))[-3:] == ["folder.mp4", "link.mp4", "pipe.mp4"]


def test_a_file_written_to_after_it_was_taken_is_noticed(taker: Taker, clip: Path) -> None:
    shutil.copyfile(clip, taker.folder / "a.mp4")
    [job] = takes_exactly(taker, 1)
    with taker.storage.path(job.input_path).open("ab") as file:
        file.write(b"more")
    assert not taker.sources.unchanged(job)
    assert taker.sources.put_back(job, "It was written to.") is None
    assert (taker.folder / "a.mp4").exists() or len(taker.jobs()) == 2


def test_an_inbox_moved_away_and_back_loses_nothing(taker: Taker, clip: Path, tmp_path: Path) -> None:
    taker.folder.rename(tmp_path / "away")
    shutil.copyfile(clip, tmp_path / "away/a.mp4")
    wait_until(lambda: not taker.inbox.health().online)
    assert taker.jobs() == []
    (tmp_path / "away").rename(taker.folder)
    takes_exactly(taker, 1)
    shutil.copyfile(clip, taker.folder / "b.mp4")
    takes_exactly(taker, 2)


def test_a_waiting_file_holds_up_nobody(taker: Taker, clip: Path) -> None:
    with (taker.folder / "slow.mp4").open("wb") as file:
        file.write(clip.read_bytes()[:100])
        file.flush()
        for number in range(5):
            shutil.copyfile(clip, taker.folder / f"{number}.mp4")
        takes_exactly(taker, 5)
        assert [w.name for w in taker.inbox.health().waiting] == ["slow.mp4"]


# Many, and quickly.


def test_a_closed_file_is_pending_within_half_a_second(tmp_path: Path, clip: Path) -> None:
    taker = Taker(tmp_path / "home", watch="events")
    delays = []
    try:
        time.sleep(0.3)
        for number in range(20):
            shutil.copyfile(clip, taker.folder / f"{number}.mp4")
            closed = time.monotonic()
            wait_until(lambda number=number: taker.queue.size() > number)  # type: ignore[misc]
            delays.append(time.monotonic() - closed)
    finally:
        taker.close()
    assert statistics.median(delays) < 0.5
    assert max(delays) < 5  # a machine that does other things may be late once


def test_two_thousand_files_at_once_are_taken_in_order_of_stability(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "home/inbox").mkdir(parents=True)
    staged = tmp_path / "home/staged"
    staged.mkdir()
    for number in range(2000):
        shutil.copyfile(clip, staged / f"{number:04}.mp4")
        os.utime(staged / f"{number:04}.mp4", (number, number))
    taker = Taker(tmp_path / "home", watch="events")
    try:
        time.sleep(0.3)
        for number in range(2000):
            (staged / f"{number:04}.mp4").rename(taker.folder / f"{number:04}.mp4")
        wait_until(lambda: taker.queue.size() == 2000, 60)
        jobs = taker.jobs()
        assert len({job.source_name for job in jobs}) == len(jobs) == 2000
        in_order = sorted(jobs, key=lambda job: job.sequence)
        assert [job.source_name for job in in_order] == [f"{number:04}.mp4" for number in range(2000)]
    finally:
        taker.close()


def test_events_that_the_kernel_drops_are_made_up_for(tmp_path: Path, clip: Path) -> None:
    taker = Taker(tmp_path / "home", watch="events")
    try:
        time.sleep(0.3)
        watching = taker.inbox._root.watch
        assert watching is not None
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        with watching._lock:  # its thread stands still, so the kernel's queue runs over
            for number in range(limit + 3000):
                fd = os.open(taker.folder / f".n{number % 3}", os.O_WRONLY | os.O_CREAT)
                os.close(fd)
            for number in range(50):
                shutil.copyfile(clip, taker.folder / f"{number}.mp4")
        wait_until(lambda: len(taker.jobs()) >= 50, 30)
        time.sleep(0.5)
        assert len(taker.jobs()) == 50
        assert taker.inbox.health().overflows >= 1
    finally:
        taker.close()


# Kills.

CHILD = """
import sys, time, os, errno
from pathlib import Path
sys.path.insert(0, os.getcwd())
from tests.integration.test_taking_in import PIPELINES
from daemon.fs import moves
from daemon.ingest.inbox import Inbox
from daemon.ingest.intake import Intake
from daemon.queue import InMemoryQueueService
from daemon.settings import Settings
from daemon.fs.storage import LocalStorageService
from daemon.store.job_store import JobStore
if sys.argv[2] == "another disk":
    real = moves.rename_new
    def rename(source, source_folder, target, target_folder):
        if source_folder != target_folder:
            raise OSError(errno.EXDEV, "another disk")
        real(source, source_folder, target, target_folder)
    moves.rename_new = rename
settings = Settings(home=sys.argv[1], watch="polling", min_free_bytes=0, close_grace_seconds=0)
store = JobStore.open(settings.data_dir)
queue = InMemoryQueueService()
intake = Intake(settings, store, queue, LocalStorageService(settings.data_dir), PIPELINES)
intake.recover()
inbox = Inbox(settings, lambda: None)
inbox.startup()
for _ in range(3):
    intake.take(inbox.poll(time.monotonic()))
    intake.take_tickets()
inbox.shutdown()
store.close()
"""


def run_child(home: Path, disk: str, fault: str | None) -> int:
    environment = os.environ | ({"DROPFRAME_FAULT": fault} if fault else {})
    return subprocess.run([sys.executable, "-c", CHILD, home, disk], env=environment, check=False).returncode


@pytest.mark.parametrize("disk", ["same disk", "another disk"])
@pytest.mark.parametrize(
    "point",
    [
        "intake.recorded:1",
        "intake.options:1",
        "move.copied:1",
        "move.copied:2",
        "intake.one_moved:1",
        "intake.one_moved:2",
        "intake.one_moved:3",
        "intake.moved:1",
        "tickets.recorded:1",
        "intake.moved:2",
        "intake.one_moved:5",
    ],
)
def test_killed_at_any_point_each_file_is_one_job(tmp_path: Path, clip: Path, disk: str, point: str) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home)
    contents = set()
    for number in range(4):
        path = settings.inbox_dir / ("yolo/" if number % 2 else "") / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip.read_bytes() + (8 + number).to_bytes(4, "big") + b"free" + b"x" * number)
        contents.add(path.read_bytes())
    (settings.inbox_dir / "0.mp4.options.json").write_text('{"frame_stride": 9}')
    promised = []
    for number in range(2):
        content = f"upload {number}".encode()
        contents.add(content)
        promised.append(
            spool.submit(
                settings.data_dir / "spool",
                io.BytesIO(content),
                source=JobSource.HTTP,
                source_name="u.mp4",
                pipeline_id="yolo",
                options=Options(),
            )
        )
    code = run_child(home, disk, point)
    passes_it = not (disk == "same disk" and point.startswith("move.copied"))
    assert code == (-signal.SIGKILL if passes_it else 0)
    assert run_child(home, disk, None) == 0
    storage = LocalStorageService(settings.data_dir)
    with JobStore.open(settings.data_dir) as store:
        jobs = store.jobs()
        stored = [storage.path(job.input_path).read_bytes() for job in jobs]
        assert len(jobs) == 6
        assert set(stored) == contents
        assert {job.job_id for job in jobs} >= set(promised)
        strides = {job.source_name: job.options.frame_stride for job in jobs}
        assert strides["0.mp4"] == 9
    assert [p for p in settings.inbox_dir.rglob("*") if p.is_file()] == []
    assert os.listdir(settings.data_dir / "spool") == []
    assert not list((settings.data_dir / "video_jobs").glob(".*"))


def test_a_submitter_killed_before_its_ticket_leaves_no_job(tmp_path: Path) -> None:
    code = """
import io, sys
from pathlib import Path
from daemon.ipc import spool
from daemon.jobs import JobSource, Options
spool.submit(Path(sys.argv[1]), io.BytesIO(b"video"), source=JobSource.CLI, source_name="a.mp4",
             pipeline_id="yolo", options=Options())
"""
    folder = tmp_path / "spool"
    environment = os.environ | {"DROPFRAME_FAULT": "spool.renamed"}
    killed = subprocess.run([sys.executable, "-c", code, folder], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert spool.tickets(folder) == []
    assert spool_sweep.sweep(folder, time.time() + 90_000) == 1
