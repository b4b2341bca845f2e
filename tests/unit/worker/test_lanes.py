"""Several jobs are under way at once: they start in order, and each ends by itself."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.errors import Interrupted, PipelineDied, StoreError
from daemon.jobs import ErrorKind, Job
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import RunRequest
from tests.system.running import wait_for
from tests.unit.worker.bench import COMPLETED, FAILED, PENDING, RUNNING, SUMMARY, Bench, Played, document


class Slots(Played):
    """A pool that is played: a run goes on until it is let go."""

    lanes = 8

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.started: list[str] = []
        """Names of the videos, in the order in which runs began."""
        self.busy: set[str] = set()
        self.let_go: set[str] = set()
        self.errors: dict[str, Exception] = {}
        """What the next run of a video ends with."""
        self.places = True
        """Whether it is known at once what a job needs."""
        self._changed = threading.Condition()

    def has_room(self) -> bool:
        return len(self.busy) < self.slots

    def release(self, *names: str) -> None:
        with self._changed:
            self.let_go.update(names)
            self._changed.notify_all()

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_placed: Callable[[], None] = lambda: None,
    ) -> RunReport:
        name = request.source_name
        with self._changed:
            self.started.append(name)
            self.busy.add(name)
        try:
            if self.places:
                on_placed()
            on_progress(Progress(len(self.started), 10, 1))
            with self._changed:
                while name not in self.let_go and not should_stop():
                    self._changed.wait(0.01)
            if should_stop():
                raise Interrupted("The run was stopped.")
            if name in self.errors:
                raise self.errors.pop(name)
            request.output_path.write_bytes(document(name))
            return RunReport(10, 10, "abc", 5, "cpu", dict(SUMMARY), {"text": 0.5}, 1.0)
        finally:
            with self._changed:
                self.busy.discard(name)


class Several(Bench):
    """A worker with several lanes."""

    pipeline: Slots

    def __init__(self, home: Path, slots: int = 2) -> None:
        super().__init__(home)
        self.pipeline = Slots(slots)
        self.start()

    def fill(self) -> list[str]:
        """Start what there is room for; return the names of what runs."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if not self.step() and not any(lane.is_starting for lane in self.worker._lanes._all):
                break
            time.sleep(0.005)
        return sorted(self.pipeline.busy)

    def end(self, *names: str) -> None:
        """Let runs end, and have that recorded."""
        self.let_end(*names)
        self.record()

    def let_end(self, *names: str) -> None:
        self.pipeline.release(*names)
        lanes = [lane for lane in self.worker._lanes._all if lane.job and lane.job.source_name in names]
        wait_for(lambda: all(lane.outcome for lane in lanes))

    def record(self) -> None:
        self.worker._lanes.record_ended(self.worker._recorder, self.now)

    def quit(self) -> None:
        self.worker.stop()
        self.worker._lanes.wait()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Several]:
    bench = Several(tmp_path)
    yield bench
    bench.quit()


def test_jobs_start_in_order_as_there_is_room_and_may_overtake_each_other(bench: Several) -> None:
    ids = {name: bench.add(name) for name in "abcd"}
    assert bench.fill() == ["a", "b"]
    assert [bench.job(ids[name]).status for name in "abcd"] == [RUNNING, RUNNING, PENDING, PENDING]
    bench.end("b")
    assert bench.job(ids["b"]).status is COMPLETED
    assert bench.fill() == ["a", "c"]
    bench.end("a", "c")
    assert bench.fill() == ["d"]
    bench.end("d")
    assert bench.pipeline.started == ["a", "b", "c", "d"]
    assert {bench.job(job_id).status for job_id in ids.values()} == {COMPLETED}
    assert bench.worker.totals == {"jobs_completed": 4, "frames": 40, "text_seconds": 2.0}


def test_no_job_starts_while_it_is_not_known_what_the_one_before_needs(bench: Several) -> None:
    bench.pipeline.places = False
    bench.add("a"), bench.add("b")
    assert bench.step()
    wait_for(lambda: bench.pipeline.busy)
    assert not bench.step()
    bench.end("a")
    assert bench.step()
    bench.end("b")


def test_all_that_run_are_told_in_the_order_of_their_starts(bench: Several) -> None:
    first, second = bench.add("a"), bench.add("b")
    bench.now += 1
    bench.fill()
    wait_for(lambda: bench.worker.running_besides)
    running = [bench.worker.running, *bench.worker.running_besides]
    assert [each.job_id for each in running if each] == [first, second]
    bench.end("a")
    assert bench.worker.running is not None
    assert bench.worker.running.job_id == second
    assert bench.worker.running_besides == []
    bench.end("b")


def test_cancelling_one_ends_no_other(bench: Several) -> None:
    first, second, third = bench.add("a"), bench.add("b"), bench.add("c")
    bench.fill()
    assert bench.worker.cancel(second)
    assert bench.worker.cancel(third)
    bench.end("b")
    assert [bench.job(job).status for job in (first, second, third)] == [RUNNING, FAILED, FAILED]
    assert {bench.job(job).error_kind for job in (second, third)} == {ErrorKind.CANCELLED}
    bench.end("a")
    assert bench.job(first).status is COMPLETED


def test_what_was_cancelled_and_is_retried_in_another_lane_is_not_cancelled(bench: Several) -> None:
    first = bench.add("a")
    bench.fill()
    assert bench.worker.cancel(first)
    bench.end("a")
    bench.pipeline.let_go.clear()
    second = bench.add("b")
    bench.fill()  # it is in the lane of the first one
    assert bench.worker.retry(first)
    bench.fill()
    bench.end("a", "b")
    assert [bench.job(job).status for job in (first, second)] == [COMPLETED, COMPLETED]


def test_a_job_that_waits_for_its_next_attempt_holds_up_no_other(bench: Several) -> None:
    first, second, third = bench.add("a"), bench.add("b"), bench.add("c")
    bench.pipeline.errors["a"] = PipelineDied("It died.")
    bench.fill()
    bench.end("a")
    assert bench.job(first).status is PENDING
    assert bench.fill() == ["b", "c"]
    bench.end("b")
    bench.now += 60
    bench.fill()
    bench.end("a", "c")
    assert bench.pipeline.started == ["a", "b", "c", "a"]
    assert {bench.job(job).status for job in (first, second, third)} == {COMPLETED}
    assert bench.job(first).attempts == 2


def test_nothing_starts_while_an_outcome_cannot_be_recorded(bench: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Job:
        raise StoreError("The disk is full.")

    first, second, third = bench.add("a"), bench.add("b"), bench.add("c")
    bench.fill()
    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "move", refuse)
        bench.end("a")
        assert bench.fill() == ["b"]
    assert bench.fill() == ["b", "c"]
    assert bench.job(first).status is COMPLETED
    bench.end("b", "c")
    assert {bench.job(job).status for job in (second, third)} == {COMPLETED}


def test_stopping_puts_all_that_run_back_as_they_were(bench: Several) -> None:
    jobs = [bench.add("a"), bench.add("b"), bench.add("c")]
    thread = threading.Thread(target=bench.worker.run_forever)
    thread.start()
    wait_for(lambda: len(bench.pipeline.busy) == 2)
    bench.worker.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert [(bench.job(job).status, bench.job(job).attempts) for job in jobs] == [(PENDING, 0)] * 3


def test_jobs_that_complete_at_about_the_same_time_share_a_commit(
    bench: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.worker.owed._wanted = True
    jobs = [bench.add(name) for name in "abc"]
    bench.pipeline.slots = 3
    bench.fill()
    bench.let_end("a", "b", "c")
    commits: list[int] = []
    real = bench.store._storage.append_all
    monkeypatch.setattr(
        bench.store._storage, "append_all", lambda lines, durable: (commits.append(len(lines)), real(lines, durable))
    )
    bench.record()
    assert commits == [3]
    assert {bench.job(job).status for job in jobs} == {COMPLETED}
    for told in (bench.worker.completed, bench.worker.owed.job_ids):
        assert sorted(told.get_nowait() for _ in jobs) == sorted(jobs)
        assert told.empty()
    assert bench.worker.totals["jobs_completed"] == 3
    assert all(lane.job is None for lane in bench.worker._lanes._all)
    assert not any(bench.worker.cancel(job) for job in jobs)


@pytest.mark.parametrize("stored", [False, True])
def test_ends_that_could_not_be_recorded_together_are_recorded_later_and_told_once(
    bench: Several, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """Or were recorded although the disk denied it."""
    jobs = [bench.add("a"), bench.add("b"), bench.add("c")]
    bench.fill()
    bench.let_end("a", "b")
    real = bench.store._storage.append_all

    def fail(lines: object, durable: bool) -> None:
        if stored:
            real(lines, durable)
        raise StoreError("The disk refuses.") from OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(bench.store._storage, "append_all", fail)
        bench.record()
        assert bench.worker.completed.empty(), "nobody is told of what may not be stored"
        bench.store._index.rebuild(bench.store._table.rows())  # as when the files are read again
    assert bench.fill() == ["c"]
    assert [bench.job(job).status for job in jobs] == [COMPLETED, COMPLETED, RUNNING]
    assert sorted(bench.worker.completed.get_nowait() for _ in range(2)) == sorted(jobs[:2])
    assert bench.worker.completed.empty()
    bench.end("c")


def test_the_progress_of_all_goes_into_their_records_in_one_commit_a_second(
    bench: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [bench.add("a"), bench.add("b")]
    bench.fill()
    wait_for(lambda: len(bench.worker._lanes.running) == 2)
    commits: list[tuple[int, bool]] = []
    real = bench.store._storage.append_all
    monkeypatch.setattr(
        bench.store._storage,
        "append_all",
        lambda lines, durable: (commits.append((len(lines), durable)), real(lines, durable)),
    )
    lanes = [lane for lane in bench.worker._lanes._all if lane.job]
    for step in range(1, 7):
        bench.now += 0.25
        for lane in lanes:
            lane.attempt.progress.report(Progress(step, 10, step))
    assert commits == [(2, False)]
    assert sorted(bench.job(job).frames_processed for job in jobs) == [3, 4]
    lanes[0].attempt.progress.done()
    bench.now += 1
    lanes[1].attempt.progress.report(Progress(8, 10, 8))
    assert sorted(bench.job(job).frames_processed for job in jobs) == [4, 8], "what has ended is not noted any more"
    bench.end("a", "b")
    assert [bench.job(job).frames_processed for job in jobs] == [10, 10]


@pytest.mark.parametrize("seed", range(3))
def test_first_starts_are_in_order_over_failures_and_cancellations(tmp_path: Path, seed: int) -> None:
    bench, chance = Several(tmp_path, slots=4), random.Random(seed)
    names = [f"{number:02}" for number in range(24)]
    jobs = {name: bench.add(name) for name in names[:12]}
    bench.pipeline.errors = {name: PipelineDied("It died.") for name in chance.sample(names, 8)}
    try:
        while not all(bench.job(job).ended for job in jobs.values()) or len(jobs) < len(names):
            if len(jobs) < len(names) and chance.random() < 0.5:
                jobs[names[len(jobs)]] = bench.add(names[len(jobs)])
            busy = bench.fill()
            if chance.random() < 0.2:
                bench.worker.cancel(jobs[chance.choice(list(jobs))])
            bench.end(*chance.sample(busy, min(len(busy), chance.choice([1, 2]))))
            bench.now += chance.choice([0, 3])
    finally:
        bench.quit()
    first = list(dict.fromkeys(bench.pipeline.started))
    assert first == sorted(first)
    assert len(first) > 12
