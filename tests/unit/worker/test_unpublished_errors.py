"""Errors of failed jobs: each reaches the outbox once, whatever is killed or away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import BadVideo, ResourceUnavailable, StoreError
from daemon.jobs import ErrorKind, Job, JobStatus
from daemon.worker.outcomes import UNAVAILABLE_SECONDS
from tests.unit.worker.bench import Bench

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


def unpublished(bench: Bench) -> list[str]:
    """Return the jobs whose records say that the outbox does not have their error."""
    return [job.job_id for job in bench.store.jobs() if job.unpublished_error]


@pytest.mark.parametrize("restarted", [False, True])
def test_an_error_that_cannot_be_published_ends_the_job_and_is_published_later(bench: Bench, restarted: bool) -> None:
    bench.outbox_dir.rmdir()
    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    bench.step()
    assert bench.job(job_id).status is FAILED
    assert unpublished(bench) == [job_id]
    bench.outbox_dir.mkdir()
    if restarted:
        bench.start()
    else:
        bench.step(UNAVAILABLE_SECONDS / 2)
        assert bench.published() == {}
    bench.step(UNAVAILABLE_SECONDS)
    assert list(bench.published()) == ["a.mp4.error.json"]
    assert unpublished(bench) == []
    (bench.outbox_dir / "a.mp4.error.json").unlink()  # as a person does who has read it
    bench.start()
    bench.step(UNAVAILABLE_SECONDS)
    assert bench.published() == {}


def test_a_kill_before_an_error_is_published_does_not_lose_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    monkeypatch.setattr(bench.worker._unpublished, "publish", lambda now: None)
    bench.step()
    assert bench.job(job_id).status is FAILED
    assert bench.published() == {}
    bench.start()
    bench.step()
    assert list(bench.published()) == ["a.mp4.error.json"]


def test_an_error_that_cannot_be_published_does_not_hold_up_others(bench: Bench) -> None:
    (bench.outbox_dir / "bad").write_text("a file in a folder's place")
    jobs = [bench.add("bad/a.mp4"), bench.add("b.mp4")]
    bench.pipeline.next = [BadVideo("No."), BadVideo("No.")]
    bench.step()
    bench.step()
    assert sorted(bench.published()) == ["b.mp4.error.json", "bad"]
    assert unpublished(bench) == [jobs[0]]


def test_an_unpublished_error_is_forgotten_when_the_job_is_run_again(bench: Bench) -> None:
    bench.outbox_dir.rmdir()
    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No."), ResourceUnavailable("Full.")]
    bench.step()
    assert bench.worker.retry(job_id)
    bench.outbox_dir.mkdir()
    bench.step(UNAVAILABLE_SECONDS)
    assert bench.published() == {}
    bench.step(UNAVAILABLE_SECONDS)
    assert list(bench.published()) == ["a.mp4.json"]
    assert unpublished(bench) == []


def test_cancelling_does_not_wait_for_the_outbox(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    publish_error = bench.outbox.publish_error

    def publish(job: Job) -> Path | None:
        threads.append("asked")
        return publish_error(job)

    monkeypatch.setattr(bench.outbox, "publish_error", publish)
    job_id = bench.add()
    assert bench.worker.cancel(job_id)
    assert threads == []
    bench.step()
    assert threads == ["asked"]
    assert list(bench.published()) == ["a.mp4.error.json"]


def test_a_record_says_that_its_error_is_unpublished_from_the_commit_that_failed_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[tuple[JobStatus, bool]] = []
    move, note = bench.store.move, bench.store.note

    def seen(change: Callable[..., Job]) -> Callable[..., Job]:
        def changed(*arguments: Any, **changes: Any) -> Job:
            job = change(*arguments, **changes)
            commits.append((job.status, job.unpublished_error))
            return job

        return changed

    monkeypatch.setattr(bench.store, "move", seen(move))
    monkeypatch.setattr(bench.store, "note", seen(note))
    bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    bench.step()
    assert commits == [(RUNNING, False), (FAILED, True), (FAILED, False)]


def test_a_job_that_fails_again_while_its_error_is_published_gets_both_published(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    publish_error = bench.outbox.publish_error

    def publish(job: Job) -> Path | None:
        monkeypatch.setattr(bench.outbox, "publish_error", publish_error)
        assert bench.worker.retry(job_id)
        assert bench.worker.cancel(job_id)
        return publish_error(job)

    monkeypatch.setattr(bench.outbox, "publish_error", publish)
    bench.step()
    assert json.loads(bench.published()["a.mp4.error.json"])["error_message"] == "No."
    assert unpublished(bench) == [job_id]
    bench.step(UNAVAILABLE_SECONDS)
    assert json.loads(bench.published()["a.mp4.error.json"])["error_message"] == "Cancelled before it started."
    assert unpublished(bench) == []


def test_an_error_whose_publishing_cannot_be_recorded_is_published_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Job:
        raise StoreError("The disk is full.")

    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "note", refuse)
        bench.step()
    assert (list(bench.published()), unpublished(bench)) == (["a.mp4.error.json"], [job_id])
    bench.start()
    bench.step()
    assert (list(bench.published()), unpublished(bench)) == (["a.mp4.error.json"], [])


def test_a_job_that_is_forgotten_takes_its_unpublished_error_along(bench: Bench) -> None:
    bench.outbox_dir.rmdir()
    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    bench.step()
    bench.store.remove(job_id)
    bench.outbox_dir.mkdir()
    bench.step(UNAVAILABLE_SECONDS)
    assert bench.published() == {}


def test_the_same_reason_is_logged_once_for_each_job(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    (bench.outbox_dir / "bad").write_text("a file in a folder's place")
    bench.add("bad/a.mp4"), bench.add("bad/b.mp4")
    bench.pipeline.next = [BadVideo("No."), BadVideo("No.")]
    for _ in range(5):
        bench.step(UNAVAILABLE_SECONDS)
    assert caplog.text.count("cannot be put into the outbox yet") == 2


# A home of an earlier version, which noted such jobs in files.


class Released(Bench):
    """A home as an earlier version left it: failed jobs without the field, and files for those with an error left."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.notes = self.settings.data_dir / "owed_errors"

    def failed(self, name: str, *, noted: bool) -> str:
        job_id = self.add(name)
        self.queue.remove(job_id)
        job = self.store.move(job_id, FAILED, error_kind=ErrorKind.PERMANENT, error_message="No.")
        record = job.to_record()
        del record["unpublished_error"]
        self.store.table.update(lambda document: document.clear() or document.update(record), doc_ids=[job.sequence])
        document = self.store.table.get(doc_id=job.sequence)
        assert isinstance(document, dict)
        assert "unpublished_error" not in document
        if noted:
            self.note(job_id)
        return job_id

    def note(self, name: str) -> None:
        self.notes.mkdir(exist_ok=True)
        (self.notes / name).touch()


@pytest.fixture
def released(tmp_path: Path) -> Released:
    return Released(tmp_path)


def test_a_failed_job_of_an_earlier_version_counts_as_published(released: Released) -> None:
    released.failed("a.mp4", noted=False)
    released.start()
    released.step()
    assert released.published() == {}


def test_what_an_earlier_version_noted_is_published_once_and_its_files_are_removed(released: Released) -> None:
    released.failed("a.mp4", noted=True)
    released.failed("b.mp4", noted=False)
    released.start()
    released.step()
    assert list(released.published()) == ["a.mp4.error.json"]
    assert not released.notes.exists()
    assert unpublished(released) == []
    (released.outbox_dir / "a.mp4.error.json").unlink()
    released.start()
    released.step()
    assert released.published() == {}


def test_notes_of_an_earlier_version_outlast_an_outbox_that_is_away(released: Released) -> None:
    job_id = released.failed("a.mp4", noted=True)
    released.outbox_dir.rmdir()
    released.start()
    released.step()
    assert (unpublished(released), released.notes.exists()) == ([job_id], False)
    released.outbox_dir.mkdir()
    released.start()
    released.step()
    assert list(released.published()) == ["a.mp4.error.json"]


def test_a_note_of_a_job_that_has_not_failed_is_removed(released: Released) -> None:
    """An earlier version wrote its note first, so a kill could leave one for a job that runs again."""
    released.note(released.add("a.mp4"))
    released.note("11111111-1111-4111-8111-111111111111")
    released.note(".7-abcdef012345.tmp")
    released.start()
    released.step()
    assert list(released.published()) == ["a.mp4.json"]
    assert not released.notes.exists()


def test_a_kill_while_notes_are_taken_over_loses_none(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    for name in ("a.mp4", "b.mp4", "c.mp4"):
        released.failed(name, noted=True)
    released.start()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            released.step()
    assert (len(unpublished(released)), len(list(released.notes.iterdir()))) == (1, 3)
    released.start()
    released.step()
    assert sorted(released.published()) == ["a.mp4.error.json", "b.mp4.error.json", "c.mp4.error.json"]
    assert not released.notes.exists()


def test_notes_that_cannot_be_taken_over_yet_are_taken_over_later(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Job:
        raise StoreError("The disk is full.")

    released.failed("a.mp4", noted=True)
    released.start()
    with monkeypatch.context() as patch:
        patch.setattr(released.store, "note", refuse)
        released.step()
    assert (released.published(), len(list(released.notes.iterdir()))) == ({}, 1)
    released.step(UNAVAILABLE_SECONDS)
    assert list(released.published()) == ["a.mp4.error.json"]
