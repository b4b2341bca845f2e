"""A home that release 0.1.0 left in the middle of its work: job store, spool, checkpoint and results open as before.

``tests/samples/home-0`` was made by the script in its ``made_by.txt``. Its last journal ends in a torn line, as if
the daemon had been killed. The JSON files beside ``home.tar.gz`` are what that release itself read from the home.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.ipc import spool
from daemon.jobs import ErrorKind, Job, JobStatus, Options, input_key, output_key
from daemon.pipeline.records import Analysis, Detection, Frame, ModelInfo, TextBlock, VideoInfo
from daemon.pipeline.results import ResultsSerializer, recorded_facts
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore
from tests.system.running import ROOT, dropframe, running, wait_for

SAMPLE = ROOT / "tests" / "samples" / "home-0"
MTIME_NS = 1_795_000_000_123_456_789
"""Of every video, as their claims say."""
MODEL = ModelInfo("PP-OCRv6_rec_small", "text", "onnxruntime", "cpu", "fp32", [48, 320], "ab" * 32)
VIDEO = VideoInfo("h264", 320, 240, 25.0, 0.24, 6)


def expected(name: str) -> Any:
    return json.loads((SAMPLE / name).read_bytes())


def job_id(number: int) -> str:
    return f"{number:08d}-0000-4000-8000-{number:012d}"


def told(value: Any, like: Any) -> Any:
    """Return a value as JSON, less the fields that the release did not know."""
    if isinstance(like, dict) and isinstance(value, dict):
        return {name: told(each, like[name]) for name, each in value.items() if name in like}
    return json.loads(json.dumps(value))


def records(jobs: list[Job]) -> list[Any]:
    before = {record["job_id"]: record for record in expected("records.json")}
    return [told(job.to_record(), before[job.job_id]) for job in jobs]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the home, with the videos that its records and tickets speak of."""
    home = tmp_path / "home"
    with tarfile.open(SAMPLE / "home.tar.gz") as archive:
        archive.extraction_filter = lambda member, path: member  # as an argument only from Python 3.11.4 on
        archive.extractall(home)
    stored = [home / "data" / input_key(job_id(number)) for number in (2, 3, 5, 8, 9, 10)]
    for path in (*stored, *(home / "data" / "spool" / f"{job_id(number)}.mp4" for number in (20, 21))):
        shutil.copyfile(home / "clip.bin", path)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return home


def test_every_job_reads_as_it_was_recorded(home: Path) -> None:
    with JobStore.open(home / "data") as store:
        assert store.recovered_from is None
        assert records(store.jobs()) == expected("records.json")
        assert store.counts() == {status: len(store.jobs(status)) for status in JobStatus}
        assert [len(store.jobs(status)) for status in JobStatus] == [3, 1, 2, 3]
        [made] = store.create([Job("a-new-one")])
        assert made.sequence == 11
    with JobStore.open(home / "data") as store:
        assert records(store.jobs()[:-1]) == expected("records.json")


def test_a_reader_agrees_with_the_store_before_and_after_it_was_opened(home: Path) -> None:
    with JobReader(home / "data") as reader:
        assert reader.refresh()
        assert records(reader.jobs()) == expected("records.json")
        with JobStore.open(home / "data") as store:
            reader.refresh()
            assert reader.jobs() == store.jobs()
            assert reader.counts() == store.counts()
        reader.refresh()
        assert records(reader.jobs()) == expected("records.json")


def test_every_ticket_reads_as_it_was_written(home: Path) -> None:
    found = [asdict(ticket) for ticket in spool.tickets(home / "data" / "spool")]
    assert [told(ticket, like) for ticket, like in zip(found, expected("tickets.json"), strict=True)] == expected(
        "tickets.json"
    )


def test_an_interrupted_result_is_gone_on_with_and_is_the_same_to_the_byte(home: Path) -> None:
    path = home / "data" / output_key(job_id(8))
    serializer = ResultsSerializer(path, [MODEL], Options(1, None), "ocr_only", "released 8")
    assert serializer.frames_written == 4
    image = np.zeros((2, 2, 3), np.uint8)
    for index in (4, 5):
        bus = Detection((13.04, 137.16, 477.0999, 446.0), "bus", 5, 0.868249)
        goal = TextBlock((56.0, 40.06, 360.2, 92.0), f"GOAL {index}", 0.99906)
        serializer.write(Analysis(Frame(index, round(index / 25, 6), image), (bus,) if index % 2 else (), (goal,)))
    before = (SAMPLE / "finished_results.json").read_bytes()
    source = json.loads(before)["source"]
    serializer.finish(source, {"frames_expected": 6, "warnings": []}, VIDEO)
    assert path.read_bytes() == before


def test_a_finished_result_says_what_its_job_record_says(home: Path) -> None:
    facts = recorded_facts(home / "data" / output_key(job_id(1)))
    record = next(record for record in expected("records.json") if record["job_id"] == job_id(1))
    assert facts == {name: record[name] for name in facts}


def test_a_daemon_goes_on_where_the_release_was_killed(home: Path) -> None:
    result = (home / "data" / output_key(job_id(1))).read_bytes()
    before = {record["job_id"]: record for record in expected("records.json")}
    with running(home) as daemon:
        wait_for(lambda: len(daemon.jobs()) == 11 and all(job.ended for job in daemon.jobs()), 120)
        jobs = {job.job_id: job for job in daemon.jobs()}
        untouched = [jobs[job_id(number)] for number in (1, 4, 6)]
        assert records(untouched) == [before[job.job_id] for job in untouched]
        [published_late] = records([jobs[job_id(3)]])  # its record was noted while its error was taken over
        assert published_late.pop("updated_at") > before[job_id(3)]["updated_at"]
        assert published_late == {name: value for name, value in before[job_id(3)].items() if name != "updated_at"}
        for number in (2, 5, 8, 9, 20):
            assert jobs[job_id(number)].status is JobStatus.COMPLETED, jobs[job_id(number)]
        assert jobs[job_id(20)].options == Options(2, None)
        assert jobs[job_id(20)].frames_processed == 3
        assert jobs[job_id(5)].options == Options(2, 5)
        assert (jobs[job_id(10)].status, jobs[job_id(10)].error_kind) == (JobStatus.FAILED, ErrorKind.CANCELLED)
        assert (jobs[job_id(21)].status, jobs[job_id(21)].error_kind) == (JobStatus.FAILED, ErrorKind.PERMANENT)
        published = {"ocr_only/left.mp4.json", "ocr_only/waits.mp4.json", "ocr_only/three times.mp4.json"}
        published |= {f"{job_id(2)}.json", f"{job_id(20)}.json", "ocr_only/broken\\xff.mp4.error.json"}
        wait_for(lambda: published <= set(daemon.results()), 20, "not all is in the outbox")
        shown = dropframe(home, "results", job_id(1))
        assert shown.stdout.encode() == result
        assert [path.name for path in (home / "data" / "spool").iterdir() if path.is_file()] == []
        assert "was written to" not in daemon.log()
