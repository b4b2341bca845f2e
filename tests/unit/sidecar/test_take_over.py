"""A request that goes on with an upload ends the older one, and lets it put in order what it holds."""

from __future__ import annotations

import asyncio

import pytest

from sidecar import resumable_uploads
from sidecar.problems import Problem
from sidecar.resumable_uploads import ResumableUploads, _Writer


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
