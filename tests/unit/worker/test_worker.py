"""The worker: take one job, run it, record how it ended. Time is passed in; the pipeline is played."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import (
    BadVideo,
    DropframeError,
    MachineError,
    PipelineDied,
    ResourceUnavailable,
    SourceChanged,
    StoreError,
    UnknownJob,
)
from daemon.fs import space
from daemon.fs.space import DiskGuard
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, input_key, output_key
from daemon.pipeline.client import RunRequest
from daemon.pipeline.records import Progress
from daemon.store.job_store import JobStore
from daemon.worker import attempt as attempt_module
from daemon.worker import recorder as recorder_module
from daemon.worker import worker as worker_module
from daemon.worker.job_files import PARTIAL_ENDINGS
from daemon.worker.outcomes import UNAVAILABLE_SECONDS
from tests.unit.worker.bench import SUMMARY, Bench, document

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


def test_a_job_is_run_published_and_completed(bench: Bench) -> None:
    job_id = bench.add()
    assert bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_message, job.error_kind) == (COMPLETED, 1, None, None)
    assert job.output_path == output_key(job_id)
    assert (job.frames_processed, job.frames_total, job.sha256, job.device) == (10, 10, "abc", "cpu")
    assert job.summary == SUMMARY
    assert job.started_at is not None
    assert job.finished_at is not None
    assert bench.published() == {"a.mp4.json": document("a.mp4")}
    assert bench.worker.running is None
    assert bench.worker.totals == {"jobs_completed": 1, "frames": 10, "text_seconds": 0.5}
    assert not bench.step()


def test_the_pipeline_gets_what_the_record_says(bench: Bench) -> None:
    job_id = bench.add("ocr/ä.mp4")
    bench.step()
    [request] = bench.pipeline.requests
    assert request.file_path == bench.settings.data_dir / input_key(job_id)
    assert request.output_path == bench.settings.data_dir / output_key(job_id)
    assert (request.pipeline_id, request.frame_stride, request.max_frames, request.source_name) == (
        "yolo_ocr",
        1,
        None,
        "ocr/ä.mp4",
    )


def test_jobs_are_run_in_the_order_of_their_arrival(bench: Bench) -> None:
    for name in "dbca":
        bench.add(name)
    while bench.step():
        pass
    assert [request.source_name for request in bench.pipeline.requests] == list("dbca")


def test_the_outbox_has_the_result_before_the_job_reads_completed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.add()
    seen: list[JobStatus] = []
    publish = bench.outbox.publish
    monkeypatch.setattr(bench.outbox, "publish", lambda *a: (seen.append(bench.job(job_id).status), publish(*a)))
    bench.step()
    assert seen == [RUNNING]


def test_progress_is_noted_twice_a_second_and_shown_at_once(bench: Bench) -> None:
    job_id = bench.add()
    noted: list[tuple[int, int]] = []

    def progress(_: RunRequest) -> None:
        for frames in range(1, 11):
            bench.now += 0.2
            bench.pipeline.on_progress(Progress(frames, 100, frames))
            assert bench.worker.running is not None
            noted.append((bench.worker.running.progress.frames_processed, bench.job(job_id).frames_processed))

    bench.pipeline.next = [progress]
    bench.step()
    assert [shown for shown, _ in noted] == list(range(1, 11))
    assert [stored for _, stored in noted] == [0, 0, 3, 3, 3, 6, 6, 6, 9, 9]


# Failures.


def test_a_permanent_failure_ends_it_at_once_and_leaves_the_reason(bench: Bench) -> None:
    job_id = bench.add()
    bench.pipeline.next = [BadVideo("It has no video track.")]
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.error_kind, job.error_message, job.attempts) == (
        FAILED,
        ErrorKind.PERMANENT,
        "It has no video track.",
        1,
    )
    assert job.finished_at is not None
    error = json.loads(bench.published()["a.mp4.error.json"])
    assert error["error_message"] == "It has no video track."
    assert not bench.step(1e6)


def test_a_transient_failure_is_tried_three_times_in_all_with_longer_waits(bench: Bench) -> None:
    job_id = bench.add()
    bench.pipeline.next = [PipelineDied("It died.")] * 3
    assert bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind, job.error_message) == (
        PENDING,
        1,
        ErrorKind.TRANSIENT,
        "It died.",
    )
    assert not bench.step(4.9)
    assert bench.step(0.1)
    assert bench.job(job_id).attempts == 2
    assert not bench.step(9.9)
    assert bench.step(0.1)
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind) == (FAILED, 3, ErrorKind.TRANSIENT)
    assert job.error_message == "It died. It was tried 3 times."
    assert bench.kept() == []


def test_a_second_attempt_that_works_leaves_no_trace_of_the_first(bench: Bench) -> None:
    job_id = bench.add()
    bench.pipeline.next = [PipelineDied("It died.")]
    bench.step()
    bench.step(5)
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind, job.error_message) == (COMPLETED, 2, None, None)
    assert list(bench.published()) == ["a.mp4.json"]


def test_a_job_that_waits_does_not_hold_up_the_next(bench: Bench) -> None:
    first, second = bench.add("first"), bench.add("second")
    bench.pipeline.next = [PipelineDied("It died.")]
    bench.step()
    bench.step()
    assert (bench.job(first).status, bench.job(second).status) == (PENDING, COMPLETED)


@pytest.mark.parametrize("error", [ResourceUnavailable("The disk is full."), MachineError("No library.")])
def test_the_environment_is_waited_for_without_counting(bench: Bench, error: DropframeError) -> None:
    job_id = bench.add()
    bench.pipeline.next = [error] * 10
    for _ in range(10):
        assert bench.step()
        job = bench.job(job_id)
        assert (job.status, job.attempts, job.error_message) == (PENDING, 0, str(error))
        assert not bench.step(UNAVAILABLE_SECONDS - 0.1)
        bench.now += 0.1
    assert bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_message) == (COMPLETED, 1, None)


def test_a_full_disk_pauses_running_and_keeps_the_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = bench.add("first"), bench.add("second")
    bench.worker._disk = DiskGuard(bench.settings.data_dir, 100)
    monkeypatch.setattr(space, "free_bytes", lambda path: 99)
    assert not bench.step()
    assert (bench.job(first).status, bench.job(first).attempts, bench.queue.size()) == (PENDING, 0, 2)
    monkeypatch.setattr(space, "free_bytes", lambda path: 100)
    bench.step()
    assert (bench.job(first).status, bench.job(second).status) == (COMPLETED, PENDING)


def test_the_worker_keeps_as_much_free_as_the_settings_say(tmp_path: Path) -> None:
    bench = Bench(tmp_path, min_free_bytes=1 << 62)
    job_id = bench.add()
    assert not bench.step()
    assert (bench.job(job_id).status, bench.queue.size()) == (PENDING, 1)


def test_a_data_folder_that_is_away_pauses_running(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(path: Path) -> int:
        raise OSError(5, "Input/output error")

    job_id = bench.add()
    with monkeypatch.context() as patch:
        patch.setattr(space, "free_bytes", away)
        assert not bench.step()
    assert (bench.job(job_id).status, bench.queue.size()) == (PENDING, 1)
    assert bench.step()


# Stopping and cancelling.


def test_a_job_that_is_interrupted_goes_back_as_it_was(bench: Bench) -> None:
    job_id, later = bench.add(), bench.add()
    bench.pipeline.next = [lambda _: bench.worker.stop()]
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_message, job.error_kind) == (PENDING, 0, None, None)
    assert bench.queue.dequeue(bench.now) == job_id != later
    assert bench.published() == {}


def test_a_pipeline_that_dies_while_dropframe_stops_is_not_the_jobs_fault(bench: Bench) -> None:
    def die(_: RunRequest) -> None:
        bench.worker.stop()
        raise PipelineDied("It was ended by SIGTERM.")

    job_id = bench.add()
    bench.pipeline.next = [die]
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_message) == (PENDING, 0, None)


def test_a_waiting_job_can_be_cancelled(bench: Bench) -> None:
    job_id = bench.add()
    assert bench.worker.cancel(job_id)
    job = bench.job(job_id)
    assert (job.status, job.error_kind, job.error_message) == (
        FAILED,
        ErrorKind.CANCELLED,
        "Cancelled before it started.",
    )
    assert not bench.step()
    assert bench.runs() == 0
    assert not bench.worker.cancel(job_id)


def test_a_running_job_can_be_cancelled_and_the_next_runs(bench: Bench) -> None:
    job_id, other = bench.add(), bench.add("b.mp4")
    bench.pipeline.next = [lambda request: bench.worker.cancel(job_id)]
    bench.step()
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.error_kind, job.error_message) == (
        FAILED,
        ErrorKind.CANCELLED,
        "Cancelled while it was running.",
    )
    assert bench.job(other).status is COMPLETED
    assert sorted(bench.published()) == ["a.mp4.error.json", "b.mp4.json"]


def test_cancelling_in_the_last_moment_before_publishing_still_counts(bench: Bench) -> None:
    job_id = bench.add()
    real = bench.sources.unchanged
    calls: list[Job] = []

    def unchanged(job: Job) -> bool:
        calls.append(job)
        if len(calls) == 2:
            assert bench.worker.cancel(job_id)
        return real(job)

    bench.sources.unchanged = unchanged  # type: ignore[method-assign]
    bench.step()
    assert bench.job(job_id).error_kind is ErrorKind.CANCELLED
    assert list(bench.published()) == ["a.mp4.error.json"]
    assert bench.kept() == []


def test_cancelling_comes_too_late_once_publishing_has_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.add()
    publish = bench.outbox.publish
    granted: list[bool] = []
    monkeypatch.setattr(bench.outbox, "publish", lambda *a: (granted.append(bench.worker.cancel(job_id)), publish(*a)))
    bench.step()
    assert granted == [False]
    assert bench.job(job_id).status is COMPLETED
    assert list(bench.published()) == ["a.mp4.json"]
    assert not bench.worker.cancel(job_id)


@pytest.mark.expects_error_log
@pytest.mark.parametrize("error", [PipelineDied("It died."), ResourceUnavailable("Full."), RuntimeError("bug")])
def test_a_cancelled_job_stays_cancelled_whatever_else_happens(bench: Bench, error: Exception) -> None:
    def cancel(_: RunRequest) -> None:
        assert bench.worker.cancel(job_id)
        raise error

    job_id = bench.add()
    bench.pipeline.next = [cancel]
    bench.step()
    bench.step()
    assert bench.job(job_id).error_kind is ErrorKind.CANCELLED
    assert bench.runs() == 1


def test_cancelling_one_job_does_not_end_the_next(bench: Bench) -> None:
    first, second = bench.add("a"), bench.add("b")
    bench.pipeline.next = [lambda _: bench.worker.cancel(first), lambda _: None]
    bench.step()
    bench.step()
    assert bench.job(second).status is COMPLETED


def test_a_job_that_nobody_knows_cannot_be_cancelled_or_retried(bench: Bench) -> None:
    for act in (bench.worker.cancel, bench.worker.retry):
        with pytest.raises(UnknownJob):
            act("nobody")


def test_a_failed_job_can_be_retried_with_all_its_attempts(bench: Bench) -> None:
    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    bench.step()
    assert bench.worker.retry(job_id)
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind, job.error_message, job.finished_at) == (
        PENDING,
        0,
        None,
        None,
        None,
    )
    bench.step()
    assert bench.job(job_id).status is COMPLETED
    assert list(bench.published()) == ["a.mp4.json"]


def test_a_submission_that_was_refused_stays_refused(bench: Bench) -> None:
    job_id = bench.add(source=JobSource.CLI)
    bench.store.move(job_id, FAILED, error_kind=ErrorKind.PERMANENT, error_message="Option 'x' is unknown.")
    assert not bench.worker.retry(job_id)
    assert bench.job(job_id).error_message == "Option 'x' is unknown."


def test_only_a_failed_job_can_be_retried(bench: Bench) -> None:
    job_id = bench.add()
    assert not bench.worker.retry(job_id)
    bench.step()
    assert not bench.worker.retry(job_id)
    assert bench.job(job_id).status is COMPLETED


# The result is made once.


def test_a_result_that_is_there_already_is_only_published(bench: Bench) -> None:
    before, undisturbed = bench.add(), bench.add("b.mp4")
    bench.storage.path(output_key(before)).write_bytes(document("made before"))
    bench.step(), bench.step()
    assert bench.runs() == 1
    assert bench.published() == {"a.mp4.json": document("made before"), "b.mp4.json": document("b.mp4")}
    for job in (bench.job(before), bench.job(undisturbed)):
        assert (job.status, job.frames_processed, job.frames_total, job.sha256) == (COMPLETED, 10, 10, "abc")
        assert (job.size_bytes, job.device, job.summary) == (5, "cpu", SUMMARY)


@pytest.mark.parametrize(
    ("noted", "recorded"), [(None, "cuda"), ("cuda:1", "cuda:1"), ("cpu", "cuda")], ids=["crash", "outbox", "another"]
)
def test_the_number_of_the_gpu_stays_on_record_once_it_is_noted(bench: Bench, noted: str | None, recorded: str) -> None:
    job_id = bench.add()
    bench.store.note(job_id, device=noted)
    bench.storage.path(output_key(job_id)).write_bytes(document("made before", "cuda"))
    bench.step()
    assert (bench.job(job_id).status, bench.job(job_id).device) == (COMPLETED, recorded)


def test_a_damaged_result_is_made_anew(bench: Bench) -> None:
    job_id = bench.add()
    bench.storage.path(output_key(job_id)).write_bytes(b"\0" * 4096)
    bench.step()
    assert bench.runs() == 1
    assert bench.published() == {"a.mp4.json": document("a.mp4")}


def test_an_outbox_that_is_away_gets_the_result_later_without_a_second_run(bench: Bench) -> None:
    job_id = bench.add()
    away = bench.outbox_dir.with_name("away")
    bench.outbox_dir.rename(away)
    for _ in range(4):
        assert bench.step()
        bench.now += UNAVAILABLE_SECONDS
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind) == (PENDING, 0, ErrorKind.TRANSIENT)
    assert "The outbox cannot be written (No such file or directory); the result is kept" in (job.error_message or "")
    assert not bench.outbox_dir.exists()
    away.rename(bench.outbox_dir)
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.frames_processed, job.sha256, job.error_message) == (COMPLETED, 10, "abc", None)
    assert bench.runs() == 1
    assert bench.published() == {"a.mp4.json": document("a.mp4")}


def test_stopping_while_a_result_is_published_keeps_it_for_the_next_start(bench: Bench) -> None:
    job_id = bench.add()
    real = bench.outbox.publish

    def publish(job: Job, document: Any, stopping: Callable[[], bool]) -> Path | None:
        bench.worker.stop()
        return real(job, document, stopping)

    bench.outbox.publish = publish  # type: ignore[assignment, method-assign]
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_message) == (PENDING, 0, None)
    assert bench.published() == {}
    bench.start()
    bench.step()
    assert bench.runs() == 1
    assert bench.published() == {"a.mp4.json": document("a.mp4")}


def test_a_result_that_vanishes_before_it_is_published_is_made_again(bench: Bench) -> None:
    job_id = bench.add()
    bench.outbox_dir.rename(bench.outbox_dir.with_name("away"))
    bench.step()
    bench.outbox_dir.with_name("away").rename(bench.outbox_dir)
    bench.storage.delete_file(output_key(job_id))
    bench.step(UNAVAILABLE_SECONDS)
    assert bench.runs() == 2
    assert bench.job(job_id).status is COMPLETED


# The video.


def test_a_dropped_video_that_was_written_to_goes_back_into_the_inbox(bench: Bench) -> None:
    job_id = bench.add("sub/a.mp4")
    video = bench.storage.path(input_key(job_id))
    bench.pipeline.next = [lambda request: video.write_bytes(b"more video")]
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.error_kind) == (FAILED, ErrorKind.PERMANENT)
    assert "written to" in (job.error_message or "")
    assert (bench.settings.inbox_dir / "sub" / "a.mp4").read_bytes() == b"more video"
    assert not any(name.endswith("a.mp4.json") for name in bench.published())
    assert bench.kept() == []


def test_a_submitted_video_that_was_written_to_is_run_again_under_its_id(bench: Bench) -> None:
    job_id = bench.add(source=JobSource.CLI)
    video = bench.storage.path(input_key(job_id))
    bench.pipeline.next = [lambda request: video.write_bytes(b"more video")]
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts) == (PENDING, 0)
    assert bench.kept() == []
    assert bench.step()
    assert bench.job(job_id).status is COMPLETED
    assert bench.runs() == 2


@pytest.mark.parametrize("error", [SourceChanged("It was written to."), OSError(errno.ENOSPC, "No space left")])
def test_a_video_that_cannot_be_put_back_yet_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job_id = bench.add()
    video = bench.storage.path(input_key(job_id))
    bench.pipeline.next = [lambda request: video.write_bytes(b"more video")]

    def refusing(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bench.sources, "put_back", refusing)
        bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind) == (PENDING, 0, ErrorKind.TRANSIENT)
    assert "written to after" in (job.error_message or "")
    assert bench.step(UNAVAILABLE_SECONDS)
    assert (bench.settings.inbox_dir / "a.mp4").read_bytes() == b"more video"


def test_a_video_that_is_gone_fails_with_what_to_do(bench: Bench) -> None:
    job_id = bench.add()
    bench.storage.delete_file(input_key(job_id))
    bench.step()
    job = bench.job(job_id)
    assert (job.status, job.error_kind) == (FAILED, ErrorKind.PERMANENT)
    assert job.error_message == "The stored video is gone from the data folder; drop or submit it again."
    assert bench.runs() == 0


# What nobody expected.


def test_an_unexpected_error_counts_as_an_attempt_and_never_leaves_a_job_running(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    job_id, other = bench.add(), bench.add("b.mp4")
    bench.pipeline.next = [RuntimeError("a bug")]
    assert bench.step()
    assert bench.step()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_kind) == (PENDING, 1, ErrorKind.TRANSIENT)
    assert job.error_message == "Running it ended with an unexpected RuntimeError."
    assert bench.job(other).status is COMPLETED
    bench.pipeline.next = [RuntimeError("a bug")] * 2
    for _ in range(3):
        bench.step(100)
    job = bench.job(job_id)
    assert (job.status, job.attempts) == (FAILED, 3)
    assert "a bug" in caplog.text


class Failing:
    """A store that refuses one method for some calls."""

    def __init__(self, store: JobStore, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.calls = 0
        self.bad: Callable[[int], bool] = lambda call: False
        self.number = errno.ENOSPC
        real = getattr(store, method)

        def call(*arguments: Any, **changes: Any) -> Any:
            self.calls += 1
            if self.bad(self.calls):
                raise StoreError("The disk refuses.") from OSError(self.number, os.strerror(self.number))
            return real(*arguments, **changes)

        monkeypatch.setattr(store, method, call)


@pytest.mark.parametrize("method", ["find", "move", "note"])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_store_error_at_any_moment_ends_in_one_result_and_no_counted_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    job_id = bench.add()
    failing = Failing(bench.store, monkeypatch, method)
    failing.bad = lambda number: call <= number < call + 3
    for _ in range(10):
        bench.step(UNAVAILABLE_SECONDS)
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_message) == (COMPLETED, 1, None)
    assert list(bench.published()) == ["a.mp4.json"]


def test_a_store_that_fails_when_the_job_is_done_does_not_run_it_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.add()
    failing = Failing(bench.store, monkeypatch, "move")
    failing.bad = lambda number: 2 <= number < 6
    for _ in range(6):
        bench.step(UNAVAILABLE_SECONDS)
    assert failing.calls >= 6
    assert bench.job(job_id).status is COMPLETED
    assert bench.runs() == 1


@pytest.mark.parametrize("works", [True, False])
def test_what_follows_an_end_follows_it_though_the_disk_denied_that_it_was_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """As where neither fsync nor taking the line back works, and the line is there all the same."""
    bench.worker.owed._wanted = True
    job_id = bench.add()
    move = bench.store.move

    def store_and_deny(*arguments: Any, **changes: Any) -> Any:
        moved = move(*arguments, **changes)
        if moved.ended:
            monkeypatch.setattr(bench.store, "move", move)
            raise StoreError("The disk refuses.") from OSError(errno.EIO, os.strerror(errno.EIO))
        return moved

    monkeypatch.setattr(bench.store, "move", store_and_deny)
    bench.pipeline.next = [] if works else [BadVideo("It is text.")]
    for _ in range(3):
        bench.step(UNAVAILABLE_SECONDS)
    if works:
        assert [queue.get_nowait() for queue in (bench.worker.completed, bench.worker.owed.job_ids)] == [job_id] * 2
        assert bench.worker.completed.empty()
    assert list(bench.published()) == [f"a.mp4{'' if works else '.error'}.json"]
    assert bench.runs() == 1


def test_a_partial_result_makes_room_for_the_record_and_a_whole_one_never(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(request: RunRequest) -> None:
        for ending in PARTIAL_ENDINGS:
            Path(f"{request.output_path}{ending}").write_bytes(b"much")
        raise ResourceUnavailable("The disk is full.")

    job_id = bench.add()
    bench.pipeline.next = [fill, fill, fill]
    bench.step()
    assert bench.kept() == [".json.checkpoint", ".json.part"]
    failing = Failing(bench.store, monkeypatch, "move")
    failing.number = errno.EIO
    failing.bad = lambda number: number == 2 and bool(bench.kept())
    bench.step(UNAVAILABLE_SECONDS)
    assert bench.kept() == [".json.checkpoint", ".json.part"], "it would make no room, and the work is lost"
    failing.calls, failing.number = 0, errno.ENOSPC
    bench.step(UNAVAILABLE_SECONDS)
    assert bench.kept() == []
    assert (bench.job(job_id).status, bench.job(job_id).error_message) == (PENDING, "The disk is full.")
    bench.outbox_dir.rmdir()
    failing.bad = lambda number: number == failing.calls and number == 5
    bench.step(UNAVAILABLE_SECONDS)
    assert bench.kept() == [".json"]
    assert bench.job(job_id).status is PENDING


def test_nothing_else_starts_while_the_store_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = bench.add("first"), bench.add("second")
    failing = Failing(bench.store, monkeypatch, "move")
    failing.bad = lambda number: number > 1
    bench.step()
    for _ in range(3):
        assert not bench.step(UNAVAILABLE_SECONDS)
    failing.bad = lambda number: False
    for _ in range(4):
        bench.step(UNAVAILABLE_SECONDS)
    assert [bench.job(job_id).status for job_id in (first, second)] == [COMPLETED, COMPLETED]
    assert [request.source_name for request in bench.pipeline.requests] == ["first", "second"]


def test_progress_that_cannot_be_noted_does_not_end_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def progress(_: RunRequest) -> None:
        for frames in range(5):
            bench.now += 1
            bench.pipeline.on_progress(Progress(frames, 10, frames))

    job_id = bench.add()
    bench.pipeline.next = [progress]
    failing = Failing(bench.store, monkeypatch, "note")
    failing.bad = lambda number: number < 5
    bench.step()
    assert failing.calls > 5
    assert bench.job(job_id).status is COMPLETED


def test_leftovers_that_cannot_be_removed_do_not_keep_a_job_from_ending(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    job_id = bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        bench.step()
    assert bench.job(job_id).status is FAILED


def test_a_restart_at_any_moment_gives_one_result(bench: Bench) -> None:
    """What a killed daemon leaves: the job reads as running, its result may be there."""
    for result_is_there in (False, True):
        job_id = bench.add()
        bench.store.move(job_id, RUNNING, attempts=1)
        if result_is_there:
            bench.storage.path(output_key(job_id)).write_bytes(document("made before"))
        runs = bench.runs()
        bench.start()
        assert bench.step()
        assert (bench.job(job_id).status, bench.job(job_id).attempts) == (COMPLETED, 2)
        assert bench.runs() - runs == (0 if result_is_there else 1)


# The loop.


@pytest.fixture
def forever(bench: Bench) -> Any:
    bench.worker._clock = time.monotonic
    thread = threading.Thread(target=bench.worker.run_forever)
    yield thread
    bench.worker.stop()
    if thread.ident is not None:
        thread.join(5)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.expects_error_log
def test_the_loop_goes_on_after_an_unexpected_error(bench: Bench, forever: threading.Thread) -> None:
    bench.pipeline.next = [RuntimeError("a bug")]
    bench.add("a"), bench.add("b")
    forever.start()
    wait_until(lambda: "b.json" in bench.published())
    assert forever.is_alive()


def test_the_loop_goes_on_when_the_queue_itself_fails(
    bench: Bench, forever: threading.Thread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = bench.queue.dequeue, []

    def dequeue(now: float | None = None) -> str | None:
        calls.append(now)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return real(now)

    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(bench.queue, "dequeue", dequeue)
    bench.add()
    forever.start()
    wait_until(lambda: bool(bench.published()))
    assert "The worker goes on after an unexpected error" in caplog.text


def test_a_wake_starts_a_job_at_once(bench: Bench, forever: threading.Thread) -> None:
    forever.start()
    time.sleep(0.05)
    begun = time.monotonic()
    bench.add()
    bench.worker.wake()
    wait_until(lambda: bool(bench.published()))
    assert time.monotonic() - begun < 3


def test_stopping_ends_the_loop_soon(bench: Bench, forever: threading.Thread) -> None:
    forever.start()
    bench.worker.stop()
    forever.join(3)
    assert not forever.is_alive()


def test_a_pause_costs_next_to_no_time(
    bench: Bench, forever: threading.Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(space, "free_bytes", lambda path: looks.append(time.monotonic()) or -1)
    bench.add()
    forever.start()
    time.sleep(0.5)
    assert 1 <= len(looks) < 20


def test_a_job_that_was_waited_for_is_logged_once_and_not_as_an_error(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.add()
    bench.pipeline.next = [ResourceUnavailable("The disk is full.")]
    bench.step()
    bench.step(UNAVAILABLE_SECONDS)
    assert [record.levelname for record in caplog.records if "waits" in record.message] == ["WARNING"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_every_failpoint_is_passed_in_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []
    for module in (worker_module, attempt_module, recorder_module):
        monkeypatch.setattr(module, "failpoint", passed.append)
    bench.add()
    bench.step()
    assert passed == ["worker.running", "worker.analysed", "worker.published", "worker.completed"]
    passed.clear()
    bench.add()
    bench.pipeline.next = [BadVideo("No.")]
    bench.step()
    assert passed == ["worker.running", "worker.failed"]
    assert os.environ.get("DROPFRAME_FAULT") is None
