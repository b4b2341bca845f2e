"""Disks that are full or away: nothing is lost, nothing is run twice, and it goes on by itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.jobs import ErrorKind, JobStatus
from tests.clips import make_clip
from tests.system.running import running, wait_for

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=60, text="GOAL 42")


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """Mount a file system of two megabytes on a folder."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "dropframe-test", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("mounting a small file system needs root: " + done.stderr.decode().strip())
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small") as folder:
        yield folder


@pytest.fixture
def small_data(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a small disk, without what libraries keep there, which is not what this is about."""
    (tmp_path / "models").mkdir()
    with mounted(tmp_path / "data") as folder:
        (folder / "models").symlink_to(tmp_path / "models")
        yield folder


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk but for so many bytes; return the file to remove."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        file.write(b"\0" * (shutil.disk_usage(folder).free - leave))
    return ballast


def test_a_disk_full_while_a_result_is_written_is_waited_for(tmp_path: Path, clip: Path) -> None:
    with (
        mounted(tmp_path / "data" / "video_jobs") as videos,
        running(tmp_path, DROPFRAME_SEGMENT_FRAMES="1000") as daemon,
    ):
        ballast = fill(videos, leave=clip.stat().st_size + 8192)
        daemon.drop(clip)
        job = daemon.wait_job("clip.mp4", PENDING, when=lambda job: job.error_message is not None)
        assert (job.attempts, job.error_kind) == (0, ErrorKind.TRANSIENT)
        assert job.error_message == "The result cannot be written: No space left on device."
        assert daemon.results() == {}
        ballast.unlink()
        done = daemon.wait_job("clip.mp4")
        assert (done.status, done.attempts, done.error_message) == (COMPLETED, 1, None)
        assert len(json.loads(daemon.results()["clip.mp4.json"])["results"]) == 60


def test_a_data_disk_so_full_that_nothing_can_be_recorded_is_waited_for(
    tmp_path: Path, small_data: Path, clip: Path
) -> None:
    with running(tmp_path, DROPFRAME_SEGMENT_FRAMES="1000") as daemon:
        ballast = fill(small_data, leave=clip.stat().st_size + 12_288)
        daemon.drop(clip)
        wait_for(lambda: "could not be stored" in daemon.log() or "cannot be written" in daemon.log())
        assert daemon.results() == {}
        ballast.unlink()
        done = daemon.wait_job("clip.mp4")
        assert (done.status, done.attempts, done.error_message) == (COMPLETED, 1, None)
        assert len(daemon.jobs()) == 1
        assert list(daemon.results()) == ["clip.mp4.json"]


def test_a_data_disk_that_is_nearly_full_pauses_and_goes_on_by_itself(
    tmp_path: Path, small_data: Path, clip: Path
) -> None:
    with running(tmp_path, DROPFRAME_MIN_FREE_BYTES="1000000") as daemon:
        ballast = fill(small_data, leave=0)
        daemon.drop(clip)
        wait_for(lambda: "Taking in is paused" in daemon.log(), 10)
        assert (daemon.inbox / "clip.mp4").exists()
        assert daemon.jobs() == []
        ballast.unlink()
        assert daemon.wait_job("clip.mp4").status is COMPLETED


def test_a_full_disk_does_not_keep_it_from_ending(tmp_path: Path, small_data: Path) -> None:
    with running(tmp_path) as daemon:
        fill(small_data, leave=0)
        assert daemon.stop() < 10


@pytest.mark.parametrize("how", ["absent", "full"])
def test_an_outbox_that_cannot_be_written_gets_the_result_later_from_the_same_run(
    tmp_path: Path, clip: Path, how: str, request: pytest.FixtureRequest
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    outbox = request.getfixturevalue("small_disk") if how == "full" else tmp_path / "share"
    outbox.mkdir(exist_ok=True)
    with running(home, DROPFRAME_OUTBOX_DIR=str(outbox)) as daemon:
        away = tmp_path / "away"
        ballast = None
        if how == "full":
            ballast = fill(outbox, leave=0)
        else:
            outbox.rename(away)
        daemon.drop(clip)
        job = daemon.wait_job("clip.mp4", PENDING, when=lambda job: job.error_message is not None)
        assert (job.attempts, job.error_kind) == (0, ErrorKind.TRANSIENT)
        assert "The outbox cannot be written" in (job.error_message or "")
        document = daemon.data / "video_jobs" / f"{job.job_id}_results.json"
        made = document.stat()
        if ballast is not None:
            ballast.unlink()
        else:
            assert not outbox.exists(), "a share that is away was made anew"
            away.rename(outbox)
        done = daemon.wait_job("clip.mp4")
        assert (done.status, done.attempts) == (COMPLETED, 1)
        assert (document.stat().st_ino, document.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns), "it ran twice"
        assert daemon.results() == {"clip.mp4.json": document.read_bytes()}
