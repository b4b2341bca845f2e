from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.ipc import spool
from daemon.ipc.spool import TicketKind
from daemon.jobs import Job, JobSource, JobStatus, Options, new_job_id
from daemon.store.job_store import JobStore
from daemon.store.paging import Place
from sidecar.job_view import JobView


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def view(tmp_path: Path, store: JobStore) -> Iterator[JobView]:
    opened = JobView(tmp_path, tmp_path / "spool")
    yield opened
    opened.close()


def submit(tmp_path: Path) -> str:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"x")
    return spool.submit(
        tmp_path / "spool", clip, source=JobSource.HTTP, source_name="a.mp4", pipeline_id="yolo", options=Options(2)
    )


def create(store: JobStore, count: int) -> list[str]:
    return [job.job_id for job in store.create([Job(new_job_id(), input_path="x") for _ in range(count)])]


def test_it_follows_every_change_and_agrees_with_the_store(store: JobStore, view: JobView) -> None:
    ids = create(store, 6)
    store.move(ids[0], JobStatus.RUNNING)
    assert view.refresh()
    assert not view.refresh()
    store.move(ids[0], JobStatus.COMPLETED, output_path="y")
    store.move(ids[1], JobStatus.FAILED, error_message="why")
    store.remove(ids[5])
    store.compact_if_worthwhile()
    ids += create(store, 2)
    assert view.refresh()
    assert view.counts() == store.counts()
    newest = [record["job_id"] for record in view.jobs_before(float("inf"), None, 100)]
    assert newest == [job.job_id for job in reversed(store.jobs())]
    for status in JobStatus:
        listed = [record["job_id"] for record in view.jobs_before(float("inf"), status, 100)]
        assert listed == [job.job_id for job in reversed(store.jobs(status))]
    for job in store.jobs():
        found = view.find(job.job_id)
        assert found is not None
        assert Job.from_record(found) == job
    assert view.find(ids[5]) is None


def test_a_submission_waits_as_pending_until_it_is_a_job(tmp_path: Path, store: JobStore, view: JobView) -> None:
    first = create(store, 1)[0]
    job_id = submit(tmp_path)
    view.refresh()
    record = view.find(job_id)
    assert record is not None
    assert record["status"] == "pending"
    assert record["options"] == {"frame_stride": 2, "max_frames": None}
    assert view.queue_position(record) == 1
    assert view.queue_length() == 2
    store.create([Job(job_id, input_path="x")])  # the daemon records it and then removes the ticket
    view.refresh()
    assert view.queue_length() == 2
    assert view.counts()[JobStatus.PENDING] == 2
    assert view.waiting_before(None) == []
    spool.done(tmp_path / "spool", spool.Ticket(TicketKind.SUBMIT, job_id, ""))
    view.refresh(force=True)
    taken = view.find(job_id)
    assert taken is not None
    assert view.queue_position(taken) == 1
    assert [r["job_id"] for r in view.jobs_before(float("inf"), None, 9)] == [job_id, first]


def test_what_is_no_ticket_is_not_listed(tmp_path: Path, view: JobView) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    for name in (f"{new_job_id()}.submit.json", ".x.submit.json", f"{new_job_id()}.cancel.json"):
        (folder / name).write_text("{}")
    (folder / f"{new_job_id()}.submit.json").symlink_to("/etc/passwd")
    view.refresh()
    assert view.queue_length() == 0


def test_a_list_goes_on_where_it_ended_though_tickets_become_jobs(
    tmp_path: Path, store: JobStore, view: JobView
) -> None:
    waiting = [submit(tmp_path) for _ in range(4)]
    view.refresh()
    second = view.waiting_before(None)[1]
    assert second["job_id"] == waiting[2]
    place = Place(second["job_id"], second["created_at"], 0)
    assert [r["job_id"] for r in view.waiting_before(place)] == [waiting[1], waiting[0]]
    store.create([Job(job_id, input_path="x") for job_id in waiting])
    create(store, 1)
    view.refresh()
    assert view.waiting_before(place) == []
    below = view.order.sequences[place.job_id]
    assert [r["job_id"] for r in view.jobs_before(below, None, 9)] == [waiting[1], waiting[0]]
