"""First come, first served: over kills, retries and a clock that jumps by days."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from daemon.ipc import spool
from daemon.jobs import JobSource, JobStatus, Options
from daemon.store.job_store import JOBS
from daemon.store.journal_reader import JournalReader
from tests.clips import make_clip
from tests.system.clock import MovedClock
from tests.system.running import Daemon, alive, wait_for

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("ORDER_JOBS", "40"))
"""``make crash-long`` asks for 200."""
DAY = 86_400


class Starts:
    """Follows the job store from outside and notes each job's first start, in the order of the commits."""

    def __init__(self, data: Path) -> None:
        self.sequences: list[int] = []
        self.at_once = 0
        """First starts that were seen together, whose order is not known."""
        self._journal = JournalReader(data, "jobs")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        seen: set[int] = set()
        while not self._stop.wait(0.001):
            changes = self._journal.refresh()
            for rows in [self._journal.tables] if changes is None else changes:
                found = [job for job in rows.get(JOBS, {}).values() if job]
                started = sorted(j["sequence"] for j in found if j["attempts"] and j["sequence"] not in seen)
                seen.update(started)
                self.sequences += started
                self.at_once += max(0, len(started) - 1)

    def close(self) -> None:
        """End following."""
        self._stop.set()
        self._thread.join()
        self._journal.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("slots", "count"), [(1, COUNT), (4, COUNT // 2)])
def test_jobs_start_in_the_order_of_their_acceptance(tmp_path: Path, slots: int, count: int) -> None:
    kills = max(3, count // 10)  # one of each kind at least
    clip = make_clip(tmp_path / "clip.mp4", frames=1, size=(160, 120), text="A 1")
    chance = random.Random(11)
    clock = MovedClock(tmp_path)
    (tmp_path / "inbox").mkdir()
    patient = {"DROPFRAME_MAX_ATTEMPTS": "1000", "DROPFRAME_RETRY_SECONDS": "0.05"}
    executor = {"DROPFRAME_EXECUTOR": "pool" if slots > 1 else "embedded", "DROPFRAME_WORKERS": str(slots)}
    daemon = Daemon(tmp_path, **clock.environment, **patient, **executor)
    daemon.data.mkdir()
    starts = Starts(daemon.data)
    names: list[str] = []

    def hand_over(number: int) -> None:
        for _ in range(number):
            name = f"{len(names):03d}.mp4"
            names.append(name)
            if chance.random() < 0.7:
                daemon.drop(clip, f"ocr_only/{name}")
            else:
                wish = {"source_name": name, "pipeline_id": "ocr_only", "options": Options()}
                spool.submit(daemon.data / "spool", clip, source=JobSource.CLI, **wish)  # type: ignore[arg-type]

    try:
        hand_over(count // 4)
        for number in range(kills):
            if daemon.process is None or daemon.process.poll() is not None:
                daemon.start()
            clock.move(chance.choice([-3, -1, 1, 2]) * DAY)
            hand_over(count * 3 // 4 // kills)
            before = len(starts.sequences)
            if number % 3 == 0:  # while the models are loaded
                pipeline, *_ = wait_for(daemon.pipelines, 60)
                time.sleep(chance.uniform(0, 1))
                daemon.kill()
            else:  # in the middle of some job
                wait_for(lambda: len(starts.sequences) >= min(len(names), before + 3), 120)  # noqa: B023
                if number % 3 == 1:
                    daemon.kill()
                else:
                    pipeline, *_ = wait_for(daemon.pipelines, 60)
                    os.kill(pipeline, signal.SIGKILL)
                    wait_for(lambda: not alive(pipeline), 10)  # noqa: B023
        if daemon.process is None or daemon.process.poll() is not None:
            daemon.start()
        hand_over(count - len(names))
        wait_for(lambda: len(daemon.jobs()) == count and all(job.ended for job in daemon.jobs()), 600)
        daemon.stop()
    finally:
        starts.close()
        daemon.kill()
    jobs = daemon.jobs()
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}
    assert [job.sequence for job in jobs] == list(range(1, count + 1))
    assert sum(job.attempts > 1 for job in jobs) > kills // 10, "hardly a kill met a job"
    times = [datetime.fromisoformat(job.created_at).timestamp() for job in jobs]
    assert max(times) - min(times) > DAY, "the clock did not jump"
    spans = sorted((job.started_at or "", job.finished_at or "") for job in jobs)
    overlaps = sum(second[0] < first[1] for first, second in itertools.pairwise(spans))
    assert (overlaps > 0) == (slots > 1), "a pool runs several jobs at once, and one process does not"
    assert starts.at_once <= 3, "the order of the starts could not be seen"
    assert starts.sequences == sorted(starts.sequences)
    assert len(starts.sequences) == count
