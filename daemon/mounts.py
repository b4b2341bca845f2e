"""Which shares the inbox and the outbox were on when they were last used, in ``data/mounts.json``.

So a start before a share is mounted can be told from a mistake in the settings, and the empty folder that it will be
mounted on from the share. Only shares are remembered: service managers and containers make a mount of any folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from daemon.filesystem import Mount, is_remote, mount_of
from daemon.storage import atomic_write

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
    if before is None:
        return None
    try:
        folder.stat()
    except PermissionError:  # it is there
        return None
    except OSError as error:
        return f"{folder} is offline: {error.strerror}; mount its share again."
    if not mount_of(folder).has_lost(before):
        return None
    return (
        f"{folder} is offline: nothing is mounted on {before.point}; mount its share again. (If it is to be a plain "
        f"folder from now on, remove {data_dir / NAME} and start again.)"
    )


def remember(data_dir: Path, folders: Iterable[Path]) -> None:
    """Write down which shares folders are on; of one that is away, the share that it was on.

    Raises:
        OSError: the data folder cannot be written.
    """
    path = data_dir / NAME
    mounts = {f: known(data_dir, f) if away(data_dir, f) else mount_of(f) for f in folders}
    entries = {str(f): {"kind": m.kind, "point": str(m.point)} for f, m in mounts.items() if m and is_remote(m.kind)}
    text = json.dumps(entries, indent=2, sort_keys=True).encode() + b"\n"
    if (path.read_bytes() if path.exists() else b"{}\n") != text:
        with atomic_write(path) as file:
            file.write(text)
