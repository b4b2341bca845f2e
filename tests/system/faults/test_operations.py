"""Faults of the environment (group H, and A13): limits, clocks, logs, ports, many jobs at start, a short soak."""

from __future__ import annotations

import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from daemon.jobs import Job, JobSource, JobStatus, input_key, new_job_id
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.sidecar_process import running_sidecar
from tests.system.clock import MovedClock
from tests.system.running import ROOT, Daemon, alive, children, dropframe, environment, running, wait_for
from tests.system.soak import Soak
from tests.system.test_disk import fill, mounted

pytestmark = pytest.mark.slow

COMPLETED = JobStatus.COMPLETED
DAY = 86_400


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=3, text="GOAL 42")


class Wrapped(Daemon):
    """A daemon that another program starts: prlimit, unshare, a shell."""

    def __init__(self, home: Path, *wrapper: str, **settings: str) -> None:
        super().__init__(home, **settings)
        self._wrapper = wrapper

    def start(self, **settings: str) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._wrapper, sys.executable, "-m", "daemon", "daemon", "--home", str(self.home)],
                cwd=self.home,
                env=environment({**self._settings, **settings}),
                stdout=log,
                stderr=log,
            )


# H8: limits.


def test_64_open_files_are_enough_for_the_daemon_and_the_sidecar_refuses_what_is_too_much(
    tmp_path: Path, clip: Path
) -> None:
    daemon = Wrapped(tmp_path, "prlimit", "--nofile=64")
    daemon.start()
    try:
        daemon.wait_ready()
        with running_sidecar(tmp_path) as sidecar, ExitStack() as stack:
            resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (64, 64))
            for _ in range(100):
                with suppress(OSError):
                    stack.enter_context(sidecar.connect())
            daemon.drop(clip)
            assert daemon.wait_job("clip.mp4").status is COMPLETED
            assert sidecar.process.poll() is None
            stack.close()

            def answered() -> bool:
                with suppress(httpx.HTTPError, http.client.HTTPException):
                    return httpx.get(sidecar.url + "/healthz", timeout=10).status_code == 200
                return False

            wait_for(answered, 60, "it does not answer when the flood is over")
        daemon.stop()
    finally:
        daemon.kill()


def test_too_few_open_files_are_named_at_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        ["prlimit", "--nofile=20", sys.executable, "-m", "daemon", "daemon", "--home", tmp_path],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5
    assert "Only 20 files may be open; allow 64 or more (ulimit -n, LimitNOFILE= of systemd)." in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.needs("root")
def test_too_few_threads_are_named_at_the_start() -> None:
    # The limit counts per user and not for root, so another user asks, who may still read this Python.
    another_user = ["setpriv", "--reuid=54321", "--clear-groups", "--inh-caps=-all,+dac_override"]
    another_user += ["--ambient-caps=-all,+dac_override", "--bounding-set=-all,+dac_override", "prlimit", "--nproc=20"]
    code = "from daemon.preflight import check_limits\nfor check in check_limits(): print(check.ok, check.sentence)"
    done = subprocess.run(
        [*another_user, sys.executable, "-c", code],
        cwd=ROOT,
        env=environment({"OMP_NUM_THREADS": "1"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "False Only 19 more threads can be started; allow 48 or more processes and threads" in done.stdout, done


# A13: no watches left.


@pytest.mark.needs("root")
@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_without_inotify_the_inbox_is_polled_and_that_is_said(tmp_path: Path, clip: Path, limit: str) -> None:
    shell = f'echo 0 > /proc/sys/user/{limit} && exec "$@"'
    daemon = Wrapped(tmp_path, "unshare", "--user", "--map-root-user", "sh", "-c", shell, "sh")
    daemon.start()
    try:
        daemon.wait_ready()
        daemon.drop(clip)
        assert daemon.wait_job("clip.mp4").status is COMPLETED
        beat = daemon.beat()
        assert beat is not None
        assert beat.inbox.mode == "polling"
        assert "so the inbox is polled" in (beat.inbox.problem or "")
        daemon.stop()
    finally:
        daemon.kill()


# H3: the log.


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, clip: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with mounted(tmp_path / "logs") as logs:
        daemon = Daemon(home, DROPFRAME_LOG_LEVEL="debug")
        daemon.log_path = logs / "daemon.log"
        daemon.log_path.touch()
        ballast = fill(logs, leave=0)
        daemon.start()
        try:
            daemon.wait_ready()
            daemon.drop(clip)
            assert daemon.wait_job("clip.mp4").status is COMPLETED
            assert daemon.log() == ""
            ballast.unlink()
            daemon.drop(clip, "second.mp4")
            assert daemon.wait_job("second.mp4").status is COMPLETED
            wait_for(lambda: "second.mp4.json" in daemon.log(), 30, "it does not write its log again")
            assert daemon.stop() < 10
        finally:
            daemon.kill()


def test_a_daemon_without_standard_output_and_error_writes_into_no_other_file(tmp_path: Path, clip: Path) -> None:
    daemon = Wrapped(tmp_path, "sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh")
    daemon.start()
    try:
        daemon.wait_ready()
        for number in range(3):
            assert os.readlink(f"/proc/{daemon.pid}/fd/{number}") == os.devnull
        daemon.drop(clip)
        assert daemon.wait_job("clip.mp4").status is COMPLETED
        daemon.stop()
    finally:
        daemon.kill()
    with JobStore.open(daemon.data) as store:
        assert store.recovered_from is None


# H4: the clock.


def test_jumps_of_the_clock_by_a_day_change_neither_order_nor_waits(tmp_path: Path, clip: Path) -> None:
    clock = MovedClock(tmp_path)
    names = [f"{number}.mp4" for number in range(6)]
    with running(tmp_path, **clock.environment) as daemon:
        for number, name in enumerate(names):
            clock.move([DAY, -DAY][number % 2])
            daemon.drop(clip, name)
            daemon.wait_job(name, *JobStatus)
        for name in names:
            assert daemon.wait_job(name, seconds=120).status is COMPLETED
        jobs = daemon.jobs()
        beat = daemon.beat()
    assert beat is not None
    assert abs(datetime.fromisoformat(beat.updated_at) - datetime.now(UTC)) > timedelta(hours=12), "no clock was faked"
    assert [job.source_name for job in jobs] == names, "order of arrival"
    assert [job.attempts for job in jobs] == [1] * 6
    ended = [daemon.log().index(f"Job {job.job_id} is completed") for job in jobs]
    assert ended == sorted(ended), "they were not done in order"
    assert all(job.updated_at >= job.created_at for job in jobs)
    assert all(stamp.endswith("+00:00") for job in jobs for stamp in (job.created_at, job.updated_at))


# H11: many jobs at start.


def test_10_000_jobs_are_there_within_five_seconds_of_work(tmp_path: Path, clip: Path) -> None:
    data = tmp_path / "data"
    (data / "video_jobs").mkdir(parents=True)
    with JobStore.open(data) as store:
        jobs = [
            Job(job_id, input_path=input_key(job_id), source=JobSource.CLI, source_name=f"{number}.mp4")
            for number, job_id in enumerate(new_job_id() for _ in range(10_000))
        ]
        store.create(jobs)
    for job in jobs:
        os.link(clip, data / job.input_path)
    with running(tmp_path, ready=False) as daemon:
        wait_for(lambda: daemon.beat(), 60, "there was no heartbeat")
        # Processor time, as the machine may be busy with other tests; the interpreter's own start is in it.
        ticks = sum(int(n) for n in Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[11:13])
        seconds = ticks / os.sysconf("SC_CLK_TCK")
        print(f"10,000 jobs: the first heartbeat after {seconds:.1f} s of processor time")
        assert seconds < 5
        beat = daemon.beat()
        assert beat is not None
        assert beat.queue_length >= 9_990
        wait_for(lambda: any(job.status is COMPLETED for job in daemon.jobs()), 90, "none of them is run")
        assert next(job.sequence for job in daemon.jobs() if job.status is COMPLETED) == 1


# Retention.


def test_the_daemon_removes_what_is_not_kept_and_the_rest_stays(tmp_path: Path, clip: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.drop(clip, "old.mp4")
        old = daemon.wait_job("old.mp4")
        before = daemon.results()
    limits = {"DROPFRAME_KEEP_SOURCE_BYTES": "1", "DROPFRAME_KEEP_REJECTED_DAYS": "30"}
    with running(tmp_path, **limits) as daemon:
        wait_for(lambda: not (daemon.data / old.input_path).exists(), 30, "the old video was not removed")
        (daemon.inbox / "nowhere").mkdir()
        (daemon.inbox / "nowhere" / "bad.mp4").write_text("This is no video.")
        wait_for(lambda: list((daemon.inbox / "rejected").rglob("*.reason.txt")), 60, "it was not rejected")
        daemon.drop(clip, "new.mp4")
        new = daemon.wait_job("new.mp4")
        assert (daemon.data / new.input_path).exists(), "it removes once an hour, not at once"
        assert {name: daemon.results()[name] for name in before} == before
        gone = daemon.job("old.mp4")
        assert gone is not None
        assert gone.source_removed_at is not None
        assert "Retention removed 1 source files" in daemon.log()
    shown = dropframe(tmp_path, "clean", "--dry-run", **limits)
    assert new.job_id in shown.stdout.replace("\n", "")
    assert (daemon.data / new.input_path).exists()


# One of two processes that gives up, or is ended alone.


def test_a_port_in_use_ends_everything_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        begun = time.monotonic()
        done = dropframe(tmp_path, "run", "--port", port, seconds=90)
    assert done.returncode == 5
    assert f"Another program listens on 127.0.0.1, port {port} already (ss -ltnp shows which)." in done.stderr
    assert "or set another port: port in dropframe.toml, or --port." in done.stderr
    assert done.stderr.count("Another program listens") == 1, "it was tried again and again"
    assert time.monotonic() - begun < 80


@pytest.mark.parametrize("name", ["daemon", "sidecar"])
def test_ending_one_of_the_pair_ends_both(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    whole = Daemon(tmp_path, "--port", port, command="run")
    whole.start()
    try:

        def both() -> bool:
            with suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10).status_code == 200
            return False

        wait_for(both, 120)
        pair = children(whole.pid)
        family = [grandchild for child in pair for grandchild in (child, *children(child))]
        [one] = [
            pid for pid in pair if (b"sidecar" in Path(f"/proc/{pid}/cmdline").read_bytes()) is (name == "sidecar")
        ]
        os.kill(one, signal.SIGTERM)
        assert whole.process is not None
        assert whole.process.wait(25) == 0, whole.log()
        wait_for(lambda: not any(alive(pid) for pid in family), 5, "a process was left")
        assert f"{name} exited with code 0; shutting down" in whole.log()
    finally:
        whole.kill()


# All together.


@pytest.mark.timeout(900)
def test_a_minute_of_soaking(tmp_path: Path) -> None:
    report = Soak(tmp_path, minutes=1, every_seconds=12, seed=3).run()
    print(report)
    assert report.problems == []
    assert report.faults.total() >= 2
    assert report.videos.total() > 5
