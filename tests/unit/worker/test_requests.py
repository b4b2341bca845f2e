"""Requests about jobs: one ticket may name many, time is dealt out in slices, and a full disk refuses no cancel."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable
from typing import Any

import pytest

from daemon.errors import StoreError
from daemon.fs import space
from daemon.fs.space import DiskGuard
from daemon.ipc import spool
from daemon.ipc.ticket import Ticket, TicketKind
from daemon.jobs import ErrorKind, JobSource, JobStatus, Options, input_key, new_job_id
from daemon.pipeline.client import RunRequest
from daemon.worker.requests import JobRequests
from tests.unit.worker.bench import COMPLETED, FAILED, PENDING, Bench

CANCEL, RETRY, DELETE = TicketKind.CANCEL, TicketKind.RETRY, TicketKind.DELETE


class Clock:
    """Each look at it takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def requests(bench: Bench, clock: Callable[[], float] = lambda: 0.0) -> JobRequests:
    disk = DiskGuard(bench.settings.data_dir, 0)
    return JobRequests(
        bench.store, bench.storage, bench.worker, bench.intake.spool_dir, disk, bench.intake.written_anew, clock
    )


def carry_out(bench: Bench, until: float = 1.0, clock: Callable[[], float] = lambda: 0.0) -> None:
    requests(bench, clock).carry_out(bench.intake.take_tickets(), until)


def waiting(bench: Bench) -> list[Ticket]:
    return spool.tickets(bench.intake.spool_dir)


def ask(bench: Bench, kind: TicketKind, *ids: str) -> None:
    spool.request(bench.intake.spool_dir, kind, *ids)


def test_one_ticket_is_carried_out_for_every_job_that_it_names(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    ids = [bench.add() for _ in range(5)]
    ask(bench, CANCEL, *ids, new_job_id())
    assert len(os.listdir(bench.intake.spool_dir)) == 1
    with caplog.at_level(logging.INFO):
        carry_out(bench)
    assert {bench.job(job_id).error_kind for job_id in ids} == {ErrorKind.CANCELLED}
    assert "A request to cancel 6 jobs: 5 done, 1 unknown" in caplog.text
    assert waiting(bench) == []
    ask(bench, RETRY, *ids)
    carry_out(bench)
    assert {bench.job(job_id).status for job_id in ids} == {PENDING}
    assert bench.queue.size() == 5


def test_what_a_slice_leaves_is_in_the_ticket_and_nothing_else(bench: Bench) -> None:
    ids = [bench.add() for _ in range(10)]
    ask(bench, CANCEL, *ids)
    carry_out(bench, until=3.5, clock=Clock())
    [rest] = waiting(bench)
    ended = [job_id for job_id in ids if bench.job(job_id).ended]
    assert 0 < len(ended) < 10
    assert [*ended, *rest.jobs] == ids
    while waiting(bench):
        carry_out(bench, until=3.5, clock=Clock())
    assert all(bench.job(job_id).ended for job_id in ids)


def test_a_slice_that_is_over_still_does_one_thing(bench: Bench) -> None:
    ids = [bench.add() for _ in range(3)]
    for job_id in ids:
        ask(bench, CANCEL, job_id)
    for count in (1, 2, 3):
        carry_out(bench, until=-1.0)
        assert sum(bench.job(job_id).ended for job_id in ids) == count


def test_a_running_job_keeps_its_ticket_until_it_has_ended_and_holds_up_no_other(bench: Bench) -> None:
    def ask_for_both(_: RunRequest) -> None:
        ask(bench, CANCEL, first, second)
        carry_out(bench)
        assert [ticket.jobs for ticket in waiting(bench)] == [(first,)]
        assert bench.job(second).error_kind is ErrorKind.CANCELLED

    first, second = bench.add(), bench.add("b.mp4")
    bench.pipeline.next = [ask_for_both]
    bench.step()
    assert bench.job(first).error_kind is ErrorKind.CANCELLED
    carry_out(bench)
    assert waiting(bench) == []


# On a full disk.


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda _: -1)


@pytest.mark.parametrize(("source", "kept"), [(JobSource.HTTP, False), (JobSource.CLI, False), (JobSource.INBOX, True)])
def test_a_job_cancelled_on_a_full_disk_frees_its_video_unless_there_is_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, source: JobSource, kept: bool
) -> None:
    job_id = bench.add(source=source)
    ask(bench, CANCEL, job_id)
    full(monkeypatch)
    carry_out(bench)
    job = bench.job(job_id)
    assert (job.status, job.error_kind) == (FAILED, ErrorKind.CANCELLED)
    assert bench.storage.path(job.input_path).exists() == kept
    assert (job.source_removed_at is None) == kept


def test_with_room_a_cancelled_job_keeps_its_video_and_can_be_tried_again(bench: Bench) -> None:
    job_id = bench.add(source=JobSource.HTTP)
    ask(bench, CANCEL, job_id)
    carry_out(bench)
    assert bench.storage.path(input_key(job_id)).exists()
    assert bench.worker.retry(job_id)


def while_it_exists(bench: Bench, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the store be unwritable, as of a full disk, for as long as a job's video is there."""
    real = bench.store._table.commit_all

    def commit(*arguments: Any, **more: Any) -> None:
        video, spooled = bench.storage.path(input_key(job_id)), bench.intake.spool_dir / f"{job_id}.mp4"
        if video.exists() or spooled.exists():
            raise StoreError("The change could not be stored.") from OSError(errno.ENOSPC, "No space left on device")
        real(*arguments, **more)

    monkeypatch.setattr(bench.store._table, "commit_all", commit)


def test_where_not_a_byte_can_be_written_the_video_goes_before_the_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.add(source=JobSource.HTTP)
    ask(bench, CANCEL, job_id)
    while_it_exists(bench, job_id, monkeypatch)
    carry_out(bench)
    assert bench.job(job_id).error_kind is ErrorKind.CANCELLED
    assert bench.job(job_id).source_removed_at is not None
    assert waiting(bench) == []


def test_a_dropped_video_is_never_removed_to_record_a_cancel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.add(source=JobSource.INBOX)
    ask(bench, CANCEL, job_id)
    while_it_exists(bench, job_id, monkeypatch)
    with pytest.raises(StoreError):
        carry_out(bench)
    assert bench.storage.path(input_key(job_id)).exists()
    assert len(waiting(bench)) == 1


def submit(bench: Bench) -> str:
    return spool.submit(
        bench.intake.spool_dir,
        io.BytesIO(b"video"),
        source=JobSource.HTTP,
        source_name="a.mp4",
        pipeline_id="yolo_ocr",
        options=Options(),
    )


@pytest.mark.parametrize("kind", [CANCEL, DELETE])
@pytest.mark.parametrize("unwritable", [False, True])
def test_a_submission_that_waits_for_room_is_cancelled_and_makes_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: TicketKind, unwritable: bool
) -> None:
    job_id, other = submit(bench), submit(bench)
    ask(bench, kind, job_id)
    full(monkeypatch)
    if unwritable:
        while_it_exists(bench, job_id, monkeypatch)
    carry_out(bench)
    assert sorted(os.listdir(bench.intake.spool_dir)) == sorted([f"{other}.mp4", f"{other}.submit.json"])
    if kind is DELETE:
        assert bench.store.jobs() == []
        assert bench.store.deleted.at(job_id)
        return
    job = bench.job(job_id)
    assert (job.status, job.error_kind) == (FAILED, ErrorKind.CANCELLED)
    assert job.source_removed_at is not None
    bench.worker._unpublished.publish(bench.now + 100)
    assert f"{job_id}.error.json" in bench.published()


def test_a_kill_after_the_video_went_leaves_a_submission_that_is_still_cancelled(bench: Bench) -> None:
    job_id = submit(bench)
    ask(bench, CANCEL, job_id)
    (bench.intake.spool_dir / f"{job_id}.mp4").unlink()
    bench.start()  # and there is room again
    carry_out(bench)
    assert bench.job(job_id).error_kind is ErrorKind.CANCELLED
    assert os.listdir(bench.intake.spool_dir) == []


def test_a_request_fits_on_a_disk_without_a_free_byte(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.add()
    real = Ticket.to_bytes

    def no_room(ticket: Ticket) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Ticket, "to_bytes", no_room)
    ask(bench, CANCEL, job_id)
    monkeypatch.setattr(Ticket, "to_bytes", real)
    assert (bench.intake.spool_dir / f"{job_id}.cancel.json").read_bytes() == b""
    carry_out(bench)
    assert bench.job(job_id).error_kind is ErrorKind.CANCELLED


# Deleting.


def test_a_job_that_has_ended_or_waits_is_deleted(bench: Bench) -> None:
    done, waits = bench.add(), bench.add("b.mp4")
    bench.step()
    assert bench.job(done).status is COMPLETED
    ask(bench, DELETE, done, waits)
    carry_out(bench)
    assert bench.store.jobs() == []
    assert bench.queue.size() == 0
    assert waiting(bench) == []
    assert sorted(bench.store.deleted.unfinished_ids()) == sorted([done, waits])


def test_a_job_that_has_begun_to_run_meanwhile_is_cancelled_and_then_deleted(bench: Bench) -> None:
    def ask_for_it(_: RunRequest) -> None:
        ask(bench, DELETE, job_id)
        carry_out(bench)
        assert bench.job(job_id).status is JobStatus.RUNNING

    job_id = bench.add()
    bench.pipeline.next = [ask_for_it]
    bench.step()
    assert bench.job(job_id).error_kind is ErrorKind.CANCELLED
    carry_out(bench)
    assert bench.store.find(job_id) is None
    assert waiting(bench) == []


def test_deleting_twice_is_deleting_once(bench: Bench) -> None:
    job_id = bench.add()
    for _ in range(2):
        ask(bench, DELETE, job_id)
        carry_out(bench)
    assert waiting(bench) == []


def test_a_sequence_is_never_given_again(bench: Bench) -> None:
    first = bench.add()
    sequence = bench.job(first).sequence
    bench.worker.forget(first)
    assert bench.job(bench.add()).sequence > sequence


def test_a_submission_deleted_before_it_was_taken_in_never_becomes_a_job(bench: Bench) -> None:
    job_id = submit(bench)
    ticket = (bench.intake.spool_dir / f"{job_id}.submit.json").read_bytes()
    carry_out(bench)
    ask(bench, DELETE, job_id)
    carry_out(bench)
    (bench.intake.spool_dir / f"{job_id}.submit.json").write_bytes(ticket)  # its removal was undone by a power cut
    carry_out(bench)
    assert bench.store.jobs() == []
    assert os.listdir(bench.intake.spool_dir) == []
