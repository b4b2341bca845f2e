"""A daemon with several pipeline processes: whatever is killed, each job ends once, with the bytes of one process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from daemon.ipc import spool
from daemon.ipc.ticket import TicketKind
from daemon.jobs import ErrorKind, JobStatus
from tests.clips import make_clip
from tests.system.running import Daemon, running, wait_for

pytestmark = pytest.mark.slow

CUT = {"DROPFRAME_DEFAULT_PIPELINE": "ocr_only", "DROPFRAME_SEGMENT_FRAMES": "10", "DROPFRAME_RETRY_SECONDS": "0.1"}
POOL = {**CUT, "DROPFRAME_EXECUTOR": "pool", "DROPFRAME_WORKERS": "2"}
FRAMES = 80


def long_clip(path: Path) -> Path:
    return make_clip(path, frames=FRAMES, size=(320, 240), text=tuple(f"LINE {n // 7}" for n in range(FRAMES)))


def undisturbed(home: Path, clip: Path) -> bytes:
    """Return the document of one process."""
    home.mkdir()
    with running(home, **CUT, DROPFRAME_EXECUTOR="embedded") as daemon:
        daemon.drop(clip, "a.mp4")
        return wait_for(daemon.results, 120)["a.mp4.json"]


def slots_up(daemon: Daemon) -> int:
    beat = daemon.beat()
    return sum(slot.device is not None for slot in beat.slots) if beat else 0


@pytest.mark.timeout(900)
def test_a_job_that_is_killed_everywhere_ends_once_with_the_bytes_of_one_process(tmp_path: Path) -> None:
    clip = long_clip(tmp_path / "clip.mp4")
    expected = undisturbed(tmp_path / "alone", clip)
    (tmp_path / "home").mkdir()
    daemon = Daemon(tmp_path / "home", **POOL, DROPFRAME_MAX_ATTEMPTS="1000")
    parts = daemon.data / "video_jobs"
    try:
        for point in ("pool.planned", "pool.made", "pool.made:2", "pool.joined"):
            daemon.start(DROPFRAME_FAULT=point)
            if point == "pool.planned":
                wait_for(lambda: slots_up(daemon) == 2, 120)
                daemon.drop(clip, "a.mp4")
            daemon.wait_killed(180)
            assert list(parts.glob("*.parts/plan-*")), point
        assert len(list(parts.glob("*.parts/0*"))) == 4
        daemon.start()
        daemon.drop(clip, "b.mp4")
        daemon.wait_job("b.mp4", JobStatus.RUNNING, seconds=120, when=lambda job: job.frames_processed > 0)
        for pipeline in daemon.pipelines():
            os.kill(pipeline, signal.SIGKILL)
        wait_for(lambda: len(daemon.jobs()) == 2 and all(job.ended for job in daemon.jobs()), 240)
        assert {job.status for job in daemon.jobs()} == {JobStatus.COMPLETED}
        results = daemon.results()
        assert results["a.mp4.json"] == expected
        assert results["b.mp4.json"] == expected.replace(b'"a.mp4"', b'"b.mp4"')
        assert not list(parts.glob("*.parts"))
        beat = daemon.beat()
        assert beat is not None
        assert sum(slot.ended for slot in beat.slots) >= 1
        daemon.stop()
    finally:
        daemon.kill()


@pytest.mark.timeout(600)
def test_one_of_several_jobs_is_cancelled_and_the_others_go_on_and_a_stop_takes_seconds(tmp_path: Path) -> None:
    clip, short = long_clip(tmp_path / "clip.mp4"), make_clip(tmp_path / "short.mp4", frames=8, size=(320, 240))
    home = tmp_path / "home"
    home.mkdir()
    with running(home, **POOL) as daemon:
        wait_for(lambda: slots_up(daemon) == 2, 120)
        daemon.drop(clip, "a.mp4")
        first = daemon.wait_job("a.mp4", JobStatus.RUNNING, when=lambda job: job.frames_processed > 0, seconds=120)
        daemon.drop(short, "b.mp4")
        spool.request(daemon.data / "spool", TicketKind.CANCEL, first.job_id)
        cancelled = daemon.wait_job("a.mp4", seconds=60)
        assert cancelled.error_kind is ErrorKind.CANCELLED
        assert daemon.wait_job("b.mp4", seconds=120).status is JobStatus.COMPLETED
        assert not list((daemon.data / "video_jobs").glob("*.parts"))
        daemon.drop(clip, "c.mp4")
        daemon.wait_job("c.mp4", JobStatus.RUNNING, when=lambda job: job.frames_processed > 0, seconds=120)
        daemon.stop()
        job = daemon.job("c.mp4")
        assert job is not None
        assert (job.status, job.attempts) == (JobStatus.PENDING, 0)
        assert list((daemon.data / "video_jobs").glob("*.parts/plan-*"))
        daemon.start(DROPFRAME_EXECUTOR="embedded")  # which has no use for parts
        daemon.wait_ready(120)
        assert not list((daemon.data / "video_jobs").glob("*.parts"))
