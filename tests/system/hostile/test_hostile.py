"""More than 300 hostile files at once: each ends in time with a reason, and nothing else notices.

``HOSTILE_FILES`` sets the number of damaged clips among them; ``make hostile`` runs thousands.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from daemon.jobs import ErrorKind, Job, JobStatus
from tests.clips import make_clip
from tests.system.hostile import containers
from tests.system.hostile.crafted import contents, special_files
from tests.system.hostile.mutations import mutations, sources
from tests.system.running import ROOT, Daemon, children, running, wait_for

HOSTILE_FILES = int(os.environ.get("HOSTILE_FILES", "220"))
CONTAINER_FILES = int(os.environ.get("HOSTILE_FILES", "40"))
SEED = int(os.environ.get("HOSTILE_SEED", "7"))
MEMORY_BYTES = 3_000_000_000
JOB_SECONDS = 60.0
ALL_SECONDS = 400.0 + 3 * HOSTILE_FILES
"""For all to be taken, and again for all jobs to end."""
NEXT_SECONDS = 10.0
SETTINGS = {
    "DROPFRAME_DEFAULT_PIPELINE": "ocr_only",
    "DROPFRAME_SETTLE_SECONDS": "0.5",
    "DROPFRAME_INCOMPLETE_TIMEOUT_SECONDS": "5",
    "DROPFRAME_MEMORY_LIMIT_BYTES": str(MEMORY_BYTES),
    "DROPFRAME_MAX_JOB_SECONDS": str(JOB_SECONDS),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * ALL_SECONDS)]


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good video outside of all of Dropframe's folders."""
    return make_clip(tmp_path_factory.mktemp("outside") / "canary.mp4", frames=3, text="SECRET", faststart=True)


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory, canary: Path) -> dict[str, bytes]:
    """The crafted files by name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return {f"{name}.mp4": data for name, data in contents(tmp_path_factory.mktemp("made"), canary, port)}


@pytest.fixture(scope="module")
def in_others(tmp_path_factory: pytest.TempPathFactory, canary: Path) -> dict[str, bytes]:
    """The crafted files in other containers, by name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return {f"{name}.mp4": data for name, data in containers.contents(tmp_path_factory.mktemp("made"), canary, port)}


@dataclass
class Aftermath:
    """What is there after the hostile files."""

    daemon: Daemon
    names: set[str]
    peak_bytes: int
    """Most memory that a pipeline process held."""
    jobs: list[Job]
    canary: Path


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory, crafted: dict[str, bytes], canary: Path) -> Iterator[Aftermath]:
    files = dict(crafted)
    clips = sources(tmp_path_factory.mktemp("clips"))
    files |= {f"{name}.mp4": data for name, data in itertools.islice(mutations(clips, SEED), HOSTILE_FILES)}
    home = tmp_path_factory.mktemp("home")
    with running(home, **SETTINGS) as daemon:
        for make in special_files(daemon.inbox, canary).values():
            make()
        os.link(canary, daemon.inbox / "hard link.mp4")
        for name, data in files.items():
            (daemon.inbox / name).write_bytes(data)
        peak = Peak(daemon)
        try:
            stay = set(special_files(daemon.inbox, canary)) - {"sparse.mp4"}
            wait_for(
                lambda: {p.name for p in daemon.inbox.iterdir() if visible(p)} == stay,
                ALL_SECONDS,
                "not all were taken",
            )
            wait_for(lambda: all(job.ended for job in daemon.jobs()), ALL_SECONDS, "not all jobs have ended")
        finally:
            peak.stop()
        daemon.drop(canary, "good.mp4")
        daemon.wait_job("good.mp4")
        names = set(files) | {"hard link.mp4", "sparse.mp4"}
        yield Aftermath(daemon, names, peak.bytes, daemon.jobs(), canary)


def visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != "rejected"


class Peak(threading.Thread):
    """Looks at the memory of the pipeline processes until it is stopped."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__()
        self._daemon = daemon
        self._done = threading.Event()
        self.bytes = 0
        self.start()

    def run(self) -> None:
        while not self._done.wait(0.2):
            for pid in children(self._daemon.pid):
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:  # it ended meanwhile
                    continue
                if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                    self.bytes = max(self.bytes, int(found[1]) * 1024)

    def stop(self) -> None:
        self._done.set()
        self.join()


def seconds(job: Job) -> tuple[float, float]:
    """When a job started and ended."""
    assert job.started_at is not None
    assert job.finished_at is not None
    return datetime.fromisoformat(job.started_at).timestamp(), datetime.fromisoformat(job.finished_at).timestamp()


def test_there_are_300_and_each_is_a_job_or_rejected_with_a_reason(aftermath: Aftermath) -> None:
    jobs = {job.source_name for job in aftermath.jobs} - {"good.mp4"}
    rejected = aftermath.daemon.inbox / "rejected"
    reasons = {p.name.removesuffix(".reason.txt") for p in rejected.glob("*.reason.txt")}
    assert {p.name for p in rejected.glob("*.mp4")} == reasons
    assert len(aftermath.names) > 300
    assert jobs | reasons == aftermath.names
    assert jobs & reasons == set()
    assert len(aftermath.jobs) == len(jobs) + 1


def test_the_daemon_does_not_fall(aftermath: Aftermath) -> None:
    assert aftermath.daemon.process is not None
    assert aftermath.daemon.process.poll() is None  # it is never started again here
    assert "Traceback" not in aftermath.daemon.log()


def test_each_job_ends_within_its_limit_and_a_failed_one_says_why(aftermath: Aftermath) -> None:
    for job in aftermath.jobs:
        begun, ended = seconds(job)
        assert ended - begun < JOB_SECONDS + 10, job
        assert job.status is JobStatus.COMPLETED or len(job.error_message or "") > 20, job
    assert any(job.status is JobStatus.FAILED for job in aftermath.jobs)


def test_memory_stays_under_its_cap(aftermath: Aftermath) -> None:
    print(f"the pipeline held at most {aftermath.peak_bytes / 1e6:.0f} MB")
    assert 0 < aftermath.peak_bytes < MEMORY_BYTES


def test_the_next_job_starts_within_ten_seconds(aftermath: Aftermath) -> None:
    in_order = sorted(aftermath.jobs, key=lambda job: seconds(job)[0])
    waits = []
    for before, after in itertools.pairwise(in_order):
        there = datetime.fromisoformat(after.created_at).timestamp()
        waits.append(seconds(after)[0] - max(seconds(before)[1], there))
    print(f"the longest wait between two jobs was {max(waits):.1f} s")
    assert max(waits) < NEXT_SECONDS


def test_a_good_job_among_them_is_done(aftermath: Aftermath) -> None:
    good = next(job for job in aftermath.jobs if job.source_name == "good.mp4")
    assert good.status is JobStatus.COMPLETED
    assert b"SECRET" in aftermath.daemon.results()["good.mp4.json"]


def test_what_is_no_file_stays_where_it_is_with_its_reason(aftermath: Aftermath) -> None:
    daemon = aftermath.daemon
    assert (daemon.inbox / "link.mp4").is_symlink()
    assert (daemon.inbox / "pipe.mp4").is_fifo()
    beat = daemon.beat()
    assert beat is not None
    said = {waiting.name: waiting.why for waiting in beat.inbox.waiting}
    assert {"pipe.mp4", "socket.mp4", "device.mp4", "link.mp4", "link to a device.mp4"} <= set(said)
    assert "never followed" in said["link.mp4"]


def test_other_formats_are_refused_by_name(aftermath: Aftermath) -> None:
    rejected = aftermath.daemon.inbox / "rejected"
    for name, said in (
        ("ffconcat", "a playlist"),
        ("m3u8", "a playlist"),
        ("picture.jpg", "a JPEG picture"),
        ("gif", "a GIF picture"),
        ("matroska", "a Matroska or WebM file"),
        ("sparse", "at most"),
    ):
        assert said in (rejected / f"{name}.mp4.reason.txt").read_text()


def test_other_containers_end_with_a_result_or_a_reason_too(
    tmp_path: Path, in_others: dict[str, bytes], canary: Path
) -> None:
    clips = containers.sources(tmp_path)
    damaged = {f"{name}.mkv": data for name, data in itertools.islice(mutations(clips, SEED), CONTAINER_FILES)}
    files = in_others | damaged
    home = tmp_path / "home"
    home.mkdir()
    with running(home, **SETTINGS, DROPFRAME_CONTAINERS="all") as daemon:
        for name, data in files.items():
            (daemon.inbox / name).write_bytes(data)
        peak = Peak(daemon)
        try:
            wait_for(lambda: not any(map(visible, daemon.inbox.iterdir())), ALL_SECONDS, "not all were taken")
            wait_for(lambda: all(job.ended for job in daemon.jobs()), ALL_SECONDS, "not all jobs have ended")
        finally:
            peak.stop()
        daemon.drop(canary, "good.mp4")
        daemon.wait_job("good.mp4")
        jobs, rejected = daemon.jobs(), {path.name for path in (daemon.inbox / "rejected").glob("*.reason.txt")}
        assert daemon.process is not None
        assert daemon.process.poll() is None
        assert "Traceback" not in daemon.log()
    assert {job.source_name for job in jobs} - {"good.mp4"} | {n.removesuffix(".reason.txt") for n in rejected} == set(
        files
    )
    assert all(job.status is JobStatus.COMPLETED or len(job.error_message or "") > 20 for job in jobs)
    assert sum(job.status is JobStatus.COMPLETED for job in jobs) > len(files) // 4
    assert all(job.error_kind is not ErrorKind.TRANSIENT for job in jobs)
    assert peak.bytes < MEMORY_BYTES


@pytest.mark.needs("strace")
@pytest.mark.parametrize("setting", ["mp4", "all"])
def test_no_file_outside_is_opened_and_no_connection_is_made(
    tmp_path: Path, crafted: dict[str, bytes], in_others: dict[str, bytes], canary: Path, setting: str
) -> None:
    """Every open and every connect of the daemon and its children, as the kernel sees them."""
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    wanted = re.compile("reference|ffconcat|m3u8|sdp|dash|svg|picture|index only|descriptions|late|fragment|good|sound")
    names = {name for name in crafted if wanted.search(name)}
    if setting == "all":
        crafted = crafted | in_others
        names |= set(in_others)
    assert len(names) > 15
    with running(home, **SETTINGS, DROPFRAME_CONTAINERS=setting) as daemon:
        daemon.drop(canary, "warm.mp4")  # what is loaded once, for the first job, is loaded before
        daemon.wait_job("warm.mp4")
        everything = [daemon.pid, *daemon.pipelines()]
        command = ["strace", "-f", "-y", "-qq", "-s", "4096", "-o", str(trace), "-e", "trace=%file,connect,bind,sendto"]
        tracer = subprocess.Popen([*command, *(f"--attach={pid}" for pid in everything)], stderr=subprocess.PIPE)
        try:
            wait_for(lambda: all(traced(pid) for pid in everything), 30, "strace could not attach")
            for make in special_files(daemon.inbox, canary).values():
                make()
            for name in names:
                (daemon.inbox / name).write_bytes(crafted[name])
            os.link(canary, daemon.inbox / "hard link.mp4")
            (daemon.inbox / "hard link.mp4").touch()
            daemon.drop(canary, "good.mp4")
            daemon.wait_job("good.mp4", seconds=180)
            wait_for(lambda: all(job.ended for job in daemon.jobs()), 180)
            stay = set(special_files(daemon.inbox, canary))
            wait_for(lambda: {p.name for p in daemon.inbox.iterdir() if visible(p)} <= stay, 120)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)
            assert tracer.stderr is not None
            tracer.stderr.close()
    calls = trace.read_text(errors="replace").splitlines()
    # What derives from results is a program of its own for each, and loads its libraries then; it reads no video.
    deriving = {pid_of(call) for call in calls if "execve(" in call and "daemon.derive.process" in call}
    decoding = [call for call in calls if " = -1 " not in call and pid_of(call) not in deriving]
    opened = {path for call in decoding for path in opened_by(call)}
    inside = {str(home)}
    ours = {str(ROOT / "daemon"), str(ROOT / "dropframe.egg-info")}
    opened.discard(str(ROOT))  # Python lists the folders that it imports from when something there has changed
    libraries = {sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *ours}
    system = {
        "/proc",
        "/sys/devices",
        "/sys/fs/cgroup",
        "/dev/null",
        "/dev/urandom",
        "/etc/localtime",
        "/usr/share/zoneinfo",
    }
    # The names of television stations are in one of some character sets, for which the C library has modules.
    opened = {path for path in opened if not re.match(r"/usr/lib(64)?/([^/]+/)?gconv/", path)}
    outside = {path for path in opened if not any(is_below(path, root) for root in inside | libraries | system)}
    assert outside == set()
    assert any(is_below(path, str(home / "inbox")) for path in opened), "strace saw nothing"
    assert [call for call in calls if re.search(r"\b(connect|bind|sendto)\(", call)] == []


def traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


def pid_of(call: str) -> str:
    return call.partition(" ")[0]


def opened_by(call: str) -> list[str]:
    """Return the path that a line of strace opened: it stands behind the descriptor that came back."""
    found = re.search(r"\b(?:open|openat|openat2|creat)\(.*= \d+<(.*)>$", call)
    return [found[1]] if found else []


def is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
