"""Uploads in pieces beside the rest of the spool: what is promised is never swept, and order is that of completion."""

from __future__ import annotations

import fcntl
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemon.fs.space import DiskGuard
from daemon.ipc import partial_uploads, spool
from daemon.ipc.partial_uploads import FOLDER, PartialUpload, PartialUploads
from daemon.ipc.spool_sweep import sweep
from daemon.jobs import JobSource, Options, new_job_id
from sidecar.reservations import Reservations
from sidecar.upload_file import UploadFile

KEEP_SECONDS = 3600.0


def begun(uploads: PartialUploads, content: bytes = b"video") -> PartialUpload:
    upload = PartialUpload(new_job_id(), 5, "a.mp4", "ocr_only")
    uploads.create(upload)
    uploads.part_path(upload.job_id).write_bytes(content)
    return upload


def submit(spool_dir: Path) -> str:
    return spool.submit(
        spool_dir,
        io.BytesIO(b"video"),
        source=JobSource.CLI,
        source_name="b.mp4",
        pipeline_id="ocr_only",
        options=Options(),
    )


def test_an_upload_stands_in_line_from_when_it_is_whole(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path)
    hour_long, before = begun(uploads), submit(tmp_path)
    uploads.submit(hour_long)
    after = submit(tmp_path)
    assert [ticket.job_id for ticket in spool.pending_submissions(tmp_path)] == [before, hour_long.job_id, after]


def test_what_is_promised_is_swept_by_nobody_however_old_its_times_look(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path)
    promised, cut_off, waits = begun(uploads), begun(uploads), begun(uploads, b"vi")
    uploads.submit(promised)
    uploads.part_path(cut_off.job_id).rename(tmp_path / spool.video_name(cut_off.job_id))  # killed before its ticket
    for path in tmp_path.rglob("*.*"):
        os.utime(path, (1, 1))  # as tickets have it: their number
    later = time.time() + KEEP_SECONDS - 60
    assert sweep(tmp_path, later) + uploads.sweep(later, KEEP_SECONDS) == 0
    assert uploads.find(waits.job_id) == waits
    assert uploads.submit(cut_off).job_id == cut_off.job_id
    assert {ticket.job_id for ticket in spool.tickets(tmp_path)} == {promised.job_id, cut_off.job_id}


def test_an_upload_that_the_daemon_has_taken_is_not_one_any_more(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path)
    upload = begun(uploads)
    spool.promise(tmp_path, upload.to_ticket(), uploads.part_path(upload.job_id))  # killed before its record went
    assert uploads.find(upload.job_id) == upload
    [ticket] = spool.tickets(tmp_path)
    (tmp_path / ticket.video_name).unlink()
    spool.done(tmp_path, ticket)
    assert uploads.find(upload.job_id) is None
    assert os.listdir(tmp_path / FOLDER) == []


def test_an_upload_that_somebody_adds_to_is_not_swept_however_long_nothing_has_been_written(tmp_path: Path) -> None:
    uploads = PartialUploads(tmp_path)
    upload, idle = begun(uploads, b"vi"), begun(uploads, b"vi")
    later = time.time() + KEEP_SECONDS + 60
    with partial_uploads.locked(uploads.part_path(upload.job_id)):  # what has come since waits in memory
        assert uploads.sweep(later, KEEP_SECONDS) == 2
    assert (uploads.find(upload.job_id), uploads.find(idle.job_id)) == (upload, None)
    assert uploads.sweep(later, KEEP_SECONDS) == 2
    assert os.listdir(tmp_path / FOLDER) == []


@pytest.mark.parametrize("at", ["before it is locked", "while it is locked"])
def test_a_piece_that_comes_while_its_upload_expires_is_kept_or_refused(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = PartialUploads(tmp_path)
    upload = begun(uploads, b"vi")
    part = uploads.part_path(upload.job_id)
    room = Reservations(lambda: DiskGuard(tmp_path, 0))
    real = partial_uploads.fcntl.flock
    answers: list[object] = []

    def add_piece() -> None:
        with ThreadPoolExecutor(1) as pool, room.reserve(3) as reserved:
            file = UploadFile(part, pool, reserved, resumed=True)
            try:
                file._open()
                os.write(file._descriptor, b"deo")
                answers.append(file.size)
            except OSError as error:
                answers.append(type(error))
            file.close()

    sender = threading.Thread(target=add_piece)

    def flock(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX | fcntl.LOCK_NB and threading.current_thread() is not sender and not sender.ident:
            act(descriptor, how)
        else:
            real(descriptor, how)

    def act(descriptor: int, how: int) -> None:
        if at == "before it is locked":
            sender.start()
            sender.join()
            os.utime(part, (now, now))  # as if an hour had passed since the last piece
            real(descriptor, how)
        else:
            real(descriptor, how)
            sender.start()
            time.sleep(0.3)

    monkeypatch.setattr(fcntl, "flock", flock)
    now = time.time() + KEEP_SECONDS
    uploads.sweep(now, KEEP_SECONDS - 60)
    sender.join()
    if at == "while it is locked":
        assert answers == [FileNotFoundError], "it was told that its bytes are there"
        assert os.listdir(tmp_path / FOLDER) == []
    else:
        assert answers == [2]
        assert part.read_bytes() == b"video"
