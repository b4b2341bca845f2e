"""Stored files: keys stay below the root, writes are whole or not there."""

from __future__ import annotations

import errno
import io
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import StorageError
from daemon.fs import atomic
from daemon.fs.atomic import atomic_write, fsync_folder, sweep
from daemon.fs.storage import LocalStorageService


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorageService:
    return LocalStorageService(tmp_path / "root")


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def load(storage: LocalStorageService, key: str) -> bytes:
    with storage.load_file(key) as file:
        return file.read()


def test_what_is_saved_is_loaded(storage: LocalStorageService) -> None:
    storage.save_file(io.BytesIO(b"x" * 3_000_000), "video_jobs/a.mp4")
    assert load(storage, "video_jobs/a.mp4") == b"x" * 3_000_000
    assert storage.path("video_jobs/a.mp4").stat().st_size == 3_000_000


def test_saving_returns_the_key_to_load_it_with(storage: LocalStorageService, tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(b"a video")
    for src in (source, str(source), io.BytesIO(b"a video")):
        assert load(storage, storage.save_file(src, "video_jobs/b.mp4")) == b"a video"
    with pytest.raises(FileNotFoundError):
        storage.save_file(tmp_path / "none.mp4", "video_jobs/b.mp4")
    assert load(storage, "video_jobs/b.mp4") == b"a video"


def test_nothing_under_a_key_is_a_file_not_found_and_a_storage_error(storage: LocalStorageService) -> None:
    for expected in (FileNotFoundError, StorageError):
        with pytest.raises(expected, match=r"Nothing can be read under 'video_jobs/none\.mp4'"):
            storage.load_file("video_jobs/none.mp4")
    storage.path("folder").mkdir()
    with pytest.raises(StorageError, match="Nothing can be read") as raised:
        storage.load_file("folder")
    assert not isinstance(raised.value, FileNotFoundError)


def test_saving_again_replaces(storage: LocalStorageService, tmp_path: Path) -> None:
    for content in (b"first", b"2"):
        storage.save_file(io.BytesIO(content), "a")
    assert load(storage, "a") == b"2"
    assert names(tmp_path) == ["root/a"]


def test_deleting_twice_is_no_error(storage: LocalStorageService) -> None:
    storage.save_file(io.BytesIO(b""), "a")
    storage.delete_file("a")
    storage.delete_file("a")
    with pytest.raises(StorageError, match="Nothing can be read under 'a'"):
        storage.load_file("a")


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "./a", "a/.", "a/", "a\0b", "a/../b"]
)
def test_a_key_that_tries_to_escape_is_refused_by_every_method(storage: LocalStorageService, key: str) -> None:
    for call in (storage.path, storage.load_file, storage.delete_file, lambda k: storage.save_file(io.BytesIO(), k)):
        with pytest.raises(StorageError, match="is not a storage key"):
            call(key)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "/", "~", "\\", "\0", "%2e%2e", "..."]), max_size=5).map("/".join))
def test_no_key_leads_out_of_the_root(key: str) -> None:
    root = Path("/nowhere/root")
    made = LocalStorageService.__new__(LocalStorageService)
    made._root = root
    try:
        path = made.path(key)
    except StorageError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)
    assert os.path.normpath(path) != str(root)


def test_a_key_does_not_follow_a_link_out_of_the_root(storage: LocalStorageService, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "root" / "link").symlink_to(outside)
    with pytest.raises(StorageError, match="leads out of the storage folder"):
        storage.save_file(io.BytesIO(b"x"), "link/a")
    assert names(outside) == []


def test_a_planted_link_is_replaced_and_never_written_through(storage: LocalStorageService, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"alive")
    storage.path("a").symlink_to(canary)
    storage.save_file(io.BytesIO(b"new"), "a")
    assert canary.read_bytes() == b"alive"
    assert not storage.path("a").is_symlink()
    assert load(storage, "a") == b"new"


def test_a_link_planted_at_the_temporary_name_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic.os, "urandom", lambda number: b"\0" * number)
    canary = tmp_path / "canary"
    canary.write_bytes(b"alive")
    (tmp_path / f".{os.getpid()}-{'00' * 6}.tmp").symlink_to(canary)
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "a") as file:
        file.write(b"new")
    assert canary.read_bytes() == b"alive"


class Broken(io.RawIOBase):
    """A source that fails after its first bytes."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > 1:
            raise OSError(errno.EIO, "read failed")
        return b"half"


def test_a_source_that_fails_leaves_the_old_file(storage: LocalStorageService, tmp_path: Path) -> None:
    storage.save_file(io.BytesIO(b"old"), "a")
    with pytest.raises(OSError, match="read failed"):
        storage.save_file(Broken(), "a")  # type: ignore[arg-type]
    assert load(storage, "a") == b"old"
    assert names(tmp_path) == ["root/a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    target = tmp_path / "a"
    target.write_bytes(b"old")
    if call == "fsync":
        monkeypatch.setattr(atomic.os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="full"), atomic_write(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_the_file_is_durable_before_it_has_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        order.append("fsync " + os.readlink(f"/proc/self/fd/{descriptor}").replace(str(tmp_path), ""))
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        order.append("rename")
        return replace(path, target)

    monkeypatch.setattr(atomic.os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert order[0].startswith("fsync /.")
    assert order[1:] == ["rename", "fsync "]


def test_a_reader_sees_the_old_content_or_the_new_never_a_part(storage: LocalStorageService) -> None:
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    storage.save_file(io.BytesIO(contents[0]), "a")
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(load(storage, "a"))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        storage.save_file(io.BytesIO(contents[turn % 2]), "a")
    done.set()
    reader.join()
    assert seen
    assert set(seen) <= set(contents)


@pytest.mark.parametrize(("code", "passes"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_sync_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, passes: bool
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    if passes:
        fsync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match="Input/output"):
            fsync_folder(tmp_path)


def test_old_leftovers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    folder = tmp_path / "folder"
    for made in (outside, folder / "below", folder / ".export-ab" / "inner"):
        made.mkdir(parents=True)
    temporary = ".7-abcdef012345.tmp"
    for path in (folder / temporary, folder / "below" / temporary, outside / temporary, folder / "a.json"):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    (folder / ".8-abcdef012345.tmp").write_bytes(b"being written")
    (folder / "link").symlink_to(outside)
    (folder / ".9-abcdef012345.tmp").symlink_to(outside)
    os.utime(folder / ".9-abcdef012345.tmp", (0, 0), follow_symlinks=False)
    assert sweep(folder, 60) == 2
    assert names(folder) == [".8-abcdef012345.tmp", "a.json", f"below/{temporary}"]
    assert (folder / "link").is_symlink()
    assert sweep(folder, 60, deep=True) == 1
    assert names(outside) == [temporary]
    os.utime(folder / ".export-ab", (0, 0))
    assert sweep(folder, 60, re.compile(r"\.export-.*")) == 1
    assert names(folder) == [".8-abcdef012345.tmp", "a.json"]
    assert sweep(tmp_path / "nowhere", 60) == 0


def test_sweeping_can_be_ended_and_survives_what_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    leftover = tmp_path / ".7-abcdef012345.tmp"
    leftover.write_bytes(b"x")
    os.utime(leftover, (0, 0))
    assert sweep(tmp_path, 60, stopping=lambda: True) == 0
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "unlink", refuse)
        assert sweep(tmp_path, 60) == 0
    assert sweep(tmp_path, 60) == 1
