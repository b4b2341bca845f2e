from __future__ import annotations

import json

import pytest

from daemon.jobs import Job, JobStatus, new_job_id, utc_now
from daemon.public_job import PublicJob, RunningFacts, to_public


def record(**changes: object) -> dict[str, object]:
    now = utc_now()
    job = Job(new_job_id(), created_at=now, updated_at=now, source_name="a.mp4").to_record()
    return {**json.loads(json.dumps(job)), **changes}


@pytest.mark.parametrize("status", list(JobStatus))
def test_what_is_told_of_a_job_is_the_model_and_nothing_else(status: JobStatus) -> None:
    public = to_public(record(status=status, claim={"path": "secret"}, sequence=3, input_path="video_jobs/x.mp4"), 2)
    assert set(public) == set(PublicJob.model_fields)
    PublicJob.model_validate_json(json.dumps(public), strict=True)


def test_progress_is_a_number_between_0_and_1() -> None:
    progress = [to_public(record(status=status))["progress"] for status in JobStatus]
    assert progress == [0.0, 0.5, 1.0, 1.0]
    schema = PublicJob.model_json_schema()["properties"]["progress"]
    assert (schema["type"], schema["minimum"], schema["maximum"]) == ("number", 0, 1)


@pytest.mark.parametrize(
    ("facts", "stored", "processed", "total", "left"),
    [
        (RunningFacts(40, 100, 20.0), {}, 40, 100, 3.0),
        (RunningFacts(40, None, 20.0), {"frames_total": 50}, 40, 50, 0.5),
        (RunningFacts(40, 100, 20.0), {"frames_processed": 60}, 60, 100, 2.0),
        (RunningFacts(140, 100, 20.0), {}, 140, 100, 0.0),
        (RunningFacts(40, None, 20.0), {}, 40, None, None),
        (RunningFacts(40, 100, None), {}, 40, 100, None),
        (RunningFacts(0, 100, 0.0), {}, 0, 100, None),
    ],
)
def test_a_running_job_is_shown_as_far_as_its_heartbeat_says(
    facts: RunningFacts, stored: dict[str, object], processed: int, total: int | None, left: float | None
) -> None:
    public = to_public(record(status="running", **stored), running=facts)
    assert public["frames_processed"] == processed
    assert public["frames_total"] == total
    assert public["frames_per_second"] == facts.frames_per_second
    assert public["eta_s"] == left


def test_a_record_of_an_older_version_is_shown_without_what_it_lacks() -> None:
    old = record()
    del old["summary"], old["result_removed_at"]
    assert to_public(old)["summary"] is None
    assert to_public(old)["result_removed_at"] is None
