"""Slots of a Ray cluster on this machine against processes of this machine, on the same cores.

``python -m benchmarks.cluster [--rounds 3] [--frames 1000]``: medians of rounds in turn, and whether the documents are
the same. A head without cores and two nodes of one core each are started on the loopback address.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.clips import weights
from benchmarks.pool import PIPELINE, cut, request, run_all, warm
from daemon.cluster.pool import ClusterPool
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.executor import Executor
from daemon.settings import Settings
from tests.cluster.loopback import Loopback

CORES = 2
console = Console(width=120)


def measure(folder: Path, rounds: int, frames: int) -> None:
    """Print what each way took."""
    clip, short = cut(folder / "long.mp4", frames, times=frames // 100), cut(folder / "warm.mp4", 25)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    cluster = Loopback(folder)
    os.environ.update(cluster.settings)
    try:
        cluster.start_head()
        cluster.start_nodes(CORES)
        settings = Settings.load(home=folder, weights=weights(), device="cpu")

        def slots(number: int) -> Executor:
            return ClusterPool(settings.model_copy(update={"workers": number}))

        ways: dict[str, tuple[Callable[[], Executor], int]] = {
            "embedded, 1 core": (lambda: PipelineProcess(settings, cores[:1]), 0),
            "Ray, 1 slot of 1 core": (lambda: slots(1), 1),
            "embedded, 2 cores": (lambda: PipelineProcess(settings, cores), 0),
            "Ray, 2 slots of 1 core": (lambda: slots(2), 2),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        digests: set[str] = set()
        settings.videos_dir.mkdir(parents=True, exist_ok=True)
        asked = request(clip, settings.videos_dir / "out.json")  # in the folder that a cluster shares
        for _ in range(rounds):
            for way, (make, count) in ways.items():
                with warm(make(), count) as executor:
                    run_all(
                        executor, [request(short, asked.output_path.with_name(f"{n}.json")) for n in range(count or 1)]
                    )  # compiles networks
                    begun = time.monotonic()
                    executor.run(asked)
                    seconds[way].append(time.monotonic() - begun)
                console.print(f"{way}: {seconds[way][-1]:.1f} s")
                digests.add(hashlib.sha256(asked.output_path.read_bytes()).hexdigest())
    finally:
        cluster.close()
    show({way: statistics.median(took) for way, took in seconds.items()}, len(digests) == 1, rounds, frames)


def show(seconds: dict[str, float], same: bool, rounds: int, frames: int) -> None:
    """Print the table."""
    table = Table(title=f"{PIPELINE}, {frames} frames, seconds, medians of {rounds} rounds in turn")
    for column in (*seconds, "Ray / embedded, 1 core", "the same, 2 cores", "documents"):
        table.add_column(column)
    one, ray_one, two, ray_two = seconds.values()
    ratios = (f"{ray_one / one:.2f}", f"{ray_two / two:.2f}")
    table.add_row(*(f"{took:.1f}" for took in seconds.values()), *ratios, "the same" if same else "DIFFERENT")
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked.rounds, asked.frames)


if __name__ == "__main__":
    main()
