"""What the description of every call is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from daemon.jobs import MOST_FRAMES
from sidecar.query import MOST_SECONDS
from sidecar.schemas import ref

Schema = dict[str, Any]
Calls = dict[str, Schema]
"""By path; then by method."""

ALWAYS = (401, 403, 421, 429, 500, 503)
"""Any call may be answered so."""

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": "string", "format": "date-time"}
FRAME_NUMBER = {"type": "integer", "minimum": 1, "maximum": MOST_FRAMES}
SECONDS = {"type": "number", "minimum": 0, "maximum": MOST_SECONDS}
BINARY = {"schema": {"type": "string", "format": "binary"}}


def parameter(place: str, name: str, schema: Schema, description: str) -> Schema:
    """Return a parameter; only those in a path are required."""
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


def query(name: str, schema: Schema, description: str) -> Schema:
    """Return a parameter of the query."""
    return parameter("query", name, schema, description)


JOB_ID = parameter("path", "job_id", TEXT, "From the answer to a submission.")
IF_NONE_MATCH = parameter("header", "If-None-Match", TEXT, "An ETag; the answer is 304 if nothing has changed.")
IF_MODIFIED_SINCE = parameter("header", "If-Modified-Since", TEXT, "The same by time; If-None-Match wins.")
RANGE = parameter(
    "header",
    "Range",
    {"type": "string", "format": "byte-range"},
    "One range, such as bytes=0-1023; several get the whole file.",
)
KEY = parameter(
    "header",
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "Your own id of this submission: sent again, it gets the same job.",
)
UNGUARDED: Schema = {"security": []}
"""Of a call that needs no token."""
UNCHANGED = {"description": "Nothing has changed."}
VALIDATED = {"ETag": "For If-None-Match."}
FILE_NAME = "The video's name, for those who save the answer."


def answer(model: type[BaseModel], description: str, headers: Mapping[str, str] | None = None) -> Schema:
    """Return an answer that is a record."""
    return content({"application/json": {"schema": ref(model)}}, description, headers)


def content(content: Schema, description: str, headers: Mapping[str, str] | None = None) -> Schema:
    """Return an answer of other content."""
    more = {name: {"schema": TEXT, "description": text} for name, text in (headers or {}).items()}
    return {"description": description, "content": content, **({"headers": more} if more else {})}


def told(description: str, headers: Mapping[str, str]) -> Schema:
    """Return an answer without a body."""
    return {
        "description": description,
        "headers": {name: {"schema": TEXT, "description": text} for name, text in headers.items()},
    }


def call(
    operation_id: str,
    summary: str,
    good: Mapping[int, Schema],
    problems: Iterable[int] = (),
    parameters: Iterable[Schema] = (),
    *,
    body: Schema | None = None,
    tag: str = "jobs",
    description: str = "",
) -> Schema:
    """Return a call."""
    responses: dict[str, Any] = {str(status): answer for status, answer in good.items()}
    for status in sorted({*ALWAYS, *problems}):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    described: Schema = {
        "operationId": operation_id,
        "summary": summary,
        "description": description or f"{summary}.",
        "tags": [tag],
        "responses": responses,
    }
    if parameters := list(parameters):
        described["parameters"] = parameters
    if body:
        described["requestBody"] = {"required": True, "content": body}
    return described
