"""Ending and crashing: whatever is killed whenever, every job comes out once, with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from daemon.jobs import ErrorKind, Job, JobStatus
from tests.clips import make_clip
from tests.system.running import Daemon, alive, as_json, dropframe, environment, running, wait_for

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip on which the pipeline works for some seconds."""
    return make_clip(tmp_path_factory.mktemp("clips") / "long.mp4", frames=250, text="HOME 2")


@pytest.fixture(scope="module")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "short.mp4", frames=8, text="AWAY 3")


def in_the_middle(daemon: Daemon, name: str) -> Job:
    """Wait until some segments of a job are done and more are to come."""
    return daemon.wait_job(name, RUNNING, when=lambda job: job.frames_processed >= 8)


def undisturbed(daemon: Daemon, clip: Path, name: str) -> bytes:
    """Run a clip again under the same name, with nothing coming between, and return its result."""
    before = daemon.job(name)
    daemon.drop(clip, name)
    daemon.wait_job(name, when=lambda job: before is None or job.job_id != before.job_id)
    return daemon.results()[f"{name}.json"]


@pytest.mark.slow
def test_a_signal_ends_it_in_time_and_the_job_goes_on_at_the_next_start(
    tmp_path: Path, long_clip: Path, short_clip: Path
) -> None:
    with running(tmp_path) as daemon:
        for number in (signal.SIGTERM, signal.SIGINT):
            name = f"{number.name}.mp4"
            daemon.drop(long_clip, name)
            before = in_the_middle(daemon, name)
            assert daemon.stop(number) < 10
            after = daemon.job(name)
            assert after is not None
            assert (after.job_id, after.status, after.attempts) == (before.job_id, PENDING, 0)
            assert (after.error_message, after.error_kind) == (None, None)
            assert f"{name}.json" not in daemon.results()
            daemon.start()
            daemon.wait_ready()
            done = daemon.wait_job(name)
            assert (done.job_id, done.status, done.attempts) == (before.job_id, COMPLETED, 1)
            disturbed = daemon.results()[f"{name}.json"]
        assert undisturbed(daemon, long_clip, name) == disturbed


@pytest.mark.slow
def test_the_whole_group_may_be_signalled_at_once(tmp_path: Path, long_clip: Path) -> None:
    """As service managers do; the job is not to blame for it."""
    with running(tmp_path) as daemon:
        daemon.drop(long_clip)
        in_the_middle(daemon, "long.mp4")
        for pid in daemon.pipelines():
            os.kill(pid, signal.SIGTERM)
        daemon.stop()
        job = daemon.job("long.mp4")
        assert job is not None
        assert (job.status, job.attempts, job.error_message) == (PENDING, 0, None)


def test_it_ends_in_time_while_models_are_loaded(tmp_path: Path, short_clip: Path) -> None:
    with running(tmp_path, ready=False) as daemon:
        wait_for(daemon.pipelines)
        assert daemon.stop() < 10
        assert "Traceback" not in daemon.log()
        assert "ERROR" not in daemon.log()


@pytest.mark.slow
def test_each_failpoint_is_survived_with_one_result(tmp_path: Path, short_clip: Path) -> None:
    (tmp_path / "inbox").mkdir()
    with running(tmp_path, ready=False) as daemon:
        daemon.kill()
        daemon.drop(short_clip)
        daemon.start(DROPFRAME_FAULT="worker.running")
        daemon.wait_killed()
        job = daemon.job("short.mp4")
        assert job is not None
        assert (job.status, job.attempts) == (RUNNING, 1)
        assert daemon.results() == {}

        daemon.start(DROPFRAME_FAULT="worker.analysed")
        daemon.wait_killed()
        document = daemon.data / "video_jobs" / f"{job.job_id}_results.json"
        made = document.stat()
        assert daemon.results() == {}

        daemon.start(DROPFRAME_FAULT="worker.published")
        daemon.wait_killed()
        assert list(daemon.results()) == ["short.mp4.json"]
        assert [j.status for j in daemon.jobs()] == [RUNNING]

        daemon.start(DROPFRAME_FAULT="worker.completed")
        daemon.wait_killed()
        assert [j.status for j in daemon.jobs()] == [COMPLETED]

        daemon.start()
        daemon.wait_ready()
        [after] = daemon.jobs()
        assert (after.job_id, after.status, after.attempts) == (job.job_id, COMPLETED, 4)
        assert (document.stat().st_ino, document.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns), "it ran twice"
        assert daemon.results() == {"short.mp4.json": document.read_bytes()}
        assert undisturbed(daemon, short_clip, "short.mp4") == document.read_bytes()


def test_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path, long_clip: Path, short_clip: Path) -> None:
    names = ["long.mp4", "short.mp4"]
    with running(tmp_path, ready=False) as daemon:
        wait_for(lambda: daemon.inbox.is_dir())
        daemon.drop(long_clip)
        daemon.drop(short_clip)
        wait_for(lambda: len(daemon.jobs()) == 2)
        daemon.kill()  # while the models are loaded
        ids = sorted(job.job_id for job in daemon.jobs())
        daemon.start()
        in_the_middle(daemon, "long.mp4")
        daemon.kill()  # in the middle of a job
        daemon.start()
        daemon.wait_job("long.mp4", COMPLETED)
        daemon.kill()  # about when the next begins
        daemon.start()
        for name in names:
            assert daemon.wait_job(name).status is COMPLETED
        assert sorted(job.job_id for job in daemon.jobs()) == ids
        disturbed = daemon.results()
        assert sorted(disturbed) == [f"{name}.json" for name in names]
        assert undisturbed(daemon, long_clip, "long.mp4") == disturbed["long.mp4.json"]


def test_a_killed_pipeline_is_tried_again_and_the_next_job_is_fine(
    tmp_path: Path, long_clip: Path, short_clip: Path
) -> None:
    with running(tmp_path, DROPFRAME_RETRY_SECONDS="1") as daemon:
        daemon.drop(long_clip)
        in_the_middle(daemon, "long.mp4")
        [pipeline] = daemon.pipelines()
        os.kill(pipeline, signal.SIGKILL)
        waiting = daemon.wait_job("long.mp4", PENDING)
        assert (waiting.attempts, waiting.error_kind) == (1, ErrorKind.TRANSIENT)
        assert waiting.error_message == "The pipeline process was ended by SIGKILL on this video."
        daemon.drop(short_clip)
        assert daemon.wait_job("short.mp4").status is COMPLETED
        done = daemon.wait_job("long.mp4")
        assert (done.status, done.attempts, done.error_message) == (COMPLETED, 2, None)
        disturbed = daemon.results()["long.mp4.json"]
        assert undisturbed(daemon, long_clip, "long.mp4") == disturbed


@pytest.mark.slow
def test_a_video_that_always_kills_the_pipeline_fails_after_three_attempts(
    tmp_path: Path, long_clip: Path, short_clip: Path
) -> None:
    with running(tmp_path) as daemon:
        daemon.drop(long_clip)
        killed: list[int] = []
        for attempt in (1, 2, 3):
            daemon.wait_job("long.mp4", RUNNING, when=lambda job: job.attempts == attempt)  # noqa: B023
            killed += wait_for(lambda: [pid for pid in daemon.pipelines() if pid not in killed])  # noqa: B023
            os.kill(killed[-1], signal.SIGKILL)
        job = daemon.wait_job("long.mp4")
        assert (job.status, job.attempts, job.error_kind) == (FAILED, 3, ErrorKind.TRANSIENT)
        assert "was ended by SIGKILL" in (job.error_message or "")
        assert "It was tried 3 times." in (job.error_message or "")
        error = json.loads(wait_for(lambda: daemon.results().get("long.mp4.error.json")))
        assert error["job_id"] == job.job_id
        # Nothing waits, and still the models are loaded again and the daemon reads as well.
        wait_for(lambda: dropframe(tmp_path, "health").returncode == 0, 60)
        daemon.drop(short_clip)
        assert daemon.wait_job("short.mp4").status is COMPLETED


@pytest.mark.slow
def test_a_pipeline_that_hangs_is_ended_and_tried_again(tmp_path: Path, long_clip: Path) -> None:
    with running(tmp_path, DROPFRAME_STALL_SECONDS="10") as daemon:  # so much passes between frames of a busy machine
        daemon.drop(long_clip)
        in_the_middle(daemon, "long.mp4")
        [pipeline] = daemon.pipelines()
        os.kill(pipeline, signal.SIGSTOP)
        wait_for(lambda: not alive(pipeline), 20)
        done = daemon.wait_job("long.mp4", seconds=180)
        assert (done.status, done.attempts) == (COMPLETED, 2)


@pytest.mark.slow
def test_cancelling_ends_a_running_job_and_outlives_a_kill(tmp_path: Path, long_clip: Path, short_clip: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.drop(long_clip)
        job = in_the_middle(daemon, "long.mp4")
        daemon.drop(short_clip)
        assert dropframe(tmp_path, "cancel", job.job_id[:8]).returncode == 0
        ended = daemon.wait_job("long.mp4", seconds=10)
        assert (ended.status, ended.error_kind) == (FAILED, ErrorKind.CANCELLED)
        assert daemon.wait_job("short.mp4").status is COMPLETED
        wait_for(lambda: sorted(daemon.results()) == ["long.mp4.error.json", "short.mp4.json"])
        wait_for(lambda: not list((daemon.data / "spool").glob("*.json")))
        assert dropframe(tmp_path, "cancel", job.job_id).returncode == 4

        assert as_json(tmp_path, "retry", job.job_id)[0]["job_id"] == job.job_id
        daemon.wait_job("long.mp4", RUNNING)
        daemon.kill()
        as_json(tmp_path, "cancel", job.job_id)  # while it is down
        daemon.start()
        ended = daemon.wait_job("long.mp4")
        assert (ended.status, ended.error_kind) == (FAILED, ErrorKind.CANCELLED)
        assert "long.mp4.json" not in daemon.results()


def test_a_second_daemon_on_the_same_home_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with running(tmp_path, ready=False) as daemon:
        wait_for(lambda: (daemon.data / "jobs.lock").exists())
        begun = time.monotonic()
        second = dropframe(tmp_path, "daemon")
        assert time.monotonic() - begun < 10
        assert second.returncode == 5
        assert second.stderr.strip() == (
            f"dropframe: The jobs in {daemon.data} are in use by process {daemon.pid}. "
            "Stop that daemon first, or choose another home."
        )
        assert daemon.process is not None
        assert daemon.process.poll() is None


def test_no_setting_of_the_tests_leaks_into_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_HOME", "/elsewhere")
    assert "DROPFRAME_HOME" not in environment()
