"""The store's files: what is acknowledged stays, whatever is torn, damaged or copied at a bad moment."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import StoreDamaged, StoreError
from daemon.store import journal as journal_module
from daemon.store.journal import Journal
from daemon.store.journal_files import Tables
from daemon.store.journal_reader import JournalReader

real_fsync, real_write = os.fsync, os.write


def put(journal: Journal, doc_id: int, value: Any, durable: bool = True) -> None:
    journal.append({"jobs": {str(doc_id): {"value": value}}}, durable)


def values(tables: Tables) -> dict[str, Any]:
    return {doc_id: document["value"] for doc_id, document in tables.get("jobs", {}).items()}


def read_copy(folder: Path, target: Path) -> dict[str, Any]:
    """Open a copy of a folder the way a daemon does."""
    shutil.copytree(folder, target)
    journal = Journal(target)
    try:
        return values(journal.tables)
    finally:
        journal.abandon()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "data")
    yield journal
    journal.abandon()


@pytest.fixture
def folder(journal: Journal) -> Path:
    return journal.files.folder


def reopen(journal: Journal) -> Journal:
    """End without a clean close, as a killed process does, and open again."""
    journal.abandon()
    return Journal(journal.files.folder)


def test_changes_are_there_again_after_an_abrupt_end(journal: Journal) -> None:
    put(journal, 1, "a")
    put(journal, 2, "b")
    put(journal, 1, "c")
    journal.append({"jobs": {"2": None}})
    again = reopen(journal)
    assert values(again.tables) == {"1": "c"}
    assert again.recovered_from is None
    again.close()


def test_a_commit_adds_one_line_and_leaves_the_snapshot_alone(journal: Journal) -> None:
    before = journal.files.snapshot.read_bytes()
    put(journal, 1, "a")
    put(journal, 2, "b")
    assert len(journal.files.journal(1).read_bytes().splitlines()) == 2
    assert journal.files.snapshot.read_bytes() == before


def test_a_clean_close_leaves_everything_in_the_snapshot(journal: Journal) -> None:
    put(journal, 1, "ä")
    journal.close()
    tables = json.loads(journal.files.snapshot.read_bytes())
    assert values(tables) == {"1": "ä"}
    with pytest.raises(StoreError, match="closed"):
        put(journal, 2, "b")


def test_a_line_torn_at_any_byte_is_dropped_and_the_ones_before_stay(journal: Journal, tmp_path: Path) -> None:
    put(journal, 1, "first")
    whole = journal.files.journal(1).stat().st_size
    put(journal, 2, "second")
    data = journal.files.journal(1).read_bytes()
    for end in range(whole, len(data)):
        torn = tmp_path / f"torn-{end}"
        shutil.copytree(journal.files.folder, torn)
        os.truncate(torn / "jobs.1.journal", end)
        opened = Journal(torn)
        assert values(opened.tables) == {"1": "first"}
        assert opened.recovered_from is None
        put(opened, 3, "third")
        opened = reopen(opened)
        assert values(opened.tables) == {"1": "first", "3": "third"}
        opened.abandon()
    assert read_copy(journal.files.folder, tmp_path / "whole") == {"1": "first", "2": "second"}


def test_a_last_line_with_wrong_bytes_is_dropped(journal: Journal, tmp_path: Path) -> None:
    put(journal, 1, "first")
    whole = journal.files.journal(1).stat().st_size
    put(journal, 2, "second")
    data = bytearray(journal.files.journal(1).read_bytes())
    for position in range(whole, len(data)):
        wrong = bytearray(data)
        wrong[position] ^= 0x20
        target = tmp_path / f"wrong-{position}"
        shutil.copytree(journal.files.folder, target)
        (target / "jobs.1.journal").write_bytes(wrong)
        opened = Journal(target)
        # hex digits may change case without changing the checksum
        assert values(opened.tables) in ({"1": "first"}, {"1": "first", "2": "second"})
        if position - whole >= 8:
            assert values(opened.tables) == {"1": "first"}
        opened.abandon()


def test_damage_inside_the_journal_costs_that_line_alone(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        put(journal, number, "x" * 20)
    path = journal.files.journal(1)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + b"\0" * (len(lines[1]) - 1) + b"\n" + lines[2]
    path.write_bytes(damaged)
    again = reopen(journal)
    assert set(values(again.tables)) == {"0", "2"}
    assert again.recovered_from
    assert "damaged lines" in caplog.text
    assert path.with_name("jobs.1.journal.damaged-1").read_bytes() == damaged
    put(again, 3, "y")
    again = reopen(again)
    assert set(values(again.tables)) == {"0", "2", "3"}
    assert again.recovered_from is None
    again.abandon()


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "nul": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "other json": lambda path: path.write_bytes(b"[1, 2]"),
    "empty json": lambda path: path.write_bytes(b"{}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("compactions", [0, 1, 2, 5])
def test_a_damaged_snapshot_is_restored_with_every_change(
    journal: Journal, damage: str, compactions: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = {}
    for number in range(compactions + 1):
        if number:
            journal.compact()
        for part in range(3):
            put(journal, number * 3 + part, f"{number}.{part}")
            expected[str(number * 3 + part)] = f"{number}.{part}"
    journal.abandon()
    DAMAGE[damage](journal.files.snapshot)
    content = journal.files.snapshot.read_bytes() if damage != "missing" else None
    again = Journal(journal.files.folder)
    assert values(again.tables) == expected
    assert again.recovered_from is not None
    assert "jobs.json" in again.recovered_from
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    if content is not None:
        assert again.files.snapshot.with_name("jobs.json.damaged-1").read_bytes() == content
    put(again, 99, "after")
    again = reopen(again)
    assert values(again.tables) == {**expected, "99": "after"}
    assert again.recovered_from is None
    again.abandon()


def test_damaged_files_are_never_overwritten(journal: Journal) -> None:
    put(journal, 1, "a")
    for _ in range(3):
        journal.abandon()
        journal.files.snapshot.write_bytes(b"broken")
        journal = Journal(journal.files.folder)
    journal.abandon()
    assert len(list(journal.files.folder.glob("jobs.json.damaged-*"))) == 3


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "missing"])
def test_a_damaged_file_with_no_copy_is_refused_and_left_as_it_is(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.json"
    path.write_bytes(b"x" * 100)
    DAMAGE[damage](path)
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="backup"):
        Journal(tmp_path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["jobs.json"]


def test_a_store_whose_every_file_is_filled_with_nul_is_refused(journal: Journal) -> None:
    put(journal, 1, "a")
    journal.abandon()
    for path in journal.files.folder.glob("jobs.*"):
        path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(StoreDamaged, match="backup"):
        Journal(journal.files.folder)


def test_journals_without_any_snapshot_are_refused(journal: Journal) -> None:
    journal.compact()
    put(journal, 1, "a")
    journal.compact()
    journal.abandon()
    journal.files.snapshot.unlink()
    journal.files.previous.unlink()
    journal.files.journal(1).unlink()
    with pytest.raises(StoreDamaged):
        Journal(journal.files.folder)


def test_a_crash_while_a_new_store_is_made_leaves_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "jobs.1.journal").write_bytes(b"")
    journal = Journal(tmp_path)
    assert journal.recovered_from is None
    assert journal.files.snapshot.exists()
    journal.close()


def test_the_journal_is_compacted_when_it_outgrows_the_snapshot(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 2000)
    journal.compact(force=True)
    sizes, snapshots = [], 0
    for number in range(300):
        before = journal.generation
        put(journal, number % 10, "x" * 50)
        snapshots += journal.generation != before
        sizes.append(journal.changed_bytes)
    assert max(sizes) <= 2000
    assert 3 <= snapshots <= 30
    assert values(journal.tables) == {str(n): "x" * 50 for n in range(10)}


def test_old_journals_go_when_they_are_old_and_no_snapshot_needs_them(journal: Journal) -> None:
    for number in range(5):
        put(journal, number, number)
        journal.compact()
    assert journal.files.generations() == [1, 2, 3, 4, 5, 6]
    for generation in range(1, 7):
        os.utime(journal.files.journal(generation), (1, 1))
    put(journal, 9, 9)
    os.utime(journal.files.journal(6), (1, 1))
    journal.compact()
    assert journal.files.generations() == [6, 7]
    journal.abandon()
    journal.files.snapshot.write_bytes(b"")
    again = Journal(journal.files.folder)
    assert values(again.tables) == {**{str(n): n for n in range(5)}, "9": 9}
    again.abandon()


def test_any_mixture_of_files_from_different_moments_opens(journal: Journal, tmp_path: Path) -> None:
    """Each file of a backup may be from another moment; nothing from before the first may be missing."""
    moments: list[tuple[dict[str, bytes], dict[str, Any]]] = []

    def remember() -> None:
        files = {path.name: path.read_bytes() for path in journal.files.folder.iterdir()}
        moments.append((files, values(journal.tables)))

    remember()
    for number in range(8):
        put(journal, number, f"v{number}")
        remember()
        if number % 2:
            journal.compact()
            remember()
    journal.abandon()
    opened = 0
    for first in range(len(moments)):
        for second in range(first, len(moments)):
            early, late = moments[first], moments[second]
            names = sorted(early[0])  # a copy lists the folder when it begins
            for late_ones in (names[:1], names[1:], ["jobs.json"], [n for n in names if n != "jobs.json"]):
                target = tmp_path / f"mix-{opened}"
                target.mkdir()
                for name in names:
                    (target / name).write_bytes((late if name in late_ones else early)[0][name])
                copy = Journal(target)
                missing = set(early[1].items()) - set(values(copy.tables).items())
                assert not missing, (first, second, late_ones)
                copy.abandon()
                opened += 1
    assert opened > 300


def test_a_snapshot_without_its_journal_gives_way_to_a_newer_previous_one(journal: Journal) -> None:
    early = journal.files.snapshot.read_bytes()
    for number in range(4):
        put(journal, number, number)
        journal.compact()
    journal.abandon()
    journal.files.snapshot.write_bytes(early)
    journal.files.journal(1).unlink()
    journal.files.journal(2).unlink()
    again = Journal(journal.files.folder)
    assert set(values(again.tables)) == {"0", "1", "2", "3"}
    assert again.recovered_from
    again.abandon()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, b"bytes", "\udcff", object()])
def test_what_has_no_json_form_is_refused_before_the_write(journal: Journal, bad: Any) -> None:
    before = journal.files.journal(1).read_bytes()
    with pytest.raises(StoreError, match="JSON"):
        put(journal, 1, bad)
    assert journal.files.journal(1).read_bytes() == before
    assert values(journal.tables) == {}
    put(journal, 1, "good")


def test_memory_shares_nothing_with_the_caller(journal: Journal) -> None:
    document = {"value": {"list": [1]}}
    journal.append({"jobs": {"1": document}})
    document["value"]["list"].append(2)
    assert journal.tables["jobs"]["1"] == {"value": {"list": [1]}}


class Disk:
    """Stands in for os.write and os.fsync and fails when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_errors: list[int] = []
        self.fsync_errors: list[int] = []
        self.written_before_error = 0
        self.log: list[str] = []
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "fsync", self.fsync)

    def write(self, descriptor: int, data: bytes) -> int:
        self.log.append("write")
        if not self.write_errors:
            return real_write(descriptor, data)
        if self.written_before_error:
            count, self.written_before_error = self.written_before_error, 0
            return real_write(descriptor, data[:count])
        raise OSError(self.write_errors[0], os.strerror(self.write_errors.pop(0)))

    def fsync(self, descriptor: int) -> None:
        self.log.append("fsync")
        if self.fsync_errors:
            raise OSError(self.fsync_errors[0], os.strerror(self.fsync_errors.pop(0)))
        real_fsync(descriptor)


@pytest.fixture
def disk(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("part", [0, 1, 9, 20])
def test_a_failed_write_changes_nothing_and_the_next_one_works(journal: Journal, disk: Disk, part: int) -> None:
    put(journal, 1, "a")
    size = journal.files.journal(1).stat().st_size
    disk.write_errors, disk.written_before_error = [errno.ENOSPC], part
    with pytest.raises(StoreError, match="No space left"):
        put(journal, 2, "b")
    assert journal.files.journal(1).stat().st_size == size
    assert values(journal.tables) == {"1": "a"}
    put(journal, 3, "c")
    again = reopen(journal)
    assert values(again.tables) == {"1": "a", "3": "c"}
    again.abandon()


def test_the_problem_stays_until_the_files_can_be_used_again(journal: Journal, disk: Disk) -> None:
    disk.fsync_errors = [errno.EIO] * 2
    with pytest.raises(StoreError, match="could not be stored"):
        put(journal, 1, "a")
    assert "Input/output error" in (journal.problem or "")
    with pytest.raises(StoreError):
        journal.mend()
    assert journal.problem
    journal.mend()
    assert journal.problem is None
    put(journal, 2, "b")
    assert values(journal.tables) == {"2": "b"}


def test_after_a_failed_write_the_state_is_read_from_disk_again(journal: Journal, disk: Disk) -> None:
    put(journal, 1, "a")
    loads = journal.loads
    disk.write_errors = [errno.EIO]
    with pytest.raises(StoreError):
        put(journal, 2, "b")
    journal._tables["jobs"]["1"]["value"] = "not on disk"
    assert values(journal.tables) == {"1": "a"}
    assert journal.loads == loads + 1


def test_after_a_failed_fsync_the_journal_is_given_up_and_the_state_written_whole(journal: Journal, disk: Disk) -> None:
    put(journal, 1, "a")
    disk.fsync_errors = [errno.EIO]
    with pytest.raises(StoreError, match="Input/output"):
        put(journal, 2, "b")
    size = journal.files.journal(1).stat().st_size
    put(journal, 3, "c")
    assert journal.generation == 2
    assert journal.files.journal(1).stat().st_size == size
    assert values(json.loads(journal.files.snapshot.read_bytes())) == {"1": "a"}
    again = reopen(journal)
    assert values(again.tables) == {"1": "a", "3": "c"}
    again.abandon()


def test_nothing_is_acknowledged_until_the_state_is_written_whole(journal: Journal, disk: Disk) -> None:
    put(journal, 1, "a")
    disk.fsync_errors = [errno.EIO] * 6
    failures = 0
    for number in range(2, 12):
        try:
            put(journal, number, "b")
        except StoreError:
            failures += 1
            assert values(journal.tables) == {"1": "a"}
        else:
            break
    assert failures >= 3
    again = reopen(journal)
    assert values(again.tables) == {"1": "a", str(number): "b"}
    again.abandon()


def test_a_disk_that_stays_bad_is_not_littered_with_journals(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    put(journal, 1, "a")
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "fsync_folder", bad)
        with pytest.raises(StoreError):
            journal.compact()
        for _ in range(20):
            with pytest.raises(StoreError):
                put(journal, 2, "b")
    assert journal.files.generations() == [1, 2]
    put(journal, 2, "c")
    again = reopen(journal)
    assert values(again.tables) == {"1": "a", "2": "c"}
    again.abandon()


def test_a_line_that_cannot_be_cut_off_is_not_written_behind(
    journal: Journal, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(journal, 1, "a")

    def no_truncate(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    disk.write_errors, disk.written_before_error = [errno.EIO], 12
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", no_truncate)
        with pytest.raises(StoreError):
            put(journal, 2, "b")
    put(journal, 3, "c")
    assert journal.generation == 2
    again = reopen(journal)
    assert values(again.tables) == {"1": "a", "3": "c"}
    again.abandon()


def test_a_failed_compaction_is_no_failure_of_the_change(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    reader = JournalReader(journal.files.folder)
    reader.refresh()
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "write_snapshot", full)
        patch.setattr(journal_module, "COMPACT_BYTES", 200)
        journal._compact_at = 200
        for number in range(20):
            put(journal, number, "x")
        with pytest.raises(StoreError, match="No space"):
            journal.compact()
    assert "tried again later" in caplog.text
    expected = {str(n): "x" for n in range(20)}
    reader.refresh()
    assert values(reader.tables) == expected
    journal = reopen(journal)
    assert values(journal.tables) == expected
    journal.compact()
    assert values(json.loads(journal.files.snapshot.read_bytes())) == expected
    journal.abandon()
    reader.close()


def test_after_a_full_disk_it_goes_on_in_the_same_journal_and_needs_room_for_a_line_alone(
    journal: Journal, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    put(journal, 1, "a")
    monkeypatch.setattr(journal_module, "write_snapshot", no_room)
    disk.write_errors, disk.written_before_error = [errno.ENOSPC], 12
    with pytest.raises(StoreError, match="No space"):
        put(journal, 2, "b")
    put(journal, 2, "c")
    assert journal.generation == 1
    again = reopen(journal)
    assert values(again.tables) == {"1": "a", "2": "c"}
    again.abandon()


def test_a_compaction_that_cannot_begin_the_next_journal_does_not_stop_changes(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def no_new_files(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_open(path, flags, *rest)

    put(journal, 1, "a")
    loads = journal.loads
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_new_files)
        with pytest.raises(StoreError, match="No space"):
            journal.compact()
        put(journal, 2, "b")
    assert journal.generation == 1
    assert journal.loads == loads
    again = reopen(journal)
    assert values(again.tables) == {"1": "a", "2": "b"}
    again.abandon()


def test_damage_that_shows_when_the_files_are_read_again_is_kept_once_and_told(
    journal: Journal, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        put(journal, number, "x" * 20)
    path = journal.files.journal(1)
    lines = path.read_bytes().splitlines(keepends=True)
    disk.write_errors = [errno.EIO]
    with pytest.raises(StoreError, match="Input/output"):
        put(journal, 3, "y")
    damaged = lines[0] + b"\0" * (len(lines[1]) - 1) + b"\n" + lines[2]
    path.write_bytes(damaged)
    disk.fsync_errors = [errno.EIO] * 3
    for _ in range(3):
        with pytest.raises(StoreError, match="Input/output"):
            journal.append({})
    journal.append({})
    assert set(values(journal.tables)) == {"0", "2"}
    assert [p.read_bytes() for p in journal.files.folder.glob("*.damaged-*")] == [damaged]
    assert "damaged lines" in caplog.text


def test_a_durable_commit_is_synced_before_it_returns_and_progress_is_not(journal: Journal, disk: Disk) -> None:
    put(journal, 1, "a")
    assert disk.log == ["write", "fsync"]
    put(journal, 1, "b", durable=False)
    assert disk.log == ["write", "fsync", "write"]


def test_a_snapshot_is_synced_then_renamed_then_the_folder_is_synced(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(journal, 1, "a")
    steps: list[str] = []
    real_replace = Path.replace

    def fsync(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append("sync " + ("temporary" if name.startswith(".") else name[:6]))
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append(f"rename {target.name}")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    journal.compact()
    assert steps[:3] == ["sync jobs.1", "sync jobs.2", "sync data"]
    assert steps[3:] == ["rename jobs.previous.json", "sync temporary", "rename jobs.json", "sync data"]


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from daemon.errors import StoreError
from daemon.store.journal import Journal
journal = Journal(Path(sys.argv[1]))
sys.dont_write_bytecode = True
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
done, failed = [], 0
for number in range(100):
    try:
        journal.append({"jobs": {str(number): {"value": "x" * 100}}})
        done.append(str(number))
    except StoreError:
        failed += 1
        assert list(journal.tables.get("jobs", {})) == done
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.append({"jobs": {"after": {"value": "y"}}})
print(json.dumps([done + ["after"], failed]))
"""


def test_a_write_cut_short_by_the_system_damages_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    done, failed = json.loads(run.stdout)
    assert failed > 50
    journal = Journal(tmp_path)
    assert list(values(journal.tables)) == done
    assert journal.recovered_from is None
    journal.close()


def test_replacing_everything_is_one_step(journal: Journal, tmp_path: Path) -> None:
    put(journal, 1, "old")
    reader = JournalReader(journal.files.folder)
    reader.refresh()
    journal.replace({"_meta": {}, "jobs": {"7": {"value": "new"}}})
    put(journal, 8, "newer")
    assert read_copy(journal.files.folder, tmp_path / "copy") == {"7": "new", "8": "newer"}
    assert reader.refresh() is None
    assert values(reader.tables) == {"7": "new", "8": "newer"}
    journal.abandon()
    journal.files.snapshot.write_bytes(b"")
    again = Journal(journal.files.folder)
    assert values(again.tables) == {"7": "new", "8": "newer"}
    again.abandon()
    reader.close()


def test_temporary_files_of_a_killed_writer_go_after_a_minute(journal: Journal) -> None:
    old, new = (journal.files.folder / f".{number}-abcdef012345.tmp" for number in (1, 2))
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    again = reopen(journal)
    assert not old.exists()
    assert new.exists()
    again.abandon()


def test_a_folder_that_turned_read_only_can_still_be_read(
    journal: Journal, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def read_only(path: Any, flags: int, *rest: Any) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system")
        return real_open(path, flags, *rest)

    put(journal, 1, "a")
    disk.write_errors = [errno.EROFS]
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        for _ in range(3):
            with pytest.raises(StoreError, match="Read-only"):
                put(journal, 2, "b")
            assert values(journal.tables) == {"1": "a"}
    put(journal, 3, "c")
    assert values(journal.tables) == {"1": "a", "3": "c"}


class TestReader:
    @pytest.fixture
    def reader(self, journal: Journal) -> Iterator[JournalReader]:
        reader = JournalReader(journal.files.folder)
        reader.refresh()
        yield reader
        reader.close()

    def test_reads_nothing_while_there_is_no_store_and_makes_nothing(self, tmp_path: Path) -> None:
        reader = JournalReader(tmp_path / "none")
        reader.refresh()
        version = reader.version
        reader.refresh()
        assert values(reader.tables) == {}
        assert reader.version == version
        assert os.listdir(tmp_path) == []

    def test_sees_a_store_that_is_made_later(self, tmp_path: Path) -> None:
        reader = JournalReader(tmp_path)
        reader.refresh()
        journal = Journal(tmp_path)
        put(journal, 1, "a")
        reader.refresh()
        assert values(reader.tables) == {"1": "a"}
        journal.abandon()
        reader.close()

    def test_a_store_that_is_made_while_it_looks_is_not_called_damaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "jobs.1.journal").touch()
        reader = JournalReader(tmp_path)
        read = Path.read_bytes

        def made_behind_the_look(path: Path) -> bytes:
            try:
                return read(path)
            except FileNotFoundError:
                monkeypatch.undo()
                Journal(tmp_path).abandon()
                raise

        monkeypatch.setattr(Path, "read_bytes", made_behind_the_look)
        reader.refresh()
        assert (tmp_path / "jobs.json").exists()
        assert values(reader.tables) == {}
        reader.close()

    def test_reads_only_what_is_new(self, journal: Journal, reader: JournalReader) -> None:
        put(journal, 1, "a")
        assert reader.refresh() == [{"jobs": {"1": {"value": "a"}}}]
        position, version = reader.position, reader.version
        assert reader.refresh() == []
        assert (reader.position, reader.version) == (position, version)
        put(journal, 2, "b")
        assert reader.refresh() == [{"jobs": {"2": {"value": "b"}}}]
        assert reader.version > version
        assert reader.position > position

    def test_documents_have_their_keys_in_common(self, journal: Journal, reader: JournalReader) -> None:
        for number in (1, 2):
            journal.append({"jobs": {str(number): {"value": number, "options": {"frame_stride": number}}}})
            reader.refresh()
        for tables in (journal.tables, reader.tables):
            one, other = tables["jobs"]["1"], tables["jobs"]["2"]
            for here, there in ((one, other), (one["options"], other["options"])):
                assert all(a is b for a, b in zip(here, there, strict=True))

    def test_survives_compactions_without_loading_everything_again(
        self, journal: Journal, reader: JournalReader
    ) -> None:
        put(journal, 1, "a")
        journal.compact()
        put(journal, 2, "b")
        journal.compact()
        put(journal, 3, "c")
        changes = reader.refresh()
        assert changes is not None
        assert [list(c["jobs"]) for c in changes] == [["1"], ["2"], ["3"]]
        assert values(reader.tables) == values(journal.tables)
        assert reader.generation == journal.generation == 3

    def test_catches_up_when_the_journals_between_are_gone(
        self, journal: Journal, reader: JournalReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "KEEP_SECONDS", -1.0)
        for number in range(6):
            put(journal, number, number)
            journal.compact()
        assert 1 not in journal.files.generations()
        assert reader.refresh() is None
        assert values(reader.tables) == values(journal.tables)

    def test_after_an_error_half_way_it_loads_everything(
        self, journal: Journal, reader: JournalReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def sick(*arguments: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

        put(journal, 1, "a")
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", sick)  # what was added is read from the open file, and then the next is opened
            with pytest.raises(StoreError, match="cannot be read"):
                reader.refresh()
        assert reader.refresh() is None, "nobody is told of the change"
        assert values(reader.tables) == {"1": "a"}

    def test_waits_for_the_rest_of_a_torn_line(self, journal: Journal, reader: JournalReader) -> None:
        put(journal, 1, "a")
        path = journal.files.journal(1)
        line = path.read_bytes()
        with path.open("r+b") as file:
            for length in range(len(line)):
                file.truncate(length)
                assert reader.refresh() == []
        assert values(reader.tables) == {}
        path.write_bytes(line)
        assert len(reader.refresh() or []) == 1

    def test_forgets_a_line_that_was_taken_back(
        self, journal: Journal, reader: JournalReader, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail_after_the_reader_saw_it(descriptor: int) -> None:
            reader.refresh()
            assert values(reader.tables) == {"1": "unacknowledged"}
            monkeypatch.setattr(os, "fsync", real_fsync)
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail_after_the_reader_saw_it)
        with pytest.raises(StoreError):
            put(journal, 1, "unacknowledged")
        reader.refresh()
        assert values(reader.tables) == {}
        put(journal, 2, "b")
        put(journal, 3, "c")
        reader.refresh()
        assert values(reader.tables) == {"2": "b", "3": "c"}

    def test_reads_a_damaged_store_as_the_daemon_would_and_writes_nothing(self, journal: Journal) -> None:
        put(journal, 1, "a")
        journal.compact()
        put(journal, 2, "b")
        journal.abandon()
        journal.files.snapshot.write_bytes(b"\0" * 100)
        before = {p.name: p.read_bytes() for p in journal.files.folder.iterdir()}
        reader = JournalReader(journal.files.folder)
        reader.refresh()
        assert values(reader.tables) == {"1": "a", "2": "b"}
        assert {p.name: p.read_bytes() for p in journal.files.folder.iterdir()} == before
        reader.close()

    def test_notices_that_the_store_was_begun_anew(self, journal: Journal, reader: JournalReader) -> None:
        put(journal, 1, "a")
        journal.compact()
        reader.refresh()
        journal.abandon()
        for path in journal.files.folder.iterdir():
            path.unlink()
        new = Journal(journal.files.folder)
        put(new, 5, "e")
        reader.refresh()
        assert values(reader.tables) == {"5": "e"}
        new.abandon()

    def test_follows_a_writer_in_another_process(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from daemon.store import journal as j;"
            "j.COMPACT_BYTES = 3000; w = j.Journal(Path(sys.argv[1]));"
            "[w.append({'jobs': {str(n % 50): {'value': n}}}, durable=n % 10 == 0) for n in range(6000)];"
            "w.abandon()"
        )
        reader = JournalReader(tmp_path)
        full_loads = seen = 0
        highest = -1
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        deadline = time.monotonic() + 60
        while process.poll() is None or highest != 5999:
            assert time.monotonic() < deadline
            full_loads += reader.refresh() is None
            found = values(reader.tables)
            latest = max(found.values(), default=-1)
            assert latest >= highest, "the reader went back in time"
            first = max(0, latest - 49)
            assert set(found.values()) == set(range(first, latest + 1)), "a change is missing"
            seen += latest != highest
            highest = latest
        assert process.returncode == 0
        assert seen > 3
        assert full_loads < 10
        reader.close()
