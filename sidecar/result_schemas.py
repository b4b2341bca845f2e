"""Models of what is in a result and of what is made from it, as the sidecar answers it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from daemon.public_job import Count, JobId, PublicModel, Time
from daemon.search.reader import FoundKind

Box = Annotated[list[float], Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels.")]
Confidence = Annotated[float, Field(ge=0, le=1)]


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
    """Texts by their first frame: all, or a page of them."""

    job_id: JobId
    derived_from: DerivedFrom
    texts: list[PublicText]
    next_cursor: str | None = Field(None, description="On a page: of the next one, null on the last one.")


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
    """Tracks: all, with the frames that have one, or a page of them."""

    job_id: JobId
    derived_from: DerivedFrom
    tracks: list[PublicTrack]
    frames: list[TrackedFrame] = Field(description="With all tracks; empty on a page.")
    next_cursor: str | None = Field(None, description="On a page: of the next one, null on the last one.")


class PublicClassCount(PublicModel):
    """What there is of one class in the whole video."""

    frames: Count = Field(description="Frames with at least one.")
    most: Count = Field(description="The most in one frame.")
    confidences: list[Count] = Field(description="Detections by confidence, in 20 equal steps from 0 to 1.")


class PublicDensity(PublicModel):
    """Counts by time: an entry for each bucket, from the beginning of the video on."""

    bucket_s: float = Field(gt=0, description="Length of a bucket in seconds.")
    frames: list[Count] = Field(description="Frames analysed.")
    objects: dict[str, list[Count]] = Field(description="Detections by class.")
    text_lines: list[Count] = Field(description="Lines of text.")
    classes: dict[str, PublicClassCount] = Field(description="What there is of each class in the whole video.")


class DensityAnswer(PublicModel):
    """What is in each part of a video."""

    job_id: JobId
    derived_from: DerivedFrom
    density: PublicDensity


class PublicHit(PublicModel):
    """A text that stayed on the screen, or all objects of one class in a video."""

    job_id: JobId
    source_name: str = Field(description="Name of the video.")
    kind: FoundKind
    text: str = Field(description="The whole text; of objects the class.")
    start_s: float
    end_s: float = Field(description="Of objects that of the last one.")
    frame_index: Count = Field(description="A frame that shows it.")
    bbox: Box
    confidence: Confidence
    count: Count = Field(description="Frames on which the text was read, or tracks of the class.")


class SearchAnswer(PublicModel):
    """A page of hits: the newest job first, in it objects first, then texts by time."""

    hits: list[PublicHit]
    next_cursor: str | None = Field(description="Send it as cursor to get the next page; null on the last page.")
    complete: bool = Field(description="Whether all results have been searched; false while the index is being made.")
