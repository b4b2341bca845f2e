"""A request that goes on with an upload ends the older one, and lets it put in order what it holds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.fs.space import DiskGuard
from daemon.ipc import spool
from sidecar import resumable_uploads
from sidecar.problems import Problem
from sidecar.reservations import Reservations
from sidecar.resumable_uploads import ResumableUploads, _Writer
from sidecar.upload_file import UploadFile
from tests.clips import BEGINNING
from tests.unit.sidecar.test_app import Client, call

PIECE = {"tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream"}
VIDEO = BEGINNING + bytes(5000)


def test_an_older_request_is_ended_once_however_many_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_uploads, "TAKE_OVER_SECONDS", 0.01)
    uploads = object.__new__(ResumableUploads)
    uploads._writers = {}
    went_on: list[str] = []

    async def write(stored: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()  # for bytes that do not come
        finally:
            await stored.wait()  # a slow disk
            went_on.append("stored")

    async def take_over_again_and_again() -> None:
        stored = asyncio.Event()
        older = _Writer(asyncio.ensure_future(write(stored)))
        uploads._writers["job"] = older
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(Problem):
                await uploads._take_over("job")
        stored.set()
        await uploads._take_over("job")

    asyncio.run(take_over_again_and_again())
    assert went_on == ["stored"]
    assert uploads._writers == {}


def test_a_request_that_ends_while_another_takes_over_is_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: Any = object.__new__(ResumableUploads)
    uploads._writers = {}
    went_on: list[str] = []

    async def main() -> None:
        begun, stored = asyncio.Event(), asyncio.Event()

        async def write(*_: object) -> None:
            try:
                begun.set()
                await asyncio.Event().wait()  # for bytes that do not come
            finally:
                await stored.wait()  # a slow disk
                went_on.append("stored")

        async def finish(*_: object) -> bool:
            return False

        monkeypatch.setattr(uploads, "_write", write)
        monkeypatch.setattr(uploads, "_finish", finish)
        upload = type("Upload", (), {"job_id": "job", "length": 5})
        older = asyncio.ensure_future(uploads._add(None, upload, 0))
        await begun.wait()
        newer = asyncio.ensure_future(uploads._take_over("job"))
        await asyncio.sleep(0.01)
        older.cancel()  # its client has gone
        await asyncio.sleep(0.01)
        assert not newer.done()
        stored.set()
        await newer
        await asyncio.wait([older])
        assert older.cancelled() or isinstance(older.exception(), Problem)

    asyncio.run(main())
    assert went_on == ["stored"]
    assert uploads._writers == {}


def test_a_file_is_not_let_go_of_while_a_thread_still_writes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number could be another file's by then."""
    (tmp_path / "part").touch()
    may_write, order = threading.Event(), []

    async def main() -> None:
        with ThreadPoolExecutor(4) as pool, Reservations(lambda: DiskGuard(tmp_path, 0)).reserve(10) as room:
            file = UploadFile(tmp_path / "part", pool, room, resumed=True)
            write_all, close = file._write_all, file._sync_and_close

            def write_slowly(pieces: list[memoryview]) -> None:
                may_write.wait(10)
                write_all(pieces)
                order.append("written")

            def let_go() -> None:
                order.append("closed")
                close()

            monkeypatch.setattr(file, "_write_all", write_slowly)
            monkeypatch.setattr(file, "_sync_and_close", let_go)
            await file.open()
            await file.write([memoryview(b"video")])
            keeping = asyncio.ensure_future(file.keep())
            await asyncio.sleep(0.05)
            keeping.cancel()
            await asyncio.sleep(0.05)
            assert order == []
            may_write.set()
            await asyncio.wait([keeping])
            assert keeping.cancelled()

    asyncio.run(main())
    assert order == ["written", "closed"]
    assert (tmp_path / "part").read_bytes() == b"video"


@pytest.mark.parametrize("meanwhile", ["DELETE", "HEAD", "PATCH"])
def test_an_upload_that_is_becoming_a_job_becomes_one_whatever_comes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    promise, begun, may_end = spool.promise, threading.Event(), threading.Event()

    def promise_slowly(*arguments: Any) -> spool.Ticket:
        begun.set()
        may_end.wait(10)
        return promise(*arguments)

    async def body() -> AsyncIterator[bytes]:
        yield VIDEO

    monkeypatch.setattr(spool, "promise", promise_slowly)

    async def work(client: Client) -> None:
        made = await client.post("/v1/uploads", headers={**PIECE, "upload-length": str(len(VIDEO))}, content=b"")
        address, last = made.headers["location"], {**PIECE, "upload-offset": "0"}
        patched = asyncio.ensure_future(client.patch(address, headers=last, content=body()))
        await asyncio.to_thread(begun.wait, 10)
        sent = VIDEO if meanwhile == "PATCH" else b""
        other = asyncio.ensure_future(client.request(meanwhile, address, headers=last, content=sent))
        await asyncio.sleep(0.1)
        assert not other.done()
        may_end.set()
        answer: httpx.Response = await other
        if meanwhile == "DELETE":
            assert (answer.status_code, "has become a job" in answer.json()["detail"]) == (409, True)
        else:
            status = 200 if meanwhile == "HEAD" else 409
            assert (answer.status_code, answer.headers["upload-offset"]) == (status, str(len(VIDEO)))
        assert (await patched).status_code in (204, 409)
        [ticket] = spool.pending_submissions(tmp_path / "data" / "spool")
        assert (tmp_path / "data" / "spool" / ticket.video_name).read_bytes() == VIDEO
        assert list((tmp_path / "data" / "spool" / "uploads").iterdir()) == []
        metrics = (await client.get("/metrics")).text
        assert 'dropframe_uploads_total{outcome="accepted"} 1.0' in metrics

    call(tmp_path, work)
