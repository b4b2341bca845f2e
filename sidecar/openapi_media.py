"""The calls that search, and that give single pictures, as they are described."""

from __future__ import annotations

from daemon.search.folding import MOST_LETTERS
from daemon.search.reader import FoundKind
from daemon.stills.files import LEAST_WIDTH, MOST_WIDTH
from sidecar.openapi_parts import (
    BINARY,
    COUNT,
    FILE_NAME,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    JOB_ID,
    SECONDS,
    TEXT,
    UNCHANGED,
    VALIDATED,
    Calls,
    answer,
    call,
    content,
    query,
)
from sidecar.query import MOST_FRAME_INDEX, MOST_HITS
from sidecar.result_schemas import SearchAnswer
from sidecar.schemas import BeingMade
from sidecar.still_routes import Switch


def search_calls() -> Calls:
    """Describe the search."""
    wanted = query(
        "q",
        {**TEXT, "format": "words", "minLength": 1, "maxLength": MOST_LETTERS},
        "Words; several in quotation marks are one.",
    )
    return {
        "/v1/search": {
            "get": call(
                "search",
                "Search for texts and objects in all videos",
                {200: answer(SearchAnswer, "A page; it may hold fewer hits than asked for.")},
                (422,),
                [
                    {**wanted, "required": True},
                    query("kind", {"type": "string", "enum": list(FoundKind)}, "Only hits of this kind."),
                    query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_HITS}, "Hits; default 50."),
                    query("cursor", {"type": "string", "format": "cursor"}, "The next_cursor of the page before."),
                ],
                description="A text is found if it contains every word, in any order, inside of words as well. Case "
                "and accents do not count.",
            )
        }
    }


def still_calls(max_wait_seconds: float) -> Calls:
    """Describe single pictures."""
    wait = {"type": "number", "minimum": 0, "maximum": max_wait_seconds}
    width = {"type": "integer", "minimum": LEAST_WIDTH, "maximum": MOST_WIDTH}
    headers = {**VALIDATED, "Last-Modified": "For If-Modified-Since.", "Content-Disposition": FILE_NAME}
    good = {
        200: content({"image/jpeg": BINARY}, "The picture.", headers),
        202: answer(BeingMade, "It is being made.", {"Retry-After": "Seconds."}),
        304: UNCHANGED,
    }
    return {
        "/v1/jobs/{job_id}/frame": {
            "get": call(
                "get_frame",
                "Get a picture of a job's video as JPEG",
                good,
                (404, 409, 410, 412, 422, 507),
                [
                    JOB_ID,
                    query("t", SECONDS, "The picture shown at this time, in seconds."),
                    query("index", {**COUNT, "maximum": MOST_FRAME_INDEX}, "The picture with this frame_index."),
                    query("width", width, "At most so many pixels across."),
                    query("boxes", {"type": "string", "enum": list(Switch)}, "1: with what was found in it drawn."),
                    query("wait", wait, "Answer when it is made, after so many seconds at the latest; default 20."),
                    IF_NONE_MATCH,
                    IF_MODIFIED_SINCE,
                ],
                description="Without t and index it is one that stands for the video.",
            )
        }
    }
