"""What the sidecar's answers hold, as pydantic models: the source of the schemas in the OpenAPI document.

They describe; nothing is validated against them while serving. Tests hold the answers to them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from daemon.export_formats import Content
from daemon.jobs import JobStatus
from daemon.public_job import Count, JobId, PublicJob, PublicModel, Time
from sidecar.result_schemas import (
    DensityAnswer,
    PublicResult,
    SearchAnswer,
    TextsAnswer,
    TracksAnswer,
)


class SubmittedJob(PublicJob):
    """The answer to a submission."""

    warnings: list[str] = Field(description="What was accepted and has no effect.")


class RequestedJob(PublicJob):
    """The job, and what was requested for it; its status shows when that is done."""

    requested: Literal["cancel", "retry", "delete"]


class RetryAllAnswer(PublicModel):
    """How many retries were requested."""

    requested: Count


class PublicWaitingFile(PublicModel):
    """A file of the inbox that is not a job yet."""

    name: str = Field(description="Below the inbox.")
    size_bytes: Count
    age_s: float = Field(description="Since it was first seen.")
    why: str = Field(description="Why it is not a job yet, in a sentence.")


class JobPage(PublicModel):
    """A page of a list."""

    jobs: list[PublicJob]
    next_cursor: str | None = Field(description="Send it as cursor to get the next page; null on the last page.")
    counts: dict[JobStatus, Count] = Field(description="How many jobs there are in each status, on all pages.")
    waiting: list[PublicWaitingFile] = Field(
        description="Files of the inbox that are not jobs yet: the first 50, those named as videos before others, "
        "each kind oldest first."
    )


class PublicRejectedFile(PublicModel):
    """A file of the inbox that was not taken in."""

    name: str = Field(description="As it was dropped, below the inbox.")
    path: str = Field(description="Where it is now, below the inbox; or the address of an object.")
    reason: str = Field(description="Why it was rejected and what to do, in sentences.")
    rejected_at: Time
    size_bytes: Count


class RejectedPage(PublicModel):
    """A page of a list."""

    rejected: list[PublicRejectedFile]
    next_cursor: str | None = Field(description="Send it as cursor to get the next page; null on the last page.")
    count: Count = Field(description="How many there are on all pages; the newest 10,000 are listed.")


class SessionAnswer(PublicModel):
    """What the caller may do, and a pass for what a browser fetches by itself: pictures, videos and downloads."""

    token: str | None = Field(description="The name of the token; null where none is needed.")
    rights: Literal["read", "submit"]
    cookie: str | None = Field(
        description="A cookie, as name=value, that stands for the token in GET calls; null where none is needed, "
        "and to a caller that has sent only that cookie."
    )
    cookie_seconds: Count | None = Field(description="How long it does so.")


class BeingMade(PublicModel):
    """What was asked for is not there yet."""

    job_id: JobId
    detail: str = Field(description="A sentence.")


class PublicFormat(PublicModel):
    """A format that results are exported to."""

    format: str = Field(description="As addresses, settings and commands have it.")
    title: str
    ending: str = Field(description="What is put behind the video's name.")
    media_type: str
    content: Content
    used_by: str = Field(description="Programs that read it.")


class FormatList(PublicModel):
    """All formats."""

    formats: list[PublicFormat]


class FieldError(PublicModel):
    """What is wrong with one field, query parameter or header."""

    field: str
    message: str


class ReadyPart(PublicModel):
    """One thing that must be well for Dropframe to work."""

    ok: bool
    detail: str = Field(description="A sentence.")


class ReadyAnswer(PublicModel):
    """Everything is well."""

    status: Literal["ready"]
    parts: dict[str, ReadyPart]


class AliveAnswer(PublicModel):
    """This process is alive."""

    status: Literal["alive"]


class ListedPipeline(PublicModel):
    """What may be asked for as pipeline_id."""

    pipeline_id: str
    description: str
    default: bool
    problem: str | None = Field(description="Why its jobs would fail at the moment.")
    note: str | None = Field(description="What its jobs would lack at the moment.")


class PipelineList(PublicModel):
    """All pipelines."""

    pipelines: list[ListedPipeline]


class PublicProblem(PublicModel):
    """An error (RFC 9457)."""

    type: str = Field(pattern="^urn:dropframe:problem:", json_schema_extra={"format": "uri"})
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="One sentence to act on.")
    errors: list[FieldError] = Field(default_factory=list, description="Each wrong field, where the kind is bad-field.")
    job_id: JobId = Field("", description="Where a job is in the wrong state, or was deleted.")
    job_status: JobStatus = Field(JobStatus.PENDING, description="Where a job is in the wrong state: which it is in.")
    deleted_at: Time = Field("", description="Where a job was deleted: when.")
    parts: dict[str, ReadyPart] = Field(default_factory=dict, description="Of /readyz: each part.")


PUBLISHED: tuple[type[BaseModel], ...] = (
    PublicJob,
    SubmittedJob,
    RequestedJob,
    RetryAllAnswer,
    SessionAnswer,
    JobPage,
    RejectedPage,
    PublicResult,
    TextsAnswer,
    TracksAnswer,
    DensityAnswer,
    SearchAnswer,
    BeingMade,
    FormatList,
    ReadyAnswer,
    AliveAnswer,
    PipelineList,
    PublicProblem,
)


class _PublishedSchema(GenerateJsonSchema):
    """Names components as published; leaves out titles that repeat a name, and defaults: such a member is absent."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removeprefix("Public")

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])


def ref(model: type[BaseModel]) -> dict[str, str]:
    """Return a reference to a model's schema in the OpenAPI document."""
    return {"$ref": f"#/components/schemas/{model.__name__.removeprefix('Public')}"}


def component_schemas() -> dict[str, Any]:
    """Return the schemas of all models by their published names."""
    mode: JsonSchemaMode = "serialization"
    _, schemas = models_json_schema(
        [(model, mode) for model in PUBLISHED],
        ref_template="#/components/schemas/{model}",
        schema_generator=_PublishedSchema,
    )
    published: dict[str, Any] = schemas["$defs"]
    return published
