"""Which file system a path is on, and which shares a home has used before (``data/mounts.json``).

So a start before a share is mounted can be told from a mistake in the settings, and the empty folder that it will be
mounted on from the share. Only shares are remembered: service managers and containers make a mount of any folder.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from daemon.fs.atomic import atomic_write

MOUNTS = Path("/proc/self/mountinfo")

REMOTE = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fuse", "gfs2", "glusterfs", "gpfs"}
    | {"lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "openafs", "orangefs", "prl_fs", "pvfs2", "smb2", "smb3"}
    | {"smbfs", "vboxsf", "virtiofs", "vmhgfs"}
)
"""File systems on which somebody else can write without this kernel knowing, so it sends no events."""


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


def is_on_share(path: Path) -> bool:
    """Tell whether a path is where somebody else can write without this kernel knowing."""
    return is_remote(mount_of(path).kind)


NAME = "mounts.json"


def known(data_dir: Path, folder: Path) -> Mount | None:
    """Return the share that a folder was on when it was last used; None if that was a local disk."""
    try:
        entry = json.loads((data_dir / NAME).read_bytes())[str(folder)]
        return Mount(Path(entry["point"]), entry["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def away(data_dir: Path, folder: Path) -> str | None:
    """Return a sentence if a folder was on a share and that is not there now."""
    before = known(data_dir, folder)
    reason = before and _why_away(folder, before)
    if not reason:
        return None
    plain = f"(If it is to be a plain folder from now on, remove {data_dir / NAME} and start again.)"
    return f"{folder} is offline: {reason}; mount its share again. {plain}"


def _why_away(folder: Path, before: Mount) -> str | None:
    try:
        folder.stat()
    except PermissionError:  # it is there
        return None
    except OSError as error:
        return error.strerror
    return f"nothing is mounted on {before.point}" if mount_of(folder).has_lost(before) else None


def remember(data_dir: Path, folders: Iterable[Path]) -> None:
    """Write down which shares folders are on; of one that is away, the share that it was on.

    Raises:
        OSError: the data folder cannot be written.
    """
    path = data_dir / NAME
    entries = {}
    for folder in folders:
        before = known(data_dir, folder)
        mount = before if before and _why_away(folder, before) else mount_of(folder)
        if is_remote(mount.kind):
            entries[str(folder)] = {"kind": mount.kind, "point": str(mount.point)}
    text = json.dumps(entries, indent=2, sort_keys=True).encode() + b"\n"
    if (path.read_bytes() if path.exists() else b"{}\n") != text:
        with atomic_write(path) as file:
            file.write(text)
