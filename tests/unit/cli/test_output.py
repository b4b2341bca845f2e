"""What the commands print: it costs nothing when nobody reads it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.jobs import Job, JobStatus, new_job_id, output_key
from daemon.store.job_store import JobStore
from sidecar.logs import TerminalFormatter


def with_a_closed_pipe(*arguments: str, also_stderr: bool = False) -> subprocess.Popen[bytes]:
    """Start a command whose output goes into a pipe that nobody reads any more, as in ``command | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "daemon", *arguments]
    try:
        return subprocess.Popen(command, stdout=writing, stderr=writing if also_stderr else subprocess.PIPE)
    finally:
        os.close(writing)


@pytest.mark.parametrize("also_stderr", [False, True])
def test_a_daemon_whose_output_nobody_reads_goes_on(tmp_path: Path, also_stderr: bool) -> None:
    process = with_a_closed_pipe("daemon", "--home", str(tmp_path), also_stderr=also_stderr)
    heartbeat = tmp_path / "data" / "daemon.json"
    try:
        deadline = time.monotonic() + 60
        while not heartbeat.exists() or json.loads(heartbeat.read_text())["state"] != "running":
            assert process.poll() is None, "it died because nobody reads what it says"
            assert time.monotonic() < deadline, "its models are not loaded"
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"Traceback" not in (said or b"")


def test_a_listing_or_a_result_that_nobody_reads_is_not_an_error(tmp_path: Path) -> None:
    with JobStore.open(tmp_path / "data") as store:
        [job] = store.create([Job(new_job_id(), source_name="a.mp4")])
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    document = tmp_path / "data" / output_key(job.job_id)
    document.parent.mkdir(exist_ok=True)
    document.write_bytes(b"{" + b"\n" * 200_000 + b"}\n")
    for command in (["jobs"], ["jobs", "--json"], ["status", job.job_id], ["results", job.job_id], ["config", "show"]):
        process = with_a_closed_pipe(*command, "--home", str(tmp_path))
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, (command, said)
        assert b"roken" not in said, command


def test_a_line_in_a_terminal_has_the_daemons_form_and_cannot_be_forged() -> None:
    record = logging.LogRecord("sidecar", logging.INFO, "", 0, "an upload\nended", (), None)
    record.fields = {"name": "a\n2026.mp4", "bytes": 5}
    line = TerminalFormatter().format(record)
    assert line.partition(" INFO ")[2] == r'an upload\nended name="a\\n2026.mp4" bytes=5'
