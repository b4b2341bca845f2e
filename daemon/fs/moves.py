"""Moving a file so that nothing is overwritten or followed: rename, or copy, fsync, verify, delete."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable
from typing import Any, TypeVar

from daemon.errors import Interrupted, SourceChanged
from daemon.failpoints import failpoint
from daemon.fs.identity import identity_of, open_regular, shown
from daemon.fs.locks import fcntl
from daemon.fs.samples import same_blocks
from daemon.jobs import Identity

NAME_BYTES = 255
"""Longest file name on Linux file systems."""

NAME_TRIES = 20
"""How many free names are tried, should others take them."""

COPY_BYTES = 8 << 20

COPY_INSTEAD = frozenset({errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS})
"""Why a rename can fail and a copy still work: another file system, or a source that cannot be removed."""

T = TypeVar("T")

RENAME_NOREPLACE = 1
FICLONE = 0x40049409
"""See ioctl_ficlone(2)."""

_renameat2: Any = None
with contextlib.suppress(TypeError):  # of Windows, which has no library of all
    _renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def rename_new(source: str, source_folder: int, target: str, target_folder: int) -> None:
    """Rename, and fail rather than overwrite.

    Raises:
        FileExistsError: the target's name is taken.
        OSError: as rename(2).
    """
    if _renameat2 is not None:
        done = _renameat2(source_folder, os.fsencode(source), target_folder, os.fsencode(target), RENAME_NOREPLACE)
        if done == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(code, os.strerror(code), source)
    # The file system does not know the flag (NFS, some of FUSE): looking first is the best there is.
    with contextlib.suppress(FileNotFoundError):
        os.stat(target, dir_fd=target_folder, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)


def free_name(name: str, folder: int, also: tuple[str, ...] = ()) -> str:
    """Return a name that is not taken in a folder: the name itself or ``name (2).mp4`` and so on.

    Args:
        name: The wanted name; its stem is shortened where it would be too long.
        folder: Descriptor of the folder.
        also: Endings; the name with each of them added must be free too, and short enough.
    """
    stem, suffix = os.path.splitext(name)
    suffix = suffix if len(os.fsencode(suffix)) <= 20 else ""
    stem = name[: len(name) - len(suffix)]
    number = 1
    while True:
        mark = f" ({number})" if number > 1 else ""
        room = NAME_BYTES - len(os.fsencode(mark + suffix + max(also, key=len, default="")))
        wanted = _cut(stem, room) + mark + suffix
        if not any(_taken(wanted + ending, folder) for ending in ("", *also)):
            return wanted
        number += 1


def with_free_name(name: str, folder: int, place: Callable[[str], T], also: tuple[str, ...] = ()) -> T:
    """Put something under a free name, and under another one should somebody take that meanwhile.

    Args:
        name: See ``free_name``; so are ``folder`` and ``also``.
        folder: Descriptor.
        place: Called with the free name; must have changed nothing when it raises FileExistsError.

    Returns:
        What ``place`` returns.

    Raises:
        FileExistsError: somebody took each of many names.
        OSError: the folder cannot be looked at; and what ``place`` raises.
    """
    for _ in range(NAME_TRIES - 1):
        with contextlib.suppress(FileExistsError):
            return place(free_name(name, folder, also))
    return place(free_name(name, folder, also))


def move_file(
    source: str,
    source_folder: int,
    target: str,
    target_folder: int,
    identity: Identity,
    private: bool = False,
    copy_when: frozenset[int] = COPY_INSTEAD,
    stopping: Callable[[], bool] = lambda: False,
    compare: bool = False,
) -> bool:
    """Move a regular file whose content is the one we looked at; copy it where it cannot be renamed.

    Args:
        source: Name in the source folder.
        source_folder: Descriptor.
        target: Name in the target folder, which must be free.
        target_folder: Descriptor.
        identity: What was looked at; a file that was exchanged meanwhile stays, or is put back.
        private: Copy a file that has other names too, so that nobody can write to ours through them.
        copy_when: Error numbers of a rename after which a copy is tried.
        stopping: Asked during a copy; True ends it.
        compare: Look at the source again once it was copied; see ``copy_file``.

    Returns:
        Whether the source's name is gone; False if it was copied and then could not be removed.

    Raises:
        SourceChanged: another content is there now; it is left where it was.
        FileExistsError: the target's name is taken.
        Interrupted: a copy was ended; nothing has changed.
        OSError: neither a rename nor a copy worked; nothing has changed.
    """
    before = os.stat(source, dir_fd=source_folder, follow_symlinks=False)
    _same_or_raise(before, identity, source)
    if not (private and before.st_nlink > 1):
        try:
            rename_new(source, source_folder, target, target_folder)
        except OSError as error:
            if error.errno not in copy_when:
                raise
        else:
            _same_or_put_back(source, source_folder, target, target_folder, identity)
            return True
    copy_file(source, source_folder, target, target_folder, identity, stopping, compare)
    failpoint("move.copied")
    return remove_file(source, source_folder, identity)


def copy_file(
    source: str,
    source_folder: int,
    target: str,
    target_folder: int,
    identity: Identity,
    stopping: Callable[[], bool] = lambda: False,
    compare: bool = False,
) -> None:
    """Copy a regular file durably, size and mtime alike, appearing under its new name only when whole.

    Args:
        source: Name in the source folder.
        source_folder: Descriptor.
        target: Name in the target folder, which must be free.
        target_folder: Descriptor.
        identity: What was looked at.
        stopping: Asked again and again; True ends it.
        compare: Read the source again and compare it with the copy, because somebody may write to it whom neither
            size nor mtime gives away: on a share.

    Raises:
        SourceChanged: the source is not, or did not stay, what was looked at.
        FileExistsError: the target's name is taken.
        Interrupted: ``stopping`` said so.
        OSError: it cannot be read or written.
    """
    reader = open_regular(source, source_folder)
    temporary = f".{os.urandom(8).hex()}.part"
    try:
        _same_or_raise(os.fstat(reader), identity, source)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(temporary, flags, 0o644, dir_fd=target_folder)
        try:
            if not _cloned(reader, writer):
                _copy_bytes(reader, writer, source, stopping)
            if compare:
                _compare(reader, writer, identity.size, source, stopping)
            _same_or_raise(os.fstat(reader), identity, source)
            _same_or_raise(os.stat(source, dir_fd=source_folder, follow_symlinks=False), identity, source)
            os.utime(writer, ns=(identity.mtime_ns, identity.mtime_ns))
            os.fsync(writer)
        finally:
            os.close(writer)
        rename_new(temporary, target_folder, target, target_folder)
        os.fsync(target_folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=target_folder)
        raise
    finally:
        os.close(reader)


def _cloned(reader: int, writer: int) -> bool:
    """Let a file share the blocks of another until one of them is written to; XFS and btrfs can."""
    try:
        fcntl.ioctl(writer, FICLONE, reader)
    except OSError:
        return False
    return True


def _copy_bytes(reader: int, writer: int, name: str, stopping: Callable[[], bool]) -> None:
    copied = 0
    while chunk := os.sendfile(writer, reader, copied, COPY_BYTES):
        begin_writing(writer, copied, chunk)
        copied += chunk
        if stopping():
            raise Interrupted(f"Copying {shown(name)} was ended because Dropframe is stopping.")


def _compare(reader: int, writer: int, size: int, name: str, stopping: Callable[[], bool]) -> None:
    if same_blocks(reader, writer, size, stopping):
        return
    if stopping():
        raise Interrupted(f"Copying {shown(name)} was ended because Dropframe is stopping.")
    raise SourceChanged(f"{shown(name)} was written to while it was copied, though neither size nor time says so.")


def begin_writing(descriptor: int, start: int, size: int) -> None:
    """Have a part of a file written to its disk, without waiting for it, so that an fsync later is short."""
    with contextlib.suppress(OSError):  # no more than a hint
        os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_DONTNEED)  # on Linux it begins to write what is dirty


def remove_file(name: str, folder: int, identity: Identity) -> bool:
    """Remove a file if it is still the one we looked at; tell whether that content has left its name."""
    try:
        if identity_of(os.stat(name, dir_fd=folder, follow_symlinks=False)) == identity:
            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _same_or_put_back(source: str, source_folder: int, target: str, target_folder: int, identity: Identity) -> None:
    """Look at what was renamed; put it back if it was exchanged just before."""
    after = os.stat(target, dir_fd=target_folder, follow_symlinks=False)
    if identity_of(after) != identity or not stat.S_ISREG(after.st_mode):
        while True:
            with contextlib.suppress(FileExistsError):  # somebody has just taken the name that was free
                rename_new(target, target_folder, free_name(source, source_folder), source_folder)
                break
        raise SourceChanged(f"{shown(source)} was exchanged while it was taken in.")


def _same_or_raise(status: os.stat_result, identity: Identity, name: str) -> None:
    if not stat.S_ISREG(status.st_mode) or identity_of(status) != identity:
        raise SourceChanged(f"{shown(name)} was written to or exchanged while it was taken in.")


def _taken(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _cut(text: str, room: int) -> str:
    """Shorten a name to so many bytes without cutting a character in two."""
    while len(os.fsencode(text)) > room:
        text = text[:-1]
    return text
