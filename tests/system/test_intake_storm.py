"""A storm of files, dropped events and restarts: each file is exactly one job, and none is taken half written.

``STORM_FILES`` sets the number of files of the storm and ``STORM_TIMES`` how often each way of writing is tried;
``make storm`` runs 20,000 files and 50 times.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.system.running import Daemon, running, wait_for

pytestmark = pytest.mark.slow

STORM_FILES = int(os.environ.get("STORM_FILES", "1000"))
STORM_SECONDS = float(os.environ.get("STORM_SECONDS", "240"))
"""From the last file until all are jobs. ``make storm`` asks for 60; here the machine may be shared."""
EVENT_LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")
TIMES = int(os.environ.get("STORM_TIMES", "20"))
"""How often a file is written in each of the ways."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=2, size=(64, 48), faststart=True)


def put(clip: Path, target: Path, number: int) -> None:
    """Drop a copy: every other one by a rename, the others written in place."""
    if number % 2:
        shutil.copyfile(clip, target)
    else:
        partial = target.with_name(f".{target.name}.part")
        shutil.copyfile(clip, partial)
        partial.rename(target)


def overflow(inbox: Path) -> None:
    """Make more events than the kernel keeps for a daemon that is stopped."""
    for number in range(int(EVENT_LIMIT.read_text()) + 1000):  # of three names: equal events in a row are one
        os.close(os.open(inbox / f".n{number % 3}", os.O_WRONLY | os.O_CREAT))


@pytest.mark.timeout(1800)
def test_every_file_of_a_storm_is_one_job(tmp_path: Path, clip: Path) -> None:
    """Two writers; a daemon that is stopped until events are lost, killed and started again meanwhile."""
    names = [f"{number:05}.mp4" for number in range(STORM_FILES)]
    with running(tmp_path, DROPFRAME_LOG_LEVEL="warning", ready=False) as daemon:
        wait_for(daemon.beat, 60)
        counter = iter(range(STORM_FILES))

        def drop(count: int) -> None:
            for number in (next(counter) for _ in range(count)):
                put(clip, daemon.inbox / names[number], number)

        drop(STORM_FILES // 5)
        os.kill(daemon.pid, signal.SIGSTOP)
        drop(STORM_FILES // 5)
        overflow(daemon.inbox)
        os.kill(daemon.pid, signal.SIGCONT)
        wait_for(lambda: (beat := daemon.beat()) is not None and beat.inbox.overflows >= 1, 60, "nothing overflowed")
        for end in (daemon.kill, daemon.stop, daemon.kill):
            drop(STORM_FILES // 10)
            wait_for(daemon.beat, 60)
            end()
            drop(STORM_FILES // 10)
            daemon.start()
        left = STORM_FILES - STORM_FILES // 5 * 2 - STORM_FILES // 10 * 6
        drop(left)
        ended = time.monotonic()
        taken = daemon.data / "video_jobs"  # looked at instead of the records, which would take time from the daemon
        wait_for(
            lambda: sum(name.endswith(".mp4") for name in os.listdir(taken)) >= STORM_FILES,
            STORM_SECONDS,
            daemon.log()[-999:],
        )
        took = time.monotonic() - ended
        print(f"{STORM_FILES} files were jobs {took:.1f} s after the last was dropped")
        wait_for(lambda: (beat := daemon.beat()) is not None and beat.inbox.waiting_count == 0, 60)
        assert [path.name for path in daemon.inbox.iterdir() if not path.name.startswith(".")] == []
        counts = Counter(job.source_name for job in daemon.jobs())
        assert set(counts) == set(names)
        assert [name for name, count in counts.items() if count != 1] == []


# Six ways of writing a file. Each writes the content in steps; after each but the last it is partial.


def settings_of_writers() -> dict[str, str]:
    return {
        "DROPFRAME_SETTLE_SECONDS": "0.5",
        "DROPFRAME_DEFAULT_PIPELINE": "ocr_only",
        "DROPFRAME_LOG_LEVEL": "warning",
    }


def parts(content: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.sample(range(1, len(content)), 4))
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def append_slowly(target: Path, content: bytes, rng: random.Random) -> None:
    with target.open("wb", buffering=0) as file:
        for part in parts(content, rng):
            file.write(part)
            time.sleep(rng.uniform(0, 0.3))


def reserve_then_fill(target: Path, content: bytes, rng: random.Random) -> None:
    with target.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(content))
        for part in parts(content, rng):
            time.sleep(rng.uniform(0, 0.3))
            file.write(part)


def rename_in(target: Path, content: bytes, rng: random.Random) -> None:
    partial = target.with_name(target.name + rng.choice([".part", ".tmp", ".crdownload"]))
    append_slowly(partial, content, rng)
    partial.rename(target)


def open_again(target: Path, content: bytes, rng: random.Random) -> None:
    for part in parts(content, rng):
        with target.open("ab", buffering=0) as file:
            file.write(part)
        time.sleep(rng.uniform(0, 0.3))


def pause_for_long(target: Path, content: bytes, rng: random.Random) -> None:
    """Pause longer than the settling time, with the file open or closed."""
    first, second = content[: len(content) // 2], content[len(content) // 2 :]
    with target.open("wb", buffering=0) as file:
        file.write(first)
        if rng.random() < 0.5:
            time.sleep(1.5)
            file.write(second)
            return
    time.sleep(1.5)
    with target.open("ab", buffering=0) as file:
        file.write(second)


WAYS: dict[str, Callable[[Path, bytes, random.Random], None]] = {
    "append slowly": append_slowly,
    "reserve, then fill": reserve_then_fill,
    "rename in": rename_in,
    "open again and again": open_again,
    "pause for long": pause_for_long,
}


@pytest.mark.parametrize("watch", ["events", "polling"])
def test_no_result_is_of_partial_content(tmp_path: Path, clip: Path, watch: str) -> None:
    """Each file is written in steps with pauses; its one job must be of the whole content."""
    rng = random.Random(4)
    data = clip.read_bytes()
    whole: dict[str, bytes] = {}
    with running(tmp_path, DROPFRAME_WATCH=watch, DROPFRAME_POLL_SECONDS="0.3", **settings_of_writers()) as daemon:

        def write(name: str, way: str) -> None:
            WAYS[way](daemon.inbox / name, whole[name], random.Random(name))

        with ThreadPoolExecutor(25) as writers:
            work = [(f"{way} {number}.mp4", way) for way in WAYS for number in range(TIMES // 2)]
            rng.shuffle(work)
            for name, _ in work:  # each with an end of its own
                whole[name] = data + (8 + len(name)).to_bytes(4, "big") + b"free" + name.encode()
            for _ in writers.map(lambda item: write(*item), work):
                pass
        ends_with_one_whole_result_each(daemon, whole)


def test_no_result_is_of_content_that_was_edited_after_it_was_taken(tmp_path: Path, clip: Path) -> None:
    """A writer that had the file open goes on writing into what is the stored video by now."""
    data = clip.read_bytes()
    whole = {}
    with running(tmp_path, **settings_of_writers()) as daemon:
        daemon.drop(make_clip(tmp_path / "long.mp4", frames=400, text="FIRST"), "0.mp4")
        daemon.wait_job("0.mp4", JobStatus.RUNNING)
        for number in range(TIMES):
            name = f"edited {number}.mp4"
            daemon.drop(clip, name)
            whole[name] = data + b"\0\0\0\x10free" + f"{number:08}".encode()
        wait_for(lambda: len(daemon.jobs()) == TIMES + 1, 30)
        stored = {job.source_name: daemon.data / job.input_path for job in daemon.jobs()}
        wait_for(lambda: all(path.exists() for path in stored.values()), 30)

        def edit(name: str) -> None:
            rest = whole[name][len(data) :]
            with stored[name].open("ab", buffering=0) as file:
                file.write(rest[:9])
                time.sleep(random.Random(name).uniform(0, 3))
                file.write(rest[9:])

        with ThreadPoolExecutor(TIMES) as writers:
            list(writers.map(edit, whole))
        ends_with_one_whole_result_each(daemon, whole)


def ends_with_one_whole_result_each(daemon: Daemon, whole: dict[str, bytes]) -> None:
    wait_for(lambda: {job.source_name for job in daemon.jobs() if job.ended} >= set(whole), 120, "not all were done")
    wait_for(lambda: all(job.ended for job in daemon.jobs()), 120, "not all have ended")
    assert [path.name for path in daemon.inbox.iterdir() if not path.name.startswith(".")] == []
    completed = [job for job in daemon.jobs() if job.status is JobStatus.COMPLETED and job.source_name in whole]
    assert Counter(job.source_name for job in completed) == dict.fromkeys(whole, 1)
    results = daemon.results()
    for job in completed:
        digest = hashlib.sha256(whole[job.source_name]).hexdigest()
        assert job.sha256 == digest, job.source_name
        assert json.loads(results[f"{job.source_name}.json"])["source"]["sha256"] == digest
