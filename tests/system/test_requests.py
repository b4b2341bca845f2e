"""What people ask of jobs, of the real daemon: by the thousand, on a full disk, and killed on the way."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from daemon.derive.derivation import derive
from daemon.derive.files import folder_of
from daemon.ipc import spool
from daemon.ipc.ticket import Ticket, TicketKind, ticket_name
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, Options, input_key, new_job_id, output_key, utc_now
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from tests.clips import make_clip
from tests.derived_documents import Clip, Shown, frames_of, write_document
from tests.sidecar_process import running_sidecar
from tests.system.running import Daemon, children, dropframe, follows_up, running, wait_for
from tests.system.test_disk import fill, mounted

pytestmark = pytest.mark.slow

TICKETS = 12_000
OLDEST_HEARTBEAT_SECONDS = 5.0


def write_tickets(folder: Path, kind: TicketKind, ids: list[str]) -> None:
    """Write a ticket for each job, in a fraction of the time that durable ones take."""
    folder.mkdir(exist_ok=True)
    for job_id in ids:
        (folder / ticket_name(job_id, kind)).write_bytes(Ticket(kind, job_id, utc_now()).to_bytes())


@pytest.mark.timeout(300)
def test_thousands_of_tickets_hold_up_neither_the_heartbeat_nor_the_end(tmp_path: Path) -> None:
    texts = tuple(f"GOAL {number}" for number in range(400))
    clip = make_clip(tmp_path / "long.mp4", frames=len(texts), size=(320, 240), text=texts)
    ids = [new_job_id() for _ in range(TICKETS)]
    with JobStore.open(tmp_path / "data") as store:
        store.create([Job(job_id, input_path=input_key(job_id), source_name="waits.mp4") for job_id in ids])
    with running(tmp_path, DROPFRAME_DEFAULT_PIPELINE="ocr_only") as daemon:
        daemon.drop(clip)
        daemon.wait_job("long.mp4", JobStatus.RUNNING)
        write_tickets(tmp_path / "spool.new", TicketKind.CANCEL, ids)
        for path in (tmp_path / "spool.new").iterdir():
            path.rename(daemon.data / "spool" / path.name)
        oldest = 0.0
        until, left = time.monotonic() + 120, TICKETS
        while left > TICKETS - 500:
            assert time.monotonic() < until, "hardly anything was done"
            oldest = max(oldest, time.time() - (daemon.data / "daemon.json").stat().st_mtime)
            time.sleep(0.05)
            left = sum(name.endswith(".json") for name in os.listdir(daemon.data / "spool"))
        assert left > 0, "it was over before it could be looked at"
        assert oldest < OLDEST_HEARTBEAT_SECONDS
        assert daemon.stop() < 10
        with JobStore.open(daemon.data) as store:  # what was done is done, the rest still waits
            cancelled = {job.job_id for job in store.jobs(JobStatus.FAILED)}
        assert len(cancelled) >= TICKETS - left
        assert {path.name[:36] for path in (daemon.data / "spool").glob("*.json")} | cancelled == set(ids)


# On a disk without a free byte.


@pytest.fixture
def full_home(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "models").mkdir()
    with mounted(tmp_path / "data", "size=4m") as folder:
        (folder / "models").symlink_to(tmp_path / "models")
        yield tmp_path


def fill_to_the_last_byte(folder: Path) -> None:
    with (folder / "rest").open("wb", buffering=0) as file:
        for _ in range(5):  # a heartbeat that was just being written leaves room again
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass
            time.sleep(0.1)
    assert shutil.disk_usage(folder).free == 0


def submit(spool_dir: Path, size: int = 1 << 20) -> str:
    return spool.submit(
        spool_dir,
        io.BytesIO(b"\0" * size),
        source=JobSource.HTTP,
        source_name="upload.mp4",
        pipeline_id="ocr_only",
        options=Options(),
    )


@pytest.mark.parametrize(
    ("taken_in", "killed_at"),
    [(False, None), (False, "freed"), (False, "tickets.ended"), (True, None), (True, "freed")],
)
def test_a_cancel_is_granted_on_a_disk_without_a_free_byte_and_frees_the_video(
    full_home: Path, taken_in: bool, killed_at: str | None
) -> None:
    daemon = Daemon(full_home, DROPFRAME_MIN_FREE_BYTES="300000")
    daemon.data.joinpath("spool").mkdir()
    unwanted, other = submit(daemon.data / "spool"), submit(daemon.data / "spool", size=1000)
    if taken_in:
        with JobStore.open(daemon.data) as store:
            for job_id in (unwanted, other):
                (daemon.data / "spool" / f"{job_id}.submit.json").unlink()
                (daemon.data / "video_jobs").mkdir(exist_ok=True)
                (daemon.data / "spool" / f"{job_id}.mp4").rename(daemon.data / input_key(job_id))
                store.create([Job(job_id, input_path=input_key(job_id), source=JobSource.HTTP)])
    else:
        JobStore.open(daemon.data).close()
    nearly = fill(daemon.data, leave=200_000)
    point = {"freed": "requests.freed" if taken_in else "tickets.freed"}.get(killed_at or "", killed_at)
    try:
        daemon.start(**({"DROPFRAME_FAULT": point} if point else {}))
        wait_for(daemon.beat, 30, "it did not start")
        fill_to_the_last_byte(daemon.data)
        spool.request(daemon.data / "spool", TicketKind.CANCEL, unwanted)
        if point:
            daemon.wait_killed()
            daemon.start()

        def job() -> Job | None:
            found = [job for job in daemon.jobs() if job.job_id == unwanted]
            return found[0] if found and found[0].ended else None

        ended = wait_for(job, 60, lambda: f"it was not cancelled:\n{daemon.log()}")
        assert (ended.status, ended.error_kind) == (JobStatus.FAILED, ErrorKind.CANCELLED)
        wait_for(lambda: not list(daemon.data.rglob(f"{unwanted}*")), 30, "something of it was left")
        assert nearly.exists()
        assert list(daemon.data.rglob(f"{other}.mp4")), "another one was removed"
        daemon.stop()
    finally:
        daemon.kill()


def test_it_starts_on_a_disk_without_a_free_byte_and_a_deletion_makes_room(full_home: Path) -> None:
    daemon = Daemon(full_home, DROPFRAME_DEFAULT_PIPELINE="ocr_only")
    for folder in (daemon.data / "spool", daemon.data / "video_jobs", daemon.outbox, daemon.inbox):
        folder.mkdir()
    with JobStore.open(daemon.data) as store:
        [job] = store.create([Job(new_job_id(), JobStatus.FAILED, source=JobSource.HTTP, input_path="x")])
        (daemon.data / input_key(job.job_id)).write_bytes(b"\0" * (1 << 20))
        store.note(job.job_id, input_path=input_key(job.job_id))
    fill_to_the_last_byte(daemon.data)
    try:
        daemon.start()
        wait_for(lambda: "without room" in daemon.log(), 30, "it does not say what is wrong")
        assert "dropframe delete" in daemon.log()
        spool.request(daemon.data / "spool", TicketKind.DELETE, job.job_id)
        wait_for(
            lambda: not (daemon.data / input_key(job.job_id)).exists(), 30, lambda: f"no room was made:\n{daemon.log()}"
        )
        wait_for(lambda: daemon.beat() and not daemon.jobs(), 30, lambda: f"it was not deleted:\n{daemon.log()}")
        daemon.stop()
    finally:
        daemon.kill()


# Deleting.


@pytest.mark.parametrize(
    "killed_at",
    [
        "journal.written",
        "deletion.removed",
        "deletion.removed:4",
        "deletion.withdrawn",
        "deletion.unlinked",
        "journal.written:2",
    ],
)
def test_a_deletion_that_is_killed_is_carried_out_to_the_end(tmp_path: Path, killed_at: str) -> None:
    daemon = Daemon(tmp_path, DROPFRAME_DEFAULT_PIPELINE="ocr_only")
    for folder in (daemon.data / "video_jobs", daemon.outbox, daemon.inbox):
        folder.mkdir(parents=True)
    with JobStore.open(daemon.data) as store:
        goes, stays = store.create([completed_job(daemon) for _ in range(2)])
        for job in (goes, stays):
            store.move(job.job_id, JobStatus.RUNNING)
            with (daemon.data / output_key(job.job_id)).open("rb") as document:
                Outbox(daemon.outbox).publish(job, document)
            store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    spool.request(daemon.data / "spool", TicketKind.DELETE, goes.job_id)
    try:
        daemon.start(DROPFRAME_FAULT=killed_at)
        daemon.wait_killed()
        with JobReader(daemon.data) as reader:
            reader.refresh()
            deleted = reader.deleted_at(goes.job_id)
            assert (reader.find(goes.job_id) is None) == (deleted is not None)
        if deleted is None:
            assert files_of(daemon, goes) == ALL, "something went before the record"
        daemon.start()
        wait_for(daemon.beat, 30, "it did not start")
        wait_for(lambda: not files_of(daemon, goes), 30, lambda: f"something is left:\n{daemon.log()}")
        daemon.stop()
    finally:
        daemon.kill()
    with JobStore.open(daemon.data) as store:
        assert store.deleted.unfinished_ids() == []
        assert store.deleted.at(goes.job_id)
        assert [job.job_id for job in store.jobs()] == [stays.job_id]
    assert files_of(daemon, stays) == ALL
    assert os.listdir(daemon.data / "spool") == []


ALL = {"video", "result", "outbox", "derived"}


def completed_job(daemon: Daemon) -> Job:
    job = Job(new_job_id(), source=JobSource.HTTP, source_name="a.mp4")
    (daemon.data / input_key(job.job_id)).write_bytes(b"{}")
    derive(write_document(daemon.data / output_key(job.job_id), []), folder_of(daemon.data, job.job_id))
    return Job(job.job_id, input_path=input_key(job.job_id), source=JobSource.HTTP, source_name="a.mp4")


def files_of(daemon: Daemon, job: Job) -> set[str]:
    places = {
        "video": daemon.data / input_key(job.job_id),
        "result": daemon.data / output_key(job.job_id),
        "outbox": daemon.outbox / f"{job.job_id}.json",
        "derived": folder_of(daemon.data, job.job_id),
    }
    return {name for name, path in places.items() if path.exists()}


@pytest.mark.parametrize("door", ["dropframe delete", "HTTP"])
def test_a_job_is_deleted_with_what_is_derived_from_it_just_now(tmp_path: Path, door: str) -> None:
    daemon = Daemon(tmp_path, DROPFRAME_DEFAULT_PIPELINE="ocr_only")
    for folder in (daemon.data / "video_jobs", daemon.outbox, daemon.inbox):
        folder.mkdir(parents=True)
    with JobStore.open(daemon.data) as store:
        [job] = store.create([completed_job(daemon)])
        shown = [Shown(f"GOAL {number}", number, number + 40) for number in range(0, 30_000, 4)]
        write_document(daemon.data / output_key(job.job_id), frames_of(Clip("", 30_000, shown)))
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    try:
        daemon.start()
        wait_for(lambda: any(map(follows_up, children(daemon.pid))), 60, "nothing is derived")
        if door == "HTTP":
            with running_sidecar(tmp_path) as sidecar:
                assert httpx.delete(f"{sidecar.url}/v1/jobs/{job.job_id}").status_code == 202
        else:
            assert dropframe(tmp_path, "delete", job.job_id, "--yes").returncode == 0
        wait_for(lambda: not files_of(daemon, job), 60, lambda: f"something is left:\n{daemon.log()}")
        wait_for(lambda: not any(map(follows_up, children(daemon.pid))), 10, "the child goes on")
        assert files_of(daemon, job) == set()
        daemon.stop()
    finally:
        daemon.kill()
