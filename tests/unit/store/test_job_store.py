"""JobStore: the same behaviour in memory and on disk; then what only a store on disk can show."""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import tinydb
from tinydb import where
from tinydb.storages import JSONStorage
from tinydb.table import Document

from daemon.errors import (
    IllegalMove,
    SettingsError,
    StoreDamaged,
    StoreError,
    StoreLocked,
    StoreTooNew,
    UnknownJob,
)
from daemon.jobs import Claim, ErrorKind, Identity, Job, JobSource, JobStatus, Options, new_job_id
from daemon.store import job_store as store_module
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore
from daemon.store.migrations import SCHEMA_VERSION, STEPS, STEPS_BACK, migrate, new_tables
from daemon.store.tinydb_table import MemoryStorage

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 9, 51, 3, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **parts: float) -> None:
        self.now += timedelta(**parts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    if request.param == "memory":
        yield JobStore(MemoryStorage(), clock)
    else:
        with JobStore.open(tmp_path, clock) as store:
            yield store


@pytest.fixture
def disk_store(tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    with JobStore.open(tmp_path, clock) as store:
        yield store


def a_job(**values: Any) -> Job:
    return Job(new_job_id(), **values)


def add(store: JobStore, **values: Any) -> Job:
    return store.create([a_job(**values)])[0]


def kill(store: JobStore) -> None:
    """End a store as a killed process does: nothing is written, the lock is free."""
    store._storage.journal.abandon()
    os.close(store._lock_file)
    store._lock_file = -1


FULL = Job(
    new_job_id(),
    status=FAILED,
    pipeline_id="yolo",
    source=JobSource.HTTP,
    source_name="täst\n.mp4",
    options=Options(2, 10),
    error_kind=ErrorKind.TRANSIENT,
    error_message="It broke.",
    summary={"classes": {"bus": 3}},
    claim=Claim("a/b.mp4", Identity(1, 2, 3, 4), True),
    frames_total=7,
    size_bytes=1 << 40,
)


def test_a_record_gives_back_the_same_job() -> None:
    for job in (FULL, a_job()):
        record = json.loads(json.dumps(job.to_record(), allow_nan=False))
        assert Job.from_record(record) == job
        assert Job.from_record({**record, "from_the_future": 1}) == job


def test_a_stored_job_comes_back_whole(store: JobStore) -> None:
    created = store.create([FULL])[0]
    assert store.get(FULL.job_id) == created
    assert isinstance(created.status, JobStatus)
    unset = {"sequence": 0, "created_at": "", "updated_at": ""}
    assert Job.from_record({**created.to_record(), **unset}) == FULL


def test_jobs_get_sequence_and_times_from_the_store(store: JobStore) -> None:
    first, second = store.create([a_job(sequence=77), a_job()])
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.created_at == first.updated_at == "2026-11-21T09:51:03.123456+00:00"
    assert add(store).sequence == 3
    assert store.create([]) == []


def test_a_job_that_was_accepted_earlier_keeps_that_time(store: JobStore) -> None:
    friday = "2026-11-20T18:00:00.000000+00:00"
    [job] = store.create([a_job(created_at=friday)])
    assert (job.created_at, job.updated_at) == (friday, "2026-11-21T09:51:03.123456+00:00")
    assert store.move(job.job_id, RUNNING).created_at == friday


def test_times_are_utc_with_microseconds(store: JobStore, clock: Clock) -> None:
    clock.now = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert add(store).created_at == "2025-12-31T23:00:00.000000+00:00"


def test_a_job_that_is_there_is_not_made_twice(store: JobStore) -> None:
    job = a_job(source_name="a")
    first = store.create([job])[0]
    store.move(job.job_id, RUNNING)
    again = store.create([a_job(), Job(job.job_id, source_name="b")])[1]
    assert (again.sequence, again.status, again.source_name) == (first.sequence, RUNNING, "a")
    twin = new_job_id()
    one, two = store.create([Job(twin, source_name="c"), Job(twin, source_name="d")])
    assert one == two
    assert one.source_name == "c"
    assert [j.sequence for j in store.jobs()] == [1, 2, 3]


def test_a_job_that_is_not_there_is_unknown(store: JobStore) -> None:
    assert store.find("nobody") is None
    calls: list[Callable[[], object]] = [
        lambda: store.get("nobody"),
        lambda: store.move("nobody", RUNNING),
        lambda: store.note("nobody", attempts=1),
        lambda: store.remove("nobody"),
    ]
    for call in calls:
        with pytest.raises(UnknownJob, match="nobody"):
            call()


ALLOWED = {(PENDING, RUNNING), (PENDING, FAILED), (RUNNING, COMPLETED), (RUNNING, FAILED), (RUNNING, PENDING)}
ALLOWED |= {(FAILED, PENDING)}


@pytest.mark.parametrize("start", JobStatus)
@pytest.mark.parametrize("to", JobStatus)
def test_only_legal_moves_are_made(store: JobStore, start: JobStatus, to: JobStatus) -> None:
    job = add(store, status=start)
    if (start, to) in ALLOWED:
        moved = store.move(job.job_id, to, attempts=3)
        assert (moved.status, moved.attempts) == (to, 3)
        assert store.get(job.job_id) == moved
    else:
        with pytest.raises(IllegalMove, match=f"is {start} and cannot become {to}"):
            store.move(job.job_id, to, attempts=3)
        assert store.get(job.job_id) == job


@pytest.mark.parametrize("durable", [True, False])
def test_a_note_changes_fields_and_the_time(store: JobStore, clock: Clock, durable: bool) -> None:
    job = add(store)
    clock.move(seconds=1)
    noted = store.note(job.job_id, durable, frames_processed=5, summary={"classes": {}})
    assert (noted.frames_processed, noted.status, noted.created_at) == (5, PENDING, job.created_at)
    assert noted.updated_at == "2026-11-21T09:51:04.123456+00:00"
    assert store.get(job.job_id) == noted


@pytest.mark.parametrize("name", ["status", "sequence", "created_at", "updated_at", "colour"])
def test_fields_that_are_not_for_hands_are_refused(store: JobStore, name: str) -> None:
    job = add(store)
    with pytest.raises(ValueError, match=name):
        store.note(job.job_id, **{name: "x"})
    if name != "status":
        with pytest.raises(ValueError, match=name):
            store.move(job.job_id, RUNNING, **{name: "x"})
    assert store.get(job.job_id) == job


def test_the_time_of_a_change_never_goes_back(store: JobStore, clock: Clock) -> None:
    job = add(store)
    times = [job.updated_at]
    for days in (0, -1, 0, 2, -1):
        clock.move(days=days)
        times.append(store.note(job.job_id, frames_processed=1).updated_at)
    assert times == sorted(set(times))
    clock.move(days=-300)
    assert add(store).sequence == 2


def test_jobs_come_in_order_and_by_status(store: JobStore) -> None:
    jobs = store.create([a_job() for _ in range(12)])
    for job in (jobs[9], jobs[2]):
        store.move(job.job_id, RUNNING)
    assert [j.sequence for j in store.jobs()] == list(range(1, 13))
    assert [j.sequence for j in store.jobs(RUNNING)] == [3, 10]
    assert store.jobs(COMPLETED) == []


def test_counts_follow_every_change(store: JobStore) -> None:
    rng = random.Random(7)
    seen: set[JobStatus] = set()
    for _ in range(300):
        jobs = store.jobs()
        job = rng.choice(jobs) if jobs else add(store)
        action = rng.choice(["add", "move", "move", "note", "remove"])
        if action == "add":
            add(store)
        elif action == "move":
            with suppress(IllegalMove):
                store.move(job.job_id, rng.choice(list(JobStatus)))
        elif action == "note":
            store.note(job.job_id, attempts=1)
        else:
            store.remove(job.job_id)
        assert store.counts() == {s: len(store.jobs(s)) for s in JobStatus}
        seen |= {status for status, count in store.counts().items() if count}
    assert seen == set(JobStatus)


def test_a_removed_job_is_gone_and_its_number_not_given_again(store: JobStore) -> None:
    job = add(store)
    store.remove(job.job_id)
    assert store.find(job.job_id) is None
    assert store.jobs() == []
    assert add(store).sequence == 2


def test_what_a_caller_does_to_a_job_does_not_change_the_store(store: JobStore) -> None:
    summary = {"classes": {"bus": 1}}
    job = add(store, summary=summary)
    summary["classes"]["bus"] = 2
    assert job.summary is not None
    job.summary["classes"]["bus"] = 3
    assert store.get(job.job_id).summary == {"classes": {"bus": 1}}


@pytest.mark.parametrize("bad", [float("nan"), {1}, b"x", "bad\udcff.mp4"])
def test_what_has_no_json_form_is_refused_and_changes_nothing(store: JobStore, bad: Any) -> None:
    job = add(store)
    with pytest.raises(StoreError, match="JSON"):
        store.note(job.job_id, source_name=bad)
    with pytest.raises(StoreError, match="JSON"):
        store.create([a_job(source_name=bad)])
    assert store.jobs() == [job]
    assert add(store).sequence == 2


def test_queries_of_tinydb_work(store: JobStore) -> None:
    jobs = store.create([a_job(source_name=f"{n}.mp4") for n in range(5)])
    store.move(jobs[1].job_id, FAILED)
    store.move(jobs[3].job_id, FAILED)
    table = store.table
    assert [d.doc_id for d in table.search(where("status") == "failed")] == [2, 4]
    assert table.count(where("status") == "pending") == 3
    document = table.get(doc_id=3)
    assert isinstance(document, Document)
    assert document["source_name"] == "2.mp4"
    found = table.get(where("job_id") == jobs[0].job_id)
    assert isinstance(found, Document)
    assert found.doc_id == 1
    assert table.get(doc_id=99) is None
    assert len(table) == len(table.all()) == 5
    assert table.contains(where("source_name").matches("4"))


def test_a_query_asked_again_sees_the_change(store: JobStore) -> None:
    job = add(store)
    query = where("status") == "running"
    assert store.table.search(query) == []
    store.move(job.job_id, RUNNING)
    assert len(store.table.search(query)) == 1


def test_writing_through_the_table_keeps_the_store_in_step(store: JobStore) -> None:
    jobs = store.create([a_job() for _ in range(4)])
    table = store.table
    table.update({"status": "failed"}, doc_ids=[1, 2])
    table.update({"attempts": 4}, where("status") == "failed")
    table.remove(doc_ids=[3])
    table.upsert(Document({"attempts": 9}, 4))
    extra = Job(new_job_id(), sequence=5)
    table.insert(Document(extra.to_record(), 5))
    assert store.counts() == {PENDING: 2, RUNNING: 0, COMPLETED: 0, FAILED: 2}
    assert [j.attempts for j in store.jobs()] == [4, 4, 9, 0]
    assert store.find(jobs[2].job_id) is None
    assert store.get(extra.job_id).sequence == 5
    assert add(store).sequence == 6
    with pytest.raises(StoreError):
        table.insert({"no": "job"})
    with pytest.raises(ValueError, match="already exists"):
        table.insert(Document(extra.to_record(), 5))
    table.remove(where("status") == "failed")
    table.truncate()
    assert store.jobs() == []
    assert sum(store.counts().values()) == 0


def test_the_table_refuses_the_moves_that_the_store_refuses(store: JobStore) -> None:
    done, waiting = store.create([a_job(), a_job()])
    store.move(done.job_id, RUNNING)
    store.move(done.job_id, COMPLETED)
    with pytest.raises(IllegalMove, match="is completed and cannot become running"):
        store.table.update({"status": "running"})
    with pytest.raises(IllegalMove, match="is completed and cannot become running"):
        store.table.upsert(Document({"status": "running"}, done.sequence))
    assert [j.status for j in store.jobs()] == [COMPLETED, PENDING], "a commit is whole or not at all"
    assert store.get(waiting.job_id) == waiting


def test_an_updater_that_raises_changes_nothing(store: JobStore) -> None:
    job = add(store)

    def change(document: Any) -> None:
        document["attempts"] = 5
        document["options"]["frame_stride"] = 5
        raise RuntimeError("half done")

    with pytest.raises(RuntimeError):
        store.table.update(change, doc_ids=[1])
    assert store.get(job.job_id) == job


def test_many_threads_may_use_it_at_once(store: JobStore, request: pytest.FixtureRequest) -> None:
    errors: list[BaseException] = []
    request.addfinalizer(functools.partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)

    def work(number: int) -> None:
        try:
            for _ in range(15):
                job = add(store, source_name=str(number))
                store.move(job.job_id, RUNNING)
                store.note(job.job_id, durable=False, frames_processed=1)
                store.table.search(where("source_name") == str(number))
                assert len(store.table.all()) >= 1
                store.move(job.job_id, COMPLETED)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [j.sequence for j in store.jobs()] == list(range(1, 91))
    assert store.counts()[COMPLETED] == 90


class TestOnDisk:
    def test_everything_is_there_after_a_restart(self, disk_store: JobStore, tmp_path: Path) -> None:
        jobs = [add(disk_store, source_name=f"{n}") for n in range(3)]
        disk_store.move(jobs[0].job_id, RUNNING, device="cpu")
        disk_store.note(jobs[0].job_id, durable=False, frames_processed=50)
        disk_store.remove(jobs[2].job_id)
        expected, counts = disk_store.jobs(), disk_store.counts()
        kill(disk_store)
        with JobStore.open(tmp_path) as again:
            assert again.jobs() == expected
            assert again.counts() == counts
            assert again.recovered_from is None

    @pytest.mark.parametrize("clean", [True, False])
    def test_numbers_are_not_given_again_after_all_jobs_are_gone(
        self, disk_store: JobStore, tmp_path: Path, clean: bool
    ) -> None:
        for _ in range(3):
            disk_store.remove(add(disk_store).job_id)
        disk_store.close() if clean else kill(disk_store)
        with JobStore.open(tmp_path) as again:
            assert again.jobs() == []
            assert add(again).sequence == 4

    def test_all_jobs_of_a_call_are_one_commit(self, disk_store: JobStore, tmp_path: Path) -> None:
        disk_store.create([a_job() for _ in range(50)])
        assert (tmp_path / "jobs.1.journal").read_bytes().count(b"\n") == 1

    def test_the_file_is_plain_tinydb(self, disk_store: JobStore, tmp_path: Path) -> None:
        job = add(disk_store, source_name="a.mp4")
        disk_store.compact_if_worthwhile()
        with tinydb.TinyDB(tmp_path / "jobs.json", access_mode="r", storage=JSONStorage) as database:
            found = database.table("jobs").get(where("source_name") == "a.mp4")
        assert isinstance(found, Document)
        assert Job.from_record(found) == job
        assert found.doc_id == job.sequence

    def test_a_status_change_writes_one_record_however_many_there_are(
        self, disk_store: JobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jobs = disk_store.create([a_job() for _ in range(3000)])
        disk_store.compact_if_worthwhile()
        written = 0
        real = os.write

        def write(descriptor: int, data: bytes) -> int:
            nonlocal written
            written += len(data)
            return real(descriptor, data)

        monkeypatch.setattr(os, "write", write)
        disk_store.move(jobs[1500].job_id, RUNNING)
        assert 0 < written < 2000

    def test_a_second_daemon_is_refused_while_the_first_lives(self, disk_store: JobStore, tmp_path: Path) -> None:
        with pytest.raises(StoreLocked, match=f"{tmp_path}.*process {os.getpid()}"):
            JobStore.open(tmp_path)
        disk_store.close()
        JobStore.open(tmp_path).close()

    def test_the_lock_ends_with_its_process_and_its_file_blocks_nobody(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from daemon.store.job_store import JobStore;"
            "s = JobStore.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
        )
        arguments = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            with pytest.raises(StoreLocked, match=f"process {process.pid}"):
                JobStore.open(tmp_path)
            process.kill()
            process.wait()
        assert (tmp_path / "jobs.lock").exists()
        JobStore.open(tmp_path).close()

    def test_a_failed_open_lets_go_of_the_lock(self, tmp_path: Path) -> None:
        (tmp_path / "jobs.json").write_bytes(b"")
        for _ in range(2):
            with pytest.raises(StoreDamaged):
                JobStore.open(tmp_path)

    def test_a_damaged_file_is_restored_and_reported(self, disk_store: JobStore, tmp_path: Path) -> None:
        jobs = disk_store.create([a_job() for _ in range(3)])
        disk_store.compact_if_worthwhile()
        disk_store.move(jobs[0].job_id, RUNNING)
        expected = disk_store.jobs()
        disk_store.close()
        (tmp_path / "jobs.json").write_bytes(b"\0" * 500)
        with JobStore.open(tmp_path) as again:
            assert again.jobs() == expected
            assert again.recovered_from is not None
            assert "restored" in again.recovered_from
            assert add(again).sequence == 4

    def test_a_failed_write_is_not_seen_and_the_job_can_be_made_again(
        self, disk_store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, other = a_job(), add(disk_store)

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StoreError, match="No space"):
                disk_store.create([job])
            with pytest.raises(StoreError, match="No space"):
                disk_store.move(other.job_id, RUNNING)
            with pytest.raises(StoreError, match="No space"):
                disk_store.table.update({"attempts": 9}, doc_ids=[1])
        assert disk_store.find(job.job_id) is None
        assert disk_store.get(other.job_id) == other
        assert disk_store.counts()[PENDING] == 1
        assert disk_store.create([job])[0].sequence == 2
        expected = disk_store.jobs()
        kill(disk_store)
        with JobStore.open(tmp_path) as again:
            assert again.jobs() == expected

    def test_compacting_when_idle_happens_only_when_it_gains_something(
        self, disk_store: JobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = disk_store._storage.journal
        disk_store.compact_if_worthwhile()
        assert journal.generation == 1
        jobs = disk_store.create([a_job() for _ in range(200)])
        disk_store.compact_if_worthwhile()
        assert journal.generation == 2
        monkeypatch.setattr(store_module, "COMPACT_ALWAYS_BYTES", 1000)
        for number, job in enumerate(jobs[:20]):
            disk_store.move(job.job_id, RUNNING)
            disk_store.compact_if_worthwhile()
            assert journal.generation == 2 or number > 5
        assert 3 <= journal.generation <= 4

    def test_closing_twice_is_fine_and_a_closed_store_refuses_changes(self, disk_store: JobStore) -> None:
        job = add(disk_store)
        disk_store.close()
        disk_store.close()
        with pytest.raises(StoreError, match="closed"):
            disk_store.move(job.job_id, RUNNING)


class TestReader:
    @pytest.fixture
    def reader(self, tmp_path: Path) -> Iterator[JobReader]:
        with JobReader(tmp_path) as reader:
            yield reader

    def test_shows_nothing_while_there_is_no_store(self, reader: JobReader, tmp_path: Path) -> None:
        reader.refresh()
        assert reader.jobs() == []
        assert reader.find("x") is None
        assert sum(reader.counts().values()) == 0
        with pytest.raises(UnknownJob):
            reader.get("x")
        assert os.listdir(tmp_path) == []

    def test_follows_every_change(self, reader: JobReader, disk_store: JobStore) -> None:
        rng = random.Random(3)
        for _ in range(200):
            version = reader.version
            assert reader.refresh() is (reader.version != version)
            assert reader.jobs() == disk_store.jobs()
            assert reader.counts() == disk_store.counts()
            jobs = disk_store.jobs(PENDING) or [add(disk_store)]
            job = rng.choice(jobs)
            action = rng.choice(["add", "move", "note", "remove", "compact"])
            if action == "add":
                add(disk_store)
            elif action == "move":
                disk_store.move(job.job_id, RUNNING)
                reader.refresh()
                assert reader.get(job.job_id).status == RUNNING
            elif action == "note":
                disk_store.note(job.job_id, durable=False, frames_processed=rng.randrange(99))
            elif action == "remove":
                disk_store.remove(job.job_id)
            else:
                disk_store.compact_if_worthwhile()

    def test_a_quiet_store_keeps_its_version(self, reader: JobReader, disk_store: JobStore) -> None:
        add(disk_store)
        assert reader.refresh()
        version = reader.version
        assert not reader.refresh()
        disk_store.compact_if_worthwhile()
        assert not reader.refresh()
        assert reader.version == version
        add(disk_store)
        assert reader.refresh()
        assert reader.version > version


VERSION_1 = {
    "_meta": {"1": {"schema_version": 1}},
    "jobs": {
        "1": {"job_id": "b", "status": "failed", "filename": "b.mp4", "error": "Bad.", "created_at": 200.5},
        "2": {"job_id": "a", "status": "completed", "filename": "a.mp4", "error": None, "created_at": 100},
        "3": {
            "job_id": "c",
            "status": "pending",
            "filename": "c.mp4",
            "created_at": 300.25,
            "updated_at": 301,
        },
    },
}


class TestMigration:
    def test_version_1_becomes_the_present_one(self, tmp_path: Path) -> None:
        (tmp_path / "jobs.json").write_text(json.dumps(VERSION_1))
        with JobStore.open(tmp_path) as store:
            jobs = store.jobs()
            assert [(j.job_id, j.sequence, j.source_name) for j in jobs] == [
                ("a", 1, "a.mp4"),
                ("b", 2, "b.mp4"),
                ("c", 3, "c.mp4"),
            ]
            assert jobs[1].error_message == "Bad."
            assert jobs[1].created_at == "1970-01-01T00:03:20.500000+00:00"
            assert jobs[2].updated_at == "1970-01-01T00:05:01.000000+00:00"
            assert store.recovered_from is None
            assert add(store).sequence == 4
        kept = json.loads((tmp_path / "jobs.v1.json").read_bytes())
        assert {name: kept[name] for name in VERSION_1} == VERSION_1
        with JobStore.open(tmp_path) as store:
            assert len(store.jobs()) == 4

    def test_each_step_twice_is_the_same_as_once(self) -> None:
        once = migrate(VERSION_1)
        again = migrate({**once, "_meta": {"1": {**once["_meta"]["1"], "schema_version": 1}}})
        assert again == once
        assert migrate(once) == once
        assert migrate(new_tables()) == new_tables()

    def test_every_version_has_a_step_to_the_next_and_one_back(self) -> None:
        assert set(STEPS) == set(range(1, SCHEMA_VERSION))
        assert set(STEPS_BACK) == set(range(2, SCHEMA_VERSION + 1))

    def test_going_back_and_forth_again_changes_nothing(self, tmp_path: Path) -> None:
        with JobStore.open(tmp_path) as store:
            made = [add(store, source_name="Spiel.mp4"), add(store)]
            store.move(made[0].job_id, JobStatus.FAILED, error_message="Bad.")
            jobs = store.jobs()
            store.downgrade(1)
        tables = json.loads((tmp_path / "jobs.json").read_bytes())
        assert tables["_meta"]["1"]["schema_version"] == 1
        first = tables["jobs"]["1"]
        assert (first["filename"], first["error"]) == ("Spiel.mp4", "Bad.")
        assert first["created_at"] == datetime.fromisoformat(jobs[0].created_at).timestamp()
        assert not {"source_name", "error_message"} & set(first)
        assert (tmp_path / "jobs.v2.json").exists()
        with JobStore.open(tmp_path) as store:
            assert store.jobs() == jobs
            assert store.recovered_from is None
            assert add(store).sequence == 3
            store.downgrade(1)
        for kept in ("jobs.v2.json", "jobs.json"):
            assert len(json.loads((tmp_path / kept).read_bytes())["jobs"]) == 3
        JobStore.open(tmp_path).close()
        assert len(json.loads((tmp_path / "jobs.v1.json").read_bytes())["jobs"]) == 3, "kept anew at each upgrade"

    def test_there_is_no_version_0_to_go_back_to(self, tmp_path: Path) -> None:
        with JobStore.open(tmp_path) as store:
            add(store)
            with pytest.raises(SettingsError, match="no schema version 0"):
                store.downgrade(0)
            assert len(store.jobs()) == 1

    @pytest.mark.parametrize("failing", range(12))
    def test_an_error_at_any_step_leaves_the_old_or_the_new_state(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
    ) -> None:
        (tmp_path / "jobs.json").write_text(json.dumps(VERSION_1))
        calls = 0
        real = os.fsync

        def fsync(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls > failing:
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with suppress(StoreError):
                kill(JobStore.open(tmp_path))
        version = json.loads((tmp_path / "jobs.json").read_bytes())["_meta"]["1"]["schema_version"]
        assert version in (1, 2)
        with JobStore.open(tmp_path) as store:
            assert [j.job_id for j in store.jobs()] == ["a", "b", "c"]
            assert store.recovered_from is None

    def test_a_damaged_file_right_after_a_migration_is_restored_in_the_new_version(self, tmp_path: Path) -> None:
        (tmp_path / "jobs.json").write_text(json.dumps(VERSION_1))
        store = JobStore.open(tmp_path)
        add(store)
        kill(store)
        (tmp_path / "jobs.json").write_bytes(b"")
        with JobStore.open(tmp_path) as store:
            assert [j.sequence for j in store.jobs()] == [1, 2, 3, 4]

    def test_a_later_version_is_refused_and_nothing_is_touched(self, tmp_path: Path) -> None:
        tables = new_tables()
        tables["_meta"]["1"]["schema_version"] = SCHEMA_VERSION + 1
        (tmp_path / "jobs.json").write_text(json.dumps(tables))
        (tmp_path / "jobs.0.journal").write_bytes(b"torn")
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        with pytest.raises(StoreTooNew, match=f"version {SCHEMA_VERSION + 1}.*later version"):
            JobStore.open(tmp_path)
        (tmp_path / "jobs.lock").unlink()
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before

    def test_a_file_without_a_version_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "jobs.json").write_text('{"_meta": {}}')
        with pytest.raises(StoreDamaged, match="schema version"):
            JobStore.open(tmp_path)

    def test_a_record_that_is_no_job_is_refused(self, tmp_path: Path) -> None:
        tables = new_tables()
        tables["jobs"]["1"] = {"job_id": "x", "sequence": 1, "status": "sleeping"}
        (tmp_path / "jobs.json").write_text(json.dumps(tables))
        with pytest.raises(StoreDamaged, match="Record 1"):
            JobStore.open(tmp_path)
