"""Deleting a job: all that is its own goes, to the end, and nothing else."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from daemon.deletion import Deletion
from daemon.fs.storage import LocalStorageService
from daemon.ingest.names import OPTIONS_SUFFIX
from daemon.jobs import Claim, ErrorKind, Identity, Job, JobSource, JobStatus, input_key, new_job_id, output_key
from daemon.pipeline.run_requests import PARTS
from daemon.settings import Settings
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox

CLAIM = Claim("a.mp4", Identity(1, 2, 3, 4))


class Bench:
    """A home with a store and jobs that have ended."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        for folder in (self.settings.videos_dir, self.settings.spool_dir, self.settings.outbox_dir):
            folder.mkdir(parents=True)
        self.storage = LocalStorageService(self.settings.data_dir)
        self.open()

    def open(self) -> None:
        self.store = JobStore.open(self.settings.data_dir)
        self.outbox = Outbox(self.settings.outbox_dir, self.store.jobs())
        self.derived: list[str] = []
        self.deletion = Deletion(
            self.settings, self.store, self.storage, self.outbox, lambda job: self.derived.append(job.job_id)
        )

    def restart(self) -> None:
        self.store.close()
        self.open()

    def completed(self, name: str, result: bytes = b"result", source: JobSource = JobSource.INBOX) -> Job:
        """Make a completed job with all that may belong to one."""
        job_id = new_job_id()
        video = self.storage.path(input_key(job_id))
        video.write_bytes(b"video")
        video.with_name(job_id + OPTIONS_SUFFIX).write_text("{}")
        document = self.storage.path(output_key(job_id))
        for ending in ("", ".part", ".checkpoint"):
            Path(f"{document}{ending}").write_bytes(result)
        parts = Path(f"{document}{PARTS}")
        parts.mkdir()
        (parts / "000000").write_bytes(result)
        [job] = self.store.create([Job(job_id, input_path=input_key(job_id), source=source, source_name=name)])
        self.store.move(job_id, JobStatus.RUNNING)
        with document.open("rb") as opened:
            self.outbox.publish(job, opened)
        return self.store.move(job_id, JobStatus.COMPLETED, output_path=output_key(job_id))

    def failed(self, name: str) -> Job:
        job_id = new_job_id()
        [job] = self.store.create([Job(job_id, input_path=input_key(job_id), source_name=name)])
        job = self.store.move(job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message="It is bad.")
        self.outbox.publish_error(job)
        return job

    def delete(self, *jobs: Job) -> None:
        for job in jobs:
            self.store.delete(job)
        self.deletion.remove()

    def files(self) -> set[str]:
        folders = (self.settings.videos_dir, self.settings.outbox_dir)
        return {path.name for folder in folders for path in folder.rglob("*") if path.name != "000000"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_deleted_job_takes_all_of_its_files_with_it_and_none_of_another(bench: Bench) -> None:
    other = bench.completed("b.mp4")
    kept = bench.files()
    job = bench.completed("a.mp4")
    (bench.settings.spool_dir / f"{job.job_id}.mp4").write_bytes(b"video")
    bench.delete(job)
    assert bench.files() == kept
    assert bench.derived == [job.job_id]
    assert os.listdir(bench.settings.spool_dir) == []
    assert bench.store.jobs() == [other]
    assert bench.store.deleted.unfinished() == []
    with JobReader(bench.settings.data_dir) as reader:
        reader.refresh()
        assert reader.find(job.job_id) is None
        assert reader.deleted_at(job.job_id) == bench.store.deleted.at(job.job_id) is not None
        assert reader.deleted_at(other.job_id) is None
        assert reader.counts()[JobStatus.COMPLETED] == 1


def test_what_was_derived_goes_once_nothing_can_be_derived_any_more_and_is_tried_again(bench: Bench) -> None:
    def forget(job: Job) -> None:
        seen.append(bench.storage.path(output_key(job.job_id)).exists())
        if len(seen) == 1:
            raise OSError(errno.EBUSY, "It is written to")

    seen: list[bool] = []
    bench.deletion._forget = forget
    job = bench.completed("a.mp4")
    bench.delete(job)
    assert bench.store.deleted.unfinished_ids() == [job.job_id]
    bench.deletion.remove()
    assert bench.store.deleted.unfinished_ids() == []
    assert seen == [False, False]


def test_a_newer_result_under_the_same_name_stays(bench: Bench) -> None:
    older, newer = bench.completed("a.mp4", b"same"), bench.completed("a.mp4", b"same")
    bench.delete(older)
    assert (bench.settings.outbox_dir / "a.mp4.json").read_bytes() == b"same"
    bench.delete(newer)
    assert not (bench.settings.outbox_dir / "a.mp4.json").exists()


def test_what_somebody_has_put_in_the_place_of_a_result_stays(bench: Bench) -> None:
    job = bench.completed("a.mp4")
    (bench.settings.outbox_dir / "a.mp4.json").write_bytes(b"edited by hand")
    bench.delete(job)
    assert (bench.settings.outbox_dir / "a.mp4.json").read_bytes() == b"edited by hand"


def test_an_error_goes_with_its_job_and_that_of_a_newer_one_stays(bench: Bench) -> None:
    first = bench.failed("a.mp4")
    second = bench.failed("a.mp4")
    bench.delete(first)
    error = bench.settings.outbox_dir / "a.mp4.error.json"
    assert json.loads(error.read_bytes())["job_id"] == second.job_id
    bench.delete(second)
    assert not error.exists()


def test_an_error_that_is_about_to_be_published_is_not_published_after_its_job_was_deleted(bench: Bench) -> None:
    job = bench.failed("a.mp4")
    bench.delete(job)
    assert bench.outbox.publish_error(job) is None
    assert bench.files() == set()


def test_a_deleted_job_is_not_in_the_way_of_an_older_one_that_is_tried_again(bench: Bench) -> None:
    older = bench.failed("a.mp4")
    bench.delete(bench.completed("a.mp4"))
    with (bench.settings.data_dir / "new").open("w+b") as document:
        assert bench.outbox.publish(older, document) is not None


def test_while_the_outbox_is_away_the_video_goes_and_the_rest_is_removed_later(bench: Bench) -> None:
    job = bench.completed("a.mp4")
    away = bench.settings.outbox_dir.with_name("away")
    bench.settings.outbox_dir.rename(away)
    bench.delete(job)
    assert not bench.storage.path(job.input_path).exists()
    assert [each.job_id for each in bench.store.deleted.unfinished()] == [job.job_id]
    away.rename(bench.settings.outbox_dir)
    bench.restart()
    bench.deletion.remove()
    assert bench.files() == set()
    assert bench.store.deleted.unfinished() == []
    assert bench.store.deleted.at(job.job_id)


def test_it_is_begun_at_once_and_tried_again_only_after_a_while(bench: Bench) -> None:
    job = bench.completed("a.mp4")
    away = bench.settings.outbox_dir.with_name("away")
    bench.settings.outbox_dir.rename(away)
    bench.store.delete(job)
    bench.deletion.step(1.0)
    bench.deletion.shutdown()
    bench.deletion._stopping.clear()
    away.rename(bench.settings.outbox_dir)
    bench.deletion.step(2.0)
    assert bench.store.deleted.unfinished_ids() == [job.job_id]
    bench.deletion.step(100.0)
    assert bench.deletion._thread is not None
    bench.deletion._thread.join(10)
    assert bench.store.deleted.unfinished_ids() == []


def test_a_deleted_job_is_forgotten_after_a_time_but_not_while_something_is_left_of_it(bench: Bench) -> None:
    gone, left = bench.completed("a.mp4"), bench.completed("b.mp4")
    bench.delete(gone)
    bench.store.delete(left)
    assert bench.store.deleted.forget("2000-01-01T00:00:00.000000+00:00") == 0
    assert bench.store.deleted.forget("9999-01-01T00:00:00.000000+00:00") == 1
    assert bench.store.deleted.at(gone.job_id) is None
    assert bench.store.deleted.at(left.job_id)


def test_a_file_that_stays_where_it_was_dropped_is_still_not_taken_again(bench: Bench) -> None:
    job_id = new_job_id()
    claim = Claim("a.mp4", CLAIM.identity, left_behind=True)
    [job] = bench.store.create([Job(job_id, JobStatus.FAILED, input_path=input_key(job_id), claim=claim)])
    bench.delete(job)
    bench.restart()
    assert bench.store.deleted.forget("9999-01-01T00:00:00.000000+00:00") == 0
    assert [job.claim for job in bench.store.deleted.left_behind()] == [claim]


def test_an_older_schema_leaves_out_nothing_but_the_deleted_jobs(bench: Bench) -> None:
    kept, job = bench.completed("b.mp4"), bench.completed("a.mp4")
    bench.delete(job)
    bench.store.downgrade(1)
    bench.open()
    assert [each.job_id for each in bench.store.jobs()] == [kept.job_id]
    assert bench.store.deleted.at(job.job_id)
