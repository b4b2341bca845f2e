"""Faults of the queue and the worker: group C of the fault list in docs/reliability.md."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import PipelineDied
from daemon.jobs import ErrorKind, JobStatus
from daemon.pipeline.client import PipelineProcess, RunRequest
from daemon.settings import Settings
from tests.clips import make_clip
from tests.system.running import Daemon, alive, dropframe, running, wait_for

pytestmark = pytest.mark.slow

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=8, text="AWAY 3")


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip on which the pipeline works for some seconds."""
    return make_clip(tmp_path_factory.mktemp("clips") / "long.mp4", frames=400, text="HOME 2")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def command_of(pid: int) -> bytes:
    """Return the command line of a process; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def processes_in(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session and alive(int(path.name)):
                found.append(int(path.name))
        except ProcessLookupError:
            continue
    return found


# C1, C13: kills and wishes at each step of a job.


@pytest.mark.parametrize("point", ["worker.running", "worker.analysed", "worker.published", "worker.completed"])
def test_a_wish_to_cancel_meets_a_kill_at_each_step_and_gives_one_end(tmp_path: Path, clip: Path, point: str) -> None:
    (tmp_path / "inbox").mkdir()
    daemon = Daemon(tmp_path)
    daemon.drop(clip)
    daemon.start(DROPFRAME_FAULT=point)
    daemon.wait_killed()
    job = daemon.job("clip.mp4")
    assert job is not None
    cancelled = dropframe(tmp_path, "cancel", job.job_id)
    assert cancelled.returncode == (4 if job.ended else 0), cancelled.stderr
    with running(tmp_path) as daemon:
        ended = daemon.wait_job("clip.mp4")
        wait_for(lambda: not list((daemon.data / "spool").glob("*.json")), why="the wish was not answered")
        assert [j.job_id for j in daemon.jobs()] == [job.job_id]
        expected = "clip.mp4.json" if ended.status is COMPLETED else "clip.mp4.error.json"
        wait_for(lambda: expected in daemon.results())
        if point == "worker.completed":
            assert ended.status is COMPLETED
        elif point == "worker.running":
            assert (ended.status, ended.error_kind) == (FAILED, ErrorKind.CANCELLED)
    assert list(daemon.results()) == [expected], "there is a result of a cancelled job"


def test_a_kill_between_a_failure_and_its_error_file_leaves_the_file_to_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    daemon = Daemon(tmp_path)
    daemon.drop(make_clip(tmp_path / "sound.mp4", frames=8, audio=True, video=False))
    daemon.start(DROPFRAME_FAULT="worker.failed")
    daemon.wait_killed()
    job = daemon.job("sound.mp4")
    assert job is not None
    assert (job.status, job.unpublished_error) == (FAILED, True)
    assert daemon.results() == {}
    with running(tmp_path) as daemon:
        error = wait_for(lambda: daemon.results().get("sound.mp4.error.json"), why="the error was not published")
        assert json.loads(error)["error_message"] == job.error_message
        wait_for(lambda: not daemon.wait_job("sound.mp4").unpublished_error, why="it is still to be published")


# C3, C7: nothing outlives a kill.


@pytest.fixture
def endless_tesseract(tmp_path: Path) -> Path:
    """A folder for PATH with a Tesseract that never returns, in a process of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    engine = folder / "tesseract"
    engine.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo tesseract 5.3.0; exit; }\n'
        '[ "$1" = --list-langs ] && { echo eng; exit; }\nsleep 1000 & touch at-work; wait\n'
    )
    engine.chmod(engine.stat().st_mode | stat.S_IEXEC)
    return folder


@pytest.mark.parametrize("killed", ["daemon", "pipeline"])
def test_a_text_engine_does_not_outlive_a_kill(
    tmp_path: Path, clip: Path, endless_tesseract: Path, killed: str
) -> None:
    search = f"{endless_tesseract}:{os.environ['PATH']}"
    with running(tmp_path, DROPFRAME_TEXT_ENGINE="tesseract", DROPFRAME_RETRY_SECONDS="600", PATH=search) as daemon:
        daemon.drop(clip)
        [pipeline] = daemon.pipelines()

        def engines() -> list[int]:
            return [p for p in processes_in(pipeline) if b"sleep" in command_of(p)]

        [engine] = wait_for(engines, 30, "no text was read")
        os.kill(daemon.pid if killed == "daemon" else pipeline, signal.SIGKILL)
        wait_for(lambda: not alive(engine), 10, "the text engine has outlived the kill")
        wait_for(lambda: not processes_in(pipeline), 10, "a process has outlived the kill")
        if killed == "daemon":
            assert daemon.process is not None
            daemon.process.wait(10)
        else:
            assert daemon.wait_job("clip.mp4", PENDING, when=lambda job: job.attempts == 1)


# C6: an answer cut short.

TALKER = """#!{python}
import json, os, sys
def say(kind, **content):
    os.write(1, json.dumps({{"kind": kind, **content}}).encode() + b"\\n")
sys.stdin.readline()
say("ready", device="cpu", models=[], gpu=None, gpus=0, calibration="")
for line in sys.stdin:
    while True:  # until it is killed, in the middle of an answer more often than not
        say("progress", frames_processed=1, frames_total=None, steps=os.times().elapsed, more="x" * 200_000)
"""
KILLS = int(os.environ.get("ANSWER_KILLS", "60"))
"""``make crash-long`` asks for 500."""


@contextlib.contextmanager
def killing_whatever_runs(pipeline: PipelineProcess, after: float) -> Iterator[None]:
    """Kill the child after some seconds, and again: one killed before the run began is replaced by a fresh one."""
    ended = threading.Event()

    def kill() -> None:
        time.sleep(after)
        while not ended.is_set():
            if (child := pipeline._child) is not None:
                child._process.kill()
            ended.wait(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()


def test_a_kill_in_the_middle_of_an_answer_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent's end is the real one, and so are the pipes and kills; the child is one that starts at once."""
    talker = tmp_path / "talker"
    talker.write_text(TALKER.format(python=sys.executable))
    talker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(talker))
    chance = random.Random(6)
    pipeline = PipelineProcess(Settings.load(home=tmp_path))
    request = RunRequest(tmp_path / "a.mp4", "yolo", 1, None, tmp_path / "a.json", "a.mp4")
    threads = threading.active_count()
    for _ in range(KILLS):
        pipeline.start()
        begun = time.monotonic()
        with killing_whatever_runs(pipeline, chance.uniform(0, 0.02)), pytest.raises(PipelineDied, match="SIGKILL"):
            pipeline.run(request)
        assert time.monotonic() - begun < 10
    pipeline.close()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) < 100


# C8: no fork of a process with threads.


def test_the_pipeline_is_a_fresh_program_and_no_fork(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        [pipeline] = daemon.pipelines()
        command = Path(f"/proc/{pipeline}/cmdline").read_bytes().split(b"\0")
        assert command[1:3] == [b"-m", b"daemon.pipeline.process"]
        assert os.getsid(pipeline) == pipeline != os.getsid(daemon.pid)


# C10: memory.


def test_a_pipeline_that_gets_no_more_memory_fails_its_attempt_and_no_more(tmp_path: Path, clip: Path) -> None:
    large = make_clip(tmp_path / "large.mp4", frames=8, size=(4000, 3000))
    with running(tmp_path) as daemon:
        daemon.drop(clip)
        assert daemon.wait_job("clip.mp4").status is COMPLETED
        [pipeline] = daemon.pipelines()
        pages = int(Path(f"/proc/{pipeline}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 8_000_000
        resource.prlimit(pipeline, resource.RLIMIT_AS, (limit, limit))
        daemon.drop(large)
        done = daemon.wait_job("large.mp4", seconds=120)
        assert (done.status, done.attempts) == (COMPLETED, 2), done.error_message
        assert daemon.pipelines() != [pipeline]
        daemon.drop(clip, "next.mp4")
        assert daemon.wait_job("next.mp4").status is COMPLETED


# C12: time.


def test_a_job_beyond_its_time_is_ended_with_the_setting_named_and_the_next_runs(tmp_path: Path, clip: Path) -> None:
    endless = make_clip(tmp_path / "endless.mp4", frames=6000, text="ON AND ON")
    with running(tmp_path, DROPFRAME_MAX_JOB_SECONDS="10") as daemon:
        daemon.drop(endless)
        daemon.drop(clip)
        job = daemon.wait_job("endless.mp4")
        assert (job.status, job.attempts, job.error_kind) == (FAILED, 1, ErrorKind.PERMANENT)
        assert job.error_message == "The job took longer than 10 s (max_job_seconds)."
        assert daemon.wait_job("clip.mp4").status is COMPLETED


# C15: locks.


def test_a_lock_file_that_names_a_living_process_is_no_lock(tmp_path: Path) -> None:
    """After a crash the number in it may be anybody's."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jobs.lock").write_text(f"{os.getpid()}\n")
    with running(tmp_path, ready=False) as daemon:
        wait_for(daemon.beat)


# C16: leaks.


def test_25_jobs_leave_no_descriptor_behind(tmp_path: Path, clip: Path) -> None:
    with running(tmp_path) as daemon:
        [pipeline] = daemon.pipelines()

        def run(numbers: range) -> tuple[int, int]:
            for number in numbers:
                daemon.drop(clip, f"{number}.mp4")
            assert daemon.wait_job(f"{numbers[-1]}.mp4", seconds=180).status is COMPLETED
            wait_for(lambda: daemon.beat().queue_length == 0)  # type: ignore[union-attr]
            return descriptors(daemon.pid), descriptors(pipeline)

        first = run(range(5))
        last = run(range(5, 25))
        assert max(a - b for a, b in zip(last, first, strict=True)) <= 2, (first, last)
        assert daemon.pipelines() == [pipeline]


# C18: everything stands still.


def test_a_machine_that_was_suspended_blames_no_job(tmp_path: Path, long_clip: Path) -> None:
    with running(tmp_path, DROPFRAME_STALL_SECONDS="4") as daemon:
        daemon.drop(long_clip)
        daemon.wait_job("long.mp4", RUNNING, when=lambda job: job.frames_processed >= 8)
        frozen = [daemon.pid, *daemon.pipelines()]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(7)  # longer than a job may stand still
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        done = daemon.wait_job("long.mp4")
        assert (done.status, done.attempts) == (COMPLETED, 1)
        assert [pid for pid in frozen[1:] if not alive(pid)] == []
