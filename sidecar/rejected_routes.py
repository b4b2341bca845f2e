"""RejectedEndpoints: the files of the inbox that were not taken in."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.ipc import rejected_list
from daemon.ipc.rejected_list import RejectedList, RejectedRecord
from sidecar.files import NO_STORE
from sidecar.query import MOST_JOBS, Query
from sidecar.schemas import PublicRejectedFile

_PLACE = re.compile(r"(?P<time>[0-9T:.+-]{20,40}Z?) (?P<path>[^\0]{1,4096})", re.DOTALL)


class RejectedEndpoints:
    """Endpoints for rejected files; they read the list that the daemon keeps.

    Args:
        data_dir: Of the home.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._seen: tuple[int, int] | None = None
        self._files: list[RejectedRecord] = []
        self._count = 0

    async def rejected(self, request: Request) -> Response:
        """List rejected files, newest first."""
        query = Query(request)
        limit = query.whole("limit", 1, MOST_JOBS, 50)
        place = _place(query)
        query.check()
        await asyncio.to_thread(self._refresh)
        found = [file for file in self._files if place is None or _order(file) < place][: limit + 1]
        page = found[:limit]
        body = {
            "rejected": [_to_public(file) for file in page],
            "next_cursor": _cursor(page[-1]) if len(found) > limit else None,
            "count": self._count,
        }
        return JSONResponse(body, headers=NO_STORE)

    def _refresh(self) -> None:
        try:
            status = os.stat(self._data_dir / rejected_list.NAME)
        except OSError:  # no daemon has run here yet
            return
        if (status.st_ino, status.st_mtime_ns) == self._seen:
            return
        listed = rejected_list.read(self._data_dir) or RejectedList()
        self._seen = status.st_ino, status.st_mtime_ns
        self._files, self._count = listed.present, listed.count


def _to_public(file: RejectedRecord) -> dict[str, Any]:
    """Return a file as callers see it: the members of a PublicRejectedFile."""
    record = asdict(file)
    return {name: record[name] for name in PublicRejectedFile.model_fields}


def _order(file: RejectedRecord) -> tuple[str, str]:
    return file.rejected_at, file.path


def _cursor(file: RejectedRecord) -> str:
    return base64.urlsafe_b64encode(" ".join(_order(file)).encode()).decode().rstrip("=")


def _place(query: Query) -> tuple[str, str] | None:
    cursor = query.text("cursor")
    if not cursor:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except ValueError:
        text = ""
    found = _PLACE.fullmatch(text)
    if found is None:
        query.refuse("cursor", "cursor must be the next_cursor of an earlier answer.")
        return None
    return found["time"], found["path"]
