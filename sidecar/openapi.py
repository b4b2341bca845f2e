"""describe: the OpenAPI document, written beside the routes it describes; tests hold the two together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from daemon import __version__
from daemon.containers import MEDIA_TYPES
from daemon.jobs import MOST_FRAMES, JobSource, JobStatus
from daemon.pipeline.pipelines import Pipeline
from daemon.public_job import PublicJob
from daemon.settings import Settings
from sidecar.problems import MEDIA_TYPE
from sidecar.query import MOST_FRAME_INDEX, MOST_JOBS, MOST_RESULTS, MOST_SECONDS
from sidecar.schemas import (
    AliveAnswer,
    BeingMade,
    DensityAnswer,
    JobPage,
    PipelineList,
    PublicProblem,
    PublicResult,
    ReadyAnswer,
    RejectedPage,
    RequestedJob,
    RetryAllAnswer,
    SubmittedJob,
    TextsAnswer,
    TracksAnswer,
    component_schemas,
    ref,
)
from sidecar.submit_options import TOLERATED

Schema = dict[str, Any]
Calls = dict[str, Schema]
"""By path; then by method."""

STATUSES = {
    400: "Malformed, or not a video that is taken, by its first bytes.",
    401: "A token is needed.",
    403: "The token does not have the right, or the page belongs to another site.",
    404: "Unknown job, pipeline or address; or there is no result yet.",
    408: "Too slow.",
    409: "The job is in the wrong state, or the key is in use.",
    410: "The job was deleted; deleted_at says when.",
    413: "Too large.",
    415: "Not a form.",
    416: "No such range.",
    421: "Unknown host name.",
    422: "A field is wrong or unknown; errors names each.",
    429: "The client has its share open; Retry-After says when to try again.",
    500: "A defect; the log has the reason.",
    503: "Too busy, stopping, or not ready; Retry-After says when to try again.",
    507: "The disk is too full.",
}
"""What the problems mean that the calls may answer with."""
ALWAYS = (401, 403, 421, 429, 500, 503)
TAGS = {
    "jobs": "Submit videos, follow their jobs, read the results.",
    "health": "For monitors.",
    "pages": "For people.",
}

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": "string", "format": "date-time"}
FRAME_NUMBER = {"type": "integer", "minimum": 1, "maximum": MOST_FRAMES}
SECONDS = {"type": "number", "minimum": 0, "maximum": MOST_SECONDS}
BINARY = {"schema": {"type": "string", "format": "binary"}}


def _parameter(place: str, name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


def _query(name: str, schema: Schema, description: str) -> Schema:
    return _parameter("query", name, schema, description)


JOB_ID = _parameter("path", "job_id", TEXT, "From the answer to a submission.")
IF_NONE_MATCH = _parameter("header", "If-None-Match", TEXT, "An ETag; the answer is 304 if nothing has changed.")
IF_MODIFIED_SINCE = _parameter("header", "If-Modified-Since", TEXT, "The same by time; If-None-Match wins.")
RANGE = _parameter(
    "header",
    "Range",
    {"type": "string", "format": "byte-range"},
    "One range, such as bytes=0-1023; several get the whole file.",
)
KEY = _parameter(
    "header",
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "Your own id of this submission: sent again, it gets the same job.",
)
UNCHANGED = {"description": "Nothing has changed."}
VALIDATED = {"ETag": "For If-None-Match."}
FILE_NAME = "The video's name, for those who save the answer."


def _answer(model: type[BaseModel], description: str, headers: Mapping[str, str] | None = None) -> Schema:
    return _content({"application/json": {"schema": ref(model)}}, description, headers)


def _content(content: Schema, description: str, headers: Mapping[str, str] | None = None) -> Schema:
    more = {name: {"schema": TEXT, "description": text} for name, text in (headers or {}).items()}
    return {"description": description, "content": content, **({"headers": more} if more else {})}


def _call(
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
    responses: dict[str, Any] = {str(status): answer for status, answer in good.items()}
    for status in sorted({*ALWAYS, *problems}):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    call: Schema = {
        "operationId": operation_id,
        "summary": summary,
        "description": description or f"{summary}.",
        "tags": [tag],
        "responses": responses,
    }
    if parameters := list(parameters):
        call["parameters"] = parameters
    if body:
        call["requestBody"] = {"required": True, "content": body}
    return call


def _submit_calls(pipeline_ids: list[str]) -> Calls:
    options: dict[str, tuple[Schema, str]] = {
        "pipeline_id": (TEXT, f"One of {', '.join(pipeline_ids)}."),
        "frame_stride": (FRAME_NUMBER, "Analyse every n-th frame."),
        "max_frames": (FRAME_NUMBER, "Stop after this many analysed frames."),
    }
    fields: Schema = {"file": {**BINARY["schema"], "description": "The video."}}
    fields |= {name: {**schema, "description": text} for name, (schema, text) in options.items()}
    fields |= {name: {**TEXT, "deprecated": True, "description": "Has no effect."} for name in TOLERATED}
    form = {"type": "object", "required": ["file"], "properties": fields, "additionalProperties": False}
    queries = [_query(name, schema, text) for name, (schema, text) in options.items()]
    created = {201: _answer(SubmittedJob, "Accepted: the job is safe from now on.", {"Location": "Its status."})}
    problems = (400, 404, 408, 409, 413, 422, 507)
    name = _parameter("path", "filename", TEXT, "The video's name.")
    return {
        "/v1/video/submit": {
            "post": _call(
                "submit_video",
                "Submit a video as a form",
                created,
                (*problems, 415),
                [*queries, KEY],
                body={"multipart/form-data": {"schema": form}},
            )
        },
        "/v1/video/submit/{filename}": {
            "put": _call(
                "put_video",
                "Submit a video as the body itself (curl -T)",
                created,
                problems,
                [name, *queries, KEY],
                body={"video/mp4": BINARY, "application/octet-stream": BINARY},
            )
        },
    }


def _read_calls(max_wait_seconds: float) -> Calls:
    wait = {"type": "number", "minimum": 0, "maximum": max_wait_seconds}
    frames = {"type": "integer", "minimum": 1, "maximum": MOST_RESULTS}
    job = {200: _answer(PublicJob, "The job, whatever its state.", VALIDATED), 304: UNCHANGED}
    validated = {**VALIDATED, "Last-Modified": "For If-Modified-Since.", "Content-Disposition": FILE_NAME}
    result = {200: _answer(PublicResult, "The document.", validated), 304: UNCHANGED}
    waiting = _query("wait", wait, "Answer when the job changes, after this many seconds at the latest.")
    status = ((404, 410, 422), [JOB_ID, waiting, IF_NONE_MATCH])
    return {
        "/v1/video/status/{job_id}": {"get": _call("get_status", "Get a job's status", job, *status)},
        "/v1/video/results/{job_id}": {
            "get": _call(
                "get_results",
                "Get a job's result document, or some of its frames",
                result,
                (404, 410, 422),
                [
                    JOB_ID,
                    _query("from_frame", {**COUNT, "maximum": MOST_FRAME_INDEX}, "Only frames from this index on."),
                    _query("from_s", SECONDS, "Only frames that are shown at this time or later, in seconds."),
                    _query("limit", frames, "At most this many frames."),
                    IF_NONE_MATCH,
                    IF_MODIFIED_SINCE,
                ],
            )
        },
        "/v1/jobs": {"get": _list_call()},
        "/v1/rejected": {"get": _rejected_call()},
        "/v1/jobs/{job_id}": {
            "get": _call("get_job", "Get a job", job, *status),
            "delete": _call(
                "delete_job",
                "Delete a job with its video, its result and what was made of them",
                {
                    202: _answer(
                        RequestedJob, "Requested; the status is 410 once it is done.", {"Location": "Its status."}
                    )
                },
                (404, 409, 410, 507),
                [JOB_ID],
                description="One that runs has to be cancelled first. A newer result under the same name stays.",
            ),
        },
    }


def _list_call() -> Schema:
    return _call(
        "list_jobs",
        "List jobs, newest first",
        {200: _answer(JobPage, "A page.")},
        (422,),
        [
            _query("status", {"type": "string", "enum": list(JobStatus)}, "Only jobs in this state."),
            _query("source", {"type": "string", "enum": list(JobSource)}, "Only jobs that came this way."),
            _query("pipeline_id", TEXT, "Only jobs of this pipeline."),
            _query("name", TEXT, "Only jobs whose file name contains this."),
            _query("created_after", TIME, "Only jobs created later."),
            _query("created_before", TIME, "Only jobs created earlier."),
            _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_JOBS}, "Jobs on a page; default 50."),
            _query("cursor", {"type": "string", "format": "cursor"}, "The next_cursor of the page before."),
        ],
    )


def _rejected_call() -> Schema:
    return _call(
        "list_rejected_files",
        "List the dropped files that were not taken in, newest first",
        {200: _answer(RejectedPage, "A page.")},
        (422,),
        [
            _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_JOBS}, "Files on a page; default 50."),
            _query("cursor", {"type": "string", "format": "cursor"}, "The next_cursor of the page before."),
        ],
    )


def _job_calls() -> Calls:
    requested = {
        202: _answer(RequestedJob, "Requested; the status shows when it is done.", {"Location": "Its status."})
    }
    video = dict.fromkeys(MEDIA_TYPES, BINARY)
    headers = {**VALIDATED, "Last-Modified": "For If-Modified-Since.", "Content-Disposition": FILE_NAME}
    change = ((404, 409, 410, 507), [JOB_ID])
    return {
        "/v1/jobs/{job_id}/cancel": {"post": _call("cancel_job", "Cancel a job", requested, *change)},
        "/v1/jobs/{job_id}/retry": {"post": _call("retry_job", "Retry a failed job", requested, *change)},
        "/v1/jobs/retry-failed": {
            "post": _call(
                "retry_failed_jobs",
                "Retry all failed jobs, except cancelled ones",
                {202: _answer(RetryAllAnswer, "Requested for this many.")},
                (507,),
            )
        },
        "/v1/jobs/{job_id}/video": {
            "get": _call(
                "get_video",
                "Get a job's video",
                {
                    200: _content(video, "All of it.", headers),
                    206: _content(video, "A range of it.", headers),
                    304: UNCHANGED,
                },
                (404, 410, 416),
                [JOB_ID, RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE],
            )
        },
    }


def _derived_calls(max_wait_seconds: float) -> Calls:
    wait = {"type": "number", "minimum": 0, "maximum": max_wait_seconds}
    waiting = _query("wait", wait, "If it is being made, answer when it is there, after so many seconds at the latest.")
    made_later = _answer(BeingMade, "It is being made.", {"Retry-After": "Seconds."})
    kinds: dict[str, tuple[type[BaseModel], str]] = {
        "texts": (TextsAnswer, "Get the texts of a video: what stayed on the screen, from when to when"),
        "tracks": (TracksAnswer, "Get the tracks of a video: which detections are of the same object"),
        "density": (DensityAnswer, "Get how much of what is in each part of a video"),
    }
    calls = {}
    for kind, (model, summary) in kinds.items():
        good = {200: _answer(model, "All of it.", VALIDATED), 202: made_later, 304: UNCHANGED}
        parameters = [JOB_ID, waiting, IF_NONE_MATCH, IF_MODIFIED_SINCE]
        calls[f"/v1/jobs/{{job_id}}/{kind}"] = {"get": _call(f"get_{kind}", summary, good, (404, 409, 422), parameters)}
    return calls


def _service_calls() -> Calls:
    plain, document = {"text/plain": {"schema": TEXT}}, {"application/json": {"schema": {"type": "object"}}}
    page = {200: _content({"text/html": {"schema": TEXT}}, "A page."), 304: UNCHANGED}
    pipelines = {200: _answer(PipelineList, "All of them.")}
    alive = {200: _answer(AliveAnswer, "It is.")}
    ready = {200: _answer(ReadyAnswer, "Everything works.")}
    metrics = {200: _content(plain, "Text format 0.0.4.")}
    described = {200: _content(document, "OpenAPI 3.1.")}
    calls = {
        "/v1/pipelines": _call("list_pipelines", "List the pipelines", pipelines),
        "/healthz": _call("get_liveness", "Check that this process is alive", alive, tag="health"),
        "/readyz": _call("get_readiness", "Check that everything works, part by part", ready, tag="health"),
        "/metrics": _call("get_metrics", "Get the metrics for Prometheus", metrics, tag="health"),
        "/openapi.json": _call("get_openapi", "Get this description", described, tag="pages"),
        "/docs": _call("get_docs_page", "Read about the calls", page, tag="pages"),
        "/": _call("get_page", "Open the web page", page, tag="pages"),
    }
    return {path: {"get": call} for path, call in calls.items()}


def _unversioned(calls: Calls) -> Calls:
    """Return the calls that answer without ``/v1`` as well; each needs an id of its own."""
    found: Calls = {}
    for path, methods in calls.items():
        if path.startswith("/v1/video/"):
            found[path.removeprefix("/v1")] = {
                method: {**call, "operationId": f"{call['operationId']}_unversioned"}
                for method, call in methods.items()
            }
    return found


def describe(pipelines: Mapping[str, Pipeline], settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        pipelines: Those there are.
        settings: Limits, and whether a token is needed.
    """
    problem = {MEDIA_TYPE: {"schema": ref(PublicProblem)}}
    calls = _submit_calls(sorted(pipelines)) | _read_calls(settings.max_wait_seconds) | _job_calls()
    calls |= _derived_calls(settings.max_wait_seconds) | _service_calls()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dropframe",
            "version": __version__,
            "description": "Submit a video, follow its job, read what is in every frame.",
            "license": {"name": "GNU Affero General Public License v3.0 only", "identifier": "AGPL-3.0-only"},
            "contact": {"name": "The Dropframe contributors"},
        },
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": calls | _unversioned(calls),
        "components": {
            "schemas": component_schemas(),
            "responses": {str(status): {"description": text, "content": problem} for status, text in STATUSES.items()},
            **({"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if settings.tokens else {}),
        },
        "security": [{"token": []}] if settings.tokens else [],
    }
