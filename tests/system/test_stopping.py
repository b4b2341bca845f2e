"""``dropframe run`` ends in time, again and again, with a job running and an upload open."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.system.running import Daemon, alive, children, wait_for

pytestmark = pytest.mark.slow

TRIES = int(os.environ.get("STOPPING_TRIES", "2"))
MOST_SECONDS = 10.0


def open_upload(port: int) -> socket.socket:
    """Begin an upload that stays unfinished; return once the sidecar is receiving it."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    head = "PUT /v1/video/submit/open.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
    connection.sendall(head.encode() + b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100_000))
    return connection


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(1200)
def test_run_ends_in_time_with_a_job_running_and_an_upload_open(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "long.mp4", frames=3000, text="HOME 2")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (tmp_path / "inbox").mkdir()
    run = Daemon(tmp_path, "--port", port, command="run")
    run.drop(clip)
    took = []
    try:
        for number in range(TRIES):
            run.start()
            wait_for(lambda: answers(port), 60)
            before = max((job.frames_processed for job in run.jobs()), default=0)
            going_on = lambda: any(job.frames_processed > before for job in run.jobs())  # noqa: B023, E731
            wait_for(going_on, 120, "the job did not go on")
            with open_upload(port):
                wait_for(lambda: list((run.data / "spool").glob(".*.part")), 30, "no upload was open")
                below = [pid for child in children(run.pid) for pid in (child, *children(child))]
                assert len(below) >= 3
                begun = time.monotonic()
                os.kill(run.pid, signal.SIGINT if number % 2 else signal.SIGTERM)
                assert run.process is not None
                assert run.process.wait(60) == 0, run.log()
                took.append(time.monotonic() - begun)
            wait_for(lambda: not any(alive(pid) for pid in below), 2, "a process was left")  # noqa: B023
            assert not list((run.data / "spool").glob(".*.part")), "the open upload has left something"
            [job] = run.jobs()
            assert (job.status, job.attempts, job.error_message) == (JobStatus.PENDING, 0, None)
    finally:
        run.kill()
    print("seconds:", [round(seconds, 1) for seconds in took])
    assert max(took) < MOST_SECONDS
