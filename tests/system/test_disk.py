"""Disks that are full or away: nothing is lost, nothing is run twice, and work resumes by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from daemon.jobs import ErrorKind, JobStatus
from tests import programs
from tests.clips import make_clip
from tests.sidecar_process import Sidecar, running_sidecar
from tests.system.running import Daemon, dropframe, running, wait_for
from tests.system.sick import check_went_on, places

pytestmark = pytest.mark.slow

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=60, text="GOAL 42")


@contextmanager
def mounted(folder: Path, options: str = "size=2m") -> Iterator[Path]:
    """Mount a small file system on a folder."""
    programs.skip_without("root", "mount")
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "dropframe-test", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("mounting is not allowed here: " + done.stderr.decode().strip())
    try:
        yield folder
    finally:
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
        assert job.error_message == "The data folder cannot be used: No space left on device."
        assert daemon.results() == {}
        ballast.unlink()
        well = datetime.now(UTC)
        check_went_on([daemon.wait_job("clip.mp4", seconds=90)], well)
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
        well = datetime.now(UTC)
        check_went_on([daemon.wait_job("clip.mp4", seconds=90)], well)
        assert len(daemon.jobs()) == 1
        assert list(daemon.results()) == ["clip.mp4.json"]


def test_a_data_disk_that_is_nearly_full_pauses_and_goes_on_by_itself(
    tmp_path: Path, small_data: Path, clip: Path
) -> None:
    with (
        running(tmp_path, DROPFRAME_MIN_FREE_BYTES="1000000") as daemon,
        running_sidecar(tmp_path, min_free_bytes=1_000_000) as sidecar,
    ):

        def upload() -> httpx.Response:
            content = clip.read_bytes()
            return httpx.put(f"{sidecar.url}/v1/video/submit/uploaded.mp4", content=content, timeout=60)

        def readiness() -> httpx.Response:
            return httpx.get(f"{sidecar.url}/readyz", timeout=60)

        wait_for(lambda: readiness().status_code == 200)
        ballast = fill(small_data, leave=500_000)
        daemon.drop(clip)
        wait_for(lambda: "Intake is paused" in daemon.log(), 60)
        answer = upload()
        assert (answer.status_code, answer.headers["content-type"]) == (507, "application/problem+json")
        assert "The disk is too full for this video" in answer.json()["detail"]
        wait_for(lambda: "The daemon has paused" in readiness().text, 60)
        told = readiness()  # the page shows each part that is not well
        assert told.status_code == 503
        assert "fewer than min_free_bytes (1000000); make room" in told.json()["parts"]["disk"]["detail"]
        health = dropframe(tmp_path, "health")
        assert health.returncode == 1
        assert "(min_free_bytes). Make room, or lower it. It resumes by itself." in health.stdout + health.stderr
        assert (daemon.inbox / "clip.mp4").exists()
        assert daemon.jobs() == []
        ballast.unlink()
        well = datetime.now(UTC)
        assert upload().status_code == 201
        check_went_on([daemon.wait_job(name, seconds=90) for name in ("clip.mp4", "uploaded.mp4")], well)
        wait_for(lambda: readiness().status_code == 200, 60)


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
        well = datetime.now(UTC)
        check_went_on([daemon.wait_job("clip.mp4", seconds=90)], well)
        assert (document.stat().st_ino, document.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns), "it ran twice"
        assert daemon.results() == {"clip.mp4.json": document.read_bytes()}


# Every folder on a disk of its own, under one daemon and one sidecar.


class Disks:
    """A home whose every folder is a small disk, with Dropframe running on it."""

    def __init__(self, home: Path, daemon: Daemon, sidecar: Sidecar) -> None:
        self.daemon, self.sidecar = daemon, sidecar
        self.places = places(home)

    @contextmanager
    def broken(self, place: str, fault: str) -> Iterator[None]:
        """Have a disk be full, read-only or out of inodes for a while."""
        folder = self.places[place]
        taken: list[Path] = []
        if fault == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        elif fault == "full":
            taken.append(fill(folder, leave=0))
        else:
            with suppress(OSError):
                while True:
                    path = folder / f"inode-{len(taken)}"
                    path.touch()
                    taken.append(path)
        try:
            yield
        finally:
            if fault == "read-only":
                subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
            for path in taken:
                path.unlink()

    def upload(self, clip: Path, name: str) -> httpx.Response:
        """Send an upload as a client does that tries again until it is answered."""
        url = f"{self.sidecar.url}/v1/video/submit/{name}"
        return httpx.put(url, content=clip.read_bytes(), headers={"idempotency-key": name}, timeout=60)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    home = tmp_path_factory.mktemp("disks")
    with ExitStack() as stack:
        for name in ("data", "data/spool", "inbox", "outbox", "temp"):
            stack.enter_context(mounted(home / name, "size=4m,nr_inodes=200"))
        (home / "models").mkdir()
        (home / "data" / "models").symlink_to(home / "models")
        daemon = stack.enter_context(running(home, TMPDIR=str(home / "temp")))
        sidecar = stack.enter_context(running_sidecar(home, min_free_bytes=0))
        yield Disks(home, daemon, sidecar)


WHILE_BROKEN: dict[str, Callable[[str], bool]] = {
    "data": lambda log: "No space left on device" in log,
    "outbox": lambda log: "The outbox cannot be written" in log,
}
"""What is said of a disk that work has to wait for; the others hold up nothing that is under way."""


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("data", "out of inodes"),
        ("spool", "full"),
        ("spool", "read-only"),
        ("inbox", "full"),
        ("inbox", "read-only"),
        ("outbox", "read-only"),
        ("outbox", "out of inodes"),
        ("temp", "full"),
        ("temp", "read-only"),
    ],
)
def test_a_disk_that_does_not_let_us_loses_nothing_and_work_goes_on_when_it_does(
    disks: Disks, clip: Path, place: str, fault: str
) -> None:
    daemon, dropped, uploaded = disks.daemon, f"{place} {fault}.mp4", f"{place}-{fault.replace(' ', '-')}-upload.mp4"
    log_before = len(daemon.log())
    with disks.broken(place, fault):
        if place == "inbox":
            with pytest.raises(OSError, match=r"No space left|Read-only"):
                daemon.drop(clip, dropped)
        else:
            daemon.drop(clip, dropped)
        answer = disks.upload(clip, uploaded)
        if place == "spool":
            assert answer.status_code in (503, 507), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            assert answer.status_code == 201, answer.text
        if place in WHILE_BROKEN:
            wait_for(lambda: WHILE_BROKEN[place](daemon.log()[log_before:]), 60)
        else:
            name = uploaded if place == "inbox" else dropped
            assert daemon.wait_job(name).status is COMPLETED, "a disk that is not needed held it up"
    well = datetime.now(UTC)
    if place == "inbox":
        for leftover in daemon.inbox.glob(".*.part"):
            leftover.unlink()
        daemon.drop(clip, dropped)
    answer = disks.upload(clip, uploaded)
    assert answer.status_code in (200, 201), answer.text
    check_went_on([daemon.wait_job(name, seconds=90) for name in (dropped, uploaded)], well)
    for name in (dropped, uploaded):
        assert [job.source_name for job in daemon.jobs()].count(name) == 1
    assert f"{dropped}.json" in daemon.results()
    assert not list(disks.places["spool"].glob("*.mp4"))
    assert os.listdir(disks.places["temp"]) == []
