"""A soak: ``python -m tests.system.soak --minutes 15`` (``make soak MINUTES=15``).

Dropframe runs as people run it, fed with clips by the inbox and by uploads, and one random fault comes a minute:
kills in the first half, faults of the environment all the time. In the second half the same processes live on, so
that their descriptors and memory can be measured. At the end every video must have come to its one end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from daemon.jobs import JobSource, JobStatus
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.system.clock import MovedClock
from tests.system.crash.ledger import Entry, Ledger, Recipe
from tests.system.running import Daemon, alive, children, follows_up, running, wait_for

FEED_SECONDS = 3.0
"""Time between two videos; one takes about a second here."""
SAMPLE_SECONDS = 2.0
AWAY_SECONDS = 8.0
"""How long a folder is away, a disk full or a process stopped."""
STALL_SECONDS = 20.0
SPARE_DESCRIPTORS = 3
"""Open at one moment and not at another: a connection, a file that is read."""
WARM_SECONDS = 60.0
"""A process younger than this loads models and is not measured, so a soak of a minute measures none."""
MOST_SLOPE = 1.0
"""MB an hour, besides the records."""
RECORD_MEGABYTES = 0.004
"""Daemon and sidecar keep the record of every job in memory: 3.5 kB each."""
LEAST_MEASURED_SECONDS = 1800.0
"""Memory that grows less than the limit cannot be told from noise in a shorter time; it is reported only."""


@dataclass
class Sample:
    """One look at one process."""

    at: float
    descriptors: int
    megabytes: float


@dataclass
class Report:
    """What came of a soak."""

    faults: Counter[str] = field(default_factory=Counter)
    videos: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        videos = ", ".join(f"{count} {name}" for name, count in sorted(self.videos.items()))
        lines = [f"faults: {faults}", f"videos: {videos}", *self.processes, *(f"PROBLEM {p}" for p in self.problems)]
        return "\n".join([*lines, "well" if not self.problems else f"{len(self.problems)} problems"])


class Soak:
    """One soak.

    Args:
        home: A folder that is empty.
        minutes: How long videos come.
        every_seconds: Time between two faults.
        seed: Of all chance.
    """

    def __init__(self, home: Path, minutes: float, every_seconds: float = 60.0, seed: int = 1) -> None:
        self._home = home
        self._seconds = minutes * 60
        self._every = every_seconds
        self._chance = random.Random(seed)
        clip = make_clip(home / "clips" / "a.mp4", frames=12, text="GOAL 42")
        self._recipe = Recipe("clip", clip.read_bytes())
        self._ledger = Ledger([self._recipe], home / "answered")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._clock = MovedClock(home)
        settings = {"DROPFRAME_STALL_SECONDS": str(STALL_SECONDS), **self._clock.environment}
        self._dropframe = Daemon(home, "--port", self._port, command="run", **settings)
        self._stopping = threading.Event()
        self._samples: dict[tuple[str, int], list[Sample]] = {}
        self._report = Report()

    def run(self) -> Report:
        """Do it all."""
        for folder in (self._dropframe.inbox, self._dropframe.outbox):
            folder.mkdir()
        undisturbed = self._undisturbed()
        with self._small_disk() as fill:
            self._dropframe.start()
            try:
                self._wait_well()
                threads = [threading.Thread(target=work) for work in (self._feed, self._measure)]
                for thread in threads:
                    thread.start()
                try:
                    self._disturb(fill)
                finally:
                    self._stopping.set()
                    for thread in threads:
                        thread.join()
                self._wait_for_all()
                self._judge_processes()
                took = self._dropframe.stop(seconds=12)
                self._report.processes.append(f"ended {took:.1f} s after SIGTERM")
            except AssertionError as error:
                self._report.problems.append(str(error))
            finally:
                self._dropframe.kill()
            with JobStore.open(self._dropframe.data) as store:
                if store.recovered_from:
                    self._report.problems.append(f"the store: {store.recovered_from}")
                account = self._ledger.settle(store.jobs(), self._home, undisturbed)
        self._report.problems += account.problems()
        self._report.videos = self._ledger.counts()
        return self._report

    def _undisturbed(self) -> dict[str, bytes]:
        home = self._home / "undisturbed"
        home.mkdir()
        with running(home) as daemon:
            clip = home / "clip.mp4"
            clip.write_bytes(self._recipe.clip)
            daemon.drop(clip)
            assert daemon.wait_job("clip.mp4", seconds=120).status is JobStatus.COMPLETED
            return {self._recipe.name: daemon.results()["clip.mp4.json"]}

    @contextlib.contextmanager
    def _small_disk(self) -> Iterator[Callable[[], Path] | None]:
        """Put the data folder on a disk of its own, where that is allowed; give what fills it."""
        data = self._dropframe.data
        data.mkdir()
        size = 64 + int(self._seconds / 60) * 3
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m", "dropframe-soak", str(data)],
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            yield None
            return

        def fill() -> Path:
            ballast = data / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            return ballast

        try:
            yield fill
        finally:
            subprocess.run(["umount", "-l", str(data)], check=True)

    # What happens.

    def _feed(self) -> None:
        by_upload = False
        while not self._stopping.wait(FEED_SECONDS):
            by_upload = not by_upload
            if by_upload:
                self._upload(self._ledger.add(self._recipe, JobSource.HTTP))
            else:
                self._drop(self._ledger.add(self._recipe, JobSource.INBOX))

    def _drop(self, entry: Entry) -> None:
        whole = self._home / "clips" / entry.name
        whole.write_bytes(entry.content)
        while True:
            with contextlib.suppress(FileNotFoundError):  # the inbox is away
                whole.rename(self._dropframe.inbox / entry.name)
                return
            time.sleep(0.2)

    def _upload(self, entry: Entry) -> None:
        """Send an upload as a careful client does: again with the same key until it is answered."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.put(
                    f"http://127.0.0.1:{self._port}/v1/video/submit/{entry.name}",
                    content=entry.content,
                    headers={"idempotency-key": entry.name},
                    timeout=30,
                )
                if answer.status_code in (200, 201):
                    self._ledger.answer(entry, answer.json()["job_id"])
                    return
                if answer.status_code < 500:
                    self._report.problems.append(f"{entry.name} was answered {answer.status_code}: {answer.text}")
                    return
            time.sleep(0.5)

    def _disturb(self, fill: Callable[[], Path] | None) -> None:
        environment: list[Callable[[], None]] = [
            self._inbox_away,
            self._outbox_away,
            self._pause,
            self._clock_jumps,
        ]
        if fill is not None:
            environment.append(lambda: self._disk_full(fill))
        kills: list[Callable[[], None]] = [
            lambda: self._kill("daemon"),
            lambda: self._kill("sidecar"),
            lambda: self._kill("pipeline"),
            self._hang,
        ]
        begun = time.monotonic()
        due = begun + self._every / 2
        while (now := time.monotonic()) < begun + self._seconds:
            if now < due:
                time.sleep(min(1.0, due - now))
                continue
            due += self._every
            early = now < begun + self._seconds / 2
            fault = self._chance.choice(kills if early and self._chance.random() < 0.7 else environment)
            fault()
            self._wait_well()

    def _count(self, name: str) -> None:
        self._report.faults[name] += 1
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)

    def _kill(self, name: str) -> None:
        self._count(f"kill -9 of the {name}")
        os.kill(self._processes()[name], signal.SIGKILL)

    def _hang(self) -> None:
        self._count("pipeline that hangs")
        pid = self._processes()["pipeline"]
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: not alive(pid), STALL_SECONDS * 4, "the pipeline that hangs was not ended")

    def _pause(self) -> None:
        self._count("everything stopped for a while")
        stopped = list(self._processes().values())
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(AWAY_SECONDS)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    def _clock_jumps(self) -> None:
        self._count("clock that jumps by up to a day")
        self._clock.move(self._chance.randrange(-86_400, 86_400))

    def _inbox_away(self) -> None:
        self._count("inbox away")
        self._away(self._dropframe.inbox)

    def _outbox_away(self) -> None:
        self._count("outbox away")
        self._away(self._dropframe.outbox)

    def _away(self, folder: Path) -> None:
        elsewhere = folder.with_name(f"{folder.name}-away")
        folder.rename(elsewhere)
        time.sleep(AWAY_SECONDS)
        # Should somebody have made it anew, the rename fails and so does the soak.
        elsewhere.rename(folder)

    def _disk_full(self, fill: Callable[[], Path]) -> None:
        self._count("disk full")
        ballast = fill()
        time.sleep(AWAY_SECONDS)
        ballast.unlink()

    # What is looked at.

    def _processes(self) -> dict[str, int]:
        """Return the process ids by name; fails while one of them is being started again."""
        found = {}
        for pid in children(self._dropframe.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found["sidecar" if b"sidecar" in command else "daemon"] = pid
        [found["pipeline"]] = [pid for pid in children(found["daemon"]) if not follows_up(pid)]
        return found

    def _wait_well(self) -> None:
        def well() -> bool:
            assert self._dropframe.process is not None
            assert self._dropframe.process.poll() is None, f"Dropframe has ended:\n{self._dropframe.log()[-3000:]}"
            with contextlib.suppress(httpx.HTTPError, OSError, KeyError, ValueError):
                ready = httpx.get(f"http://127.0.0.1:{self._port}/readyz", timeout=10).status_code == 200
                return ready and len(self._processes()) == 3
            return False

        wait_for(well, 150, "it was not well again")

    def _measure(self) -> None:
        begun = time.monotonic()
        while not self._stopping.wait(SAMPLE_SECONDS):
            with contextlib.suppress(OSError, KeyError, ValueError):
                for name, pid in self._processes().items():
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    sample = Sample(
                        time.monotonic() - begun,
                        len(os.listdir(f"/proc/{pid}/fd")),
                        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
                    )
                    self._samples.setdefault((name, pid), []).append(sample)

    def _wait_for_all(self) -> None:
        entries = list(self._ledger.entries.values())

        def over() -> bool:
            jobs = self._dropframe.jobs()
            known = {job.source_name for job in jobs}
            return all(job.ended for job in jobs) and all(entry.name in known for entry in entries)

        wait_for(over, 120 + 3 * len(entries), "not every video came to an end")

    def _judge_processes(self) -> None:
        for (name, pid), samples in self._samples.items():
            warm = max(self._seconds * 0.6, samples[0].at + WARM_SECONDS)
            late = [s for s in samples if s.at > warm]
            if len(late) < 10:
                continue
            middle = late[len(late) // 2].at
            before = max(s.descriptors for s in late if s.at <= middle)
            after = max(s.descriptors for s in late if s.at > middle)
            slope, error = slope_per_hour(late)
            seconds = late[-1].at - late[0].at
            self._report.processes.append(
                f"{name} {pid}: {after} descriptors at most ({before} before), {late[-1].megabytes:.0f} MB, "
                f"{slope:+.1f} ± {2 * error:.1f} MB an hour over {seconds:.0f} s"
            )
            if after > before + SPARE_DESCRIPTORS:
                self._report.problems.append(f"the {name} has {after} descriptors open, before {before}")
            records = 0.0 if name == "pipeline" else RECORD_MEGABYTES * 3600 / FEED_SECONDS
            if seconds >= LEAST_MEASURED_SECONDS and slope - 2 * error > MOST_SLOPE + records:
                self._report.problems.append(f"the {name} grows by {slope:.1f} MB an hour")


def slope_per_hour(samples: list[Sample]) -> tuple[float, float]:
    """Return the slope of memory in MB an hour by least squares, and its standard error."""
    at = [sample.at / 3600 for sample in samples]
    size = [sample.megabytes for sample in samples]
    slope, intercept = statistics.linear_regression(at, size)
    left = [y - intercept - slope * x for x, y in zip(at, size, strict=True)]
    spread = sum((x - statistics.fmean(at)) ** 2 for x in at)
    return slope, (sum(r * r for r in left) / max(1, len(left) - 2) / spread) ** 0.5


def main() -> int:
    """Soak; return the exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    flags = parser.parse_args()
    print(f"seed {flags.seed}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="dropframe-soak-"))
    report = Soak(home, flags.minutes, flags.every, flags.seed).run()
    print(report)
    if report.problems:
        print(f"everything is in {home}")
        return 1
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
