"""What the sidecar's answers hold, as pydantic models: the source of the schemas in the OpenAPI document.

They describe; nothing is validated against them while serving. Tests hold the answers to them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from daemon.jobs import JobStatus
from daemon.public_job import Count, JobId, PublicJob, PublicModel, Time

Box = Annotated[list[float], Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels.")]
Confidence = Annotated[float, Field(ge=0, le=1)]


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
    waiting: list[PublicWaitingFile] = Field(description="Files of the inbox that are not jobs yet: the 50 oldest.")


class PublicRejectedFile(PublicModel):
    """A file of the inbox that was not taken in."""

    name: str = Field(description="As it was dropped, below the inbox.")
    path: str = Field(description="Where it is now, below the inbox.")
    reason: str = Field(description="Why it was rejected and what to do, in sentences.")
    rejected_at: Time
    size_bytes: Count


class RejectedPage(PublicModel):
    """A page of a list."""

    rejected: list[PublicRejectedFile]
    next_cursor: str | None = Field(description="Send it as cursor to get the next page; null on the last page.")
    count: Count = Field(description="How many there are on all pages; the newest 10,000 are listed.")


class PublicDetection(PublicModel):
    """One object."""

    bbox: Box
    class_name: str = Field(alias="class")
    class_id: Count = 0
    confidence: Confidence


class PublicTextBlock(PublicModel):
    """One line of text."""

    bbox: Box
    confidence: Confidence
    text: str


class FrameResult(PublicModel):
    """What is in one frame."""

    detections: list[PublicDetection]
    text: str
    text_blocks: list[PublicTextBlock] = Field(default_factory=list)
    text_unread: list[Box] = Field(default_factory=list, description="Where there is text that could not be read.")


class PublicFrame(PublicModel):
    """One analysed frame."""

    frame_index: Count
    timestamp_s: float = Field(0.0, description="Seconds from the start of the video.")
    result: FrameResult


class PublicResult(PublicModel):
    """The result document, or some of its frames."""

    job_id: JobId
    created_at: Time
    updated_at: Time
    next_frame: Count | None = Field(
        None, description="Only where some frames were asked for: the first that follows; null at the end."
    )
    results: list[PublicFrame]
    models: list[dict[str, Any]] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)
    pipeline_id: str = ""
    document_schema: str = Field("", alias="schema")
    source: dict[str, Any] = Field(default_factory=dict)
    summary: dict[str, Any] = Field(default_factory=dict)
    video: dict[str, Any] = Field(default_factory=dict)


class DocumentFingerprint(PublicModel):
    """A result document."""

    sha256: str
    size_bytes: Count


class DerivedFrom(PublicModel):
    """What something was derived from, and by which rules; the same give the same bytes."""

    document: DocumentFingerprint
    derived_schema: str = Field(alias="schema")
    version: Count


class PublicText(PublicModel):
    """A text that stayed on the screen."""

    text: str = Field(description="As it was read most often.")
    start_s: float
    end_s: float = Field(description="When the next analysed frame is shown, which does not have it.")
    first_frame: Count
    last_frame: Count
    reads: Count = Field(description="Frames on which it was read.")
    confidence: Confidence
    bbox: Box


class TextsAnswer(PublicModel):
    """All texts, by their first frame."""

    job_id: JobId
    derived_from: DerivedFrom
    texts: list[PublicText]


class PublicTrack(PublicModel):
    """An object that was followed."""

    track_id: Count = Field(description="From 1 on, in order of the first frame.")
    class_name: str = Field(alias="class", description="That of most of its boxes.")
    start_s: float
    end_s: float = Field(description="When the next analysed frame is shown, which does not have it.")
    first_frame: Count
    last_frame: Count
    boxes: Count = Field(description="Frames on which it was detected; 2 or more.")
    confidence: Confidence
    best_frame: Count = Field(description="The frame on which it was detected with the most confidence.")
    best_bbox: Box


class TrackedFrame(PublicModel):
    """Which detection of a frame is of which track."""

    frame_index: Count
    track_ids: list[Count | None] = Field(description="For each detection, as the result lists them; null for none.")


class TracksAnswer(PublicModel):
    """All tracks, and the frames that have one."""

    job_id: JobId
    derived_from: DerivedFrom
    tracks: list[PublicTrack]
    frames: list[TrackedFrame]


class PublicDensity(PublicModel):
    """Counts by time: an entry for each bucket, from the beginning of the video on."""

    bucket_s: float = Field(gt=0, description="Length of a bucket in seconds.")
    frames: list[Count] = Field(description="Frames analysed.")
    objects: dict[str, list[Count]] = Field(description="Detections by class.")
    text_lines: list[Count] = Field(description="Lines of text.")


class DensityAnswer(PublicModel):
    """What is in each part of a video."""

    job_id: JobId
    derived_from: DerivedFrom
    density: PublicDensity


class BeingMade(PublicModel):
    """What was asked for is not there yet."""

    job_id: JobId
    detail: str = Field(description="A sentence.")


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
    JobPage,
    RejectedPage,
    PublicResult,
    TextsAnswer,
    TracksAnswer,
    DensityAnswer,
    BeingMade,
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
