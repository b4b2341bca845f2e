"""A pool of one-core slots against one process, on the same cores: one long video, and many short ones.

``python -m benchmarks.pool [--rounds 3] [--frames 1000] [--jobs 8] [--cores 2]``: medians of rounds in turn, and
whether the documents are the same. The long video is street.mp4 again and again, the short ones its first five seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.clips import SHARED, weights
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.executor import Executor
from daemon.pipeline.pool import PipelinePool
from daemon.pipeline.run_requests import RunRequest
from daemon.settings import Settings

PIPELINE = "yolo_ocr"
LOOK_SECONDS = 0.005
console = Console(width=120)


def cut(target: Path, frames: int, times: int = 0) -> Path:
    """Write street.mp4, played so many times more, up to a number of frames."""
    street = SHARED / "media" / "street.mp4"
    command = ["ffmpeg", "-loglevel", "error", "-y", "-stream_loop", str(times), "-i", str(street)]
    command += ["-frames:v", str(frames), "-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-an", str(target)]
    subprocess.run(command, check=True)
    return target


def request(clip: Path, document: Path) -> RunRequest:
    """Return what the worker would ask for."""
    return RunRequest(clip, PIPELINE, 1, None, document, clip.name)


def run_all(executor: Executor, requests: Sequence[RunRequest]) -> None:
    """Run jobs as the worker does: in order, each as soon as there is room for it."""
    if executor.lanes == 1:
        for request in requests:
            executor.run(request)
        return
    threads = []
    for request in requests:
        placed = threading.Event()
        while not executor.has_room():
            time.sleep(LOOK_SECONDS)
        threads.append(threading.Thread(target=executor.run, args=(request,), kwargs={"on_placed": placed.set}))
        threads[-1].start()
        placed.wait()
    for thread in threads:
        thread.join()


@contextmanager
def warm(executor: Executor, slots: int) -> Iterator[Executor]:
    """Have all processes up while the block runs."""
    executor.start()
    try:
        while sum(slot.device is not None for slot in executor.slots()) < slots:
            time.sleep(0.1)
        yield executor
    finally:
        executor.close()


def measure(folder: Path, rounds: int, frames: int, jobs: int, cores: int) -> None:
    """Print what each way took."""
    settings = Settings.load(home=folder, weights=weights())
    loads = {
        f"one job of {frames} frames": [cut(folder / "long.mp4", frames, times=frames // 100)],
        f"{jobs} jobs of 5 s": [cut(folder / f"short{number}.mp4", 125) for number in range(jobs)],
    }
    short = cut(folder / "warm.mp4", 25)
    available = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, available)
    ways = {
        "one process, 1 core": (PipelineProcess(settings, available[:1]), 0),
        f"one process, {cores} cores": (PipelineProcess(settings, available), 0),
        f"pool, {cores} slots of 1 core": (PipelinePool(settings, cores), cores),
    }
    seconds: dict[tuple[str, str], list[float]] = {}
    digests: dict[str, set[str]] = {}
    for _ in range(rounds):
        for way, (executor, slots) in ways.items():
            with warm(executor, slots):
                run_all(
                    executor, [request(short, folder / f"{n}.json") for n in range(slots or 1)]
                )  # compiles networks
                for load, clips in loads.items():
                    requests = [request(clip, clip.with_suffix(".json")) for clip in clips]
                    begun = time.monotonic()
                    run_all(executor, requests)
                    seconds.setdefault((way, load), []).append(time.monotonic() - begun)
                    console.print(f"{way}, {load}: {seconds[way, load][-1]:.1f} s")
                    found = b"".join(asked.output_path.read_bytes() for asked in requests)
                    digests.setdefault(load, set()).add(hashlib.sha256(found).hexdigest())
            if slots:
                ways[way] = (PipelinePool(settings, cores), cores)  # one that was closed stays so
    show(seconds, digests, list(ways), list(loads), rounds)


def show(
    seconds: dict[tuple[str, str], list[float]],
    digests: dict[str, set[str]],
    ways: Sequence[str],
    loads: Sequence[str],
    rounds: int,
) -> None:
    """Print the table."""
    table = Table(title=f"{PIPELINE}, seconds, medians of {rounds} rounds in turn")
    for column in ("", *ways, "against 1 core", "against one process", "documents"):
        table.add_column(column)
    for load in loads:
        one_core, embedded, pool = (statistics.median(seconds[way, load]) for way in ways)
        same = "the same" if len(digests[load]) == 1 else "DIFFERENT"
        took = (f"{value:.1f}" for value in (one_core, embedded, pool))
        table.add_row(load, *took, f"{one_core / pool:.2f}", f"{embedded / pool:.2f}", same)
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rounds", 3), ("frames", 1000), ("jobs", 8), ("cores", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked.rounds, asked.frames, asked.jobs, asked.cores)


if __name__ == "__main__":
    main()
