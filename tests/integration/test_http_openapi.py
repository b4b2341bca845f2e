"""What the description says is what the process does: Schemathesis with all its checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from daemon.ipc import health, spool
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, Options, new_job_id, output_key, utc_now
from daemon.store.job_store import JobStore
from daemon.tokens import Rights, new_token
from tests.schemathesis_hooks import VIDEO_BYTES
from tests.sidecar_process import ROOT, running_sidecar
from tests.unit.sidecar.test_app import beat
from tests.unit.sidecar.test_document import frame, write_document

EXAMPLES = int(os.environ.get("HTTP_EXAMPLES", "12"))
"""Of each call, besides those that are made of the description alone; ``make hostile`` asks for 100."""


def fill(home: Path, store: JobStore) -> None:
    """A job in every state, and one that is still a ticket."""
    jobs = store.create([Job(new_job_id(), input_path="video_jobs/v.mp4", source_name="v.mp4") for _ in range(5)])
    store.move(jobs[0].job_id, JobStatus.RUNNING, started_at=utc_now())
    store.move(jobs[0].job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message="It has no video.")
    store.move(jobs[1].job_id, JobStatus.RUNNING, frames_total=5)
    store.move(jobs[2].job_id, JobStatus.RUNNING)
    write_document(home / "data" / "document", [frame(i) for i in range(20)])
    (home / "data" / "video_jobs").mkdir(exist_ok=True)
    (home / "data" / "document").rename(home / "data" / output_key(jobs[2].job_id))
    store.move(jobs[2].job_id, JobStatus.COMPLETED, output_path=output_key(jobs[2].job_id))
    (home / "data" / "video_jobs" / "v.mp4").write_bytes(bytes(VIDEO_BYTES))
    health.write(home / "data", beat("2100-01-01T00:00:00+00:00"))  # never old
    spool.submit(
        home / "data" / "spool",
        home / "data" / "video_jobs" / "v.mp4",
        source=JobSource.HTTP,
        source_name="w.mp4",
        pipeline_id="yolo",
        options=Options(),
    )


PHASES = {
    "single calls": ["--phases", "examples,coverage,fuzzing"],
    "chains of calls": ["--phases", "stateful"],
}
# Without the version of tus the answer is 412, as tus says. A schema cannot say what tus' metadata look like, nor, to
# the clients that are made from it, of what type a piece is; and a header more than those described is not wrong.
RESUMABLE = """
[[operations]]
include-path-regex = "^/v1/uploads"
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx", "503", "507"]
checks.negative_data_rejection.expected-statuses = ["201", "4xx", "503", "507"]
checks.missing_required_header.expected-statuses = ["400", "401", "403", "406", "412", "415", "422"]
"""
# Once a chain has put an earlier answer's pipeline into a form, Schemathesis judges the form anew and takes a valid one
# for invalid, as the file's bytes are no JSON string. So these two may accept what it says; single calls check forms.
FORMS_IN_CHAINS = """
[[operations]]
include-name = ["POST /v1/video/submit", "POST /video/submit"]
checks.negative_data_rejection.expected-statuses = ["2xx", "4xx", "503", "507"]
"""
# That a picture has an index or a time, and not both, and that a span ends after it begins cannot be said in a schema.
BETWEEN_FIELDS = """
[[operations]]
include-name = ["GET /v1/jobs/{job_id}/frame", "GET /v1/jobs/{job_id}/export/{format}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "4xx", "5xx"]
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("phases", "guarded"), [("single calls", False), ("single calls", True), ("chains of calls", False)]
)
def test_schemathesis_finds_no_failure(tmp_path: Path, phases: str, guarded: bool) -> None:
    secret, token = new_token("tester", Rights.SUBMIT)
    settings = {"tokens": [str(token)]} if guarded else {}
    with JobStore.open(tmp_path / "data") as store:
        fill(tmp_path, store)
        with running_sidecar(tmp_path, max_wait_seconds=0.1, upload_stall_seconds=5, **settings) as sidecar:
            sent = {"authorization": f"Bearer {secret}"}
            (tmp_path / "openapi.json").write_text(httpx.get(sidecar.url + "/openapi.json", headers=sent).text)
            command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", sidecar.url]
            command += ["--checks", "all", *PHASES[phases], "-n", str(EXAMPLES), "--seed", "1", "--no-color"]
            config = f'[auth.openapi.token]\nbearer = "{secret}"\n' if guarded else ""
            (tmp_path / "schemathesis.toml").write_text(
                config + RESUMABLE + BETWEEN_FIELDS + (FORMS_IN_CHAINS if phases == "chains of calls" else "")
            )
            hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
            ended = subprocess.run(command, capture_output=True, cwd=tmp_path, env=hooks, timeout=550)
            assert ended.returncode == 0, ended.stdout.decode(errors="replace")[-6000:]
            errors = [line for line in sidecar.log() if line["level"] == "error"]
            assert errors == []
