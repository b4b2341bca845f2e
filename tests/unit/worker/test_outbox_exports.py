"""Exports beside results in the outbox: published once, whatever ends in between, and gone with the result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

from daemon.deletion import Deletion
from daemon.errors import SettingsError
from daemon.export import files
from daemon.export.client import Exports, export_now
from daemon.export.files import ExportPlace
from daemon.export_formats import ExportRequest
from daemon.failpoints import FAULT_VARIABLE
from daemon.fs.storage import LocalStorageService
from daemon.jobs import EXPORT_PENDING, Job, JobSource, JobStatus, new_job_id, output_key
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from daemon.worker.outbox_exports import OutboxExports
from tests.derived_documents import write_document
from tests.exported import exported, frames


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for folder in ("outbox", "data/spool"):
        (tmp_path / folder).mkdir(parents=True)
    return Settings(home=tmp_path)


def complete(store: JobStore, settings: Settings, *formats: str, name: str = "day/match.mp4") -> Job:
    [job] = store.create(
        [Job(new_job_id(), source=JobSource.INBOX, source_name=name, input_path="video_jobs/gone.mp4")]
    )
    store.move(job.job_id, JobStatus.RUNNING)
    write_document(settings.data_dir / output_key(job.job_id), frames())
    owed = dict.fromkeys(formats, EXPORT_PENDING)
    return store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id), exports=owed)


def publisher(settings: Settings, store: JobStore, outbox: Outbox | None = None) -> OutboxExports:
    completed: SimpleQueue[str] = SimpleQueue()
    for job in store.jobs():
        completed.put(job.job_id)
    return OutboxExports(settings, store, outbox or Outbox(settings.outbox_dir, store.jobs()), completed)


def make(settings: Settings, job: Job, name: str) -> None:
    request = ExportRequest.of({"format": name})
    export_now(settings, ExportPlace.of(settings.data_dir, job.job_id, request), job.source_name)


def test_what_is_owed_is_asked_for_and_then_published(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv", "jsonl")
        made = publisher(settings, store)
        made.step()
        assert len(files.asked_for(settings.spool_dir)) == 2
        for name in ("csv", "jsonl"):
            make(settings, job, name)
        made.step()
        found = settings.outbox_dir / "day" / "match.mp4.csv"
        assert found.read_bytes() == exported(settings.home, job.job_id, "csv").read_bytes()
        assert (settings.outbox_dir / "day" / "match.mp4.jsonl").exists()
        assert {state[:7] for state in store.get(job.job_id).exports.values()} == {"sha256:"}
        found.unlink()
        made.step()
        assert not found.exists()  # who took it away does not get it again


def test_a_result_that_has_too_little_is_said_in_the_record(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "coco")
        document = settings.data_dir / output_key(job.job_id)
        document.write_text(document.read_text().replace('"width": 1280', '"width": null'))
        made, exports = publisher(settings, store), Exports(settings, store.find)
        made.step()
        exports.step()
        for at_work in exports._at_work.values():
            at_work.thread.join()
        made.step()
        assert "how large the picture is" in store.get(job.job_id).exports["coco"]
        assert store.get(job.job_id).status is JobStatus.COMPLETED


def test_an_outbox_that_is_away_gets_its_exports_later(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv")
        make(settings, job, "csv")
        made = publisher(settings, store)
        settings.outbox_dir.rename(settings.home / "away")
        with pytest.raises(FileNotFoundError):
            made.step()
        (settings.home / "away").rename(settings.outbox_dir)
        made.step()
        assert (settings.outbox_dir / "day" / "match.mp4.csv").exists()


def test_what_a_kill_left_owed_is_published_by_the_next_start(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv")
        make(settings, job, "csv")
    with JobStore.open(settings.data_dir) as store:
        made = OutboxExports(settings, store, Outbox(settings.outbox_dir, store.jobs()), SimpleQueue())
        made.start()
        deadline = time.monotonic() + 60
        while not store.get(job.job_id).exports["csv"].startswith("sha256:"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        made.stop()
        assert (settings.outbox_dir / "day" / "match.mp4.csv").exists()


PUBLISH = """
import sys
from queue import SimpleQueue
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from daemon.worker.outbox_exports import OutboxExports

settings = Settings(home=sys.argv[1])
with JobStore.open(settings.data_dir) as store:
    completed = SimpleQueue()
    for job in store.jobs():
        completed.put(job.job_id)
    OutboxExports(settings, store, Outbox(settings.outbox_dir, store.jobs()), completed).step()
"""


def test_a_kill_between_publishing_and_noting_it_doubles_nothing(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv")
        make(settings, job, "csv")
    killed = subprocess.run(
        [sys.executable, "-c", PUBLISH, settings.home],
        env={**os.environ, FAULT_VARIABLE: "outbox_exports.published"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    found = settings.outbox_dir / "day" / "match.mp4.csv"
    before = found.stat()
    with JobStore.open(settings.data_dir) as store:
        assert store.get(job.job_id).exports["csv"].startswith(EXPORT_PENDING)
        publisher(settings, store).step()
        assert store.get(job.job_id).exports["csv"].startswith("sha256:")
    assert sorted(path.name for path in found.parent.iterdir()) == [found.name]
    assert found.stat().st_size == before.st_size


def test_a_folder_in_the_way_of_one_export_holds_up_no_other(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        jobs = [complete(store, settings, "csv", name=name) for name in ("a.mp4", "b.mp4")]
        for job in jobs:
            make(settings, job, "csv")
        (settings.outbox_dir / "a.mp4.csv").mkdir()
        with pytest.raises(IsADirectoryError):
            publisher(settings, store).step()
        assert (settings.outbox_dir / "b.mp4.csv").is_file()


def test_a_newer_job_of_the_name_keeps_its_exports(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        old, new = complete(store, settings, "csv"), complete(store, settings, "csv")
        for job in (old, new):
            make(settings, job, "csv")
        made = publisher(settings, store)
        made.step()
        assert store.get(old.job_id).exports["csv"] == "A newer job has its name."
        assert store.get(new.job_id).exports["csv"].startswith("sha256:")


def test_what_is_owed_is_kept_until_it_is_published_however_little_room_exports_have(settings: Settings) -> None:
    settings = settings.model_copy(update={"keep_export_bytes": 1, "keep_export_days": 1e-9})
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv")
        for name in ("csv", "jsonl"):
            make(settings, job, name)
        there = files.folder_of(settings.data_dir, job.job_id)
        Exports(settings, store.find).step()
        assert [path.suffix for path in there.iterdir()] == [".csv"]
        publisher(settings, store).step()
        assert (settings.outbox_dir / "day" / "match.mp4.csv").exists()
        Exports(settings, store.find).step()
        assert list(there.iterdir()) == []


@pytest.mark.parametrize("noted", [True, False])
def test_exports_go_when_their_job_is_deleted_unless_somebody_changed_them(settings: Settings, noted: bool) -> None:
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv", "jsonl")
        for name in ("csv", "jsonl"):
            make(settings, job, name)
        outbox = Outbox(settings.outbox_dir, store.jobs())
        publisher(settings, store, outbox).step()
        if not noted:  # as a kill just behind publishing leaves it
            job = store.get(job.job_id)
            store.note(job.job_id, exports={name: f"{EXPORT_PENDING} {state}" for name, state in job.exports.items()})
        changed, own = (settings.outbox_dir / "day" / f"match.mp4.{ending}" for ending in ("csv", "jsonl"))
        changed.write_text("mine")
        store.delete(store.get(job.job_id))
        storage = LocalStorageService(settings.data_dir)
        Deletion(settings, store, storage, outbox, lambda job: files.forget(settings.data_dir, job.job_id)).remove()
        assert [changed.exists(), own.exists()] == [True, False]
        assert list(files.exported_ids(settings.data_dir)) == []


def test_a_format_that_there_is_not_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "dropframe.toml").write_text('exports = ["csv", "cocoo"]')
    with pytest.raises(SettingsError, match="did you mean coco"):
        Settings.load(home=tmp_path)


def test_one_video_is_asked_to_be_drawn_on_at_a_time(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        for number in range(3):
            complete(store, settings, "annotated", "csv", name=f"{number}.mp4")
        made = publisher(settings, store)
        made.step()
        assert len(files.asked_for(settings.spool_dir)) == 3 + 1
        for name in files.asked_for(settings.spool_dir):
            if "annotated" in (settings.spool_dir / name).read_text():
                (settings.spool_dir / name).unlink()
        made.step()
        assert len(files.asked_for(settings.spool_dir)) == 3 + 1
