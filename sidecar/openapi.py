"""describe: the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemon import __version__
from daemon.pipeline.pipelines import Pipeline
from daemon.settings import Settings
from sidecar.openapi_calls import derived_calls, job_calls, read_calls, service_calls, submit_calls, upload_calls
from sidecar.openapi_exports import export_calls
from sidecar.openapi_media import search_calls, still_calls
from sidecar.openapi_parts import Calls
from sidecar.problems import MEDIA_TYPE
from sidecar.schemas import PublicProblem, component_schemas, ref

STATUSES = {
    400: "Malformed, or not a video of a kind that is accepted.",
    401: "A token is needed.",
    403: "The token does not have the right, or the page belongs to another site.",
    404: "Unknown job, pipeline or address; or there is no result yet.",
    408: "Too slow.",
    409: "The job is in the wrong state, or the key is in use.",
    410: "The job was deleted; deleted_at says when.",
    412: "The file is not the one that If-Match or If-Unmodified-Since asks for; of uploads: another version of tus.",
    413: "Too large.",
    415: "The body is not of the type that the call takes.",
    416: "No such range.",
    421: "Unknown host name.",
    422: "A field is wrong or unknown; errors names each.",
    423: "Another request writes to the upload.",
    429: "The client has too much open at a time; Retry-After says when to try again.",
    500: "A defect; the log has the reason.",
    503: "Too busy, stopping, or not ready; Retry-After says when to try again.",
    507: "The disk is too full.",
}
"""What the problems mean that the calls may answer with."""
TAGS = {
    "jobs": "Submit videos, follow their jobs, read the results.",
    "health": "For monitors.",
    "pages": "For people.",
}


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
    calls = submit_calls(sorted(pipelines)) | read_calls(settings.max_wait_seconds) | job_calls()
    calls |= derived_calls(settings.max_wait_seconds) | export_calls(settings.max_wait_seconds) | search_calls()
    calls |= still_calls(settings.max_wait_seconds) | upload_calls() | service_calls()
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
