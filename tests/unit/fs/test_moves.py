"""Mounts, leases, and moves that overwrite and follow nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon.errors import Interrupted, SourceChanged
from daemon.fs import identity as identity_module
from daemon.fs import moves
from daemon.fs.folders import Folders
from daemon.fs.identity import has_writer, identity_of, open_regular, shown
from daemon.fs.mounts import Mount, is_remote, mount_of
from daemon.fs.moves import copy_file, free_name, move_file, remove_file, rename_new
from daemon.fs.space import free_bytes

TABLE = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 21 0:40 / /srv/my\\040videos rw - nfs4 server:/videos rw
31 21 0:41 / /srv rw - xfs /dev/sdb rw
32 30 0:42 / /srv/my\\040videos/local rw shared:3 - fuse.sshfs host: rw
33 31 0:43 / /srv rw - btrfs /dev/sdc rw
"""


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, int, Path, int]]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with Folders(source) as a, Folders(target) as b:
        yield source, a.get(""), target, b.get("")


def forbid_rename(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let renames between folders fail, as between file systems."""
    real = rename_new

    def rename(source: str, source_folder: int, target: str, target_folder: int) -> None:
        if source_folder != target_folder:
            raise OSError(code, os.strerror(code))
        real(source, source_folder, target, target_folder)

    monkeypatch.setattr(moves, "rename_new", rename)


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/home/me", "/", "ext4"),
        ("/srv/my videos/a.mp4", "/srv/my videos", "nfs4"),
        ("/srv/my videos/local/b", "/srv/my videos/local", "fuse.sshfs"),
        ("/srv/my videosx", "/srv", "btrfs"),
    ],
)
def test_the_longest_and_latest_mount_point_counts(path: str, point: str, kind: str) -> None:
    assert mount_of(Path(path), TABLE) == Mount(Path(point), kind)


def test_this_machine_has_a_mount_table(tmp_path: Path) -> None:
    assert mount_of(tmp_path).kind not in ("", "unknown")
    assert free_bytes(tmp_path) > 0


def test_a_file_system_that_turned_read_only_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1, f_frsize=1, f_flag=os.ST_RDONLY))
    with pytest.raises(OSError, match="Read-only file system"):
        free_bytes(tmp_path)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.mergerfs", "virtiofs"])
def test_shares_are_remote(kind: str) -> None:
    assert is_remote(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "unknown"])
def test_disks_are_not_remote(kind: str) -> None:
    assert not is_remote(kind)


def test_a_writer_is_noticed_and_so_is_its_going(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as writer:
        writer.write(b"x")
        with path.open("rb") as reader:
            assert has_writer(reader.fileno()) is True
    with path.open("rb") as reader, path.open("rb"):
        assert has_writer(reader.fileno()) is False


def test_a_writer_that_comes_while_we_look_harms_nobody(tmp_path: Path) -> None:
    code = """
import os, sys
while True:
    os.close(os.open(sys.argv[1], os.O_WRONLY))
"""
    path = tmp_path / "a"
    path.touch()
    answers = set()
    with subprocess.Popen([sys.executable, "-c", code, path]) as writer, path.open("rb") as reader:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            answers.add(has_writer(reader.fileno()))
        writer.kill()
    assert answers == {True, False}


def test_where_leases_are_refused_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(identity_module.fcntl, "fcntl", refuse)
    with (tmp_path / "a").open("wb") as file:
        assert has_writer(file.fileno()) is None


def test_pipes_and_links_are_not_opened(folders: tuple[Path, int, Path, int]) -> None:
    source, folder, _, _ = folders
    os.mkfifo(source / "pipe")
    (source / "link").symlink_to("/etc/passwd")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=r"regular|symbolic"):
            open_regular(name, folder)


def test_a_folder_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "sub").symlink_to("/etc")
    with Folders(tmp_path / "root") as root, pytest.raises(NotADirectoryError):
        root.get("sub")


def test_a_move_keeps_the_content_and_its_identity(folders: tuple[Path, int, Path, int]) -> None:
    source, a, target, b = folders
    (source / "x").write_bytes(b"video")
    identity = identity_of((source / "x").stat())
    assert move_file("x", a, "y", b, identity)
    assert identity_of((target / "y").stat()) == identity
    assert not (source / "x").exists()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EACCES])
def test_what_cannot_be_renamed_is_copied_with_its_mtime(
    folders: tuple[Path, int, Path, int], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    source, a, target, b = folders
    forbid_rename(monkeypatch, code)
    (source / "x").write_bytes(b"video" * 1000)
    os.utime(source / "x", ns=(1, 1_234_567_891))
    assert move_file("x", a, "y", b, identity_of((source / "x").stat()))
    assert (target / "y").read_bytes() == b"video" * 1000
    assert (target / "y").stat().st_mtime_ns == 1_234_567_891
    assert os.listdir(source) == []
    assert os.listdir(target) == ["y"]


def test_a_source_that_cannot_be_removed_is_reported(
    folders: tuple[Path, int, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, a, target, b = folders
    forbid_rename(monkeypatch, errno.EROFS)
    monkeypatch.setattr(moves, "remove_file", lambda *_: False)
    (source / "x").write_bytes(b"video")
    assert not move_file("x", a, "y", b, identity_of((source / "x").stat()))
    assert (target / "y").exists()


@pytest.mark.parametrize("exdev", [False, True])
def test_an_exchanged_file_stays(
    folders: tuple[Path, int, Path, int], monkeypatch: pytest.MonkeyPatch, exdev: bool
) -> None:
    source, a, target, b = folders
    if exdev:
        forbid_rename(monkeypatch, errno.EXDEV)
    (source / "x").write_bytes(b"video")
    seen = identity_of((source / "x").stat())
    (source / "x").write_bytes(b"another")
    with pytest.raises(SourceChanged):
        move_file("x", a, "y", b, seen)
    assert (source / "x").read_bytes() == b"another"
    assert os.listdir(target) == []


def before_renaming(monkeypatch: pytest.MonkeyPatch, acts: dict[str, Callable[[], object]]) -> None:
    """Have somebody do something just before a file of a name is renamed, the first time."""
    real, left = rename_new, dict(acts)

    def rename(*arguments: object) -> None:
        left.pop(str(arguments[0]), lambda: None)()
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(moves, "rename_new", rename)


def exchange_for_a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")


def test_a_file_exchanged_at_the_last_moment_is_put_back(
    folders: tuple[Path, int, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, a, target, b = folders
    (source / "x").write_bytes(b"video")
    seen = identity_of((source / "x").stat())
    before_renaming(monkeypatch, {"x": lambda: exchange_for_a_link(source / "x")})
    with pytest.raises(SourceChanged):
        move_file("x", a, "y", b, seen)
    assert (source / "x").is_symlink()
    assert os.listdir(target) == []


def test_a_link_finds_its_way_back_though_its_name_is_taken_again(
    folders: tuple[Path, int, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, a, target, b = folders
    (source / "x").write_bytes(b"video")
    seen = identity_of((source / "x").stat())
    before_renaming(
        monkeypatch,
        {
            "x": lambda: exchange_for_a_link(source / "x"),
            "y": lambda: (source / "x").write_bytes(b"the next one"),
        },
    )
    with pytest.raises(SourceChanged):
        move_file("x", a, "y", b, seen)
    assert os.listdir(target) == []
    assert (source / "x").read_bytes() == b"the next one"
    assert [path.is_symlink() for path in source.iterdir() if path.name != "x"] == [True]


def test_nothing_is_overwritten(folders: tuple[Path, int, Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    source, a, target, b = folders
    (source / "x").write_bytes(b"new")
    (target / "y").write_bytes(b"old")
    seen = identity_of((source / "x").stat())
    with pytest.raises(FileExistsError):
        move_file("x", a, "y", b, seen)
    monkeypatch.setattr(moves, "_renameat2", None)
    with pytest.raises(FileExistsError):
        rename_new("x", a, "y", b)
    forbid_rename(monkeypatch, errno.EXDEV)
    with pytest.raises(FileExistsError):
        move_file("x", a, "y", b, seen)
    assert (source / "x").read_bytes() == b"new"
    assert (target / "y").read_bytes() == b"old"
    assert os.listdir(target) == ["y"]


def test_a_file_with_two_names_is_copied_where_it_must_be_ours_alone(
    folders: tuple[Path, int, Path, int],
) -> None:
    source, a, target, b = folders
    (source / "x").write_bytes(b"video")
    os.link(source / "x", source / "also")
    assert move_file("x", a, "y", b, identity_of((source / "x").stat()), private=True)
    assert (target / "y").stat().st_ino != (source / "also").stat().st_ino
    assert os.listdir(source) == ["also"]


def test_a_large_copy_is_written_to_the_disk_bit_by_bit_and_not_all_at_its_end(
    folders: tuple[Path, int, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the fsync at the end takes so long on a slow disk that the inbox seems to hang."""
    source, a, _, b = folders
    size = 3 * moves.COPY_BYTES + 5
    (source / "x").write_bytes(bytes(size))
    begun: list[tuple[int, int]] = []
    begin, fsync = os.posix_fadvise, os.fsync
    at_fsync: list[int] = []

    def noted(descriptor: int, start: int, length: int, advice: int) -> None:
        begin(descriptor, start, length, advice)
        if advice == os.POSIX_FADV_DONTNEED:
            begun.append((start, length))

    monkeypatch.setattr(os, "posix_fadvise", noted)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (at_fsync.append(len(begun)), fsync(descriptor)))
    copy_file("x", a, "y", b, identity_of((source / "x").stat()))
    assert at_fsync[0] == len(begun) > 3
    assert [start for start, _ in begun] == [sum(length for _, length in begun[:n]) for n in range(len(begun))]
    assert sum(length for _, length in begun) == size


def test_a_copy_can_be_ended(folders: tuple[Path, int, Path, int]) -> None:
    source, a, target, b = folders
    (source / "x").write_bytes(b"video")
    with pytest.raises(Interrupted):
        copy_file("x", a, "y", b, identity_of((source / "x").stat()), stopping=lambda: True)
    assert os.listdir(target) == []
    assert os.listdir(source) == ["x"]


def test_removing_spares_another_content(folders: tuple[Path, int, Path, int]) -> None:
    source, a, _, _ = folders
    (source / "x").write_bytes(b"video")
    seen = identity_of((source / "x").stat())
    (source / "x").write_bytes(b"newer video")
    assert remove_file("x", a, seen)
    assert (source / "x").exists()


def test_free_names_count_up_and_fit(folders: tuple[Path, int, Path, int]) -> None:
    source, a, _, _ = folders
    assert free_name("a.mp4", a) == "a.mp4"
    (source / "a.mp4").touch()
    (source / "a (2).mp4.txt").touch()
    assert free_name("a.mp4", a, also=(".txt",)) == "a (3).mp4"
    long = free_name("ü" * 125 + ".mp4", a, also=(".reason.txt",))
    assert len(os.fsencode(long + ".reason.txt")) <= 255
    assert long.endswith("ü.mp4")


def test_names_are_shown_on_one_line() -> None:
    assert shown("a\nb\x1b[31m\udcff.mp4") == r"a\nb\x1b[31m\xff.mp4"
    assert shown("Größe 🎬.mp4") == "Größe 🎬.mp4"
