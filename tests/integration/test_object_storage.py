"""Object storage over a bad line and over kills: nothing lost, nothing twice, and no credentials anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from daemon.deletion import Deletion
from daemon.errors import ObjectRefused, ObjectStoreError
from daemon.failpoints import FAULT_VARIABLE
from daemon.fs.storage import LocalStorageService
from daemon.ingest.intake import Intake
from daemon.ipc import rejected_list
from daemon.ipc.rejected_list import RejectedRecord
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, new_job_id, output_key
from daemon.objects import bucket as buckets
from daemon.objects import result_store
from daemon.objects.check import check_stores
from daemon.objects.inbox_store import InboxStore
from daemon.objects.result_store import OUTDATED, ResultStore
from daemon.pipeline.pipelines import all_pipelines
from daemon.queue import InMemoryQueueService
from daemon.rejections import Rejections
from daemon.retention import Retention
from daemon.s3_address import S3Address
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from daemon.worker.owed_objects import PENDING, OwedObjects
from tests.clips import BEGINNING
from tests.object_storage import KEY_ID, SECRET, SIGNED, Line, Service, line_to, running_service
from tests.unit.worker.test_outbox_exports import complete, make, publisher

pytestmark = pytest.mark.needs("moto")

BUCKET = "footage"
PIPELINES = frozenset(all_pipelines())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("moto") / "log") as running:
        yield running


@pytest.fixture
def s3(service: Service) -> Service:
    """The service, with one empty bucket."""
    httpx.post(f"{service.url}/moto-api/reset").raise_for_status()
    service.make(BUCKET)
    return service


@pytest.fixture
def line(s3: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(buckets, "RETRIES", 0)
    with line_to(s3) as bad:
        yield bad


def home(tmp_path: Path, line: Line, **more: object) -> Settings:
    for folder in ("inbox", "outbox", "data/spool"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    return Settings(home=tmp_path, s3_endpoint=line.url, min_free_bytes=0, **more)


def video(size: int = 200_000) -> bytes:
    return BEGINNING + os.urandom(size)


# Results.


def end(store: JobStore, settings: Settings, name: str = "day/match.mp4", fails: bool = False, size: int = 1000) -> Job:
    [job] = store.create([Job(new_job_id(), source=JobSource.INBOX, source_name=name, input_path="video_jobs/x.mp4")])
    store.move(job.job_id, JobStatus.RUNNING)
    if fails:
        job = store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message="It is bad.")
        return store.note(job.job_id, stored_objects={"error": PENDING})
    document = settings.data_dir / output_key(job.job_id)
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_bytes(json.dumps({"job": job.job_id, "rest": "x" * size}).encode())
    return store.move(
        job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id), stored_objects={"result": PENDING}
    )


def copies(settings: Settings, store: JobStore, outbox: Outbox | None = None) -> ResultStore:
    owed = OwedObjects(True)
    for job in store.jobs():
        owed.tell(job.job_id)
    return ResultStore(settings, store, outbox or Outbox(settings.outbox_dir, store.jobs()), owed)


def test_a_result_is_copied_under_the_name_that_it_has_in_the_outbox(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}/results")
    with JobStore.open(settings.data_dir) as store:
        done, failed = end(store, settings), end(store, settings, "odd #1?%20é.mp4", fails=True)
        large = end(store, settings, "large.mp4", size=11_000_000)  # in three parts
        copies(settings, store).step()
        assert s3.keys(BUCKET) == [
            "results/day/match.mp4.json",
            "results/large.mp4.json",
            "results/odd #1?%20é.mp4.error.json",
        ]
        for job in (done, large):
            copied = s3.get(BUCKET, f"results/{job.source_name}.json")
            assert copied == (settings.data_dir / output_key(job.job_id)).read_bytes()
            assert store.get(job.job_id).stored_objects["result"].startswith("sha256:")
        assert b"It is bad." in s3.get(BUCKET, "results/odd %231%3F%2520é.mp4.error.json")
        assert store.get(failed.job_id).stored_objects["error"].startswith("sha256:")


def test_what_was_not_owed_when_it_ended_is_not_copied(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        store.note(end(store, settings).job_id, stored_objects={})
        copies(settings, store).step()
        assert s3.keys(BUCKET) == []


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"answer": "503"}, "unavailable (status 503 (SlowDown))"),
        ({"answer": "expired"}, "credentials for s3://footage are refused (ExpiredToken)"),
        ({"answer": "denied"}, "is denied (AccessDenied)"),
        ({"refuses": True}, "does not answer"),
        ({"cut_sending_after": 300_000}, "does not answer"),
    ],
    ids=["503", "expired", "denied", "refused", "cut"],
)
def test_a_result_waits_for_a_bucket_that_cannot_be_used(
    tmp_path: Path,
    s3: Service,
    line: Line,
    trouble: dict[str, object],
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.worker.debts.RETRY_SECONDS", 0.2)
    monkeypatch.setattr("daemon.worker.debts.STEP_SECONDS", 0.05)
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        job = end(store, settings, size=1_000_000)
        for name, value in trouble.items():
            setattr(line, name, value)
        made = copies(settings, store)
        made.start()
        try:
            wait_until(lambda: said in (made.beat().problem or ""))
            assert s3.keys(BUCKET) == []
            for name in trouble:
                setattr(line, name, getattr(Line(), name))
            wait_until(lambda: made.beat().problem is None and not made.beat().waiting_count)
        finally:
            made.stop()
        assert s3.keys(BUCKET) == ["day/match.mp4.json"]
        assert store.get(job.job_id).stored_objects["result"].startswith("sha256:")
        assert len([record for record in caplog.records if said in record.message]) == 1
    reveals_nothing(settings, caplog)


def wait_until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reveals_nothing(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Look for the credentials in what was logged, in what the settings show, and in every file of the home."""
    shown = [caplog.text, json.dumps(settings.model_dump(mode="json"))]
    shown += [path.read_bytes().decode("latin-1") for path in settings.home.rglob("*") if path.is_file()]
    assert [text for text in shown if KEY_ID in text or SECRET in text] == []


def test_the_newest_job_of_a_name_has_it_and_its_result_replaces_an_error(
    tmp_path: Path, s3: Service, line: Line
) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        end(store, settings, fails=True)
        copies(settings, store).step()
        assert s3.keys(BUCKET) == ["day/match.mp4.error.json"]
        old, new = end(store, settings), end(store, settings)
        copies(settings, store).step()
        assert s3.keys(BUCKET) == ["day/match.mp4.json"]
        assert new.job_id in s3.get(BUCKET, "day/match.mp4.json").decode()
        assert store.get(old.job_id).stored_objects["result"] == OUTDATED


@pytest.mark.slow
def test_a_copy_that_a_kill_left_unnoted_is_not_made_twice(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    httpx.put(
        f"{s3.url}/{BUCKET}?versioning",
        headers=SIGNED,
        content="<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    ).raise_for_status()
    with JobStore.open(settings.data_dir) as store:
        job = end(store, settings)
    assert run_child(settings, "results", "result_store.put") == -signal.SIGKILL
    with JobStore.open(settings.data_dir) as store:
        assert store.get(job.job_id).stored_objects == {"result": PENDING}
    assert run_child(settings, "results") == 0
    with JobStore.open(settings.data_dir) as store:
        assert store.get(job.job_id).stored_objects["result"].startswith("sha256:")
    versions = httpx.get(f"{s3.url}/{BUCKET}?versions", headers=SIGNED).text
    assert versions.count("<Version>") == 1


def test_what_a_deleted_job_has_copied_goes_unless_it_is_of_another(
    tmp_path: Path, s3: Service, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_store, "DOWN_SECONDS", 0.0)
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        own, replaced = end(store, settings, "own.mp4"), end(store, settings, "replaced.mp4")
        made = copies(settings, store)
        made.step()
        s3.put(BUCKET, "replaced.mp4.json", b"mine")
        for job in (own, replaced):
            store.delete(store.get(job.job_id))
        outbox = Outbox(settings.outbox_dir)
        deletion = Deletion(settings, store, LocalStorageService(settings.data_dir), outbox, made.forget)
        line.refuses = True
        deletion.remove()
        assert len(store.deleted.unfinished_ids()) == 2
        line.refuses = False
        deletion.remove()
        assert store.deleted.unfinished_ids() == []
        assert s3.keys(BUCKET) == ["replaced.mp4.json"]


def test_retention_leaves_what_was_copied_until_the_job_is_deleted(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}", keep_result_bytes=1)
    with JobStore.open(settings.data_dir) as store:
        job, outbox = end(store, settings, "a.mp4"), Outbox(settings.outbox_dir)
        retention, made = Retention(settings, store, outbox), copies(settings, store)
        assert retention.clean() == [], "it was the only one"
        made.step()
        assert [expired.job_id for expired in retention.clean()] == [job.job_id]
        assert s3.keys(BUCKET) == ["a.mp4.json"]
        store.delete(store.get(job.job_id))
        Deletion(settings, store, LocalStorageService(settings.data_dir), outbox, made.forget).remove()
        assert s3.keys(BUCKET) == []


def test_what_a_deleted_job_has_copied_and_not_noted_goes_too(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv")
        made = copies(settings, store)
        job = store.note(job.job_id, stored_objects={"result": PENDING})
        make(settings, job, "csv")
        publisher(settings, store).step()
        failed = end(store, settings, "failed.mp4", fails=True)
        copies(settings, store).step()
        assert s3.keys(BUCKET) == ["day/match.mp4.csv", "day/match.mp4.json", "failed.mp4.error.json"]
        noted = store.get(job.job_id).stored_objects
        killed = store.note(job.job_id, stored_objects={"result": noted["result"]})
        retried = store.note(failed.job_id, stored_objects={"result": PENDING})  # its error is of an earlier attempt
        for each in (killed, retried):
            made.forget(each)
        assert s3.keys(BUCKET) == []


def test_deletions_do_not_each_wait_for_a_bucket_that_is_away(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        jobs = [end(store, settings, f"{number}.mp4") for number in range(2)]
        made = copies(settings, store)
        made.step()
        line.refuses, line.heard = True, ""
        with pytest.raises(ObjectStoreError) as first:
            made.forget(store.get(jobs[0].job_id))
        line.refuses = False
        with pytest.raises(ObjectStoreError) as second:
            made.forget(store.get(jobs[1].job_id))
        assert (str(second.value), line.heard) == (str(first.value), ""), "it is not asked again at once"


def test_a_deletion_does_not_wait_for_a_long_copy(
    tmp_path: Path, s3: Service, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_store, "LOCK_SECONDS", 0.05)
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        made = copies(settings, store)
        with made._paying, pytest.raises(ObjectStoreError, match="tried again"):
            made.forget(end(store, settings))


def test_an_export_follows_once_it_is_in_the_outbox(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv")
        store.note(job.job_id, stored_objects={"result": PENDING})
        made = copies(settings, store)
        made.step()
        assert s3.keys(BUCKET) == ["day/match.mp4.json"]
        assert made.beat().waiting_count == 1
        make(settings, job, "csv")
        made.step()
        assert s3.keys(BUCKET) == ["day/match.mp4.json"]
        publisher(settings, store).step()
        made.step()
        assert s3.keys(BUCKET) == ["day/match.mp4.csv", "day/match.mp4.json"]
        assert s3.get(BUCKET, "day/match.mp4.csv") == (settings.outbox_dir / "day/match.mp4.csv").read_bytes()
        assert made.beat().waiting_count == 0


def test_where_nothing_may_be_deleted_a_deletion_ends_all_the_same(
    tmp_path: Path, s3: Service, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}")
    with JobStore.open(settings.data_dir) as store:
        job = end(store, settings)
        made = copies(settings, store)
        made.step()
        assert made.bucket is not None

        def denied(key: str) -> None:
            raise ObjectRefused("Access is denied.")

        made.bucket.delete = denied  # type: ignore[method-assign]
        made.forget(store.get(job.job_id))
        assert "s3://footage/day/match.mp4.json stays: Access is denied." in caplog.text


def test_credentials_of_the_shared_file_are_used_and_looked_for_again_when_they_are_refused(
    tmp_path: Path, s3: Service, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    shared.write_text("[default]\naws_access_key_id = FIRSTKEY\naws_secret_access_key = x\n")
    bucket = buckets.Bucket(S3Address(BUCKET), home(tmp_path, line))
    bucket.put("a", b"1", "text/plain")
    assert "Credential=FIRSTKEY/" in line.heard
    shared.write_text("[default]\naws_access_key_id = SECONDKEY\naws_secret_access_key = y\n")
    line.answer = "expired"
    with pytest.raises(ObjectStoreError):
        bucket.put("a", b"1", "text/plain")
    line.answer, line.heard = None, ""
    bucket.put("a", b"1", "text/plain")
    assert "Credential=SECONDKEY/" in line.heard


# The inbox.


class Taking:
    """An inbox store and what takes its submissions in."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        storage = LocalStorageService(settings.data_dir)
        self.store = store
        self.intake = Intake(settings, store, InMemoryQueueService(), storage, PIPELINES)
        self.intake.recover()
        self.inbox = InboxStore(settings, store, PIPELINES)

    def step(self) -> str | None:
        try:
            return self.inbox.step()
        finally:
            self.intake.take_tickets()


def stored(settings: Settings, store: JobStore) -> dict[str, bytes]:
    """Return the videos by the names of their jobs; fail if two jobs have one name."""
    jobs = store.jobs()
    assert len({job.source_name for job in jobs}) == len(jobs)
    return {job.source_name: (settings.data_dir / job.input_path).read_bytes() for job in jobs}


@pytest.mark.parametrize("after", ["leave", "move"])
def test_each_video_of_a_bucket_becomes_one_job(tmp_path: Path, s3: Service, line: Line, after: str) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}/in", inbox_store_after=after)
    videos = {"a.mp4": video(), "day/b é#1.mp4": video(), "yolo/c.mp4": video()}
    for name, content in videos.items():
        s3.put(BUCKET, "in/" + name.replace("#", "%23"), content)
    for name in ("in/notes.txt", "in/.hidden.mp4", "in/done/old.mp4", "other/x.mp4", "in/half.mp4.part"):
        s3.put(BUCKET, name, b"left alone")
    s3.put(BUCKET, "in/a.options.json", b'{"frame_stride": 5}')
    s3.put(BUCKET, "in/day/", b"")  # as consoles make folders
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        assert taking.step() is None
        assert stored(settings, store) == videos
        jobs = {job.source_name: job for job in store.jobs()}
        assert jobs["a.mp4"].options.frame_stride == 5
        assert jobs["yolo/c.mp4"].pipeline_id == "yolo"
        outbox = Outbox(settings.outbox_dir)
        assert [outbox.name_of(job, ".json") for job in jobs.values()] == [f"{name}.json" for name in jobs]
        assert taking.step() is None
        assert len(store.jobs()) == 3
    with JobStore.open(settings.data_dir) as store:  # a new start knows them
        assert Taking(settings, store).step() is None
        assert len(store.jobs()) == 3
    kept = ["in/day/", "in/.hidden.mp4", "in/done/old.mp4", "in/half.mp4.part", "in/notes.txt", "other/x.mp4"]
    places = [f"in/done/{name}" if after == "move" else f"in/{name}" for name in videos]
    places.append("in/done/a.mp4.options.json" if after == "move" else "in/a.options.json")
    assert s3.keys(BUCKET) == sorted(kept + places)


def test_what_no_door_takes_is_rejected_with_the_reason(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}", inbox_store_after="move", max_video_bytes=2_000_000)
    outbox = Outbox(settings.outbox_dir)
    s3.put(BUCKET, "page.mp4", b"<html>" * 100_000)
    s3.put(BUCKET, "empty.mp4", b"")
    s3.put(BUCKET, "large.mp4", video(2_100_000))
    s3.put(BUCKET, "odd.mp4", video())
    s3.put(BUCKET, "odd.options.json", b'{"frame_strid": 5}')
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        rejections = Rejections(settings, outbox, others=taking.inbox.rejected)
        assert taking.step() is None
        assert store.jobs() == []
        reasons = {record.name: record.reason for record in taking.inbox.rejected()}
        assert reasons["page.mp4"] == "It is a text or web page, not an MP4."
        assert reasons["empty.mp4"] == "It is empty. Copy it again."
        assert "at most 2000000 are taken" in reasons["large.mp4"]
        assert "did you mean frame_stride?" in reasons["odd.mp4"]
        assert b"It is empty." in s3.get(BUCKET, "rejected/empty.mp4.reason.txt")
        assert "page.mp4" not in s3.keys(BUCKET)
        assert "rejected/page.mp4" in s3.keys(BUCKET)
        rejections.step(0.0)
        listed = rejected_list.read(settings.data_dir)
        assert listed is not None
        assert {(file.name, file.path) for file in listed.present} >= {("page.mp4", f"s3://{BUCKET}/rejected/page.mp4")}
        assert "web page" in (settings.outbox_dir / "page.mp4.rejected.txt").read_text()
        for key in ("rejected/page.mp4", "rejected/page.mp4.reason.txt"):
            s3.delete(BUCKET, key)
        taking.step()
        rejections.step(100.0)
        assert not (settings.outbox_dir / "page.mp4.rejected.txt").exists()
        assert (settings.outbox_dir / "empty.mp4.rejected.txt").exists()
        assert list((settings.data_dir / "inbox_store").glob("*.part")) == []


def test_a_line_that_is_cut_again_and_again_brings_it_all_in_the_end(
    tmp_path: Path, s3: Service, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    content = video(3_000_000)
    s3.put(BUCKET, "a.mp4", content)
    line.cut_after = 700_000
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        cuts = 0
        while not store.jobs():
            cuts += 1
            assert cuts < 20
            with contextlib.suppress(ObjectStoreError):
                taking.step()
        assert cuts >= 4
        assert stored(settings, store) == {"a.mp4": content}
    reveals_nothing(settings, caplog)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"answer": "503"}, "status 503 (SlowDown)"),
        ({"answer": "expired"}, "refused (ExpiredToken)"),
        ({"refuses": True}, "does not answer"),
    ],
    ids=["503", "expired", "refused"],
)
def test_an_inbox_waits_for_a_bucket_that_cannot_be_used(
    tmp_path: Path, s3: Service, line: Line, trouble: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}", inbox_store_seconds=0.05)
    s3.put(BUCKET, "a.mp4", video())
    for name, value in trouble.items():
        setattr(line, name, value)
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        with taking.inbox:
            wait_until(lambda: said in (taking.inbox.beat().problem or ""))
            for name in trouble:
                setattr(line, name, getattr(Line(), name))
            wait_until(lambda: taking.intake.take_tickets() == [] and len(store.jobs()) == 1)
            wait_until(lambda: taking.inbox.beat().problem is None)
    reveals_nothing(settings, caplog)


def test_a_slow_line_holds_up_nobody_who_ends_dropframe(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    s3.put(BUCKET, "a.mp4", video(3_000_000))
    line.pause_seconds = 0.2
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        with taking.inbox:
            wait_until(lambda: any((settings.data_dir / "inbox_store").glob("*.part")))
            began = time.monotonic()
        assert time.monotonic() - began < 3
        line.pause_seconds = 0.0
        assert Taking(settings, store).step() is None
        assert len(store.jobs()) == 1


def test_a_service_that_falls_silent_is_not_waited_for_without_end(
    tmp_path: Path, s3: Service, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "STALL_SECONDS", 0.5)
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    s3.put(BUCKET, "a.mp4", video())
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        line.is_silent = True
        with pytest.raises(ObjectStoreError, match="does not answer"):
            taking.step()
        line.is_silent = False
        assert taking.step() is None
        assert len(store.jobs()) == 1


def test_an_object_that_one_listing_leaves_out_is_not_taken_twice(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    s3.put(BUCKET, "a.mp4", video())
    s3.put(BUCKET, "b.mp4", video())
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        bucket = taking.inbox._bucket
        assert bucket is not None
        taking.step()
        objects = bucket.objects
        bucket.objects = lambda *a, **k: (each for each in objects(*a, **k) if each.key != "a.mp4")  # type: ignore
        taking.step()
        bucket.objects = objects  # type: ignore[method-assign]
        taking.step()
        assert sorted(job.source_name for job in store.jobs()) == ["a.mp4", "b.mp4"]
        s3.delete(BUCKET, "a.mp4")
        taking.step()
        assert [entry.key for entry in taking.inbox._entries.all()] == ["b.mp4"]


@pytest.mark.parametrize("after", ["leave", "move"])
def test_that_an_object_was_rejected_is_announced_once(tmp_path: Path, s3: Service, line: Line, after: str) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}", inbox_store_after=after)
    told: list[str] = []

    def announce(records: Sequence[RejectedRecord]) -> None:
        told.extend(record.name for record in records)

    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        outbox = Outbox(settings.outbox_dir)

        def look(now: float) -> None:
            Rejections(settings, outbox, others=taking.inbox.rejected, announce=announce).step(now)  # as after a start

        look(0.0)
        s3.put(BUCKET, "page.mp4", b"<html>" * 1000)
        move_all = taking.inbox._move_all
        taking.inbox._move_all = lambda *_: []  # type: ignore[method-assign]  # before it is moved
        taking.step()
        look(100.0)
        assert told == ["page.mp4"]
        taking.inbox._move_all = move_all  # type: ignore[method-assign]
        taking.step()
        look(200.0)
        look(300.0)
        assert told == ["page.mp4"]
        listed = rejected_list.read(settings.data_dir)
        assert listed is not None
        place = "rejected/page.mp4" if after == "move" else "page.mp4"
        assert [record.path for record in listed.present] == [f"s3://{BUCKET}/{place}"]


def test_an_object_that_cannot_be_moved_stays_and_is_known(
    tmp_path: Path, s3: Service, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}", inbox_store_after="move")
    s3.put(BUCKET, "a.mp4", video())
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        assert taking.inbox._bucket is not None

        def too_large(key: str, to: str) -> None:
            raise ObjectRefused("s3://footage/a.mp4 is refused with the status 400 (InvalidRequest).")

        taking.inbox._bucket.copy = too_large  # type: ignore[method-assign]
        for _ in range(2):
            assert taking.step() is None
        assert s3.keys(BUCKET) == ["a.mp4"]
        assert len(store.jobs()) == 1
        assert caplog.text.count("cannot be moved") == 1


def test_an_object_that_is_replaced_while_it_is_fetched_is_taken_anew_and_never_mixed(
    tmp_path: Path, s3: Service, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}", inbox_store_after="move")
    first, second = video(1_500_000), video(1_500_000)  # of one size
    s3.put(BUCKET, "a.mp4", first)
    line.cut_after = 700_000
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        with pytest.raises(ObjectStoreError):
            taking.step()
        s3.put(BUCKET, "a.mp4", second)
        line.cut_after = None
        taking.step()
        assert stored(settings, store) == {"a.mp4": second}
        assert s3.keys(BUCKET) == ["done/a.mp4"]


def test_an_object_that_is_replaced_before_it_is_moved_stays_and_becomes_a_job_of_its_own(
    tmp_path: Path, s3: Service, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}", inbox_store_after="move")
    first, second = video(), video()
    s3.put(BUCKET, "a.mp4", first)

    def replaced(name: str) -> None:
        if name == "inbox_store.copied" and s3.get(BUCKET, "a.mp4") == first:
            s3.put(BUCKET, "a.mp4", second)

    monkeypatch.setattr("daemon.objects.moving.failpoint", replaced)
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        taking.step()
        assert s3.get(BUCKET, "a.mp4") == second
        taking.step()
        assert {(settings.data_dir / job.input_path).read_bytes() for job in store.jobs()} == {first, second}
        assert len(s3.keys(BUCKET)) == 2  # both below done/, under two names
        assert {s3.get(BUCKET, key) for key in s3.keys(BUCKET)} == {first, second}


def test_one_object_that_may_not_be_read_holds_up_no_other(
    tmp_path: Path, s3: Service, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    s3.put(BUCKET, "a.mp4", video())
    s3.put(BUCKET, "b.mp4", video())
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        assert taking.inbox._bucket is not None
        read = taking.inbox._bucket.read
        refusal = ObjectRefused("Access to s3://footage/a.mp4 is denied.")

        def refusing(wanted: buckets.RemoteObject, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            if wanted.key == "a.mp4":
                raise refusal
            return read(wanted, start, end)

        taking.inbox._bucket.read = refusing  # type: ignore[method-assign]
        assert taking.step() is None
        assert str(refusal) in caplog.text
        assert taking.inbox.beat().waiting_count == 1
        assert [job.source_name for job in store.jobs()] == ["b.mp4"]


def test_a_key_that_nobody_can_ask_for_is_named_and_other_folders_are_looked_into(
    tmp_path: Path, s3: Service, line: Line
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    s3.put(BUCKET, "odd/%2Fx.mp4", video())
    s3.put(BUCKET, "well/a.mp4", video())
    with JobStore.open(settings.data_dir) as store:
        problem = Taking(settings, store).step()
        assert problem is not None
        assert "s3://footage/odd holds an object that cannot be read" in problem
        assert [job.source_name for job in store.jobs()] == ["well/a.mp4"]


def test_a_rejected_object_that_stays_is_judged_anew_once_its_options_are_corrected(
    tmp_path: Path, s3: Service, line: Line
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    s3.put(BUCKET, "a.mp4", video())
    s3.put(BUCKET, "a.options.json", b"{")
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        for _ in range(2):
            taking.step()
        [rejected] = taking.inbox.rejected()
        assert "Its options file is not JSON" in rejected.reason
        assert rejected.path == f"s3://{BUCKET}/a.mp4"
        s3.put(BUCKET, "a.options.json", b'{"max_frames": 7}')
        taking.step()
        assert [job.options.max_frames for job in store.jobs()] == [7]
        assert taking.inbox.rejected() == []


def test_a_deleted_job_of_an_object_that_stays_is_not_made_again(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    s3.put(BUCKET, "a.mp4", video())
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        taking.step()
        store.delete(store.jobs()[0])
        taking.step()
        assert store.jobs() == []
        s3.put(BUCKET, "a.mp4", video())  # another content is another object
        taking.step()
        assert len(store.jobs()) == 1


def test_what_was_put_together_wrongly_is_fetched_anew(
    tmp_path: Path, s3: Service, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}")
    content = video(1_500_000)
    s3.put(BUCKET, "a.mp4", content)
    line.cut_after = 700_000
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        with pytest.raises(ObjectStoreError):
            taking.step()
        [part] = (settings.data_dir / "inbox_store").glob("*.part")
        with open(part, "r+b") as file:
            file.seek(300_000)
            file.write(b"\0" * 4096)  # as a disk does that lost a page
        line.cut_after = None
        with pytest.raises(ObjectStoreError, match="fetched anew"):
            taking.step()
        taking.step()
        assert stored(settings, store) == {"a.mp4": content}


# Kills.

CHILD = """
import sys
from daemon.settings import Settings
from tests.integration import test_object_storage as tests
with tests.JobStore.open(Settings.load(home=sys.argv[2]).data_dir) as store:
    settings = Settings.load(home=sys.argv[2])
    if sys.argv[1] == "results":
        tests.copies(settings, store).step()
    else:
        tests.Taking(settings, store).step()
"""


def run_child(settings: Settings, what: str, fault: str | None = None) -> int:
    """Do one step in a process of its own, which dies at a failpoint."""
    given = {name: getattr(settings, name) for name in ("result_store", "inbox_store", "s3_endpoint")}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items() if value]
    lines += [f'inbox_store_after = "{settings.inbox_store_after}"', "min_free_bytes = 0"]
    (settings.home / "dropframe.toml").write_text("\n".join(lines))
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    if fault:
        environment[FAULT_VARIABLE] = fault
    command = [sys.executable, "-c", CHILD, what, str(settings.home)]
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "inbox_store.entered",
        "inbox_store.block:3",
        "inbox_store.mark",
        "inbox_store.fetched",
        "spool.renamed",
        "inbox_store.promised",
        "inbox_store.submitted",
        "inbox_store.copied",
        "inbox_store.moved",
        "inbox_store.rejected",
        "tickets.recorded",
    ],
)
def test_a_kill_anywhere_loses_nothing_and_doubles_nothing(tmp_path: Path, s3: Service, line: Line, fault: str) -> None:
    settings = home(tmp_path, line, inbox_store=f"s3://{BUCKET}", inbox_store_after="move")
    videos = {"a.mp4": video(1_000_000), "day/b.mp4": video()}
    for name, content in videos.items():
        s3.put(BUCKET, name, content)
    s3.put(BUCKET, "page.mp4", b"<html>" * 1000)
    assert run_child(settings, "inbox", fault) == -signal.SIGKILL
    with JobStore.open(settings.data_dir) as store:
        taking = Taking(settings, store)
        for _ in range(2):
            assert taking.step() is None
        assert stored(settings, store) == videos
        rejected = ["rejected/page.mp4", "rejected/page.mp4.reason.txt"]
        assert s3.keys(BUCKET) == [*(f"done/{name}" for name in videos), *rejected]
        assert [record.name for record in taking.inbox.rejected()] == ["page.mp4"]
    left = {path.name for path in (settings.data_dir / "spool").iterdir() if path.is_file()}
    assert left == set()
    assert list((settings.data_dir / "inbox_store").glob("*.part")) == []


# Doctor.


def test_doctor_looks_at_the_buckets(tmp_path: Path, s3: Service, line: Line) -> None:
    settings = home(tmp_path, line, result_store=f"s3://{BUCKET}/r", inbox_store="s3://not-there")
    said = list(check_stores(settings))
    assert said[0] == ("result_store", True, f"s3://{BUCKET}/r can be written")
    assert said[1][:2] == ("inbox_store", False)
    assert said[1][2] == "There is no bucket not-there."
    assert s3.keys(BUCKET) == []
