"""Disks that fail with EIO, or turn read-only, under a daemon and a sidecar that are at work, and get well again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from daemon.jobs import JobStatus
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.sidecar_process import Sidecar, running_sidecar
from tests.system.running import ROOT, Daemon, running, wait_for
from tests.system.sick import SickDisk, Sickness, check_went_on, places

pytestmark = pytest.mark.slow

PENDING, RUNNING, COMPLETED, FAILED = JobStatus
DEAD, UNSYNCED, READ_ONLY = Sickness

SEGMENT_FRAMES = 8
REFERENCE = "reference.mp4"


def named(value: object) -> str:
    """Return a parameter as it stands in the name of a test."""
    return value.name if isinstance(value, Sickness) else str(value)


class Home:
    """A home, at work, whose every folder can fall sick; ``expected`` holds the source names of all jobs so far."""

    def __init__(self, home: Path, disk: SickDisk, daemon: Daemon, sidecar: Sidecar) -> None:
        self.disk, self.daemon, self.sidecar = disk, daemon, sidecar
        self.expected: list[str] = []
        self.places = places(home)

    def upload(self, clip: Path, name: str) -> httpx.Response:
        """Send an upload as a client does that tries again until it is answered."""
        url = f"{self.sidecar.url}/v1/video/submit/{name}"
        return httpx.put(url, content=clip.read_bytes(), headers={"idempotency-key": name}, timeout=60)

    def problem(self) -> str:
        """Return what is not well; nothing if all is."""
        answer = httpx.get(f"{self.sidecar.url}/readyz", timeout=60)
        return "" if answer.status_code == 200 else str(answer.json()["detail"])

    def wait_well(self) -> None:
        wait_for(lambda: not self.problem(), 60, "it was not well")

    def wait_done(self, names: list[str], well: datetime) -> None:
        """Wait until all jobs so far and these have ended, each once; these soon after a disk was well."""

        def ended() -> bool:
            return sorted(job.source_name for job in self.daemon.jobs() if job.ended) == sorted(self.expected)

        self.expected += names
        wait_for(ended, 120, f"not every job has ended, or one was made twice: {self.expected}")
        check_went_on((job for job in self.daemon.jobs() if job.source_name in names), well)
        self.wait_well()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=3, size=(160, 120), text="GOAL 42")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of which each frame is work, as its text is another one."""
    texts = tuple(f"GOAL {number}" for number in range(6 * SEGMENT_FRAMES))
    return make_clip(tmp_path_factory.mktemp("clips") / "long.mp4", frames=len(texts), size=(320, 240), text=texts)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("sick")
    disk = SickDisk(tmp_path_factory.mktemp("library"))
    (folder / "temp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**disk.environment, "TMPDIR": str(folder / "temp")}.items():
            patch.setenv(name, value)
        with (
            running(
                folder, DROPFRAME_DEFAULT_PIPELINE="ocr_only", DROPFRAME_SEGMENT_FRAMES=str(SEGMENT_FRAMES)
            ) as daemon,
            running_sidecar(folder, default_pipeline="ocr_only", min_free_bytes=0) as sidecar,
        ):
            yield Home(folder, disk, daemon, sidecar)
    with JobStore.open(daemon.data) as store:
        assert store.recovered_from is None
        assert {job.status for job in store.jobs()} == {COMPLETED}


@pytest.fixture(scope="module")
def undisturbed(home: Home, long: Path) -> bytes:
    """The result of the long clip when nothing happens."""
    home.daemon.drop(long, REFERENCE)
    assert home.daemon.wait_job(REFERENCE).status is COMPLETED
    home.expected.append(REFERENCE)
    return home.daemon.results()[f"{REFERENCE}.json"]


TOLD_OF_DATA = {
    DEAD: "The data folder cannot be reached or written",
    UNSYNCED: "The daemon has paused intake and running jobs",
    READ_ONLY: "The data folder cannot be reached or written",
}
"""What is said meanwhile of a sick disk."""


@pytest.mark.parametrize("sickness", TOLD_OF_DATA, ids=named)
def test_a_sick_data_disk_is_waited_for_and_the_job_goes_on_where_it_was(
    home: Home, clip: Path, long: Path, undisturbed: bytes, sickness: Sickness
) -> None:
    daemon = home.daemon
    names = [f"{sickness.name}-{what}.mp4" for what in ("running", "answered", "refused", "dropped")]
    works, answered, refused, dropped = names
    home.wait_well()
    before = len(daemon.log())
    daemon.drop(long, works)
    daemon.wait_job(works, RUNNING, when=lambda job: job.frames_processed >= 2 * SEGMENT_FRAMES)
    assert home.upload(clip, answered).status_code == 201
    with home.disk.sick(home.places["data"], sickness):
        daemon.drop(clip, dropped)
        answer = home.upload(clip, refused)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json"), answer.text
        assert answer.headers["retry-after"]
        wait_for(lambda: "is reconciled when the job store can be used again" in daemon.log()[before:], 60)
        wait_for(lambda: TOLD_OF_DATA[sickness] in home.problem(), 60, "nobody is told")
        assert {job.attempts for job in daemon.jobs() if job.source_name == answered} <= {0}, "a job was started"
    well = datetime.now(UTC)
    assert daemon.log().count("\n", before) < 20, "the log is flooded"
    assert home.upload(clip, refused).status_code == 201
    home.wait_done(names, well)
    assert "frames are kept from an earlier attempt" in daemon.log()[before:], "it began anew"
    assert daemon.results()[f"{works}.json"].replace(works.encode(), REFERENCE.encode()) == undisturbed


TOLD = {
    ("spool", DEAD): "The job store cannot be read",
    ("spool", UNSYNCED): "",
    ("inbox", DEAD): "The inbox cannot be reached",
    ("outbox", DEAD): "",
    ("outbox", UNSYNCED): "",
    ("temp", DEAD): "",
}
"""The same of other disks; those that stay silent here are named in the job that waits, or in the answer."""


@pytest.mark.parametrize(("place", "sickness"), TOLD, ids=named)
def test_a_sick_disk_is_waited_for_and_holds_up_nothing_that_does_not_need_it(
    home: Home, clip: Path, place: str, sickness: Sickness
) -> None:
    daemon = home.daemon
    names = [f"{place}-{sickness.name}-{what}.mp4" for what in ("uploaded", "dropped")]
    uploaded, dropped = names
    home.wait_well()
    before = len(daemon.log())
    with home.disk.sick(home.places[place], sickness):
        daemon.drop(clip, dropped)
        assert home.upload(clip, uploaded).status_code == (503 if place == "spool" else 201)
        wait_for(lambda: TOLD[place, sickness] in home.problem(), 60, "nobody is told")
        if place == "outbox":
            job = daemon.wait_job(dropped, PENDING, when=lambda job: job.error_message is not None)
            assert "The outbox cannot be written (Input/output error)" in (job.error_message or "")
            assert f"{dropped}.json" not in daemon.results()
        else:
            daemon.wait_job(uploaded if place == "inbox" else dropped, COMPLETED)
    well = datetime.now(UTC)
    assert daemon.log().count("\n", before) < 20, "the log is flooded"
    assert home.upload(clip, uploaded).status_code == 201
    home.wait_done(names, well)
    assert f"{dropped}.json" in daemon.results()


READ = """
import sys
from pathlib import Path
from daemon.pipeline.video import Video

def wait():
    print("ready", flush=True)
    sys.stdin.readline()

path, at = Path(sys.argv[1]), sys.argv[2]
if at == "the start":
    wait()
try:
    frames = Video(path).frames()
    next(frames)
    if at == "a later frame":
        wait()
    print(len(list(frames)), "more frames")
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("at", ["the start", "a later frame"])
def test_a_video_that_a_sick_disk_does_not_give_is_not_called_damaged(tmp_path: Path, at: str) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    clip = make_clip(videos / "clip.mp4", frames=60, size=(1280, 720), crf=5)  # large, for FFmpeg reads ahead
    disk = SickDisk(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", READ, str(clip), at],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **disk.environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with disk.sick(videos, DEAD):
        said, _ = process.communicate("\n", timeout=60)
    assert said == f"OSError: [Errno 5] Input/output error: '{clip}'\n"
