"""Fingerprint: whatever the frames of a document depend on; only what has the same may be put together."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from daemon import __version__
from daemon.fs.identity import identity_of
from daemon.pipeline.code_version import code_version
from daemon.pipeline.records import Stage, VideoInfo
from daemon.settings import Settings

RESULT_PACKAGES = ("av", "opencv-python-headless", "openvino", "rapidocr", "torch", "ultralytics-opencv-headless")
"""Packages whose version may show in a result."""


def fingerprint(settings: Settings, file_path: Path, info: VideoInfo, stages: Sequence[Stage], sha256: str = "") -> str:
    """Return what names the video, the settings and the code of which its frames are made.

    Args:
        settings: Some of them show in frames.
        file_path: The video.
        info: What its container says.
        stages: Of the pipeline.
        sha256: Of the video, if known: a copy of it on another machine has the same fingerprint then.

    Raises:
        OSError: the video cannot be looked at.
    """
    status = file_path.stat()
    video = f"{sha256} {status.st_size}" if sha256 else f"{file_path.name} {identity_of(status).lasting}"
    calibrated = "".join(getattr(stage, "calibration", "") for stage in stages)
    return f"{video} {info} {what_frames_depend_on(settings)} {code_version(stages)} {calibrated}".rstrip()


def what_frames_depend_on(settings: Settings) -> str:
    """Name the settings and the versions of which a frame's line is made; after an upgrade a run begins anew."""
    names = (
        "confidence",
        "iou",
        "class_agnostic_nms",
        "image_size",
        "precision",
        "text_engine",
        "text_languages",
        "text_detect_size",
        "text_look_seconds",
        "text_confidence",
        "segment_frames",
    )
    versions = [f"{package}={version(package)}" for package in RESULT_PACKAGES]
    return " ".join([__version__, *(f"{name}={getattr(settings, name)}" for name in names), *versions])
