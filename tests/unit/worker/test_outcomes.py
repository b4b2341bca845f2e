"""Outcomes: which end of an attempt each error means, and what is done about it."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from pathlib import Path

import pytest

from daemon import errors
from daemon.errors import (
    BadOptions,
    BadVideo,
    Cancelled,
    Interrupted,
    JobError,
    MachineError,
    ModelError,
    PipelineDied,
    PipelineStalled,
    ResourceUnavailable,
    SourceChanged,
    StorageError,
    StoreError,
    TransientError,
)
from daemon.jobs import ErrorKind, Job, JobStatus, output_key
from daemon.worker.attempt import Attempt
from daemon.worker.control import RunControl
from daemon.worker.job_files import JobFiles
from daemon.worker.outcomes import (
    UNAVAILABLE_SECONDS,
    Completed,
    Failed,
    Outcome,
    PutBack,
    Requeue,
    Retry,
    outcome_of,
)
from tests.unit.worker.bench import SUMMARY, Bench, document

PENDING, RUNNING, COMPLETED, FAILED = JobStatus
FACTS = {"frames_processed": 10, "frames_total": 10, "sha256": "abc", "size_bytes": 5, "device": "cpu"}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Cancelled("By a person."), Failed(ErrorKind.CANCELLED, "By a person.")),
        (SourceChanged("Written to."), PutBack("Written to.")),
        (BadVideo("Bad."), Failed(ErrorKind.PERMANENT, "Bad.")),
        (BadOptions("Bad."), Failed(ErrorKind.PERMANENT, "Bad.")),
        (ModelError("Bad."), Failed(ErrorKind.PERMANENT, "Bad.")),
        (Interrupted("Stopping."), Requeue()),
        (ResourceUnavailable("Full."), Retry(UNAVAILABLE_SECONDS, False, "Full.")),
        (MachineError("No GPU."), Retry(UNAVAILABLE_SECONDS, False, "No GPU.")),
        (StoreError("Full."), Retry(UNAVAILABLE_SECONDS, False, "The data folder could not be used: Full.")),
        (
            OSError(errno.EIO, os.strerror(errno.EIO)),
            Retry(UNAVAILABLE_SECONDS, False, "The data folder could not be used: [Errno 5] Input/output error"),
        ),
        (TransientError("Again."), Retry(7.0, True, "Again.")),
        (PipelineDied("Died."), Retry(7.0, True, "Died.")),
        (PipelineStalled("Stalled."), Retry(7.0, True, "Stalled.")),
        (StorageError("No key."), Retry(7.0, True, "Running it ended with an unexpected StorageError.")),
        (ZeroDivisionError(), Retry(7.0, True, "Running it ended with an unexpected ZeroDivisionError.")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_means_an_outcome(error: Exception, outcome: Outcome) -> None:
    assert outcome_of(error, 7.0) == outcome


def test_every_kind_of_job_error_has_a_meaning() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, JobError)]
    assert len(kinds) > 10
    for kind in set(kinds) - {JobError}:
        outcome = outcome_of(kind("Why."), 1.0)
        assert isinstance(outcome, Requeue) or outcome.text == "Why.", kind  # type: ignore[union-attr]


# One attempt, without a queue or a worker.


class Sources:
    """Says of every video that it is as it was, or what it is told to."""

    def __init__(self) -> None:
        self.answers: list[bool | OSError] = []

    def unchanged(self, job: Job) -> bool:
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, OSError):
            raise answer
        return answer

    def put_back(self, job: Job, reason: str) -> Job | None:
        raise AssertionError("An attempt moves no video.")


class Alone(Bench):
    """An attempt with what it needs and nothing else."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.played = Sources()
        self.control = RunControl()
        self.totals: defaultdict[str, float] = defaultdict(float)
        self.attempt = Attempt(
            self.store,
            JobFiles(self.storage),
            self.played,
            self.pipeline,
            self.outbox,
            self.control,
            self.totals,
            self.settings,
            clock=lambda: self.now,
        )

    def running(self, attempts: int = 1) -> Job:
        job_id = self.add()
        self.control.begin(job_id)
        return self.store.move(job_id, RUNNING, attempts=attempts)


@pytest.fixture
def alone(tmp_path: Path) -> Alone:
    return Alone(tmp_path)


def test_an_attempt_that_works_gives_the_facts_and_leaves_the_status_to_others(alone: Alone) -> None:
    job = alone.running()
    assert alone.attempt.run(job) == Completed({**FACTS, "summary": SUMMARY})
    assert list(alone.published()) == ["a.mp4.json"]
    after = alone.job(job.job_id)
    assert (after.status, after.attempts, after.sha256, after.output_path) == (RUNNING, 1, "abc", None)
    assert alone.totals == {"frames": 10, "text_seconds": 0.5}
    assert alone.attempt.progress.running is None


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 5.0), (2, 10.0), (3, 20.0)])
def test_the_wait_doubles_with_each_attempt_that_counts(alone: Alone, attempts: int, seconds: float) -> None:
    alone.pipeline.next = [PipelineDied("It died.")]
    assert alone.attempt.run(alone.running(attempts)) == Retry(seconds, True, "It died.")


def test_a_video_that_was_written_to_before_or_while_it_was_analysed_is_put_back(alone: Alone) -> None:
    for answers in ([False], [True, False]):
        alone.played.answers = list(answers)
        outcome = alone.attempt.run(alone.running())
        assert isinstance(outcome, PutBack)
        assert "written to" in outcome.text
    assert alone.published() == {}
    assert alone.runs() == 1


@pytest.mark.parametrize(
    ("error", "kind"), [(FileNotFoundError(errno.ENOENT, "No such file"), Failed), (OSError(errno.EIO, "Bad"), Retry)]
)
def test_a_video_that_cannot_be_looked_at_is_not_analysed(alone: Alone, error: OSError, kind: type[Outcome]) -> None:
    alone.played.answers = [error]
    assert isinstance(alone.attempt.run(alone.running()), kind)
    assert alone.runs() == 0


def test_a_result_that_is_there_is_published_with_the_facts_that_it_holds(alone: Alone) -> None:
    job = alone.running()
    alone.storage.path(output_key(job.job_id)).write_bytes(document("before"))
    assert alone.attempt.run(job) == Completed({**FACTS, "summary": SUMMARY})
    assert alone.runs() == 0


def test_a_request_to_cancel_ends_the_pipeline_and_comes_before_publishing(alone: Alone) -> None:
    job = alone.running()
    alone.pipeline.next = [lambda _: alone.control.cancel(job.job_id)]
    assert alone.attempt.run(job) == Requeue()
    assert alone.control.close(job.job_id)
    other = alone.running()
    alone.storage.path(output_key(other.job_id)).write_bytes(document("before"))
    assert alone.control.cancel(other.job_id)
    assert alone.attempt.run(other) == Failed(ErrorKind.CANCELLED, "Cancelled while it was running.")
    assert alone.published() == {}


def test_a_store_that_is_away_gives_an_attempt_that_does_not_count(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Job:
        raise StoreError("The disk is full.")

    job = alone.running()
    monkeypatch.setattr(alone.store, "note", refuse)
    assert alone.attempt.run(job) == Retry(
        UNAVAILABLE_SECONDS, False, "The data folder could not be used: The disk is full."
    )


# Outcomes that cannot be recorded.


def test_a_failure_that_cannot_be_recorded_is_recorded_later_and_the_job_is_not_run_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Job:
        raise StoreError("The disk is full.")

    job_id = bench.add()
    with monkeypatch.context() as patch:

        def fail(_: object) -> None:
            patch.setattr(bench.store, "move", refuse)
            raise BadVideo("No.")

        bench.pipeline.next = [fail]
        assert bench.step()
        assert not bench.step(UNAVAILABLE_SECONDS)
        assert bench.job(job_id).status is RUNNING
    bench.step(UNAVAILABLE_SECONDS)
    job = bench.job(job_id)
    assert (job.status, job.error_kind, job.error_message) == (FAILED, ErrorKind.PERMANENT, "No.")
    assert bench.runs() == 1
    assert list(bench.published()) == ["a.mp4.error.json"]


@pytest.mark.expects_error_log
def test_putting_a_video_back_with_a_bug_counts_as_an_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    job_id = bench.add()
    monkeypatch.setattr(bench.sources, "put_back", bug)
    monkeypatch.setattr(bench.sources, "unchanged", lambda job: False)
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind) == (PENDING, 1, ErrorKind.TRANSIENT)
    for _ in range(3):
        bench.step(100)
    job = bench.job(job_id)
    assert (job.status, job.attempts) == (FAILED, 3)
    assert job.error_message == "Running it ended with an unexpected RuntimeError. It was tried 3 times."


# Cancelling.


def test_only_the_running_job_can_be_cancelled_and_only_until_it_is_closed() -> None:
    control = RunControl()
    assert not control.cancel("a")
    control.begin("a")
    assert not control.cancel("b")
    assert not control.should_stop()
    assert control.cancel("a")
    assert control.should_stop()
    assert (control.close("b"), control.close("a")) == (False, True)
    control.begin("b")
    assert not control.should_stop()
    assert not control.close("b")
    assert not control.cancel("b")


def test_a_job_is_to_end_when_dropframe_is_stopping_but_is_not_cancelled() -> None:
    control = RunControl()
    control.begin("a")
    control.stopping.set()
    assert control.should_stop()
    assert not control.close("a")
