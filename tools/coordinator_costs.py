"""What the daemon, and a slot that plans, spend on a job besides analysing it: measured where this runs.

All but the wait for the disk is measured in time of the processor, and the fastest of several rounds counts: whatever
else the machine does makes one only slower.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from daemon.jobs import Job, JobStatus, new_job_id
from daemon.pipeline.frame_index import FrameIndex
from daemon.pipeline.parts import PartWriter, SeamRecorder, join, part_file
from daemon.pipeline.plans import PartPlan, cut
from daemon.pipeline.records import Analysis, Detection, Frame
from daemon.pipeline.video_ranges import RangedVideo
from daemon.store.group_commit import Change
from daemon.store.job_store import JobStore

FPS = 25
PLANNED_SECONDS = 1200
"""Length of the video that is planned."""
JOINED_PARTS = 16
JOINED_FRAMES = 6000
"""Frames of each part that is joined."""
OBJECTS = 9
"""In each of these frames; a line has about 1,000 bytes then."""
HASHED_BYTES = 128 << 20
STORED_JOBS = 1000
GROUP = 64
"""Changes in a group."""
ROUNDS = 30
"""Even, so that jobs are as they were afterwards."""


@dataclass(frozen=True)
class Costs:
    """Seconds, where nothing else is said."""

    plan_hour: float = 0.4
    """Processor time of a slot for an hour of video at 25 frames a second, its hash aside."""
    hash_bytes: float = 1e9
    """Bytes of a video that a slot hashes in a second."""
    join_bytes: float = 6e8
    """Bytes of a document that a second of the processor joins."""
    change: float = 3e-4
    """Processor time that a change of a job takes, of those that are on the disk when they are acknowledged."""
    sync: float = 2e-3
    """Wait for the disk, of a group of changes."""
    note: float = 2e-4
    """Noting the progress of one job in a commit of its own."""
    note_of_many: float = 1e-4
    """The same in a commit of 64."""


def measure(folder: Path) -> Costs:
    """Measure all of it.

    Args:
        folder: Where files are written, about 250 MB; on the disk on which the data folder is going to be.
    """
    return Costs(_plan_hour(folder), _hash(), _join(folder), **_store(folder))


def _plan_hour(folder: Path) -> float:
    path = _video(folder / "video.mp4")
    begun = time.process_time()
    with closing(RangedVideo(path)) as video:
        index = video.make_index()
        cut(index, len(index), 1, 250, 90 * FPS)
    spent = time.process_time() - begun
    path.unlink()
    return spent * 3600 / PLANNED_SECONDS


def _video(path: Path) -> Path:
    """Write a video that repeats ten seconds of noise, 320x180, without coding them anew."""
    chance = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "50"})
        stream.width, stream.height = 320, 180
        coded = []
        for _ in range(10 * FPS):
            picture = chance.integers(0, 255, (18, 32, 3), np.uint8).repeat(10, 0).repeat(10, 1)
            coded += stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24"))
        coded += stream.encode()
        base, length = coded[0].time_base, 0
        for each in coded:
            length = max(length, each.pts + max(1, round(1 / (FPS * base))))
        for number in range(PLANNED_SECONDS // 10):
            for each in coded:
                again = av.Packet(bytes(each))
                again.pts, again.dts = each.pts + number * length, each.dts + number * length
                again.time_base, again.is_keyframe, again.stream = base, each.is_keyframe, stream
                container.mux(again)
    return path


def _hash() -> float:
    block = bytes(1 << 20)
    digest, begun = hashlib.sha256(), time.thread_time()
    for _ in range(HASHED_BYTES >> 20):
        digest.update(block)
    return HASHED_BYTES / (time.thread_time() - begun)


def _join(folder: Path) -> float:
    plan = _plan(JOINED_PARTS, JOINED_FRAMES)
    paths = [folder / f"{number:06}" for number in range(len(plan))]
    for number, path in enumerate(paths):
        with part_file(path) as part:
            _write(part, plan, number)
    document = folder / "document.json"
    spent = []
    for _ in range(3):
        begun = time.thread_time()
        join(plan, paths, document)
        spent.append(time.thread_time() - begun)
    speed = document.stat().st_size / min(spent)
    for path in (*paths, document):
        path.unlink()
    return speed


def _plan(parts: int, frames: int) -> PartPlan:
    total = parts * frames
    index = FrameIndex(np.arange(total), np.zeros((0, 4), np.int64), total)
    bounds = tuple((number * frames, (number + 1) * frames) for number in range(parts))
    source = {"name": "a.mp4", "sha256": "0" * 64, "size_bytes": 1}
    account = {"frames_expected": total, "warnings": []}
    return PartPlan(index, bounds, "0" * 64, '{\n"results": [', "yolo", 1, None, source, {}, account, (), total, "cpu")


def _write(part: PartWriter, plan: PartPlan, number: int) -> None:
    first, stop = plan.parts[number]
    image = np.zeros((2, 2, 3), np.uint8)
    objects = tuple(Detection((10.5, 20.25, 300.75, 400.5), "person", 0, 0.875) for _ in range(OBJECTS))
    seams = SeamRecorder(stop - first)
    frames = (Frame(index, index / FPS, image) for index in range(first, stop + 1))
    part.write(Analysis(frame, objects) for frame in seams.passed(frames))
    part.finish(plan, number, seams)


def _store(folder: Path) -> dict[str, float]:
    summary = {"classes": {"bus": 250, "person": 812}, "detection_count": 1062, "frame_count": 250}
    with JobStore.open(folder / "store") as store:
        jobs = [Job(new_job_id(), source_name=f"clip-{number}.mp4", summary=summary) for number in range(STORED_JOBS)]
        job_ids = [job.job_id for job in store.create(jobs)][:GROUP]
        states = _in_turn()
        alone = _fastest(lambda: store.move(job_ids[0], next(states)), time.perf_counter)
        alone_computing = _fastest(lambda: store.move(job_ids[0], next(states)))
        together = _fastest(lambda: _change(store, job_ids, {"status": next(states)}, durable=True))
        note = _fastest(lambda: store.note(job_ids[0], durable=False, frames_processed=1))
        notes = _fastest(lambda: _change(store, job_ids, {"frames_processed": 1}, durable=False))
    sync = max(0.0, alone - alone_computing)
    return {"change": together / GROUP, "sync": sync, "note": note, "note_of_many": notes / GROUP}


def _in_turn() -> Iterator[JobStatus]:
    return itertools.cycle((JobStatus.RUNNING, JobStatus.PENDING))


def _change(store: JobStore, job_ids: list[str], fields: dict[str, Any], durable: bool) -> None:
    changes = [Change(job_id, fields, durable) for job_id in job_ids]
    store.change_all(changes)
    for change in changes:
        change.result()


def _fastest(action: Callable[[], object], clock: Callable[[], float] = time.thread_time) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = clock()
        action()
        times.append(clock() - begun)
    return min(times)


def processor() -> str:
    """Return the name of the processor, and how many cores of it there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="dropframe-costs-", dir=".") as name:
        print(processor(), json.dumps(vars(measure(Path(name))), indent=2), sep="\n")
