"""Rejected files are listed, and the outbox is told of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon import rejections as rejections_module
from daemon.errors import StoreError
from daemon.failpoints import FAULT_VARIABLE
from daemon.fs.identity import identity_of
from daemon.ingest.model import Dropped
from daemon.ingest.quarantine import quarantine
from daemon.ipc import rejected_list
from daemon.ipc.rejected_list import Note, RejectedRecord
from daemon.jobs import Job, JobSource, new_job_id, timestamp
from daemon.rejections import Rejections
from daemon.settings import Settings
from daemon.webhooks.event import Event
from daemon.worker.outbox import Outbox

NOON = datetime(2027, 1, 15, 12, 0, 0, tzinfo=UTC)


class Bench:
    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        for folder in (self.settings.inbox_dir, self.settings.outbox_dir, self.settings.data_dir):
            folder.mkdir(exist_ok=True)
        self.now = 1000.0
        self.start()
        self.rejections.step(self.now)

    def start(self) -> None:
        self.outbox = Outbox(self.settings.outbox_dir)
        self.rejections = Rejections(self.settings, self.outbox)

    def reject(self, name: str, reason: str = "It is text.", when: datetime = NOON) -> Path:
        path = self.settings.inbox_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"text")
        dropped = Dropped(name, identity_of(path.stat()))
        return self.settings.inbox_dir / quarantine(self.settings.inbox_dir, dropped, reason, when)

    def step(self) -> list[RejectedRecord]:
        self.now += 2
        self.rejections.step(self.now)
        listed = rejected_list.read(self.settings.data_dir)
        assert listed is not None
        return listed.present

    def notes(self) -> dict[str, str]:
        outbox = self.settings.outbox_dir
        return {str(p.relative_to(outbox)): p.read_text() for p in outbox.rglob("*") if p.is_file()}

    def publish(self, name: str, created: str) -> None:
        job = Job(new_job_id(), source_name=name, source=JobSource.INBOX, sequence=1, created_at=created)
        self.outbox.publish(job, io.BytesIO(b"{}"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_rejected_file_is_listed_and_told_in_the_outbox_with_its_path(bench: Bench) -> None:
    bench.reject("Holiday/Beach/a.mp4", "It is text. Convert it.")
    [record] = bench.step()
    assert (record.name, record.path) == ("Holiday/Beach/a.mp4", "rejected/Holiday/Beach/a.mp4")
    assert (record.reason, record.rejected_at) == ("It is text. Convert it.", timestamp(NOON))
    assert record.size_bytes == 4
    assert bench.notes() == {
        "Holiday/Beach/a.mp4.rejected.txt": "Holiday/Beach/a.mp4 was rejected. It is text. Convert it.\n"
    }


def test_the_newest_comes_first_and_is_told_where_a_name_was_rejected_twice(bench: Bench) -> None:
    bench.reject("a.mp4", "First.")
    bench.reject("a.mp4", "Second.", NOON.replace(hour=13))
    assert [(record.path, record.name) for record in bench.step()] == [
        ("rejected/a (2).mp4", "a.mp4"),
        ("rejected/a.mp4", "a.mp4"),
    ]
    assert bench.notes() == {"a.mp4.rejected.txt": "a.mp4 was rejected. Second.\n"}


def test_a_note_is_told_once_however_often_it_is_removed(bench: Bench) -> None:
    bench.reject("a.mp4")
    bench.step()
    (bench.settings.outbox_dir / "a.mp4.rejected.txt").unlink()
    bench.step()
    bench.start()
    assert len(bench.step()) == 1
    assert bench.notes() == {}


def test_what_a_kill_kept_from_being_told_is_told_at_the_next_start(bench: Bench) -> None:
    bench.reject("a.mp4")
    bench.start()
    bench.step()
    assert list(bench.notes()) == ["a.mp4.rejected.txt"]


def test_what_an_earlier_version_rejected_is_listed_and_not_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.reject("a.mp4", when=datetime(2024, 1, 15, tzinfo=UTC))
    (bench.settings.data_dir / rejected_list.NAME).unlink()
    bench.start()
    assert len(bench.step()) == 1
    assert bench.notes() == {}


def test_what_was_rejected_before_the_first_list_was_made_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (bench.settings.data_dir / rejected_list.NAME).unlink()
    bench.start()
    bench.reject("a.mp4", when=datetime.now(UTC))
    assert len(bench.step()) == 1
    assert list(bench.notes()) == ["a.mp4.rejected.txt"]


def test_a_file_that_is_taken_away_leaves_the_list_and_its_note_goes(bench: Bench) -> None:
    place = bench.reject("yolo/a.mp4")
    bench.step()
    place.unlink()
    assert bench.step() == []
    assert bench.notes() == {}
    assert rejected_list.read(bench.settings.data_dir) == rejected_list.RejectedList((), 0)


def test_an_outbox_that_is_away_is_told_once_it_is_back(bench: Bench) -> None:
    away = bench.settings.outbox_dir.with_name("away")
    bench.settings.outbox_dir.rename(away)
    bench.reject("a.mp4")
    with pytest.raises(FileNotFoundError):
        bench.step()
    listed = rejected_list.read(bench.settings.data_dir)
    assert listed is not None
    assert [(record.name, record.note) for record in listed.present] == [("a.mp4", Note.OWED)]
    away.rename(bench.settings.outbox_dir)
    bench.start()
    bench.step()
    assert list(bench.notes()) == ["a.mp4.rejected.txt"]


def test_a_note_goes_after_its_file_though_the_outbox_was_away(bench: Bench) -> None:
    place = bench.reject("a.mp4")
    bench.step()
    away = bench.settings.outbox_dir.with_name("away")
    bench.settings.outbox_dir.rename(away)
    place.unlink()
    with pytest.raises(FileNotFoundError):
        bench.step()
    away.rename(bench.settings.outbox_dir)
    bench.start()
    assert bench.step() == []
    assert bench.notes() == {}


def test_an_inbox_that_is_away_has_not_lost_its_rejected_files(bench: Bench) -> None:
    bench.reject("a.mp4")
    bench.step()
    bench.settings.inbox_dir.rename(bench.settings.inbox_dir.with_name("away"))
    assert len(bench.step()) == 1
    assert len(bench.notes()) == 1


def test_the_result_of_a_file_of_the_same_name_outdates_the_note(bench: Bench) -> None:
    bench.reject("b/a.mp4")
    bench.step()
    bench.publish("b/a.mp4", "2027-01-15T11:59:00.000000Z")
    assert sorted(bench.notes()) == ["b/a.mp4.json", "b/a.mp4.rejected.txt"], "it was taken in before"
    bench.publish("b/a.mp4", "2027-01-15T12:01:00.000000Z")
    assert sorted(bench.notes()) == ["b/a.mp4.json"]
    bench.step()
    assert sorted(bench.notes()) == ["b/a.mp4.json"]


def test_a_file_that_takes_the_place_of_another_is_read_anew(bench: Bench) -> None:
    place = bench.reject("a.mp4", "First one.")
    bench.step()
    for path in (place, place.with_name("a.mp4.reason.txt")):
        path.unlink()
    bench.reject("a.mp4", "Other one.", NOON.replace(hour=13))
    assert [record.reason for record in bench.step()] == ["Other one."]
    assert bench.notes() == {"a.mp4.rejected.txt": "a.mp4 was rejected. Other one.\n"}


@pytest.mark.parametrize(
    "name", ["two\nlines.mp4", "x" * 251 + ".mp4", os.fsdecode(b"bad\xff.mp4"), "caf\u00e9 🎬.mp4"]
)
def test_any_name_is_listed_and_told(bench: Bench, name: str) -> None:
    bench.reject(name)
    assert len(bench.step()) == 1
    assert len(bench.notes()) == 1
    bench.publish(os.fsencode(name).decode("utf-8", "backslashreplace"), "2027-01-15T12:01:00.000000Z")
    assert [note for note in bench.notes() if note.endswith(".rejected.txt")] == []


def test_a_forged_reason_leads_nowhere(bench: Bench) -> None:
    bench.reject("a.mp4")
    reason = bench.settings.inbox_dir / "rejected/a.mp4.reason.txt"
    reason.write_text(reason.read_text().replace("a.mp4 was not", "../../b was not"))
    [record] = bench.step()
    assert (record.name, record.reason.splitlines()[0]) == ("a.mp4", "../../b was not taken in.")
    assert list(bench.notes()) == ["a.mp4.rejected.txt"]


def test_a_folder_in_the_place_of_a_result_and_a_result_in_that_of_a_folder_are_two(bench: Bench) -> None:
    for name in ("a.mp4", "a.mp4.json/b.mp4", "a.mp4.json~/b.mp4"):
        bench.publish(name, "2027-01-15T12:01:00.000000Z")
    assert sorted(bench.notes()) == ["a.mp4.json", "a.mp4.json~/b.mp4.json", "a.mp4.json~~/b.mp4.json"]


def test_nothing_is_read_while_nothing_changes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.reject("a.mp4")
    for folder in (bench.settings.inbox_dir / "rejected",):
        os.utime(folder, (1, 1))
    bench.step()
    looks: list[Path] = []
    monkeypatch.setattr(rejections_module, "rejected_files", lambda inbox: looks.append(inbox) or [])
    for _ in range(20):
        bench.step()
    assert looks == []
    shutil.rmtree(bench.settings.inbox_dir / "rejected")
    bench.step()
    assert len(looks) == 1


def test_more_files_than_are_listed_are_told_once_each(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejections_module, "MOST_FILES", 3)
    for minute in range(5):
        bench.reject(f"{minute}.mp4", when=NOON.replace(minute=minute))
        bench.step()
    listed = rejected_list.read(bench.settings.data_dir)
    assert listed is not None
    assert ([record.name for record in listed.present], listed.count) == (["4.mp4", "3.mp4", "2.mp4"], 5)
    for note in bench.settings.outbox_dir.iterdir():
        note.unlink()
    bench.start()
    (bench.settings.inbox_dir / "rejected/4.mp4").unlink()
    bench.step()
    assert bench.notes() == {}


class Told:
    """Those who are told of events."""

    def __init__(self, bench: Bench) -> None:
        self.records: list[RejectedRecord] = []
        self.bench = bench

    def start(self) -> None:
        """As after a restart."""
        self.bench.rejections = Rejections(self.bench.settings, self.bench.outbox, announce=self.records.extend)

    @property
    def names(self) -> list[str]:
        return [record.name for record in self.records]


@pytest.fixture
def told(bench: Bench) -> Told:
    told = Told(bench)
    told.start()
    return told


def test_those_who_are_told_of_events_hear_of_each_rejected_file_once(bench: Bench, told: Told) -> None:
    bench.reject("a.mp4")
    bench.step()
    bench.reject("b.mp4")
    bench.step()
    told.start()
    bench.step()
    assert told.names == ["a.mp4", "b.mp4"]
    bench.reject("a.mp4", "Again.")
    bench.step()
    assert [(record.name, record.reason) for record in told.records[2:]] == [("a.mp4", "Again.")]


def test_they_hear_of_it_though_the_outbox_is_away(bench: Bench, told: Told) -> None:
    shutil.rmtree(bench.settings.outbox_dir)
    bench.reject("a.mp4")
    with pytest.raises(OSError, match="outbox"):
        bench.step()
    assert told.names == ["a.mp4"]


def test_they_hear_of_it_again_if_it_could_not_be_stored(bench: Bench, told: Told) -> None:
    def refuse(records: object) -> None:
        raise StoreError("The disk is full.")

    bench.reject("a.mp4")
    bench.rejections._announce = refuse
    with pytest.raises(StoreError):
        bench.step()
    bench.rejections._announce = told.records.extend
    bench.step()
    assert told.names == ["a.mp4"]


def test_they_hear_nothing_of_files_that_an_earlier_version_has_listed(bench: Bench, told: Told) -> None:
    bench.reject("a.mp4")
    bench.step()
    told.records.clear()
    path = bench.settings.data_dir / rejected_list.NAME
    listed = json.loads(path.read_text())
    for record in listed["files"]:
        del record["told"]
    path.write_text(json.dumps(listed))
    told.start()
    bench.step()
    assert told.names == []


def test_a_kill_before_that_is_noted_has_them_told_again_with_the_same_id(bench: Bench, tmp_path: Path) -> None:
    bench.reject("a.mp4")
    code = """if True:
        import sys
        from pathlib import Path
        from daemon.rejections import Rejections
        from daemon.settings import Settings
        from daemon.webhooks.event import Event
        from daemon.worker.outbox import Outbox

        settings = Settings(home=Path(sys.argv[1]))

        def announce(records):
            with (settings.home / "told").open("a") as file:
                file.writelines(Event.of_rejected(record).event_id + "\\n" for record in records)

        Rejections(settings, Outbox(settings.outbox_dir), announce=announce).step(1000.0)
    """
    command = [sys.executable, "-c", code, str(bench.settings.home)]
    killed = subprocess.run(command, env={**os.environ, FAULT_VARIABLE: "rejections.told"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    subprocess.run(command, check=True)
    subprocess.run(command, check=True)
    ids = (tmp_path / "told").read_text().split()
    assert (len(ids), len(set(ids))) == (2, 1)


def test_an_object_that_moves_after_a_kill_is_told_again_to_the_byte_as_before(bench: Bench, told: Told) -> None:
    at = timestamp(NOON)
    lies = RejectedRecord("a.mp4", "s3://b/in/a.mp4", "It is text.", at, 4, at, told=False)
    moved = replace(lies, path="s3://b/in/rejected/a.mp4")

    def killed(records: Sequence[RejectedRecord]) -> None:
        told.records.extend(records)
        raise StoreError("The process was killed.")

    bench.rejections._others = lambda: [lies]
    bench.rejections._announce = killed
    with pytest.raises(StoreError):
        bench.step()
    told.start()
    bench.rejections._others = lambda: [moved]
    bench.step()
    first, again = map(Event.of_rejected, told.records)
    assert first == again
    told.start()
    bench.rejections._others = lambda: [moved]
    assert [record.path for record in bench.step()] == [moved.path]
    assert len(told.records) == 2
    assert list(bench.notes()) == ["a.mp4.rejected.txt"]
