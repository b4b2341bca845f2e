"""Every setting, its default, unit and environment name; read once at start.

Sources, weakest first: the defaults here, one TOML file (``dropframe.toml`` in the home, or the one that
``DROPFRAME_CONFIG`` names), environment variables ``DROPFRAME_<NAME>``, flags of the command line. An unknown
name is an error, so that a typing mistake is never a silent default.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from daemon.errors import SettingsError

ENV_PREFIX = "DROPFRAME_"
CONFIG_FILE = "dropframe.toml"
NOT_SETTINGS = frozenset({"DROPFRAME_CONFIG", "DROPFRAME_FAULT"})
"""Environment variables of ours that are no settings: where the TOML file is, and the fault hook of tests."""
FOLDERS = {"home": ".", "inbox_dir": "inbox", "outbox_dir": "outbox", "data_dir": "data", "weights": None}
"""The settings that are paths, with where they point below the home."""


class Settings(BaseSettings):
    """All settings of a Dropframe home. Paths are absolute once loaded."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    home: Path = Field(Path(), description="Folder that everything at run time hangs off.")
    inbox_dir: Path = Field(Path("inbox"), description="Where videos are dropped; may be a network share.")
    outbox_dir: Path = Field(Path("outbox"), description="Where results appear; may be a network share.")
    data_dir: Path = Field(Path("data"), description="Jobs, stored videos, models; must be a local disk.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log lines that are written."
    )

    watch: Literal["auto", "events", "polling"] = Field(
        "auto", description="How the inbox is watched; auto polls network and FUSE file systems."
    )
    poll_seconds: float = Field(
        2.0, gt=0, description="Time between two scans when polling.", json_schema_extra={"unit": "seconds"}
    )
    rescan_seconds: float = Field(
        60.0,
        gt=0,
        description="Time between two full scans when events work.",
        json_schema_extra={"unit": "seconds"},
    )
    settle_seconds: float = Field(
        2.0,
        ge=0,
        description="A file not known to be closed is whole when size and mtime stay the same this long.",
        json_schema_extra={"unit": "seconds"},
    )
    incomplete_timeout_seconds: float = Field(
        600.0,
        gt=0,
        description="A file that stopped growing while incomplete is rejected after this long.",
        json_schema_extra={"unit": "seconds"},
    )
    ignore: list[str] = Field(
        default_factory=list, description="More file name patterns (globs) never to touch in the inbox."
    )
    max_video_bytes: int = Field(
        100_000_000_000, gt=0, description="Largest video taken.", json_schema_extra={"unit": "bytes"}
    )
    min_free_bytes: int = Field(
        500_000_000,
        ge=0,
        description="With less free space on the data disk, taking in and running pause.",
        json_schema_extra={"unit": "bytes"},
    )

    default_pipeline: str = Field("yolo_ocr", description="Pipeline of files dropped into the inbox itself.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda:\d+)$",
        description="auto, cpu or cuda:N; auto takes a GPU if there is one.",
    )
    weights: Path | None = Field(
        None, description="Object weights (.pt); without it the newest .pt in data/models/ is used."
    )
    confidence: float = Field(0.25, gt=0, lt=1, description="Least confidence of a detection.")
    iou: float = Field(0.7, gt=0, lt=1, description="Overlap above which the weaker of two boxes is dropped.")
    image_size: int = Field(
        640,
        ge=64,
        multiple_of=32,
        description="Longer side of the detector's input.",
        json_schema_extra={"unit": "px"},
    )
    text_regions: Literal["auto", "yolo", "rapidocr"] = Field(
        "auto",
        description="What finds the lines of text: the YOLO that comes with Dropframe, or RapidOCR's detector; "
        "auto takes RapidOCR's where there are object weights.",
    )
    text_engine: Literal["rapidocr", "tesseract"] = Field("rapidocr", description="What reads text.")
    text_detect_size: int = Field(
        384,
        ge=64,
        multiple_of=32,
        description="Shorter side of the picture that RapidOCR's detector sees; larger finds smaller text.",
        json_schema_extra={"unit": "px"},
    )
    text_confidence: float = Field(0.5, ge=0, le=1, description="Least confidence of a line of text.")
    segment_frames: int = Field(
        250,
        ge=1,
        description="Frames after which a running job's work is saved; nothing is remembered across.",
        json_schema_extra={"unit": "frames"},
    )

    max_attempts: int = Field(3, ge=1, description="Attempts of a job that fails for a passing reason.")
    retry_seconds: float = Field(
        5.0,
        ge=0,
        description="Wait before the second attempt; doubles each time.",
        json_schema_extra={"unit": "seconds"},
    )
    stall_seconds: float = Field(
        60.0,
        gt=0,
        description="A job from which no frame comes for this long is ended and tried again.",
        json_schema_extra={"unit": "seconds"},
    )
    start_seconds: float = Field(
        600.0,
        gt=0,
        description="Longest time to load models, the first export of weights included.",
        json_schema_extra={"unit": "seconds"},
    )
    max_job_seconds: float = Field(
        172_800.0, gt=0, description="Longest time of one attempt.", json_schema_extra={"unit": "seconds"}
    )
    memory_limit_bytes: int = Field(
        0,
        ge=0,
        description="Memory of the pipeline process above which it is ended; 0 means 60 % of the machine's.",
        json_schema_extra={"unit": "bytes"},
    )
    max_frame_pixels: int = Field(
        36_000_000, gt=0, description="Largest frame that is decoded.", json_schema_extra={"unit": "px"}
    )
    max_fps: float = Field(
        1000.0, gt=0, description="Highest frame rate believed.", json_schema_extra={"unit": "frames/s"}
    )
    max_video_seconds: float = Field(
        172_800.0, gt=0, description="Longest video taken.", json_schema_extra={"unit": "seconds"}
    )
    max_video_frames: int = Field(
        20_000_000, gt=0, description="Most frames a video may hold.", json_schema_extra={"unit": "frames"}
    )

    keep_source_days: float = Field(
        0.0,
        ge=0,
        description="Stored videos of jobs that ended longer ago are removed; 0 keeps them for ever.",
        json_schema_extra={"unit": "days"},
    )
    keep_source_bytes: int = Field(
        0,
        ge=0,
        description="While stored videos of ended jobs are more than this, the oldest is removed; 0 is no limit.",
        json_schema_extra={"unit": "bytes"},
    )
    keep_result_days: float = Field(
        0.0,
        ge=0,
        description="Results of jobs that completed longer ago are removed, in the outbox too; 0 keeps them for ever.",
        json_schema_extra={"unit": "days"},
    )
    keep_result_bytes: int = Field(
        0,
        ge=0,
        description="While results are more than this, the oldest is removed, in the outbox too; 0 is no limit.",
        json_schema_extra={"unit": "bytes"},
    )
    keep_rejected_days: float = Field(
        0.0,
        ge=0,
        description="Files rejected longer ago are removed with their reasons; 0 keeps them for ever.",
        json_schema_extra={"unit": "days"},
    )
    keep_rejected_bytes: int = Field(
        0,
        ge=0,
        description="While rejected files are more than this, the oldest is removed; 0 is no limit.",
        json_schema_extra={"unit": "bytes"},
    )

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
    max_requests: int = Field(
        256,
        ge=1,
        description="Requests served at a time; more are refused with 503.",
        json_schema_extra={"unit": "requests"},
    )
    max_connections: int = Field(
        1000,
        ge=1,
        description="Open connections; above it those that wait idle are closed first.",
        json_schema_extra={"unit": "connections"},
    )
    max_uploads: int = Field(
        16,
        ge=1,
        description="Uploads received at a time; more are refused with 503.",
        json_schema_extra={"unit": "uploads"},
    )
    max_queue: int = Field(
        10_000,
        ge=1,
        description="Jobs that may wait; above it uploads are refused with 503.",
        json_schema_extra={"unit": "jobs"},
    )
    header_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest time a client may take to send the head of a request.",
        json_schema_extra={"unit": "seconds"},
    )
    upload_stall_seconds: float = Field(
        30.0,
        gt=0,
        description="An upload, or a download, from which nothing moves for this long is ended.",
        json_schema_extra={"unit": "seconds"},
    )
    upload_min_rate: float = Field(
        1000.0,
        ge=0,
        description="Least speed of an upload, after its first upload_stall_seconds.",
        json_schema_extra={"unit": "bytes/s"},
    )
    upload_max_seconds: float = Field(
        21_600.0, gt=0, description="Longest time of one upload.", json_schema_extra={"unit": "seconds"}
    )
    max_wait_seconds: float = Field(
        60.0,
        ge=0,
        description="Longest time that a status call waits for a change.",
        json_schema_extra={"unit": "seconds"},
    )
    idempotency_days: float = Field(
        7.0, gt=0, description="How long an Idempotency-Key is remembered at least.", json_schema_extra={"unit": "days"}
    )

    @property
    def spool_dir(self) -> Path:
        """Where tickets and uploads wait for the daemon."""
        return self.data_dir / "spool"

    @property
    def videos_dir(self) -> Path:
        """Where the videos and results of jobs are stored, under ``jobs.input_key`` and ``jobs.output_key``."""
        return self.data_dir / "video_jobs"

    @property
    def models_dir(self) -> Path:
        """Where the operator puts weights."""
        return self.data_dir / "models"

    @model_validator(mode="before")
    @classmethod
    def _folders_hang_off_home(cls, values: Any) -> Any:
        if any(not isinstance(values.get(name) or "", str | Path) for name in FOLDERS):
            return values  # each field says so itself
        home = Path(values.get("home") or ".").expanduser().resolve()
        below = {name: values.get(name) or default for name, default in FOLDERS.items()}
        placed = {name: None if path is None else home / Path(path).expanduser() for name, path in below.items()}
        return {**values, **placed, "home": home}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, strongest first: flags, environment, TOML file."""
        flags = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        home = flags.get("home") or os.environ.get(ENV_PREFIX + "HOME") or "."
        named = os.environ.get(ENV_PREFIX + "CONFIG")
        path = Path(named) if named else Path(home) / CONFIG_FILE
        if named and not path.is_file():
            raise SettingsError(f"DROPFRAME_CONFIG names {named}, which is not a file.")
        try:
            file = TomlConfigSettingsSource(settings_cls, path)
        except ValueError as error:
            raise SettingsError(f"{path} is no TOML file: {error}.") from error
        return init_settings, EnvSettingsSource(settings_cls), file

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read all sources; a flag that is None counts as not given.

        Raises:
            SettingsError: a name is unknown or a value does not fit; the message names the setting.
        """
        _refuse_unknown_environment(os.environ)
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            raise SettingsError("; ".join(_sentence(e) for e in error.errors())) from error
        except ValueError as error:  # a list in the environment that is not JSON
            raise SettingsError(f"The settings cannot be read: {error}") from error


def nearest(name: str, names: list[str]) -> str:
    """Return ``"; did you mean …?"`` for the known name nearest to an unknown one, or nothing."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the names are {', '.join(sorted(names))}."


def _refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    known = [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    for name in environment:
        if name.startswith(ENV_PREFIX) and name not in NOT_SETTINGS and name not in known:
            raise SettingsError(f"The environment variable {name} is no setting{nearest(name, known)}")


def _sentence(error: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "extra_forbidden":
        return f"{name} is no setting{nearest(name, list(Settings.model_fields))}"
    return f"{name}: {error['msg']}, not {error['input']!r}"
