"""A home with jobs in every state, files that wait and files that were rejected: what the page has to show."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.derive.derivation import derive
from daemon.derive.files import folder_of
from daemon.ipc import health, rejected_list
from daemon.ipc.health import WaitingBeat
from daemon.ipc.rejected_list import RejectedList, RejectedRecord
from daemon.jobs import ErrorKind, Job, JobStatus, Options, input_key, new_job_id, output_key, utc_now
from daemon.search.index import SearchIndex
from daemon.search.reader import FoundKind
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.derived_documents import frame, write_document
from tests.unit.sidecar.test_app import beat

ALWAYS = "2100-01-01T00:00:00+00:00"
"""When a heartbeat is never old."""
REJECTED = (
    ("holiday/notes.mp4", "It is text, not an MP4. Dropframe takes MP4 files; convert it to MP4 and drop it again."),
    (
        "<b>archive</b>.mp4",
        "It is a ZIP archive, not an MP4. Dropframe takes MP4 files; unpack it and drop what is in it.",
    ),
)
WAITING = (
    ("camera 1/2026-01-31 12.00.mp4", "It is still growing."),
    ("big.mp4", "It is whole and waits to be taken in."),
)
SENTENCE = "The video ends in the middle: 120 of 250 frames could be decoded. Was it copied whole?"


def make_folders(path: Path) -> Path:
    """Make what a home always has; return its path."""
    for name in ("inbox", "outbox", "data/spool", "data/video_jobs"):
        (path / name).mkdir(parents=True, exist_ok=True)
    return path


def add_completed(
    home: Path,
    *,
    document: Path,
    video: Path | None = None,
    name: str = "clip.mp4",
    warnings: Sequence[str] = (),
    is_derived: bool = True,
    store: JobStore | None = None,
    **fields: Any,
) -> str:
    """Add a job that has completed, with what the derive code makes of its result.

    Args:
        home: Of everything.
        document: The result, which is copied.
        video: The video, which is copied; None: it was not kept.
        name: Of the video.
        warnings: Of the result.
        is_derived: Whether texts, tracks and density have been made.
        store: Of the home, if it is open; None: it is opened.
        fields: More of the job's record.
    """
    job_id = new_job_id()
    data = home / "data"
    if video is not None:
        shutil.copyfile(video, data / input_key(job_id))
    shutil.copyfile(document, data / output_key(job_id))
    if is_derived:
        derive(data / output_key(job_id), folder_of(data, job_id))
    told = json.loads(document.read_text())
    classes: dict[str, int] = {}
    for record in told["results"]:
        for found in record["result"]["detections"]:
            classes[found["class"]] = classes.get(found["class"], 0) + 1
    frames = len(told["results"])
    summary = {"classes": classes, "detection_count": sum(classes.values()), "frame_count": frames}
    holds: contextlib.AbstractContextManager[JobStore] = contextlib.nullcontext(store) if store else JobStore.open(data)
    with holds as opened:
        size = video.stat().st_size if video else 0
        options = Options(told["options"]["frame_stride"])
        opened.create([Job(job_id, input_path=input_key(job_id), source_name=name, options=options, size_bytes=size)])
        opened.move(job_id, JobStatus.RUNNING)
        opened.move(
            job_id,
            JobStatus.COMPLETED,
            output_path=output_key(job_id),
            summary={**summary, "warnings": list(warnings)},
            frames_processed=frames,
            frames_total=frames,
            **fields,
        )
    return job_id


def add_drawn(
    store: JobStore, home: Path, name: str, *, frames: int = 10, warnings: tuple[str, ...] = (), clip: bool = True
) -> str:
    """Add a completed job whose video shows its name, and its result; return its id."""
    video = make_clip(home / "drawn.mp4", frames=frames, size=(320, 180), text=name) if clip else None
    found = [
        {"bbox": [x, 10.0, x + 50, 40.0], "class": each, "class_id": n, "confidence": 0.9}
        for n, (each, x) in enumerate((("person", 10.0), ("person", 80.0), ("person", 150.0), ("bus", 220.0)))
    ]
    line = {"bbox": [10.0, 100.0, 200.0, 130.0], "confidence": 0.9, "text": name}
    document = write_document(home / "drawn.json", [frame(n, n / 25, [line], found) for n in range(frames)])
    return add_completed(
        home, document=document, video=video, name=name, warnings=warnings, is_derived=False, store=store
    )


def add_ended(store: JobStore, name: str, kind: ErrorKind, sentence: str) -> str:
    """Add a job that has failed, or was cancelled; return its id."""
    [job] = store.create([Job(new_job_id(), input_path="x", source_name=name, size_bytes=5_000_000)])
    store.move(job.job_id, JobStatus.RUNNING, started_at=utc_now())
    store.move(job.job_id, JobStatus.FAILED, error_kind=kind, error_message=sentence)
    return job.job_id


def add_running(store: JobStore, home: Path, name: str) -> str:
    """Add a job that runs, with a heartbeat that says so and names the files that wait; return its id."""
    [job] = store.create([Job(new_job_id(), input_path="x", source_name=name, size_bytes=912_000_000)])
    store.move(job.job_id, JobStatus.RUNNING, frames_total=2000, frames_processed=700)
    say_well(
        home, running={"job_id": job.job_id, "frames_processed": 740, "frames_total": 2000, "frames_per_second": 31.5}
    )
    return job.job_id


def say_well(home: Path, running: dict[str, Any] | None = None, *, objects: bool = True) -> None:
    """Write a heartbeat of a daemon with which all is well."""
    files = tuple(WaitingBeat(name, 48_000_000, 12.0, why) for name, why in WAITING)
    now = beat(ALWAYS, running)
    roles = ("objects", "text") if objects else ("text",)
    inbox = replace(now.inbox, waiting=files, waiting_count=len(files))
    health.write(home / "data", replace(now, inbox=inbox, models=tuple({"role": role} for role in roles)))


def records(files: tuple[tuple[str, str], ...]) -> tuple[RejectedRecord, ...]:
    """Return rejected files by their names and reasons, newest first."""
    return tuple(
        RejectedRecord(name, f"rejected/{name}", why, f"2026-01-31T12:00:{59 - n:02}.000000+00:00", 1_200_000)
        for n, (name, why) in enumerate(files)
    )


def reject(home: Path, files: tuple[tuple[str, str], ...] = REJECTED) -> None:
    """List files as rejected."""
    rejected_list.write(home / "data", RejectedList(records(files), len(files)))


def index_texts(store: JobStore, home: Path, texts: tuple[str, ...]) -> None:
    """Have each job's video say all of the texts, a second after each other, and show an object."""
    index = SearchIndex(home / "data")
    for job in store.jobs():
        found = [(FoundKind.TEXT, text, n + 0.24, n + 1.0, 6, [0.0] * 4, 0.9, 9) for n, text in enumerate(texts)]
        found.append((FoundKind.OBJECT, "person", 0.2, 2.0, 5, [0.0] * 4, 0.8, 40))
        index.put(job.sequence, job.job_id, "", found)
    index.set_complete(True)
    index.close()


def fill(home: Path, store: JobStore, completed: int = 4) -> dict[str, str]:
    """Add a job in each state; return their ids by name."""
    ids = {f"street {n}.mp4": add_drawn(store, home, f"street {n}.mp4", frames=30) for n in range(completed)}
    name = "match.mp4"
    ids[name] = add_drawn(store, home, name, warnings=("The video lists 2 frames more than it contains.",))
    ids["torn.mp4"] = add_ended(store, "torn.mp4", ErrorKind.PERMANENT, SENTENCE)
    ids["unwanted.mp4"] = add_ended(store, "unwanted.mp4", ErrorKind.CANCELLED, "Cancelled.")
    ids["a film with a very long name that does not fit into any line of a list of videos, part 1.mp4"] = add_running(
        store, home, "a film with a very long name that does not fit into any line of a list of videos, part 1.mp4"
    )
    for name in ("next.mp4", "after that.mp4"):
        [job] = store.create([Job(new_job_id(), input_path="x", source_name=name, size_bytes=3_000_000)])
        ids[name] = job.job_id
    return ids
