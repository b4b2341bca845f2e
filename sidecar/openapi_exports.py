"""The calls for exports, as they are described."""

from __future__ import annotations

from daemon.export_formats import FORMATS, MOST_SECONDS
from sidecar.openapi_parts import (
    BINARY,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    JOB_ID,
    RANGE,
    TEXT,
    UNCHANGED,
    VALIDATED,
    Calls,
    answer,
    call,
    content,
    parameter,
    query,
)
from sidecar.schemas import BeingMade, FormatList


def export_calls(max_wait_seconds: float) -> Calls:
    """Describe what sends results as other programs read them."""
    wait = {"type": "number", "minimum": 0, "maximum": max_wait_seconds}
    seconds = {"type": "number", "minimum": 0, "maximum": MOST_SECONDS}
    end = {**seconds, "exclusiveMinimum": 0}
    headers = {
        **VALIDATED,
        "Last-Modified": "For If-Modified-Since.",
        "Content-Disposition": "Named after the video.",
    }
    file = dict.fromkeys((each.media_type for each in FORMATS.values()), BINARY)
    good = {
        200: content(file, "All of it.", headers),
        202: answer(BeingMade, "It is being made.", {"Retry-After": "Seconds."}),
        206: content(file, "A range of it.", headers),
        304: UNCHANGED,
    }
    parameters = [
        JOB_ID,
        parameter("path", "format", {**TEXT, "enum": list(FORMATS)}, "Of GET /v1/formats."),
        query("classes", TEXT, "Only objects of these classes, with commas between them."),
        query("min_confidence", {"type": "number", "minimum": 0, "maximum": 1}, "Only what has at least this."),
        query("from_s", seconds, "Only what is shown from this time of the video on, in seconds."),
        query("to_s", end, "Only what is shown before this time; greater than from_s."),
        query("conf", {"type": "integer", "enum": [0, 1]}, "1: with yolo, confidences in a sixth column."),
        query("wait", wait, "If it is being made, answer when it is there, after so many seconds at the latest."),
        RANGE,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
    ]
    export = call(
        "get_export", "Export a result for another program", good, (404, 409, 410, 412, 416, 422, 507), parameters
    )
    formats = call("list_formats", "List the formats of exports", {200: answer(FormatList, "All of them.")}, (422,))
    return {"/v1/formats": {"get": formats}, "/v1/jobs/{job_id}/export/{format}": {"get": export}}
