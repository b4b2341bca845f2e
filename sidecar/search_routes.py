"""SearchEndpoint: hits of all videos, from the index that the daemon keeps."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.search.folding import BadQuery
from daemon.search.reader import LAST, FoundKind, SearchPage, TookTooLong, place_of, search, shown_name
from sidecar.files import NO_STORE
from sidecar.problems import bad_field, busy
from sidecar.query import MOST_HITS, Query
from sidecar.state import State

AT_ONCE = 2
"""Searches that are made at a time; others wait for their turn."""


class SearchEndpoint:
    """Searches.

    Args:
        state: Knows the jobs, and where the index is.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, request: Request) -> Response:
        """Send a page of hits."""
        query = Query(request)
        text = query.text("q")
        if text is None:
            query.refuse("q", "q must say what to search for.")
        limit = query.whole("limit", 1, MOST_HITS, 50)
        kind = query.choice("kind", FoundKind)
        before = _place(query)
        query.check()
        page = await self._search(text or "", limit, before, kind)
        return JSONResponse(page.to_public(lambda job_id: shown_name(self._state.jobs.find(job_id))), headers=NO_STORE)

    async def _search(self, text: str, limit: int, before: int, kind: FoundKind | None) -> SearchPage:
        data_dir = self._state.settings.data_dir
        try:
            async with self._turns:
                return await asyncio.to_thread(search, data_dir, text, limit, before=before, kind=kind)
        except BadQuery as error:
            raise bad_field("q", str(error)) from error
        except TookTooLong as error:
            raise busy(str(error), "search", 5) from error


def _place(query: Query) -> int:
    try:
        return place_of(query.text("cursor"))
    except ValueError:
        query.refuse("cursor", "cursor must be the next_cursor of an earlier answer.")
        return LAST
