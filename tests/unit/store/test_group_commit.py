"""Changes that threads make at about the same time share a sync, and each is as durable and as checked as one alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.errors import IllegalMove, StoreError, UnknownJob
from daemon.jobs import Job, JobStatus
from daemon.store.group_commit import Change
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore
from daemon.store.journal_files import NoJsonForm
from tests.system.running import wait_for

real_fsync = os.fsync
PENDING, RUNNING, COMPLETED, FAILED = JobStatus
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


class SlowDisk:
    """Stands in for os.fsync: the first sync of a round waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.error: OSError | None = None
        self.is_waited_for = threading.Event()
        self._let_go = threading.Event()
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.syncs == 1:
            self.is_waited_for.set()
            assert self._let_go.wait(10)
        elif self.error is not None:
            error, self.error = self.error, None
            raise error
        real_fsync(descriptor)

    def let_go(self) -> None:
        self._let_go.set()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore.open(tmp_path / "data") as store:
        store.create([Job(f"job-{number}") for number in range(12)])
        yield store


@pytest.fixture
def disk(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    return SlowDisk(monkeypatch)


class Callers:
    """Threads that change the store while its first sync lasts."""

    def __init__(self, store: JobStore, disk: SlowDisk) -> None:
        self._store, self._disk = store, disk
        self._threads: list[threading.Thread] = []
        self.returned: list[str] = []
        self.raised: dict[str, Exception] = {}

    def add(self, name: str, change: Callable[[], object]) -> None:
        def call() -> None:
            try:
                change()
                self.returned.append(name)
            except Exception as error:
                self.raised[name] = error

        self._threads.append(threading.Thread(target=call))
        self._threads[-1].start()
        if len(self._threads) == 1:
            assert self._disk.is_waited_for.wait(10)
        else:
            wait_for(lambda: len(self._store._group._waiting) == len(self._threads) - 1)

    def end(self) -> None:
        self._disk.let_go()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def callers(store: JobStore, disk: SlowDisk) -> Callers:
    return Callers(store, disk)


def test_what_ten_threads_change_while_one_waits_for_the_disk_takes_one_more_sync(
    store: JobStore, disk: SlowDisk, callers: Callers, tmp_path: Path
) -> None:
    for number in range(11):
        callers.add(f"job-{number}", lambda number=number: store.move(f"job-{number}", RUNNING))  # type: ignore[misc]
    assert callers.returned == []
    assert store._index.counts()[RUNNING] == 0, "nobody sees what is not on the disk"
    callers.end()
    assert disk.syncs == 2
    assert len(callers.returned) == 11
    with JobReader(tmp_path / "data") as reader:
        reader.refresh()
        assert reader.counts()[RUNNING] == 11
    assert [job.job_id for job in sorted(store.jobs(RUNNING), key=lambda job: job.updated_at)] == [
        f"job-{number}" for number in range(11)
    ], "in the order in which they were asked for"


def test_threads_that_change_again_and_again_keep_sharing_syncs(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = []

    def fsync(descriptor: int) -> None:
        syncs.append(descriptor)
        time.sleep(0.01)

    def change(number: int) -> None:
        for to in (RUNNING, PENDING) * 4:
            store.move(f"job-{number}", to)

    monkeypatch.setattr(os, "fsync", fsync)
    threads = [threading.Thread(target=change, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(syncs) < 48, "of 96 that changes one by one take"
    assert store.counts()[PENDING] == 12


def test_a_change_that_may_not_be_made_is_refused_alone(store: JobStore, disk: SlowDisk, callers: Callers) -> None:
    callers.add("first", lambda: store.move("job-0", RUNNING))
    callers.add("good", lambda: store.move("job-1", RUNNING))
    callers.add("illegal", lambda: store.move("job-2", COMPLETED))
    callers.add("unknown", lambda: store.move("nobody", RUNNING))
    callers.add("no json", lambda: store.note("job-3", summary={"speed": float("nan")}))
    callers.add("also good", lambda: store.note("job-4", size_bytes=4))
    callers.end()
    assert sorted(callers.returned) == ["also good", "first", "good"]
    refusals = {"illegal": IllegalMove, "unknown": UnknownJob, "no json": NoJsonForm}
    assert {name: type(error) for name, error in callers.raised.items()} == refusals
    assert [store.get(f"job-{number}").status for number in range(3)] == [RUNNING, RUNNING, PENDING]
    assert store.get("job-4").size_bytes == 4
    assert store.problem is None


def test_a_sync_that_fails_is_told_to_all_whom_it_was_for(store: JobStore, disk: SlowDisk, callers: Callers) -> None:
    callers.add("first", lambda: store.move("job-0", RUNNING))
    for number in (1, 2, 3):
        callers.add(f"job-{number}", lambda number=number: store.move(f"job-{number}", RUNNING))  # type: ignore[misc]
    disk.error = OSError(5, "Input/output error")
    callers.end()
    assert callers.returned == ["first"]
    assert {type(error) for error in callers.raised.values()} == {StoreError}
    assert len(callers.raised) == 3
    store.mend()
    assert [job.job_id for job in store.jobs(RUNNING)] == ["job-0"], "what nobody was told of was taken back"


def test_changes_of_one_job_are_made_one_after_the_other(store: JobStore, disk: SlowDisk, callers: Callers) -> None:
    callers.add("first", lambda: store.move("job-0", RUNNING))
    callers.add("start", lambda: store.move("job-1", RUNNING, attempts=1))
    callers.add("end", lambda: store.move("job-1", FAILED))
    callers.add("other", lambda: store.move("job-2", RUNNING))
    callers.end()
    assert callers.raised == {}
    job = store.get("job-1")
    assert (job.status, job.attempts) == (FAILED, 1)


def test_progress_beside_an_end_is_on_the_disk_with_it(store: JobStore, disk: SlowDisk, callers: Callers) -> None:
    callers.add("first", lambda: store.move("job-0", RUNNING))
    callers.add("progress", lambda: store.note("job-1", durable=False, frames_processed=7))
    callers.add("end", lambda: store.move("job-2", RUNNING))
    callers.end()
    assert disk.syncs == 2
    assert store.get("job-1").frames_processed == 7


def test_progress_alone_is_not_synced(store: JobStore, disk: SlowDisk) -> None:
    store.change_all([Change(f"job-{number}", {"frames_processed": number}, durable=False) for number in range(12)])
    assert disk.syncs == 0
    assert [job.frames_processed for job in store.jobs()] == list(range(12))


def test_several_changes_of_one_thread_take_one_sync_and_none_hangs_on_another(store: JobStore, disk: SlowDisk) -> None:
    disk.let_go()
    moves = [Change(job_id, {"status": RUNNING}) for job_id in ("job-0", "nobody", "job-1")]
    store.change_all(moves)
    assert disk.syncs == 1
    assert [type(move.outcome) for move in moves] == [Job, UnknownJob, Job]
    with pytest.raises(UnknownJob):
        moves[1].result()
    with pytest.raises(ValueError, match="sequence cannot be set"):
        store.change_all([Change("job-0", {"sequence": 1})])


def test_a_store_is_the_same_to_the_byte_whether_changes_came_together_or_alone(tmp_path: Path) -> None:
    written = []
    for together in (True, False):
        folder = tmp_path / str(together)
        with JobStore.open(folder, clock=lambda: MOMENT) as store:
            store.create([Job("a"), Job("b")])
            changes = [Change(job_id, {"status": RUNNING, "attempts": 1}) for job_id in ("a", "b")]
            if together:
                store.change_all(changes)
            else:
                for change in changes:
                    store.move(change.job_id, RUNNING, attempts=1)
            written.append((folder / "jobs.1.journal").read_bytes())
    assert written[0] == written[1]
