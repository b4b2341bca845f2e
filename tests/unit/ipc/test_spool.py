"""Tickets in the spool."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import stat
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from daemon.errors import StorageError
from daemon.ipc import spool
from daemon.ipc.partial_uploads import locked
from daemon.ipc.spool import Ticket, TicketKind
from daemon.ipc.spool_sweep import LEFTOVER_SECONDS, sweep
from daemon.jobs import Job, JobSource, Options, new_job_id


def submit(folder: Path, video: Path | BinaryIO, **changes: object) -> str:
    values: dict[str, object] = {
        "source": JobSource.CLI,
        "source_name": "match.mp4",
        "pipeline_id": "yolo",
        "options": Options(frame_stride=3),
    }
    return spool.submit(folder, video, **(values | changes))  # type: ignore[arg-type]


def test_a_submission_is_a_video_and_a_ticket(tmp_path: Path) -> None:
    job_id = submit(tmp_path / "spool", io.BytesIO(b"video"))
    assert sorted(os.listdir(tmp_path / "spool")) == [f"{job_id}.mp4", f"{job_id}.submit.json"]
    [ticket] = spool.tickets(tmp_path / "spool")
    assert (ticket.kind, ticket.job_id, ticket.size_bytes) == (TicketKind.SUBMIT, job_id, 5)
    assert (ticket.source, ticket.source_name, ticket.pipeline_id) == (JobSource.CLI, "match.mp4", "yolo")
    assert ticket.options == {"frame_stride": 3, "max_frames": None}
    assert spool.pending_submissions(tmp_path / "spool") == [ticket]


def test_a_submission_becomes_the_job_that_was_asked_for(tmp_path: Path) -> None:
    job_id = submit(tmp_path, io.BytesIO(b"video"), sha256="ab")
    [ticket] = spool.tickets(tmp_path)
    job = ticket.to_job()
    assert (job.job_id, job.pipeline_id, job.source, job.source_name) == (job_id, "yolo", JobSource.CLI, "match.mp4")
    assert (job.options, job.size_bytes, job.sha256) == (Options(frame_stride=3), 5, "ab")
    assert job.created_at == job.updated_at == ticket.created_at
    assert Job.from_record(job.to_record()) == job


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({"frame_stride": 5, "unknown": 2}, Options(5)),
        ({"frame_stride": "5", "max_frames": 7}, Options(1, 7)),
        ({}, Options()),
    ],
)
def test_wrong_options_are_shown_as_far_as_there_are_such(asked: dict[str, object], read: Options) -> None:
    ticket = Ticket(TicketKind.SUBMIT, new_job_id(), "2026-11-20T18:00:00.000000+00:00", options=asked)
    assert ticket.to_job().options == read


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("2026-11-20T19:00:00+01:00", "2026-11-20T18:00:00.000000+00:00"),
        ("2026-11-20T19:00:00", ""),
        ("last Friday", ""),
    ],
)
def test_a_time_of_acceptance_that_is_not_one_is_left_to_the_store(said: str, kept: str) -> None:
    assert Ticket(TicketKind.SUBMIT, new_job_id(), said).to_job().created_at == kept


def test_a_submitter_may_say_when_it_accepted_a_video(tmp_path: Path) -> None:
    job_id, friday = new_job_id(), "2026-11-20T18:00:00.000000+00:00"
    spool.part_path(tmp_path, job_id).write_bytes(b"video")
    spool.commit(tmp_path, Ticket(TicketKind.SUBMIT, job_id, friday, JobSource.HTTP, "a.mp4", "yolo"))
    assert [ticket.created_at for ticket in spool.tickets(tmp_path)] == [friday]


def test_a_file_is_copied_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    job_id = submit(tmp_path / "spool", tmp_path / "a.mp4")
    assert (tmp_path / "spool" / f"{job_id}.mp4").read_bytes() == b"video"
    assert (tmp_path / "a.mp4").exists()


@pytest.mark.needs("root")
def test_what_root_submits_belongs_to_the_owner_of_the_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    os.chown(tmp_path / "spool", 12345, 23456)
    before = os.umask(0o077)
    try:
        job_id = submit(tmp_path / "spool", io.BytesIO(b"video"))
        spool.request(tmp_path / "spool", TicketKind.CANCEL, job_id)
    finally:
        os.umask(before)
    written = [path.stat() for path in (tmp_path / "spool").iterdir()]
    assert len(written) == 3
    assert {(status.st_uid, status.st_gid) for status in written} == {(12345, 23456)}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_group_may_read_a_submission_and_nobody_else(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        submit(tmp_path, io.BytesIO(b"video"))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert modes == [0o640, 0o640]


def test_a_pipe_cannot_be_submitted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(StorageError):
        submit(tmp_path / "spool", tmp_path / "a.mp4")
    assert os.listdir(tmp_path / "spool") == []


def test_an_undecodable_name_is_escaped(tmp_path: Path) -> None:
    submit(tmp_path, io.BytesIO(b"video"), source_name="bad\udcff.mp4")
    assert spool.tickets(tmp_path)[0].source_name == r"bad\xff.mp4"


def test_a_reader_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        submit(tmp_path / "spool", Breaking())
    assert os.listdir(tmp_path / "spool") == []


def test_tickets_come_oldest_first(tmp_path: Path) -> None:
    ids = [submit(tmp_path, io.BytesIO(b"video")) for _ in range(5)]
    spool.request(tmp_path, TicketKind.CANCEL, ids[0])
    assert [t.job_id for t in spool.tickets(tmp_path)] == [*ids, ids[0]]
    assert [t.job_id for t in spool.pending_submissions(tmp_path)] == ids


def test_a_ticket_acted_on_is_gone(tmp_path: Path) -> None:
    spool.request(tmp_path, TicketKind.RETRY, new_job_id())
    [ticket] = spool.tickets(tmp_path)
    spool.done(tmp_path, ticket)
    spool.done(tmp_path, ticket)
    assert spool.tickets(tmp_path) == []


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "", "x", "A" * 36])
def test_a_wish_needs_a_job_id(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(StorageError):
        spool.request(tmp_path, TicketKind.CANCEL, job_id)


JOB_ID = new_job_id()
GOOD = {"kind": "submit", "job_id": JOB_ID, "created_at": "2026-01-01T00:00:00.000000+00:00"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.json", "{}"),
        (f"{JOB_ID}.submit.json", "{"),
        (f"{JOB_ID}.submit.json", ""),
        (f"{JOB_ID}.submit.json", "[1]"),
        (f"{JOB_ID}.submit.json", "\0" * 50),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"job_id": new_job_id()})),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"surprise": 1})),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"options": 3})),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"created_at": 3})),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"source": "moon"})),
        (f"{JOB_ID}.submit.json", " " * 70_000),
        (f"{JOB_ID}.submit.json", "[" * 60_000),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"pipeline_id": "\ud800"})),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"options": {"\ud800": 1}})),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"sha256": 3})),
        (f"{JOB_ID}.submit.json", json.dumps(GOOD | {"size_bytes": "3"})),
    ],
)
def test_malformed_tickets_are_rejected_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert spool.pending_submissions(tmp_path) == []
    assert (tmp_path / name).exists()
    with caplog.at_level(logging.WARNING):
        assert spool.tickets(tmp_path) == []
        assert spool.tickets(tmp_path) == []
    assert os.listdir(tmp_path / "bad") == [name]
    assert len(caplog.records) == 1


def test_a_video_whose_ticket_was_rejected_is_kept(tmp_path: Path) -> None:
    job_id = submit(tmp_path, io.BytesIO(b"video"))
    spool.reject_ticket(tmp_path, f"{job_id}.submit.json", "it could not be read")
    assert sweep(tmp_path, time.time() + 90_000) == 0
    assert (tmp_path / f"{job_id}.mp4").exists()


def test_leftovers_of_dead_submitters_are_swept_after_a_minute(tmp_path: Path) -> None:
    kept = submit(tmp_path, io.BytesIO(b"video"))
    for name in (f".{new_job_id()}.mp4.part", ".1-aa.tmp", f"{new_job_id()}.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert sweep(tmp_path, time.time()) == 0
    assert sweep(tmp_path, time.time() + LEFTOVER_SECONDS + 1) == 3
    assert sorted(os.listdir(tmp_path)) == [f"{kept}.mp4", f"{kept}.submit.json"]


def is_in_use(path: Path) -> bool:
    try:
        with locked(path):
            return False
    except BlockingIOError:
        return True


def test_what_a_submitter_is_still_writing_is_never_swept(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as video, open(writing, "wb") as client:
        thread = threading.Thread(target=submit, args=(tmp_path, video))
        thread.start()
        client.write(b"vid")
        client.flush()
        deadline = time.monotonic() + 10
        while not any(is_in_use(part) for part in tmp_path.glob(".*.mp4.part")):
            assert time.monotonic() < deadline
        assert sweep(tmp_path, time.time() + 90_000) == 0
        client.write(b"eo")
        client.close()
        thread.join()
    [ticket] = spool.tickets(tmp_path)
    assert (tmp_path / ticket.video_name).read_bytes() == b"video"
    assert sweep(tmp_path, time.time() + 90_000) == 0


def test_no_spool_is_an_empty_spool(tmp_path: Path) -> None:
    assert spool.tickets(tmp_path / "none") == []
    assert sweep(tmp_path / "none", 0.0) == 0


def test_a_ticket_that_cannot_be_opened_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = submit(tmp_path, io.BytesIO(b"video"))
    link, locked, unlucky = (f"{new_job_id()}.cancel.json" for _ in range(3))
    (tmp_path / link).symlink_to("/etc/passwd")
    for name in (locked, unlucky):
        (tmp_path / name).write_text("{}")
    codes = {locked: errno.EACCES, unlucky: errno.EIO}
    real = os.open

    def refusing(path: Path, *args: int, **kwargs: int) -> int:
        code = codes.get(Path(path).name)
        if code is not None:
            raise OSError(code, os.strerror(code))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    assert [t.job_id for t in spool.pending_submissions(tmp_path)] == [good]
    assert not (tmp_path / "bad").exists()
    assert [t.job_id for t in spool.tickets(tmp_path)] == [good]
    assert sorted(os.listdir(tmp_path / "bad")) == sorted([link, locked])
    assert (tmp_path / unlucky).exists()


def test_a_bad_ticket_that_cannot_be_moved_holds_up_no_other(tmp_path: Path) -> None:
    good = submit(tmp_path, io.BytesIO(b"video"))
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "bad").write_text("in the way")
    assert [t.job_id for t in spool.tickets(tmp_path)] == [good]
