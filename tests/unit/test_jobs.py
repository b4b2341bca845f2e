"""Jobs: the moves between states, options, the record."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import BadOptions, IllegalMove
from daemon.jobs import (
    Claim,
    ErrorKind,
    Identity,
    Job,
    JobSource,
    JobStatus,
    Options,
    input_key,
    new_job_id,
    output_key,
)

PENDING, RUNNING, COMPLETED, FAILED = JobStatus
LEGAL = {
    (PENDING, RUNNING),
    (PENDING, FAILED),
    (RUNNING, COMPLETED),
    (RUNNING, FAILED),
    (RUNNING, PENDING),
    (FAILED, PENDING),
}


@pytest.mark.parametrize(("start", "end"), list(itertools.product(JobStatus, JobStatus)))
def test_only_the_six_moves_are_legal(start: JobStatus, end: JobStatus) -> None:
    job = Job("a", status=start)
    if (start, end) in LEGAL:
        job.check_move(end)
        return
    with pytest.raises(IllegalMove, match=f"a is {start} and cannot become {end}"):
        job.check_move(end)


def test_clients_rely_on_four_words() -> None:
    assert [str(status) for status in JobStatus] == ["pending", "running", "completed", "failed"]


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_has_ended_when_it_is_completed_or_failed(status: JobStatus) -> None:
    assert Job("a", status=status).ended == (status in (COMPLETED, FAILED))


def test_options_that_fit_are_taken() -> None:
    assert Options.from_mapping({}) == Options(frame_stride=1, max_frames=None)
    assert Options.from_mapping({"frame_stride": 5, "max_frames": 1}) == Options(5, 1)
    assert Options.from_mapping({"max_frames": None}) == Options()
    for exports in ("csv, srt,csv", ["csv", "srt"]):
        assert Options.from_mapping({"exports": exports}) == Options(exports=("csv", "srt"))
    assert Options.from_mapping({"exports": ""}) == Options.from_mapping({"exports": []}) == Options()


@pytest.mark.parametrize(
    "exports", [None, 5, True, {"csv": 1}, ["csv", 5], "cvs", ["srt", "docx"], "csv;srt", "a" * 5000]
)
def test_exports_that_there_are_not_are_refused_in_a_sentence(exports: object) -> None:
    wrong = Options.errors_in({"exports": exports})["exports"]
    assert wrong.startswith("Option exports: ")
    assert len(wrong) < 500
    assert Options.as_far_as_valid({"exports": exports, "frame_stride": 5}) == Options(5)


def test_a_record_of_a_job_with_exports_can_be_read_by_a_release_that_knows_none() -> None:
    job = Job(new_job_id(), options=Options(5, None, ("csv",)))
    record = json.loads(json.dumps(job.to_record()))
    assert record["options"] == {"frame_stride": 5, "max_frames": None}  # that release takes it apart by its names
    assert Job.from_record(record) == job
    assert "asked_exports" not in Job(new_job_id()).to_record()


@pytest.mark.parametrize("name", ["frame_stride", "max_frames"])
@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, "5", True, [], {}, float("nan")])
def test_an_option_that_is_no_whole_number_of_one_or_more_is_named(name: str, value: object) -> None:
    with pytest.raises(BadOptions, match=f"Option {name} must be a whole number of 1 or more"):
        Options.from_mapping({name: value})


def test_a_stride_of_null_is_wrong() -> None:
    with pytest.raises(BadOptions, match="frame_stride"):
        Options.from_mapping({"frame_stride": None})


def test_an_unknown_option_is_told_the_known_ones() -> None:
    with pytest.raises(BadOptions, match=r"no option 'stride' \(did you mean frame_stride"):
        Options.from_mapping({"stride": 5})


counts = st.integers(0, 1 << 53)
texts = st.text(max_size=30)
identities = st.builds(Identity, counts, counts, counts, counts)
jobs = st.builds(
    Job,
    job_id=st.uuids(version=4).map(str),
    status=st.sampled_from(JobStatus),
    pipeline_id=texts,
    error_message=st.none() | texts,
    sequence=counts,
    source=st.sampled_from(JobSource),
    source_name=texts,
    options=st.builds(Options, st.integers(1, 9), st.none() | st.integers(1, 9)),
    attempts=counts,
    error_kind=st.none() | st.sampled_from(ErrorKind),
    unpublished_error=st.booleans(),
    frames_total=st.none() | counts,
    summary=st.none() | st.dictionaries(texts, counts, max_size=3),
    claim=st.none() | st.builds(Claim, texts, identities, st.booleans(), st.booleans()),
)


@given(jobs)
def test_a_record_goes_through_json_and_comes_back_the_same(job: Job) -> None:
    read = Job.from_record(json.loads(json.dumps(job.to_record(), allow_nan=False)))
    assert read == job
    assert [type(getattr(read, f.name)) for f in fields(Job)] == [type(getattr(job, f.name)) for f in fields(Job)]


def test_a_record_of_another_version_can_be_read() -> None:
    assert Job.from_record({"job_id": "a", "status": "failed", "colour": "red"}) == Job("a", status=FAILED)


def test_a_failed_job_recorded_before_errors_were_noted_has_published_its_own() -> None:
    record = Job("a", status=FAILED).to_record()
    del record["unpublished_error"]
    assert Job.from_record(record).unpublished_error is False


def test_a_record_with_an_unknown_state_is_refused() -> None:
    with pytest.raises(ValueError, match="paused"):
        Job.from_record({"job_id": "a", "status": "paused"})


def test_ids_are_never_the_same_and_give_the_keys() -> None:
    assert len({new_job_id() for _ in range(1000)}) == 1000
    assert input_key("x") == "video_jobs/x.mp4"
    assert output_key("x") == "video_jobs/x_results.json"


def test_a_claim_written_before_options_files_were_noted_can_be_read() -> None:
    record = Job("a", claim=Claim("a.mp4", Identity(1, 2, 3, 4))).to_record()
    del record["claim"]["companion"]
    claim = Job.from_record(record).claim
    assert claim is not None
    assert not claim.companion
