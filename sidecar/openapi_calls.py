"""The calls, as they are described; tests hold them and the routes together."""

from __future__ import annotations

from pydantic import BaseModel

from daemon.containers import MEDIA_TYPES
from daemon.export_formats import FORMATS
from daemon.jobs import JobSource, JobStatus
from daemon.public_job import PublicJob
from sidecar.derived_page import MOST_ENTRIES, PAGED
from sidecar.openapi_parts import (
    BINARY,
    COUNT,
    FILE_NAME,
    FRAME_NUMBER,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    JOB_ID,
    KEY,
    RANGE,
    SECONDS,
    TEXT,
    TIME,
    UNCHANGED,
    UNGUARDED,
    VALIDATED,
    Calls,
    Schema,
    answer,
    call,
    content,
    parameter,
    query,
    told,
)
from sidecar.query import MOST_FRAME_INDEX, MOST_JOBS, MOST_RESULTS
from sidecar.result_schemas import DensityAnswer, PublicResult, TextsAnswer, TracksAnswer
from sidecar.schemas import (
    AliveAnswer,
    BeingMade,
    JobPage,
    PipelineList,
    ReadyAnswer,
    RejectedPage,
    RequestedJob,
    RetryAllAnswer,
    SessionAnswer,
    SubmittedJob,
)
from sidecar.submit_options import TOLERATED

ANY_FORMAT = f"({'|'.join(FORMATS)})"
FORMAT_NAMES: Schema = {"type": "string", "pattern": f"^({ANY_FORMAT}(,{ANY_FORMAT})*)?$"}


def submit_calls(pipeline_ids: list[str]) -> Calls:
    """Describe submissions."""
    options: dict[str, tuple[Schema, str]] = {
        "pipeline_id": (TEXT, f"One of {', '.join(pipeline_ids)}."),
        "frame_stride": (FRAME_NUMBER, "Analyse every n-th frame."),
        "max_frames": (FRAME_NUMBER, "Stop after this many analysed frames."),
        "exports": (
            FORMAT_NAMES,
            "Formats, with commas between them, that the result is put into the outbox in as well.",
        ),
    }
    fields: Schema = {"file": {**BINARY["schema"], "description": "The video."}}
    fields |= {name: {**schema, "description": text} for name, (schema, text) in options.items()}
    fields |= {name: {**TEXT, "deprecated": True, "description": "Has no effect."} for name in TOLERATED}
    form = {"type": "object", "required": ["file"], "properties": fields, "additionalProperties": False}
    queries = [query(name, schema, text) for name, (schema, text) in options.items()]
    created = {201: answer(SubmittedJob, "Accepted: the job is safe from now on.", {"Location": "Its status."})}
    problems = (400, 404, 408, 409, 413, 422, 507)
    name = parameter("path", "filename", TEXT, "The video's name.")
    return {
        "/v1/video/submit": {
            "post": call(
                "submit_video",
                "Submit a video as a form",
                created,
                (*problems, 415),
                [*queries, KEY],
                body={"multipart/form-data": {"schema": form}},
            )
        },
        "/v1/video/submit/{filename}": {
            "put": call(
                "put_video",
                "Submit a video as the body itself (curl -T)",
                created,
                problems,
                [name, *queries, KEY],
                body={"video/mp4": BINARY, "application/octet-stream": BINARY},
            )
        },
    }


def read_calls(max_wait_seconds: float) -> Calls:
    """Describe what reads jobs and results."""
    wait = {"type": "number", "minimum": 0, "maximum": max_wait_seconds}
    frames = {"type": "integer", "minimum": 1, "maximum": MOST_RESULTS}
    job = {200: answer(PublicJob, "The job, whatever its state.", VALIDATED), 304: UNCHANGED}
    validated = {**VALIDATED, "Last-Modified": "For If-Modified-Since.", "Content-Disposition": FILE_NAME}
    result = {200: answer(PublicResult, "The document.", validated), 304: UNCHANGED}
    waiting = query("wait", wait, "Answer when the job changes, after this many seconds at the latest.")
    status = ((404, 410, 422), [JOB_ID, waiting, IF_NONE_MATCH])
    return {
        "/v1/video/status/{job_id}": {"get": call("get_status", "Get a job's status", job, *status)},
        "/v1/video/results/{job_id}": {
            "get": call(
                "get_results",
                "Get a job's result document, or some of its frames",
                result,
                (404, 410, 412, 422),
                [
                    JOB_ID,
                    query("from_frame", {**COUNT, "maximum": MOST_FRAME_INDEX}, "Only frames from this index on."),
                    query("from_s", SECONDS, "Only frames that are shown at this time or later, in seconds."),
                    query("limit", frames, "At most this many frames."),
                    IF_NONE_MATCH,
                    IF_MODIFIED_SINCE,
                ],
            )
        },
        "/v1/jobs": {"get": _list_call()},
        "/v1/rejected": {"get": _rejected_call()},
        "/v1/jobs/{job_id}": {
            "get": call("get_job", "Get a job", job, *status),
            "delete": call(
                "delete_job",
                "Delete a job with its video, its result and what was made of them",
                {
                    202: answer(
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
    return call(
        "list_jobs",
        "List jobs, newest first",
        {200: answer(JobPage, "A page.")},
        (422,),
        [
            query("status", {"type": "string", "enum": list(JobStatus)}, "Only jobs in this state."),
            query("source", {"type": "string", "enum": list(JobSource)}, "Only jobs that came this way."),
            query("pipeline_id", TEXT, "Only jobs of this pipeline."),
            query("name", TEXT, "Only jobs whose file name contains this."),
            query("created_after", TIME, "Only jobs created later."),
            query("created_before", TIME, "Only jobs created earlier."),
            query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_JOBS}, "Jobs on a page; default 50."),
            query("cursor", {"type": "string", "format": "cursor"}, "The next_cursor of the page before."),
        ],
    )


def _rejected_call() -> Schema:
    return call(
        "list_rejected_files",
        "List the dropped files that were not taken in, newest first",
        {200: answer(RejectedPage, "A page.")},
        (422,),
        [
            query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_JOBS}, "Files on a page; default 50."),
            query("cursor", {"type": "string", "format": "cursor"}, "The next_cursor of the page before."),
        ],
    )


def job_calls() -> Calls:
    """Describe what is asked for jobs."""
    requested = {202: answer(RequestedJob, "Requested; the status shows when it is done.", {"Location": "Its status."})}
    video = dict.fromkeys(MEDIA_TYPES, BINARY)
    headers = {**VALIDATED, "Last-Modified": "For If-Modified-Since.", "Content-Disposition": FILE_NAME}
    change = ((404, 409, 410, 507), [JOB_ID])
    return {
        "/v1/jobs/{job_id}/cancel": {"post": call("cancel_job", "Cancel a job", requested, *change)},
        "/v1/jobs/{job_id}/retry": {"post": call("retry_job", "Retry a failed job", requested, *change)},
        "/v1/jobs/retry-failed": {
            "post": call(
                "retry_failed_jobs",
                "Retry all failed jobs, except cancelled ones",
                {202: answer(RetryAllAnswer, "Requested for this many.")},
                (507,),
            )
        },
        "/v1/jobs/{job_id}/video": {
            "get": call(
                "get_video",
                "Get a job's video",
                {
                    200: content(video, "All of it.", headers),
                    206: content(video, "A range of it.", headers),
                    304: UNCHANGED,
                },
                (404, 410, 412, 416),
                [JOB_ID, RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE],
            )
        },
    }


def derived_calls(max_wait_seconds: float) -> Calls:
    """Describe what is made from results."""
    wait = {"type": "number", "minimum": 0, "maximum": max_wait_seconds}
    waiting = query(
        "wait", wait, "If it is being made, answer when it is there, after this many seconds at the latest."
    )
    made_later = answer(BeingMade, "It is being made.", {"Retry-After": "Seconds."})
    kinds: dict[str, tuple[type[BaseModel], str]] = {
        "texts": (TextsAnswer, "Get the texts of a video: what stayed on the screen, from when to when"),
        "tracks": (TracksAnswer, "Get the tracks of a video: which detections are of the same object"),
        "density": (DensityAnswer, "Get how many objects and lines of text are in each part of a video"),
    }
    calls = {}
    for kind, (model, summary) in kinds.items():
        good = {200: answer(model, "All of it.", VALIDATED), 202: made_later, 304: UNCHANGED}
        parameters = [JOB_ID, waiting, IF_NONE_MATCH, IF_MODIFIED_SINCE]
        if kind in PAGED:
            parameters += [
                query(
                    "limit", {"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES}, "At most this many entries."
                ),
                query("cursor", {"type": "string", "format": "cursor"}, "The next_cursor of the page before."),
            ]
        calls[f"/v1/jobs/{{job_id}}/{kind}"] = {
            "get": call(f"get_{kind}", summary, good, (404, 409, 410, 412, 422), parameters)
        }
    return calls


def service_calls() -> Calls:
    """Describe what is not about jobs."""
    plain, document = {"text/plain": {"schema": TEXT}}, {"application/json": {"schema": {"type": "object"}}}
    page = {200: content({"text/html": {"schema": TEXT}}, "A page."), 304: UNCHANGED}
    pipelines = {200: answer(PipelineList, "All of them.")}
    session = {200: answer(SessionAnswer, "What the caller may do.")}
    alive = {200: answer(AliveAnswer, "It is.")}
    ready = {200: answer(ReadyAnswer, "Everything works.")}
    metrics = {200: content(plain, "Text format 0.0.4.")}
    described = {200: content(document, "OpenAPI 3.1.")}
    calls = {
        "/v1/pipelines": call("list_pipelines", "List the pipelines", pipelines),
        "/v1/session": call("get_session", "Ask what one may do, and get a pass for pictures and videos", session),
        "/healthz": call("get_liveness", "Check that this process is alive", alive, tag="health"),
        "/readyz": call("get_readiness", "Check that everything works, part by part", ready, tag="health"),
        "/metrics": call("get_metrics", "Get the metrics for Prometheus", metrics, tag="health"),
        "/openapi.json": call("get_openapi", "Get this description", described, tag="pages"),
        "/docs": call("get_docs_page", "Read about the calls", page, tag="pages") | UNGUARDED,
        "/": call("get_page", "Open the web page", page, tag="pages") | UNGUARDED,
    }
    return {path: {"get": call} for path, call in calls.items()}


def upload_calls() -> Calls:
    """Describe uploads in pieces."""
    version = parameter("header", "Tus-Resumable", {"type": "string", "enum": ["1.0.0"]}, "The version of tus.")
    upload = parameter("path", "job_id", TEXT, "From the Location of the answer to the creation.")
    offset = {"Upload-Offset": "Bytes that have come.", "Upload-Expires": "When what has come is removed."}
    length = parameter("header", "Upload-Length", COUNT, "Bytes of the whole video.")
    metadata = parameter(
        "header",
        "Upload-Metadata",
        TEXT,
        "filename, pipeline_id, frame_stride, max_frames, exports: each with its value in Base64.",
    )
    here = parameter("header", "Upload-Offset", COUNT, "Where the piece begins: how many bytes have come.")
    override = parameter(
        "header", "X-HTTP-Method-Override", {"type": "string", "enum": ["PATCH", "DELETE", "HEAD"]}, "What is meant."
    )
    for header in (version, length, here, override):
        header["required"] = True
    said = {204: {"description": "In the headers."}}
    return {
        "/v1/uploads": {
            "post": call(
                "begin_upload",
                "Begin an upload in pieces (tus 1.0)",
                {201: told("Begun.", {"Location": "Of the upload.", **offset})},
                (400, 404, 408, 409, 412, 413, 422, 423, 507),
                [version, length, metadata],
                description="The first piece may be the body. Any tus client does all of this.",
            ),
            "options": call("get_upload_options", "Ask which extensions of tus are supported", said),
        },
        "/v1/uploads/{job_id}": {
            "head": call(
                "get_upload_offset",
                "Ask how much of an upload has come",
                {200: told("In the headers.", {"Upload-Length": "Bytes of the whole.", **offset})},
                (400, 404, 409, 410, 412, 423, 507),
                [version, upload],
            ),
            "patch": call(
                "add_to_upload",
                "Add a piece to an upload",
                {204: told("It is durable; with the last one the video is a job.", offset)},
                (400, 404, 408, 409, 410, 412, 413, 415, 422, 423, 507),
                [version, upload, here],
                description="The body is the piece, of the type application/offset+octet-stream.",
            ),
            "post": call(
                "call_upload",
                "Add a piece, ask, or give up, where a client can only POST",
                {
                    200: told("As HEAD.", offset),
                    204: told("As PATCH or DELETE.", offset),
                },
                (400, 404, 408, 409, 410, 412, 413, 415, 422, 423, 507),
                [version, upload, override],
            ),
            "delete": call(
                "remove_upload",
                "Give up an upload",
                {204: {"description": "Gone."}},
                (404, 409, 410, 412, 423, 507),
                [version, upload],
            ),
            "options": call(
                "get_upload_options_again", "Ask which extensions of tus are supported", said, (), [upload]
            ),
        },
    }
