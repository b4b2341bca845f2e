"""What Dropframe needs to know of file systems, and moving a file so that nothing is overwritten or followed.

Every path is walked folder by folder with descriptors that do not follow symbolic links, so a folder that is
exchanged for a link at the wrong moment leads nowhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from daemon.errors import Interrupted, SourceChanged
from daemon.faults import crash_point
from daemon.jobs import Identity

MOUNTS = Path("/proc/self/mountinfo")

REMOTE = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fuse", "gfs2", "glusterfs", "gpfs"}
    | {"lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "openafs", "orangefs", "prl_fs", "pvfs2", "smb2", "smb3"}
    | {"smbfs", "vboxsf", "virtiofs", "vmhgfs"}
)
"""File systems on which somebody else can write without this kernel knowing, so it sends no events."""

NAME_BYTES = 255
"""Longest file name on Linux file systems."""

COPY_BYTES = 8 << 20
COPY_INSTEAD = frozenset({errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS})
"""Why a rename can fail and a copy still work: another file system, or a source that cannot be removed."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Why a write fails for want of room."""

SICK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""What a disk says that does not let us just now."""

RENAME_NOREPLACE = 1
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


@dataclass(frozen=True)
class Mount:
    """Where a path lives."""

    point: Path
    """The folder that the file system is mounted on."""
    kind: str
    """The file system's name as the kernel says it, such as ``ext4`` or ``nfs4``."""

    def has_lost(self, before: Mount) -> bool:
        """Tell whether this is not the file system of before but the bare folder that it was mounted on.

        A service manager or a container may have put that folder there as a mount of its own.
        """
        below = self.point != before.point and before.point.is_relative_to(self.point)
        return below or (is_remote(before.kind) and not is_remote(self.kind))


def mount_of(path: Path, table: str | None = None) -> Mount:
    """Find the file system that a path is on; the path itself need not exist.

    Args:
        path: Any path.
        table: Text of ``/proc/self/mountinfo`` (proc(5)); read if not given.
    """
    if table is None:
        try:
            table = MOUNTS.read_text(errors="surrogateescape")
        except OSError:
            return Mount(Path("/"), "unknown")
    real = Path(os.path.realpath(path))
    found = Mount(Path("/"), "unknown")
    for line in table.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        escaped = before.split(" ")[4]
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped))
        # A later line hides an earlier one on the same folder.
        if real.is_relative_to(point) and len(point.parts) >= len(found.point.parts):
            found = Mount(point, after.split(" ")[0])
    return found


def is_remote(kind: str) -> bool:
    """Tell whether a kind of file system may change without this kernel knowing."""
    return kind in REMOTE or kind.startswith("fuse.")


def free_bytes(path: Path) -> int:
    """Return the bytes that this user can still write on the file system of a path.

    Raises:
        OSError: the path cannot be reached, or the file system is read-only.
    """
    room = os.statvfs(path)
    if room.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    return room.f_bavail * room.f_frsize


def keep_standard_files_open() -> None:
    """Put /dev/null where a process was started without standard input, output or error.

    Otherwise the next file to be opened, perhaps the job store's, would get that number, and what a library prints
    would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def identity_of(status: os.stat_result) -> Identity:
    """Return which content a status belongs to."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def shown(path: str) -> str:
    """Return a path as it may stand in a log line: undecodable bytes and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def to_claim(path: str) -> str:
    """Write a path so that it can be stored as UTF-8: an undecodable byte becomes NUL and two hex digits."""
    return re.sub(r"[\udc80-\udcff]", lambda byte: f"\0{ord(byte[0]) - 0xDC00:02x}", path)


def from_claim(path: str) -> str:
    """Undo ``to_claim``; no file name holds a NUL, so nothing is ambiguous."""
    return re.sub(r"\0([0-9a-f]{2})", lambda byte: chr(0xDC00 + int(byte[1], 16)), path)


def has_writer(descriptor: int) -> bool | None:
    """Tell whether anybody has an open file open for writing; None where that cannot be known.

    A read lease (fcntl(2), F_SETLEASE) is granted only while nobody has. It needs the file's owner or
    CAP_LEASE, and a file system that keeps leases. It is given back at once.
    """
    try:
        # Should a writer come just now, the kernel sends a signal; SIGIO, the default, would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def open_regular(name: str, folder: int) -> int:
    """Open a regular file of a folder for reading, never following a link or waiting for a pipe.

    Raises:
        OSError: it cannot be opened; EINVAL if it is not a regular file.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", name)


class Folders:
    """Descriptors of the folders below a root, each opened once; a context manager that closes them.

    Args:
        root: The folder that nothing leads out of. It may be a symbolic link itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def get(self, folder: str, make: bool = False) -> int:
        """Return the descriptor of a folder.

        Args:
            folder: Relative path with "/" between its parts; "" is the root.
            make: Make what is missing.

        Raises:
            OSError: it is missing, not a folder, or reached through a symbolic link.
        """
        if folder in self._open:
            return self._open[folder]
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if not folder:
            if make:
                self._root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._root, flags)
        else:
            parent, _, name = folder.rpartition("/")
            above = self.get(parent, make)
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=above)
            descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=above)
        self._open[folder] = descriptor
        return descriptor

    def fsync(self) -> None:
        """Make renames and removals in all folders opened so far durable.

        Raises:
            OSError: the disk refuses; what was done is visible but may not survive a power cut.
        """
        for descriptor in self._open.values():
            # Some network file systems cannot sync a folder (EINVAL); they commit renames by themselves.
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise


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


def move_file(
    source: str,
    source_folder: int,
    target: str,
    target_folder: int,
    identity: Identity,
    private: bool = False,
    copy_when: frozenset[int] = COPY_INSTEAD,
    stopping: Callable[[], bool] = lambda: False,
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
            after = os.stat(target, dir_fd=target_folder, follow_symlinks=False)
            if identity_of(after) == identity and stat.S_ISREG(after.st_mode):
                return True
            back = free_name(source, source_folder)
            rename_new(target, target_folder, back, source_folder)
            raise SourceChanged(f"{shown(source)} was exchanged while it was taken in.")
    copy_file(source, source_folder, target, target_folder, identity, stopping)
    crash_point("move.copied")
    return remove_file(source, source_folder, identity)


def copy_file(
    source: str,
    source_folder: int,
    target: str,
    target_folder: int,
    identity: Identity,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Copy a regular file durably, size and mtime alike, appearing under its new name only when whole.

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
        writer = os.open(
            temporary,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o644,
            dir_fd=target_folder,
        )
        try:
            copied = 0
            while chunk := os.sendfile(writer, reader, copied, COPY_BYTES):
                begin_writing(writer, copied, chunk)
                copied += chunk
                if stopping():
                    raise Interrupted(f"Copying {shown(source)} was ended because Dropframe is stopping.")
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
