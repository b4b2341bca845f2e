"""What a change of one job costs with few and with many jobs: ``python -m benchmarks.store``.

The two sizes take turns in one run, so that a slow moment of the disk hits both.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from daemon.jobs import Job, JobStatus, input_key, new_job_id
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore

SMALL, LARGE = 100, 100_000
"""Jobs."""

ROUNDS = 400
LIMIT = 2.0
"""A change with LARGE jobs may cost this many times that with SMALL."""


def fill(folder: Path, count: int) -> JobStore:
    """Make a store of jobs that have ended, but for the last."""
    store = JobStore.open(folder)
    before = resident_kilobytes()
    summary = {"classes": {"bus": 250, "person": 812}, "detection_count": 1062, "frame_count": 250}
    for start in range(0, count, 1000):
        jobs = []
        for number in range(start, min(start + 1000, count)):
            job_id = new_job_id()
            last = number == count - 1
            jobs.append(
                Job(
                    job_id,
                    status=JobStatus.PENDING if last else JobStatus.COMPLETED,
                    input_path=input_key(job_id),
                    source_name=f"camera-{number % 16}/clip-{number:06}.mp4",
                    sha256="0123456789abcdef" * 4,
                    summary=None if last else summary,
                )
            )
        store.create(jobs)
    if count == LARGE:
        print(f"A job takes {(resident_kilobytes() - before) / count:.1f} kB of memory.\n")
    store.compact_if_worthwhile()
    return store


def resident_kilobytes() -> float:
    """Return the memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1000


def timed(action: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="dropframe-bench-", dir=".") as name:
        home = Path(name)
        stores = {count: fill(home / str(count), count) for count in (SMALL, LARGE)}
        readers = {count: JobReader(home / str(count)) for count in stores}
        job_ids = {count: store.jobs(JobStatus.PENDING)[0].job_id for count, store in stores.items()}
        opening = {count: timed(reader.refresh) for count, reader in readers.items()}
        changes: dict[int, list[float]] = {count: [] for count in stores}
        notes: dict[int, list[float]] = {count: [] for count in stores}
        refreshes: dict[int, list[float]] = {count: [] for count in stores}
        idle: dict[int, list[float]] = {count: [] for count in stores}
        for turn in range(ROUNDS):
            to = JobStatus.PENDING if turn % 2 else JobStatus.RUNNING
            for count, store in stores.items():
                job_id, reader = job_ids[count], readers[count]
                changes[count].append(timed(lambda: store.move(job_id, to)))  # noqa: B023
                refreshes[count].append(timed(reader.refresh))
                idle[count].append(timed(reader.refresh))
                notes[count].append(timed(lambda: store.note(job_id, False, frames_processed=turn)))  # noqa: B023
        journals = {count: store._storage.journal for count, store in stores.items()}  # type: ignore[attr-defined]
        snapshot = {count: timed(lambda: journals[count].compact(force=True)) for count in stores}  # noqa: B023
        size = (home / str(LARGE) / "jobs.json").stat().st_size
        for store in stores.values():
            store.close()
        start = {count: timed(lambda: JobStore.open(home / str(count)).close()) for count in stores}  # noqa: B023
        for reader in readers.values():
            reader.close()

    def row(what: str, values: dict[int, float], unit: float, name: str) -> float:
        ratio = values[LARGE] / values[SMALL]
        print(f"{what:<44}{values[SMALL] * unit:>11.2f}{values[LARGE] * unit:>11.2f} {name:<3}{ratio:>9.2f}")
        return ratio

    def median(samples: dict[int, list[float]]) -> dict[int, float]:
        return {count: statistics.median(values) for count, values in samples.items()}

    print(f"{'jobs':<44}{SMALL:>11,}{LARGE:>11,}    {'ratio':>9}")
    ratio = row("one status change, durable (median)", median(changes), 1e3, "ms")
    row("one progress note, not durable (median)", median(notes), 1e3, "ms")
    row("reader: catch up with one change (median)", median(refreshes), 1e3, "ms")
    row("reader: nothing new (median)", median(idle), 1e3, "ms")
    row("reader: first load", opening, 1e3, "ms")
    row("daemon: open and close", start, 1e3, "ms")
    row("write a snapshot", snapshot, 1e3, "ms")
    print(f"\nThe job file of {LARGE:,} jobs has {size / 1e6:.1f} MB.")
    print(f"A status change with {LARGE:,} jobs costs {ratio:.2f} times that with {SMALL} (limit {LIMIT}).")
    if ratio > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
