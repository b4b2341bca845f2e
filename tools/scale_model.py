"""How long many videos take on many workers, and when the daemon holds them up: ``python -m tools.scale_model``.

It does not analyse anything: it plays through what the daemon does with jobs and parts, with the costs of planning,
joining and the job store that it measures first on this machine. Three ways are compared: one job on one worker ("whole
jobs"), one job at a time on all workers, and what a pool does: jobs start in order as there is room, and long videos
are shared by the workers that are free.
"""

from __future__ import annotations

import argparse
import heapq
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from daemon.pipeline.plans import GROUP_SECONDS
from daemon.pipeline.pool_run import PARTS_A_SLOT
from tools.coordinator_costs import FPS, Costs, measure, processor

SEGMENT_FRAMES = 250
LINE_BYTES = 1400
"""Of a document, for each frame."""
VIDEO_BYTES = 500_000
"""Of a video, for each second."""
CHANGES = 3
"""Of a job's record that wait for the disk: its start, what its result says, and its end."""


@dataclass(frozen=True)
class Way:
    """How jobs are given to workers."""

    name: str
    at_once: float = math.inf
    """Jobs that may be under way."""
    shares: bool = True
    """Whether a video is cut into parts."""
    starting: float = 1
    """Jobs of which it may not be known yet what they need."""
    in_groups: bool = True
    """Whether changes of jobs share a sync."""


WHOLE = Way("whole jobs", shares=False)
ONE = Way("one at a time", at_once=1)
POOL = Way("pool")
SINGLY = Way("pool, a sync for each change", in_groups=False)


@dataclass
class Outcome:
    """What became of all jobs."""

    seconds: float = 0.0
    """Until the last one had ended."""
    starts: list[tuple[float, int]] = field(default_factory=list)
    """When which job was started, in this order."""
    ends: dict[int, float] = field(default_factory=dict)
    analysed: float = 0.0
    """Frames."""
    worked: float = 0.0
    """Seconds that workers were busy, of all together."""
    coordinating: float = 0.0
    """Seconds that the daemon was busy: changes of jobs, joining, progress."""


class Coordinator:
    """The daemon's part: one thing after the other, as if it had one core and the disk did one thing at a time.

    Args:
        costs: Of each.
        in_groups: Whether changes that wait for the disk at the same time share a sync.
        outcome: Gets what it spent.
    """

    def __init__(self, costs: Costs, in_groups: bool, outcome: Outcome) -> None:
        self._costs, self._in_groups, self._outcome = costs, in_groups, outcome
        self._free = 0.0
        self._group_begins = 0.0
        """When the group that can still be joined gets its turn."""

    def change(self, now: float) -> float:
        """Store a change of a job; return when it is on the disk."""
        took = self._costs.change
        if not self._in_groups or now >= self._group_begins:
            took += self._costs.sync
            self._group_begins = max(now, self._free)
        self._outcome.coordinating += took
        self._free = max(now, self._free) + took
        return self._free

    def join(self, now: float, frames: float) -> float:
        """Join a document; return when it is there."""
        took = frames * LINE_BYTES / self._costs.join_bytes
        self._outcome.coordinating += took
        self._free = max(now, self._free) + took
        return self._free


class Simulation:
    """Plays one way through.

    Args:
        seconds: Length of each video, in the order of their acceptance.
        workers: How many there are.
        speed: Frames that a worker analyses in a second.
        costs: Of what is not analysing.
        way: How jobs are given to workers.
    """

    def __init__(self, seconds: Sequence[float], workers: int, speed: float, costs: Costs, way: Way = POOL) -> None:
        self._seconds, self._workers, self._speed, self._costs, self._way = seconds, workers, speed, costs, way
        self._idle = workers
        self._due: list[tuple[int, int, float]] = []
        """Job, number of the part and frames of what waits for a worker; the lowest leaves first."""
        self._left: dict[int, int] = {}
        """Parts of each job that is under way that are not made."""
        self._events: list[tuple[float, int, int, str, float]] = []
        self._count = 0
        self._starting = 0
        self.outcome = Outcome()
        self._coordinator = Coordinator(costs, way.in_groups, self.outcome)

    def run(self) -> Outcome:
        """Play it; return what became of all jobs."""
        self._start_next(0.0)
        while self._events:
            now, _, job, what, frames = heapq.heappop(self._events)
            self.outcome.seconds = now
            getattr(self, f"_{what}")(now, job, frames)
            self._give_out(now)
            self._start_next(now)
        running = sum(self.outcome.ends[job] - start for start, job in self.outcome.starts)
        note = self._costs.note_of_many if self._way.in_groups else 2 * self._costs.note
        self.outcome.coordinating += running * note
        return self.outcome

    def _at(self, when: float, job: int, what: str, frames: float = 0.0) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, job, what, frames))

    def _start_next(self, now: float) -> None:
        """Start the next job if a worker is free that no job before it wants."""
        job = len(self.outcome.starts)
        room = self._idle and not self._due and self._starting < self._way.starting
        if job < len(self._seconds) and room and len(self._left) < self._way.at_once:
            self._starting += 1
            self._idle -= 1
            self._left[job] = 1
            stored = self._coordinator.change(now)
            self.outcome.starts.append((stored, job))
            self._at(stored, job, "started")

    def _started(self, now: float, job: int, _: float) -> None:
        frames = max(1.0, self._seconds[job] * FPS)
        if not self._way.shares or frames <= SEGMENT_FRAMES:
            self._starting -= 1
            self._idle += 1
            heapq.heappush(self._due, (job, -1, frames))
            return
        seconds = self._seconds[job]
        took = seconds / 3600 * self._costs.plan_hour + seconds * VIDEO_BYTES / self._costs.hash_bytes
        self.outcome.worked += took
        self._at(now + took, job, "planned", frames)

    def _planned(self, now: float, job: int, frames: float) -> None:
        self._starting -= 1
        self._idle += 1
        least = PARTS_A_SLOT * self._idle
        wanted = min(GROUP_SECONDS * FPS, frames / least)
        size = max(1, round(wanted / SEGMENT_FRAMES)) * SEGMENT_FRAMES
        parts = math.ceil(frames / size)
        self._left[job] = parts
        for number in range(parts):
            heapq.heappush(self._due, (job, number, min(size, frames - number * size)))

    def _give_out(self, now: float) -> None:
        while self._idle and self._due:
            job, _, frames = heapq.heappop(self._due)
            self._idle -= 1
            self.outcome.worked += frames / self._speed
            self._at(now + frames / self._speed, job, "made", frames)

    def _made(self, now: float, job: int, frames: float) -> None:
        self._idle += 1
        self.outcome.analysed += frames
        self._left[job] -= 1
        if not self._left[job]:
            total = max(1.0, self._seconds[job] * FPS)
            joined = self._coordinator.join(now, total) if frames < total else now
            self._at(joined, job, "joined")

    def _joined(self, now: float, job: int, _: float) -> None:
        self._at(self._coordinator.change(now), job, "published")

    def _published(self, now: float, job: int, _: float) -> None:
        self._at(self._coordinator.change(now), job, "ended")

    def _ended(self, now: float, job: int, _: float) -> None:
        self.outcome.ends[job] = now
        del self._left[job]


def lengths(count: int, median: float = 120.0, longest: float = 8 * 3600.0, seed: int = 1) -> list[float]:
    """Return lengths of videos in seconds: log-normal about a median, and the longest is as long as is asked for."""
    drawn = np.random.default_rng(seed).standard_normal(count)
    spread = math.log(longest / median) / max(1e-9, float(drawn.max()))
    return [float(each) for each in median * np.exp(spread * drawn)]


def costs_table(costs: Costs) -> Table:
    """Return a table of costs."""
    table = Table(title=f"Measured on {processor()}")
    table.add_column("what")
    table.add_column("costs", justify="right")
    change, sync = costs.change * 1e3, costs.sync * 1e3
    rows = {
        "planning an hour of video, in a slot": f"{costs.plan_hour:.2f} s",
        "hashing a video, in a slot": f"{costs.hash_bytes / 1e6:.0f} MB/s",
        "joining a document, in the daemon": f"{costs.join_bytes / 1e6:.0f} MB/s",
        "a change of a job, alone": f"{change + sync:.2f} ms",
        "  one of 64 with one sync": f"{change + sync / 64:.2f} ms",
        "progress of a job, alone": f"{costs.note * 1e3:.2f} ms",
        "  one of 64 in a commit": f"{costs.note_of_many * 1e3:.2f} ms",
    }
    for row in rows.items():
        table.add_row(*row)
    return table


def limits_table(seconds: Sequence[float], costs: Costs) -> Table:
    """Return a table of what the daemon can do at most, each alone."""
    table = Table(title="The daemon's limits, each alone")
    for column in ("what", "at most", "workers of 13 frames/s", "workers of 400 frames/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    frames = costs.join_bytes / LINE_BYTES
    mean = sum(seconds) / len(seconds)
    start = mean / 3600 * costs.plan_hour + mean * VIDEO_BYTES / costs.hash_bytes
    planned = [mean * FPS / speed / start for speed in (13, 400)]
    table.add_row("planning, one video after the other", f"{1 / start:,.0f} jobs/s", *(f"{n:,.0f}" for n in planned))
    table.add_row("joining", f"{costs.join_bytes / 1e6:.0f} MB/s", f"{frames / 13:,.0f}", f"{frames / 400:,.0f}")
    for name, cost in (
        ("jobs, a sync for each change", CHANGES * (costs.sync + costs.change)),
        ("jobs, 64 changes to a sync", CHANGES * (costs.sync / 64 + costs.change)),
    ):
        workers = [mean * FPS / speed / cost for speed in (13, 400)]
        table.add_row(name, f"{1 / cost:,.0f} jobs/s", *(f"{each:,.0f}" for each in workers))
    table.add_row("progress, a commit for each job twice a second", "", *2 * [f"{1 / (2 * costs.note):,.0f}"])
    table.add_row("progress, a commit a second for all jobs", "", *2 * [f"{1 / costs.note_of_many:,.0f}"])
    return table


def model_table(seconds: Sequence[float], costs: Costs, workers: Sequence[int], speeds: Sequence[float]) -> Table:
    """Return a table of how long it takes."""
    hours = sum(seconds) / 3600
    longest = max(seconds) / 3600
    table = Table(
        title=f"{len(seconds):,} videos, {hours:,.0f} h, the longest {longest:.1f} h; hours until all are done"
    )
    columns = ("frames/s", "workers", WHOLE.name, ONE.name, POOL.name, "workers busy", "daemon busy", "singly")
    for column in columns:
        table.add_column(column, justify="right")
    for speed in speeds:
        for count in workers:
            whole, one, pool, singly = (
                Simulation(seconds, count, speed, costs, way).run() for way in (WHOLE, ONE, POOL, SINGLY)
            )
            table.add_row(
                f"{speed:g}",
                f"{count:,}",
                *(_hours(outcome) for outcome in (whole, one, pool)),
                f"{pool.worked / (count * pool.seconds):.0%}",
                *(f"{outcome.coordinating / outcome.seconds:.1%}" for outcome in (pool, singly)),
            )
    table.caption = "Daemon busy: with changes of jobs in groups; singly: with a sync and a note of progress for each."
    return table


def _hours(outcome: Outcome) -> str:
    hours = outcome.seconds / 3600
    return f"{hours:.1f}" if hours >= 10 else f"{hours:.2f}"


def main() -> None:
    """Measure, play it through and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.scale_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=10_000, help="how many (default %(default)s)")
    parser.add_argument("--median", type=float, default=120, help="seconds of the middle one (default %(default)s)")
    parser.add_argument("--longest", type=float, default=8 * 3600, help="seconds (default %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 512], help="(default 8 64 512)")
    parser.add_argument("--speeds", type=float, nargs="+", default=[13, 400], help="frames/s (default 13 400)")
    parser.add_argument("--seed", type=int, default=1, help="of the lengths (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk that is measured (default: here)")
    parser.add_argument("--assume", action="store_true", help="measure nothing; take usual costs")
    asked = parser.parse_args()
    console = Console(width=120)
    costs = Costs()
    if not asked.assume:
        with tempfile.TemporaryDirectory(prefix="dropframe-costs-", dir=asked.folder) as name:
            costs = measure(Path(name))
        console.print(costs_table(costs))
    seconds = lengths(asked.videos, asked.median, asked.longest, asked.seed)
    console.print(limits_table(seconds, costs))
    console.print(model_table(seconds, costs, asked.workers, asked.speeds))


if __name__ == "__main__":
    main()
