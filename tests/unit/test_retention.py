"""Retention: what is removed, in which order, what is never touched, and what is said afterwards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from daemon.cli import jobs, requests
from daemon.errors import IllegalMove, MachineError, StoreError
from daemon.fs.identity import identity_of
from daemon.ingest.model import Dropped
from daemon.ingest.quarantine import quarantine
from daemon.jobs import Job, JobSource, JobStatus, input_key, new_job_id, output_key, timestamp
from daemon.retention import Kind, Retention, clean_without_daemon, plan
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from daemon.worker.owed_objects import PENDING
from tests.unit.cli.test_main import run
from tests.unit.sidecar.test_app import call, check_problem

NOW = datetime.now(UTC)


class Bench:
    """A home whose store is open, and jobs in it that ended some days ago."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data, self.inbox, self.outbox_dir = home / "data", home / "inbox", home / "outbox"
        for folder in (self.data / "video_jobs", self.inbox, self.outbox_dir):
            folder.mkdir(parents=True)
        self.store = JobStore.open(self.data)
        self.outbox = Outbox(self.outbox_dir)

    def settings(self, **limits: Any) -> Settings:
        return Settings(home=self.home, **limits)

    def plan(self, **limits: Any) -> list[tuple[Kind, str]]:
        return [(kept.kind, kept.name) for kept in plan(self.settings(**limits), self.store.find, NOW)]

    def clean(self, **limits: Any) -> int:
        return len(Retention(self.settings(**limits), self.store, self.outbox).clean())

    def job(self, days: float, to: JobStatus = JobStatus.COMPLETED, size: int = 1000, name: str = "") -> Job:
        """Make a job that ended so many days ago, with its video and, if it was completed, its result."""
        job_id = new_job_id()
        made = Job(job_id, input_path=input_key(job_id), source=JobSource.INBOX, source_name=name or f"{job_id}.mp4")
        [job] = self.store.create([made])
        (self.data / input_key(job_id)).write_bytes(b"v" * size)
        if to is JobStatus.PENDING:
            return job
        job = self.store.move(job_id, JobStatus.RUNNING)
        if to is JobStatus.RUNNING:
            return job
        if to is JobStatus.COMPLETED:
            document = self.data / output_key(job_id)
            document.write_bytes(b"r" * size)
            with document.open("rb") as file:
                self.outbox.publish(job, file)
        return self.store.move(
            job_id, to, output_path=output_key(job_id), finished_at=timestamp(NOW - timedelta(days=days))
        )

    def reject(self, name: str, days: float, size: int = 1000) -> Path:
        path = self.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (0, 0))  # the file's own time says nothing
        dropped = Dropped(name, identity_of(path.stat()))
        place = self.inbox / quarantine(self.inbox, dropped, "It is bad.", NOW)
        rejected_at = (NOW - timedelta(days=days)).timestamp()
        os.utime(f"{place}.reason.txt", (rejected_at, rejected_at))
        return place

    def has(self, job: Job, kind: Kind) -> bool:
        return (self.data / (input_key if kind is Kind.SOURCE else output_key)(job.job_id)).exists()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with made.store:
        yield made


def test_by_default_everything_is_kept_for_ever(bench: Bench) -> None:
    bench.job(10_000), bench.reject("a.txt", 10_000)
    assert bench.plan() == []


def test_each_kind_has_its_own_days(bench: Bench) -> None:
    old, young = bench.job(8), bench.job(6)
    bench.reject("old.txt", 8), bench.reject("young.txt", 6)
    assert bench.plan(keep_source_days=7) == [(Kind.SOURCE, input_key(old.job_id))]
    assert bench.plan(keep_result_days=7) == [(Kind.RESULT, output_key(old.job_id))]
    assert bench.plan(keep_rejected_days=7) == [(Kind.REJECTED, "rejected/old.txt")]
    assert bench.clean(keep_source_days=7) == 1
    assert (bench.has(old, Kind.SOURCE), bench.has(young, Kind.SOURCE)) == (False, True)
    assert bench.has(old, Kind.RESULT)


def test_a_result_stays_while_the_result_store_is_owed_it(bench: Bench) -> None:
    owed, paid = bench.job(8), bench.job(8)
    bench.store.note(owed.job_id, stored_objects={"result": PENDING})
    bench.store.note(paid.job_id, stored_objects={"result": "sha256:00"})
    limits = {"keep_result_days": 7, "result_store": "s3://footage/results"}
    assert bench.clean(**limits) == 1
    assert (bench.has(owed, Kind.RESULT), bench.has(paid, Kind.RESULT)) == (True, False)
    bench.store.note(owed.job_id, stored_objects={"result": "sha256:00"})
    assert bench.clean(**limits) == 1


def test_what_a_result_store_that_is_not_set_any_more_was_owed_keeps_nothing(bench: Bench) -> None:
    owed = bench.job(8)
    bench.store.note(owed.job_id, stored_objects={"result": PENDING})
    assert bench.plan(keep_result_days=7) == [(Kind.RESULT, output_key(owed.job_id))]


def test_the_oldest_go_until_the_rest_fits(bench: Bench) -> None:
    jobs = [bench.job(days, size=1000) for days in (1, 4, 3, 2)]
    assert bench.plan(keep_source_bytes=4000) == []
    assert [name for _, name in bench.plan(keep_source_bytes=2500)] == [
        input_key(jobs[1].job_id),
        input_key(jobs[2].job_id),
    ]
    assert bench.clean(keep_source_bytes=2500) == 2
    assert [bench.has(job, Kind.SOURCE) for job in jobs] == [True, False, False, True]


def test_both_limits_hold_together(bench: Bench) -> None:
    jobs = [bench.job(days) for days in (9, 5, 1)]
    assert bench.clean(keep_result_days=7, keep_result_bytes=1500) == 2
    assert [bench.has(job, Kind.RESULT) for job in jobs] == [False, False, True]


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RUNNING])
def test_what_has_not_ended_is_never_removed(bench: Bench, status: JobStatus) -> None:
    job = bench.job(0, status, size=10**6)
    partial = bench.data / f"{output_key(job.job_id)}.part"
    partial.write_bytes(b"p")
    everything = {"keep_source_bytes": 1, "keep_result_bytes": 1, "keep_source_days": 1e-9, "keep_result_days": 1e-9}
    assert bench.clean(**everything) == 0
    assert bench.has(job, Kind.SOURCE)
    assert partial.exists()


def test_a_job_that_is_put_back_at_the_last_moment_keeps_its_video(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job(9, JobStatus.FAILED)
    note = bench.store.note

    def retried_just_before(job_id: str, **changes: Any) -> Job:
        if changes.get("source_removed_at"):
            bench.store.move(job_id, JobStatus.PENDING)
        return note(job_id, **changes)

    monkeypatch.setattr(bench.store, "note", retried_just_before)
    assert bench.clean(keep_source_days=7) == 0
    assert bench.has(job, Kind.SOURCE)
    assert bench.store.get(job.job_id).source_removed_at is None


def test_the_record_stays_and_says_since_when_it_is_gone(bench: Bench) -> None:
    job = bench.job(9)
    assert bench.clean(keep_source_days=7, keep_result_days=7) == 2
    kept = bench.store.get(job.job_id)
    assert kept.status is JobStatus.COMPLETED
    assert kept.source_removed_at is not None
    assert kept.result_removed_at is not None
    assert bench.clean(keep_source_days=7, keep_result_days=7) == 0


def test_a_result_goes_from_the_outbox_too_unless_it_is_another_by_now(bench: Bench) -> None:
    mine, changed, replaced = (bench.job(9, name=f"{n}.mp4") for n in "abc")
    newer = bench.job(1, name="c.mp4", size=1000)
    (bench.outbox_dir / "b.mp4.json").write_bytes(b"edited by its owner")
    (bench.outbox_dir / "notes.txt").write_bytes(b"not ours")
    assert bench.clean(keep_result_days=7) == 3
    assert not any(bench.has(job, Kind.RESULT) for job in (mine, changed, replaced))
    assert bench.has(newer, Kind.RESULT)
    assert sorted(os.listdir(bench.outbox_dir)) == ["b.mp4.json", "c.mp4.json", "notes.txt"]


def test_nothing_is_followed_out_of_the_folders(bench: Bench, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"r" * 1000)
    job, linked = bench.job(9, name="a.mp4"), bench.job(9, name="sub/b.mp4")
    (bench.data / input_key(job.job_id)).unlink()
    (bench.data / input_key(job.job_id)).symlink_to(canary)
    (bench.outbox_dir / "a.mp4.json").unlink()
    (bench.outbox_dir / "a.mp4.json").symlink_to(canary)
    shutil.rmtree(bench.outbox_dir / "sub")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.mp4.json").write_bytes(b"r" * 1000)
    (bench.outbox_dir / "sub").symlink_to(tmp_path / "elsewhere")
    bench.reject("x.txt", 9)
    (bench.inbox / "rejected" / "x.txt").unlink()
    (bench.inbox / "rejected" / "x.txt").symlink_to(canary)
    (bench.inbox / "rejected" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "y.reason.txt").write_bytes(b"")
    os.utime(tmp_path / "elsewhere" / "y.reason.txt", (0, 0))
    bench.clean(keep_source_days=7, keep_result_days=7, keep_rejected_days=7)
    assert canary.read_bytes() == b"r" * 1000
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["b.mp4.json", "y.reason.txt"]
    assert (bench.data / input_key(job.job_id)).is_symlink()
    assert not bench.has(linked, Kind.RESULT)


def test_a_rejected_file_goes_with_its_reason_and_one_without_a_reason_stays(bench: Bench) -> None:
    bench.reject("ocr_only/old.txt", 9)
    (bench.inbox / "rejected" / "ocr_only" / "old.txt.options.json").write_text("{}")
    (bench.inbox / "rejected" / "mine.txt").write_text("put here by a person")
    os.utime(bench.inbox / "rejected" / "mine.txt", (0, 0))
    assert bench.clean(keep_rejected_days=7) == 1
    assert os.listdir(bench.inbox / "rejected" / "ocr_only") == []
    assert sorted(os.listdir(bench.inbox / "rejected")) == ["mine.txt", "ocr_only"]


def test_an_options_file_that_was_rejected_by_itself_has_its_own_days(bench: Bench) -> None:
    bench.reject("a.mp4", 9, size=1000)
    bench.reject("a.mp4.options.json", 1, size=500)
    assert bench.plan(keep_rejected_bytes=1800) == []  # its bytes are counted once
    assert bench.clean(keep_rejected_days=7) == 1
    assert len(os.listdir(bench.inbox / "rejected")) == 2
    assert bench.clean(keep_rejected_days=0.5) == 1
    assert os.listdir(bench.inbox / "rejected") == []


def test_an_outbox_that_is_away_keeps_the_result_for_the_next_time(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = bench.job(9)
    bench.outbox_dir.rename(tmp_path / "away")
    assert bench.clean(keep_result_days=7) == 0
    assert "Retention cannot remove the result" in caplog.text
    assert bench.has(job, Kind.RESULT)
    assert bench.store.get(job.job_id).result_removed_at is None
    (tmp_path / "away").rename(bench.outbox_dir)
    assert bench.clean(keep_result_days=7) == 1
    assert os.listdir(bench.outbox_dir) == []


def test_a_kill_between_the_record_and_the_file_is_made_good_by_the_next_cleaning(bench: Bench) -> None:
    job = bench.job(9)
    bench.store.note(job.job_id, source_removed_at=timestamp(NOW))
    assert bench.clean(keep_source_days=7) == 1
    assert not bench.has(job, Kind.SOURCE)


def test_a_store_that_cannot_be_written_keeps_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def sick(job_id: str, **changes: Any) -> Job:
        raise StoreError("The disk is sick.")

    job = bench.job(9)
    monkeypatch.setattr(bench.store, "note", sick)
    assert bench.clean(keep_source_days=7, keep_result_days=7) == 0
    assert bench.has(job, Kind.SOURCE)
    assert bench.has(job, Kind.RESULT)
    assert "The disk is sick" in caplog.text


def test_a_clock_that_was_put_back_removes_nothing(bench: Bench) -> None:
    bench.job(-30), bench.reject("a.txt", -30)
    assert bench.plan(keep_source_days=7, keep_result_days=7, keep_rejected_days=7) == []


def test_it_runs_at_start_and_then_once_an_hour_and_ends_when_asked(bench: Bench) -> None:
    retention = Retention(bench.settings(keep_source_days=7), bench.store, bench.outbox)
    for now, due in ((100.0, True), (3600.0, False), (3700.0, True)):
        job = bench.job(9)
        retention.step(now)
        assert retention._thread is not None
        retention._thread.join(30)
        assert bench.has(job, Kind.SOURCE) is not due
        if not due:
            retention.clean()
    retention.shutdown()
    bench.job(9)
    assert retention.clean() == []


def test_without_a_limit_no_thread_is_started(bench: Bench) -> None:
    retention = Retention(bench.settings(), bench.store, bench.outbox)
    retention.step(100.0)
    assert retention._thread is None


# What people see.


def test_clean_shows_with_dry_run_what_it_removes_without(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.store:
        job = bench.job(9)
        bench.reject("bad\x1b.txt", 9)
    (tmp_path / "dropframe.toml").write_text("keep_source_days = 7\nkeep_rejected_bytes = 1\n")
    code, shown = run("clean", "--dry-run", "--home", tmp_path)
    assert code == 0
    assert f"source {input_key(job.job_id)}, 1000 bytes, since " in " ".join(shown.split())
    assert "rejected rejected/bad\\x1b.txt" in shown
    assert "2 to be removed" in shown
    listed = json.loads(run("clean", "--dry-run", "--home", tmp_path, "--json")[1])
    assert [(kept["kind"], kept["job_id"]) for kept in listed] == [("source", job.job_id), ("rejected", None)]
    assert bench.has(job, Kind.SOURCE)
    assert "2 removed" in run("clean", "--home", tmp_path)[1]
    assert not bench.has(job, Kind.SOURCE)
    assert os.listdir(bench.inbox / "rejected") == []
    assert "0 removed" in run("clean", "--home", tmp_path)[1]


def test_clean_says_that_nothing_is_set(tmp_path: Path) -> None:
    assert "no keep_… setting is in force" in run("clean", "--home", tmp_path)[1]
    assert not (tmp_path / "data").exists()


def test_beside_a_daemon_only_a_dry_run_is_allowed(bench: Bench) -> None:
    bench.job(9)
    with pytest.raises(MachineError, match="A daemon is running here and cleans up once an hour"):
        clean_without_daemon(bench.settings(keep_source_days=7))


def test_what_is_gone_is_said_on_the_command_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.store:
        done, failed = bench.job(9), bench.job(9, JobStatus.FAILED)
        bench.clean(keep_source_days=7, keep_result_days=7)
    with pytest.raises(IllegalMove, match=r"The result of job .* was removed by retention at 20"):
        jobs.results(done.job_id, home=tmp_path)
    with pytest.raises(IllegalMove, match="is not kept any more; drop or submit it again"):
        requests.retry([failed.job_id], home=tmp_path)
    assert "0 jobs queued for retry" in run("retry", "--all-failed", "--home", tmp_path)[1]


def test_what_is_gone_is_said_over_http(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.store:
        done, failed = bench.job(9), bench.job(9, JobStatus.FAILED)
        bench.clean(keep_source_days=7, keep_result_days=7)
        removed_at = bench.store.get(done.job_id).result_removed_at

    async def work(client: AsyncClient) -> None:
        for path in (f"/v1/video/results/{done.job_id}", f"/v1/jobs/{done.job_id}/video"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert "was removed by retention (the keep settings) at 20" in check_problem(answer)["detail"]
        told = (await client.get(f"/v1/video/status/{done.job_id}")).json()
        assert (told["status"], told["result_removed_at"]) == ("completed", removed_at)
        answer = await client.post(f"/v1/jobs/{failed.job_id}/retry")
        assert answer.status_code == 409
        assert "its video is not kept any more" in check_problem(answer)["detail"]
        assert (await client.post("/v1/jobs/retry-failed")).json() == {"requested": 0}

    call(tmp_path, work)
