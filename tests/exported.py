"""A finished result with everything that exports have trouble with, and exports of it."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.derive import files
from daemon.derive.derivation import derive
from daemon.export.process import export
from daemon.export_formats import FORMATS, ExportRequest
from daemon.jobs import Job, JobStatus, input_key, new_job_id, output_key
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.derived_documents import frame, write_document

FRAMES, STEP_S = 60, 0.04
SIZE = (1280, 720)
HOSTILE = (
    '=1+1"&<b>{\\an8}\\N--></b>',
    "1",
    "00:00:00,000 --> 00:00:09,000",
    "]]> <!-- & \x00\x08\ud800\ufffe\u202egnp.exe",
    "@SUM(A1) 'quoted', \"twice\"; a,b\tc",
    "x" * 10_000,
)
"""What OCR may read, and what weights may call their classes."""


def detection(name: str, box: tuple[float, float, float, float], confidence: float) -> dict[str, Any]:
    return {"bbox": list(box), "class": name, "class_id": 0, "confidence": confidence}


def line(text: str, row: int, confidence: float = 0.95) -> dict[str, Any]:
    return {"bbox": [40.0, 40.0 + 50 * row, 640.0, 80.0 + 50 * row], "confidence": confidence, "text": text}


def frames(cat: str = "cat", texts: tuple[str, ...] = ("GATE B12", "Where have you been?")) -> Iterator[dict[str, Any]]:
    """A cat that goes right and is away on frames 20 to 24, a dog from frame 30 on; two lines of text."""
    for n in range(FRAMES):
        objects = []
        if not 20 <= n < 25:
            objects.append(detection(cat, (100.0 + n, 200.5, 180.0 + n, 300.0), 0.9))
        if n >= 30:
            objects.append(detection("dog", (700.0, 300.0, 790.5, 420.0), 0.6))
        shown = [line(text, row) for row, text in enumerate(texts) if row == 0 or n >= 25]
        yield frame(n, round(n * STEP_S, 6), shown, objects)


def finished_job(home: Path, name: str = "match.mp4", records: Iterator[dict[str, Any]] | None = None) -> str:
    """Make a home with a completed job."""
    with JobStore.open(home / "data") as store:
        [job] = store.create([Job(new_job_id(), source_name=name)])
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    write_document(home / "data" / output_key(job.job_id), frames() if records is None else records)
    (home / "data" / "spool").mkdir(exist_ok=True)
    return job.job_id


def derived_job(home: Path, name: str = "match.mp4", records: Iterator[dict[str, Any]] | None = None) -> str:
    """The same, and what is derived from its result."""
    job_id = finished_job(home, name, records)
    derive(files.document_of(home / "data", job_id), files.folder_of(home / "data", job_id))
    return job_id


def exported(home: Path, job_id: str, format_name: str, **filters: Any) -> Path:
    """Export in this process; return the file. What is drawn on the video gets one."""
    video = home / "data" / input_key(job_id)
    if FORMATS[format_name].draws and not video.exists():
        make_clip(video, frames=FRAMES, size=SIZE)
    return export(home / "data", job_id, ExportRequest.of({"format": format_name, **filters}), "match.mp4")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no process that is started meanwhile write a longer file: a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python would put the first part of a compiled module in place, which nobody could import from then on.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        del os.environ["PYTHONDONTWRITEBYTECODE"]
        sys.dont_write_bytecode = False
