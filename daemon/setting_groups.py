"""The settings in groups, each with its default, unit and a sentence; ``Settings`` puts them together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic.fields import FieldInfo

from daemon.export_formats import known_formats
from daemon.languages import known_codes
from daemon.s3_address import FORM, known_address, known_endpoint
from daemon.webhook_settings import WebhookSettings, all_different


def _unit(name: str, least: int = 0) -> FieldInfo:
    """Say in which unit a setting is, and the least it can be."""
    return FieldInfo(ge=least, json_schema_extra={"unit": name})


Seconds = Annotated[float, _unit("seconds")]
Hours = Annotated[float, _unit("hours")]
Days = Annotated[float, _unit("days")]
Bytes = Annotated[int, _unit("bytes")]
BytesPerSecond = Annotated[float, _unit("bytes/s")]
FramesPerSecond = Annotated[float, _unit("frames/s")]
Pixels = Annotated[int, _unit("px", 1)]
Frames = Annotated[int, _unit("frames", 1)]
Requests = Annotated[int, _unit("requests", 1)]
Connections = Annotated[int, _unit("connections", 1)]
Uploads = Annotated[int, _unit("uploads", 1)]
Jobs = Annotated[int, _unit("jobs", 1)]


class FolderSettings(BaseModel):
    """Where things are."""

    home: Path = Field(Path(), description="Folder that everything at run time hangs off.")
    inbox_dir: Path = Field(Path("inbox"), description="Where videos are dropped; may be a network share.")
    outbox_dir: Path = Field(Path("outbox"), description="Where results appear; may be a network share.")
    outbox_names: Literal["id", "name"] = Field(
        "id",
        description="What the results of uploads and of dropframe submit are named after in the outbox: the job's id, "
        "or the video's name, with part of the id behind it where another has that name.",
    )
    exports: Annotated[list[str], AfterValidator(known_formats)] = Field(
        default_factory=list,
        description="Formats that each result is also put into the outbox in, such as csv and srt; "
        "docs/use-the-results.md lists them.",
    )
    data_dir: Path = Field(Path("data"), description="Jobs, stored videos, models; must be a local disk.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log lines to write."
    )


class ObjectStoreSettings(BaseModel):
    """Results to, and videos from, object storage. Credentials are not settings (docs/object-storage.md)."""

    result_store: Annotated[str, AfterValidator(partial(known_address, name="result_store"))] | None = Field(
        None,
        description="Where results are also put once they are in the outbox, such as s3://bucket/prefix; "
        "docs/object-storage.md.",
        json_schema_extra={"allowed": FORM},
    )
    inbox_store: Annotated[str, AfterValidator(partial(known_address, name="inbox_store"))] | None = Field(
        None,
        description="Where videos are also taken from, such as s3://bucket/prefix; docs/object-storage.md.",
        json_schema_extra={"allowed": FORM},
    )
    inbox_store_after: Literal["leave", "move"] = Field(
        "leave",
        description="What becomes of the objects of inbox_store: leave remembers what was taken; move puts them below "
        "done/, and those that are rejected below rejected/, with the reason.",
    )
    inbox_store_seconds: Seconds = Field(30.0, gt=0, description="Time between two looks at inbox_store.")
    s3_endpoint: Annotated[str, AfterValidator(known_endpoint)] | None = Field(
        None,
        description="URL of the service that speaks S3; without it AWS_ENDPOINT_URL, else Amazon's.",
        json_schema_extra={"allowed": "a URL such as https://minio.example:9000, without a password in it"},
    )
    s3_region: str | None = Field(
        None, description="Region of the buckets; without it AWS_REGION or AWS_DEFAULT_REGION, else us-east-1."
    )


class InboxSettings(BaseModel):
    """What is taken, and when."""

    inbox_mode: Literal["take", "keep"] = Field(
        "take",
        description="What becomes of dropped files: take moves them out of the inbox; keep leaves all of them where "
        "they are, analyses a copy, and remembers which they are.",
    )
    watch: Literal["auto", "events", "polling"] = Field(
        "auto", description="How the inbox is watched; auto polls network and FUSE file systems."
    )
    poll_seconds: Seconds = Field(2.0, gt=0, description="Time between two scans when polling.")
    rescan_seconds: Seconds = Field(60.0, gt=0, description="Time between two full scans when events work.")
    settle_seconds: Seconds = Field(
        2.0,
        description="A file not known to be closed is whole once its size and mtime have not changed for this long.",
    )
    close_grace_seconds: Seconds = Field(
        1.5,
        description="A file is left alone for this long after anybody wrote, closed, renamed or touched it, so that "
        "the program that brought it can still set its times and look at it.",
    )
    incomplete_timeout_seconds: Seconds = Field(
        600.0,
        gt=0,
        description="An incomplete file that has not grown for this long is taken if it holds pictures, else rejected.",
    )
    ignore: list[str] = Field(
        default_factory=list,
        description="File name patterns (globs) never to touch in the inbox, besides the built-in ones.",
    )
    unknown_files: Literal["leave", "reject"] = Field(
        "leave",
        description="What becomes of files not named as a video: they stay, or are rejected once they have not "
        "changed for incomplete_timeout_seconds; other programs' temporary files stay in any case.",
    )
    folders: Literal["plain", "pipelines"] = Field(
        "plain",
        description="What a folder of the inbox is that is not named as a pipeline: a plain one, whose videos go to "
        "default_pipeline, or an error, so that they are rejected.",
    )
    containers: Literal["mp4", "all"] = Field(
        "mp4",
        description="Kinds of video taken, by their first bytes: mp4 (with MOV, 3GP and what cameras make of them), "
        "or all, which adds Matroska, WebM, AVI, MPEG-TS, MPEG-PS, FLV and ASF.",
    )
    max_video_bytes: Bytes = Field(100_000_000_000, gt=0, description="Largest video accepted.")
    min_free_bytes: Bytes = Field(
        500_000_000, description="With less free space than this on the data disk, intake and running jobs pause."
    )


class PipelineSettings(BaseModel):
    """How a video is analysed."""

    default_pipeline: str = Field("yolo_ocr", description="Pipeline of files dropped into the inbox itself.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda:\d+)$",
        description="auto, cpu or cuda:N; auto takes a GPU if there is one.",
        json_schema_extra={"allowed": "auto, cpu or cuda:N"},
    )
    weights: Path | None = Field(
        None, description="Object weights (.pt); without it the newest .pt in data/models/ is used."
    )
    auto_pull: bool = Field(
        True, description="Fetch the default official weights at a start without any; false fetches nothing by itself."
    )
    confidence: float = Field(0.25, gt=0, lt=1, description="Lowest confidence of a detection that is kept.")
    iou: float = Field(0.7, gt=0, lt=1, description="Overlap (IoU) above which the weaker of two boxes is dropped.")
    class_agnostic_nms: bool = Field(
        False, description="Drop the weaker of two overlapping boxes (iou) although their classes differ."
    )
    precision: Literal["auto", "fp32", "half", "int8"] = Field(
        "auto",
        description="What networks compute in. half: on a CPU bf16 for objects and the places of text, on a GPU fp16 "
        "for objects; all else is fp32. auto: half where the machine has it. int8: objects, on a CPU, once "
        "`dropframe models quantize` was run; the rest as with auto.",
    )
    image_size: Pixels = Field(640, ge=64, multiple_of=32, description="Longer side of the detector's input.")
    text_regions: Literal["auto", "yolo", "rapidocr"] = Field(
        "auto",
        description="Without effect, and accepted so that older configurations load: RapidOCR's detector finds the "
        "lines of text, whatever stands here.",
    )
    text_engine: Literal["rapidocr", "tesseract"] = Field("rapidocr", description="What reads text.")
    text_languages: Annotated[list[str], AfterValidator(known_codes)] = Field(
        ["en"],
        description="Languages of the text, as ISO 639-1 codes; docs/text-languages.md lists what reads each.",
    )
    text_detect_size: Pixels = Field(
        736,
        ge=64,
        multiple_of=32,
        description="Shorter side of the picture in which lines of text are looked for; frames that are taller are "
        "seen at up to 1.5 times as much. Larger finds smaller text.",
    )
    text_look_seconds: Seconds = Field(
        0.2, le=1, description="Longest time between looks for text; what shows for less may be missed; 0: each frame."
    )
    text_confidence: float = Field(0.5, ge=0, le=1, description="Lowest confidence of a line of text that is kept.")
    segment_frames: Frames = Field(
        250,
        description="Frames after which a running job's work is saved; nothing carries over to the next ones.",
    )


class LimitSettings(BaseModel):
    """What a job may take."""

    max_attempts: int = Field(
        3, ge=1, description="Attempts at a job that fails for a temporary reason, the first included."
    )
    retry_seconds: Seconds = Field(5.0, description="Wait before the second attempt; it doubles each time.")
    stall_seconds: Seconds = Field(
        60.0, gt=0, description="A job that yields no frame for this long is stopped and tried again."
    )
    start_seconds: Seconds = Field(
        600.0, gt=0, description="Longest time to load models, the first export of weights included."
    )
    max_job_seconds: Seconds = Field(172_800.0, gt=0, description="Longest time of one attempt.")
    memory_limit_bytes: Bytes = Field(
        0,
        description="Memory of a pipeline process above which it is stopped; 0 means 60 % of the machine's, shared "
        "out if there are several.",
    )
    max_frame_pixels: Pixels = Field(36_000_000, description="Largest frame that is decoded.")
    max_fps: FramesPerSecond = Field(1000.0, gt=0, description="Highest frame rate accepted.")
    max_video_seconds: Seconds = Field(172_800.0, gt=0, description="Longest video accepted.")
    max_video_frames: Frames = Field(20_000_000, description="Most frames a video may hold.")


class RetentionSettings(BaseModel):
    """What is kept for how long."""

    keep_source_days: Days = Field(
        0.0, description="Stored videos of jobs that ended longer ago are removed; 0 keeps them for ever."
    )
    keep_source_bytes: Bytes = Field(
        0,
        description="While stored videos of ended jobs take more than this, the oldest is removed; 0 means no limit.",
    )
    keep_result_days: Days = Field(
        0.0,
        description="Results of jobs that completed longer ago are removed, in the outbox too; 0 keeps them for ever.",
    )
    keep_result_bytes: Bytes = Field(
        0, description="While results take more than this, the oldest is removed, in the outbox too; 0 means no limit."
    )
    keep_export_days: Days = Field(
        7.0, description="Exports made on request are removed after so long, and made again when asked for; 0: never."
    )
    keep_export_bytes: Bytes = Field(
        10_000_000_000, description="While they take more than this, the oldest is removed; 0 means no limit."
    )
    keep_rejected_days: Days = Field(
        0.0, description="Files rejected longer ago are removed with their reasons; 0 keeps them for ever."
    )
    keep_rejected_bytes: Bytes = Field(
        0, description="While rejected files take more than this, the oldest is removed; 0 means no limit."
    )

    keep_stills_bytes: Bytes = Field(
        200_000_000,
        description="While pictures made of stored videos take more than this, the oldest go; 0 means no limit.",
    )
    keep_deleted_days: Days = Field(
        30.0, description="How long a deleted job's id is answered with 410 Gone, which says when it was deleted."
    )


class NotificationSettings(BaseModel):
    """Who is told when a job has ended."""

    webhooks: Annotated[list[WebhookSettings], AfterValidator(all_different)] = Field(
        default_factory=list,
        description="Endpoints that events are sent to, each a [[webhooks]] with url and secret, and if need be events "
        "and allow_private; docs/webhooks.md says more.",
        json_schema_extra={"allowed": "a list of tables with url and secret"},
    )
    on_completed: list[str] = Field(
        default_factory=list,
        description="A program and its arguments, run for each job that completes, with the job's record as JSON on "
        "its standard input.",
    )
    on_completed_seconds: Seconds = Field(
        600.0, gt=0, description="Longest time that on_completed may take before it is ended with all it started."
    )


class SidecarSettings(BaseModel):
    """Who may call, and how much of it."""

    host: str = Field(
        "127.0.0.1",
        description="Address the sidecar listens on; one that others can reach needs tokens.",
    )
    port: int = Field(8000, ge=0, le=65_535, description="Port the sidecar listens on; 0 takes a free one.")
    tokens: list[str] = Field(
        default_factory=list,
        description="API tokens as name:read:sha256 or name:submit:sha256; dropframe token makes one.",
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names under which the sidecar may be called besides its address (the Host header).",
    )
    allowed_origins: list[str] = Field(
        default_factory=list,
        description="Other web sites whose pages may call the sidecar, such as https://example.org.",
    )
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="Reverse proxies (addresses, networks) whose X-Forwarded-For and X-Forwarded-Prefix are believed.",
    )
    base_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$",
        description="Path below which a reverse proxy shows the sidecar, such as /dropframe.",
        json_schema_extra={"allowed": "a path such as /dropframe without a slash at its end, or empty"},
    )
    max_requests: Requests = Field(256, description="Requests served at a time; more are refused with 503.")
    max_requests_per_client: Annotated[int, _unit("requests")] = Field(
        0,
        description="The same for one client (an address, and a token), whose others get a 429; 0 means all but an "
        "eighth.",
    )
    max_waits_per_client: Requests = Field(
        64,
        description="Calls of one client that may wait (wait=…) at a time; they do not count as requests.",
    )
    max_connections: Connections = Field(1000, description="Open connections; above this, idle ones are closed first.")
    max_uploads: Uploads = Field(16, description="Uploads received at a time; more are refused with 503.")
    max_uploads_per_client: Annotated[int, _unit("uploads")] = Field(
        0, description="The same for one client, whose others get a 429; 0 means all but an eighth."
    )
    max_queue: Jobs = Field(10_000, description="Jobs that may wait; above this, uploads are refused with 503.")
    header_seconds: Seconds = Field(
        10.0, gt=0, description="Longest time a client may take to send the head of a request."
    )
    upload_stall_seconds: Seconds = Field(
        30.0, gt=0, description="An upload or download that does not move for this long is ended."
    )
    upload_min_rate: BytesPerSecond = Field(
        1000.0, description="Lowest speed of an upload, after its first upload_stall_seconds."
    )
    upload_max_seconds: Seconds = Field(21_600.0, gt=0, description="Longest time of one upload.")
    upload_keep_hours: Hours = Field(24.0, gt=0, description="How long an upload in pieces waits for the next piece.")
    max_wait_seconds: Seconds = Field(60.0, description="Longest time that a call waits (wait=…).")
    idempotency_days: Days = Field(7.0, gt=0, description="How long an Idempotency-Key is remembered, at least.")
