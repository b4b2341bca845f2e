"""describe: the OpenAPI document, written beside the routes it describes; tests hold the two together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemon import __version__
from daemon.jobs import ErrorKind, JobSource, JobStatus
from daemon.pipeline.pipelines import Pipeline
from daemon.settings import Settings
from sidecar.problems import MEDIA_TYPE

Schema = dict[str, Any]

NULL = {"type": "null"}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": "string", "format": "date-time"}
JOB_ID = {"type": "string", "format": "uuid", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
WHOLE = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


def _object(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties) if required is None else required,
    }


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


JOB = _object(
    {
        "job_id": JOB_ID,
        "status": {"type": "string", "enum": list(JobStatus)},
        "progress": _said({"type": "number", "enum": [0.0, 0.5, 1.0]}, "0.0 pending, 0.5 running, 1.0 ended."),
        "pipeline_id": TEXT,
        "source": {"type": "string", "enum": list(JobSource)},
        "source_name": _said(TEXT, "The file's original name."),
        "options": _object({"frame_stride": WHOLE, "max_frames": _or_null(WHOLE)}),
        "size_bytes": COUNT,
        "sha256": _or_null(TEXT),
        "created_at": TIME,
        "updated_at": TIME,
        "started_at": _or_null(TIME),
        "finished_at": _or_null(TIME),
        "source_removed_at": _said(_or_null(TIME), "Since when its video is not kept any more."),
        "result_removed_at": _said(_or_null(TIME), "Since when its result is not kept any more."),
        "attempts": COUNT,
        "error_kind": _or_null({"type": "string", "enum": list(ErrorKind)}),
        "error_message": _said(_or_null(TEXT), "A sentence to act on."),
        "frames_processed": COUNT,
        "frames_total": _said(_or_null(COUNT), "Frames to be analysed, as far as the video says."),
        "frames_per_second": _said(_or_null(NUMBER), "While running."),
        "eta_s": _said(_or_null(NUMBER), "Seconds left, while running."),
        "queue_position": _said(_or_null(COUNT), "While pending: how many jobs come first; 0 is the next."),
        "device": _or_null(TEXT),
        "summary": _said(_or_null({"type": "object"}), "Counts of the result, once completed."),
    }
)
BOX = _said({"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4}, "x1, y1, x2, y2 in pixels.")
FRAME = _object(
    {
        "frame_index": COUNT,
        "timestamp_s": NUMBER,
        "result": _object(
            {
                "detections": {
                    "type": "array",
                    "items": _object(
                        {"bbox": BOX, "class": TEXT, "class_id": COUNT, "confidence": NUMBER},
                        ["bbox", "class", "confidence"],
                    ),
                },
                "text": TEXT,
                "text_blocks": {
                    "type": "array",
                    "items": _object({"bbox": BOX, "confidence": NUMBER, "text": TEXT}),
                },
                "text_unread": _said({"type": "array", "items": BOX}, "Where text could not be read, if so."),
            },
            ["detections", "text"],
        ),
    },
    ["frame_index", "result"],
)
RESULT = _object(
    {
        "job_id": JOB_ID,
        "created_at": TIME,
        "updated_at": TIME,
        "next_frame": _said(_or_null(COUNT), "Only in a part: where the next one begins; null at the end."),
        "results": {"type": "array", "items": _ref("Frame")},
        "models": {"type": "array", "items": {"type": "object"}},
        "options": {"type": "object"},
        "pipeline_id": TEXT,
        "schema": TEXT,
        "source": {"type": "object"},
        "summary": {"type": "object"},
        "video": {"type": "object"},
    },
    ["job_id", "created_at", "updated_at", "results"],
)
PROBLEM = _object(
    {
        "type": {"type": "string", "format": "uri", "pattern": "^urn:dropframe:problem:"},
        "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _said(TEXT, "One sentence to act on."),
        "errors": {"type": "array", "items": _object({"field": TEXT, "message": TEXT})},
    },
    ["type", "title", "status", "detail"],
)
PART = _object({"ok": {"type": "boolean"}, "detail": TEXT})
READY = _object({"status": {"const": "ready"}, "parts": {"type": "object", "additionalProperties": PART}})
JOBS = _object(
    {
        "jobs": {"type": "array", "items": _ref("Job")},
        "next_cursor": _said(_or_null(TEXT), "Ask with cursor=… for the page that follows; null at the end."),
        "counts": _object(dict.fromkeys(JobStatus, COUNT)),
    }
)
PIPELINES = _object(
    {
        "pipelines": {
            "type": "array",
            "items": _object(
                {
                    "pipeline_id": TEXT,
                    "description": TEXT,
                    "default": {"type": "boolean"},
                    "problem": _said(_or_null(TEXT), "Why its jobs would fail just now."),
                }
            ),
        }
    }
)

STATUSES = {
    400: "Malformed, or not an MP4 by its first bytes.",
    401: "A token is needed.",
    403: "The token has not the right, or the page is of another site.",
    404: "Unknown job, pipeline or address; or no result yet.",
    405: "Wrong method.",
    408: "Too slow.",
    409: "The job is in the wrong state, or the key is in use.",
    413: "Too large.",
    415: "Not a form.",
    416: "No such range.",
    421: "Unknown host name.",
    422: "A field has a wrong value; errors names it.",
    500: "A defect; the log has the reason.",
    503: "Too busy, stopping, or not ready; Retry-After says when to come again.",
    507: "The disk is too full.",
}
"""What the problems mean that the calls may answer with."""
ALWAYS = (401, 403, 421, 500, 503)


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _path(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _header(name: str, description: str, schema: Schema = TEXT) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


RANGE = {"type": "string", "format": "byte-range"}
CURSOR = {"type": "string", "format": "cursor"}
PATH_ID = _path("job_id", TEXT, "From the answer to a submit.")
IF_NONE_MATCH = _header("If-None-Match", "An ETag; the answer is 304 if nothing has changed.")
KEY = _header(
    "Idempotency-Key",
    "Your own id of this submission: sent again, it gets the same job.",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
)


def _json(schema: Schema, description: str, headers: Mapping[str, str] | None = None) -> Schema:
    return {
        "description": description,
        "content": {"application/json": {"schema": schema}},
        **({"headers": {n: {"schema": TEXT, "description": d} for n, d in headers.items()}} if headers else {}),
    }


def _call(
    summary: str,
    good: Mapping[int, Schema],
    problems: tuple[int, ...] = (),
    parameters: tuple[Schema, ...] = (),
    body: Schema | None = None,
    tag: str = "jobs",
) -> Schema:
    responses: dict[str, Any] = {str(status): answer for status, answer in good.items()}
    for status in sorted({*ALWAYS, *problems}):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{status}"})
    call: Schema = {"summary": summary, "tags": [tag], "responses": responses}
    if parameters:
        call["parameters"] = list(parameters)
    if body:
        call["requestBody"] = body
    return call


def _paths(pipeline_ids: list[str], max_wait_seconds: float) -> dict[str, Any]:
    pipeline = _said({"type": "string"}, f"One of {', '.join(pipeline_ids)}.")
    asked = (
        _query("pipeline_id", pipeline, pipeline["description"]),
        _query("frame_stride", WHOLE, "Analyse every n-th frame."),
        _query("max_frames", WHOLE, "Stop after so many analysed frames."),
    )
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "The MP4."},
            "pipeline_id": pipeline,
            "frame_stride": WHOLE,
            "max_frames": WHOLE,
        },
    }
    created = {201: _json(_ref("Job"), "Taken: the job is safe from here on.", {"Location": "Where its status is."})}
    upload = (400, 404, 408, 409, 413, 422, 507)
    submit = _call(
        "Submit a video as a form",
        created,
        (*upload, 415),
        (*asked, KEY),
        {"required": True, "content": {"multipart/form-data": {"schema": form}}},
    )
    put = _call(
        "Submit a video as the body itself (curl -T)",
        created,
        upload,
        (_path("filename", TEXT, "The video's name."), *asked, KEY),
        {"required": True, "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
    )
    unchanged = {"description": "Nothing has changed."}
    wait = _query(
        "wait",
        {"type": "number", "minimum": 0, "maximum": max_wait_seconds},
        "Answer when the job changes, at the latest after so many seconds.",
    )
    status = _call(
        "How a job is",
        {200: _json(_ref("Job"), "Whatever its state.", {"ETag": "For If-None-Match."}), 304: unchanged},
        (404, 422),
        (PATH_ID, wait, IF_NONE_MATCH),
    )
    results = _call(
        "The result document, or some of its frames",
        {200: _json(_ref("Result"), "The document.", {"ETag": "For If-None-Match."}), 304: unchanged},
        (404, 422),
        (
            PATH_ID,
            _query("from_frame", COUNT, "Only frames from this index on."),
            _query("limit", {"type": "integer", "minimum": 1, "maximum": 100_000}, "At most so many frames."),
            IF_NONE_MATCH,
        ),
    )
    jobs = _call(
        "The jobs, newest first, without their results",
        {200: _json(JOBS, "A page.")},
        (422,),
        (
            _query("status", {"type": "string", "enum": list(JobStatus)}, "Only jobs in this state."),
            _query("source", {"type": "string", "enum": list(JobSource)}, "Only jobs that came this way."),
            _query("pipeline_id", TEXT, "Only jobs of this pipeline."),
            _query("name", TEXT, "Only jobs whose file name holds this."),
            _query("created_after", TIME, "Only younger jobs."),
            _query("created_before", TIME, "Only older jobs."),
            _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Jobs on a page; 50."),
            _query("cursor", CURSOR, "next_cursor of the page before."),
        ),
    )
    asked_job = _json(
        {"allOf": [_ref("Job"), _object({"requested": TEXT})]}, "Asked for; the status shows when it is done."
    )
    video = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}
    page: dict[int, Schema] = {
        200: {"description": "A page.", "content": {"text/html": {"schema": TEXT}}},
        304: unchanged,
    }
    calls: dict[str, Any] = {
        "/v1/video/submit": {"post": submit},
        "/v1/video/submit/{filename}": {"put": put},
        "/v1/video/status/{job_id}": {"get": status},
        "/v1/video/results/{job_id}": {"get": results},
        "/v1/jobs": {"get": jobs},
        "/v1/jobs/{job_id}": {"get": status},
        "/v1/jobs/{job_id}/cancel": {
            "post": _call("End a job", {202: asked_job}, (404, 409, 507), (PATH_ID,)),
        },
        "/v1/jobs/{job_id}/retry": {
            "post": _call("Try a failed job again", {202: asked_job}, (404, 409, 507), (PATH_ID,)),
        },
        "/v1/jobs/retry-failed": {
            "post": _call(
                "Try all failed jobs again, but cancelled ones",
                {202: _json(_object({"requested": COUNT}), "So many were asked for.")},
                (507,),
            ),
        },
        "/v1/jobs/{job_id}/video": {
            "get": _call(
                "The video itself",
                {
                    200: {"description": "All of it.", "content": video},
                    206: {"description": "A range of it.", "content": video},
                    304: unchanged,
                },
                (404, 416),
                (PATH_ID, _header("Range", "Such as bytes=0-1023.", RANGE), IF_NONE_MATCH),
            ),
        },
        "/v1/pipelines": {"get": _call("The pipelines", {200: _json(PIPELINES, "All of them.")})},
        "/healthz": {
            "get": _call(
                "Whether this process is alive",
                {200: _json(_object({"status": {"const": "alive"}}), "It is.")},
                tag="health",
            )
        },
        "/readyz": {
            "get": _call("Whether everything works, part by part", {200: _json(READY, "It does.")}, tag="health")
        },
        "/metrics": {
            "get": _call(
                "Figures for Prometheus",
                {200: {"description": "Text format 0.0.4.", "content": {"text/plain": {"schema": TEXT}}}},
                tag="health",
            )
        },
        "/openapi.json": {
            "get": _call("This description", {200: _json({"type": "object"}, "OpenAPI 3.1.")}, tag="pages")
        },
        "/docs": {"get": _call("The calls, for people", page, tag="pages")},
        "/": {"get": _call("The web page", page, tag="pages")},
    }
    for path in [p for p in calls if p.startswith("/v1/video/")]:
        calls[path.removeprefix("/v1")] = calls[path]
    return calls


def describe(pipelines: Mapping[str, Pipeline], settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        pipelines: Those there are.
        settings: Limits, and whether a token is needed.
    """
    problem = {MEDIA_TYPE: {"schema": _ref("Problem")}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dropframe",
            "version": __version__,
            "description": "Submit a video, follow its job, read what is in every frame.",
        },
        "paths": _paths(sorted(pipelines), settings.max_wait_seconds),
        "components": {
            "schemas": {"Job": JOB, "Frame": FRAME, "Result": RESULT, "Problem": PROBLEM},
            "responses": {str(status): {"description": text, "content": problem} for status, text in STATUSES.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        **({"security": [{"token": []}]} if settings.tokens else {}),
    }
