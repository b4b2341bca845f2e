"""What the writer of a journal does to whole files: write snapshots, keep copies of damaged files, remove old ones."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daemon.fs.atomic import atomic_write
from daemon.store.journal_files import Files, LoadedStore, Tables, encode_text, peek_generation

TEMPORARY_SECONDS = 60.0
"""A temporary file older than this was left by a writer that was killed."""


def write_snapshot(files: Files, tables: Tables, generation: int) -> int:
    """Write tables as the snapshot of a generation; the one before becomes the previous. Return its size in bytes.

    Raises:
        OSError: it could not be written; the old snapshot or the new one is there, whole.
    """
    return write_tables(files.snapshot, tables, generation, lambda: _keep_previous(files))


def write_tables(path: Path, tables: Tables, generation: int, before_rename: Callable[[], None] = lambda: None) -> int:
    """Write tables as one JSON document, a line for each document; return its size in bytes.

    Piece by piece, so that memory does not grow with the store. Whoever wants the store waits meanwhile.

    Raises:
        OSError: it could not be written; the old file or the new one is there, whole.
    """
    with atomic_write(path) as file:
        file.write(b'{"_journal": {"1": {"generation": %d}}' % generation)
        for name, rows in sorted(tables.items()):
            file.write(b",\n" + encode_text(name) + b": {")
            for number, (doc_id, document) in enumerate(rows.items()):
                file.write(b",\n" if number else b"\n")
                file.write(encode_text(doc_id) + b": " + encode_text(document))
            file.write(b"}")
        file.write(b"}\n")
        size = file.tell()
        file.flush()
        before_rename()
    return size


def _keep_previous(files: Files) -> None:
    """Make the snapshot that is about to be replaced the previous one."""
    if not files.snapshot.exists():
        return
    temporary = files.previous.with_name(f".{files.previous.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(files.snapshot, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(files.snapshot, temporary)
    temporary.replace(files.previous)
    temporary.unlink(missing_ok=True)  # rename does nothing when both are the same file


def keep_damaged_copies(files: Files, loaded: LoadedStore) -> None:
    """Keep what is damaged, and journals that follow from nothing, under other names before they are written over.

    What was kept is taken off the lists in ``loaded``, so a second call goes on where the first one failed.

    Raises:
        OSError: a copy could not be kept.
    """
    while loaded.damaged:
        path = loaded.damaged[0]
        copy = files.free_copy_name(path, "damaged")
        if path == files.snapshot:
            path.rename(copy)
        else:
            shutil.copyfile(path, copy)
        del loaded.damaged[0]
    while loaded.unused:
        path = loaded.unused[0]
        path.rename(files.free_copy_name(path, "unused"))
        del loaded.unused[0]


def remove_old_journals(files: Files, current: int, keep_seconds: float, keep_bytes: int) -> None:
    """Remove journals that neither snapshot needs.

    Args:
        files: Of the store.
        current: Generation of the journal that is written to.
        keep_seconds: Younger ones stay, for a copy of the folder that takes its time,
        keep_bytes: unless together they are larger than this.

    Raises:
        OSError: one could not be removed.
    """
    needed = peek_generation(files.previous)
    if needed is None:
        return
    kept = 0
    for generation in reversed(files.generations()):
        if generation >= min(current, needed):
            continue
        path = files.journal(generation)
        status = path.stat()
        kept += status.st_size
        if kept > keep_bytes or abs(time.time() - status.st_mtime) >= keep_seconds:
            path.unlink()


def remove_temporaries(files: Files) -> None:
    """Remove what writers that were killed have left; young files may belong to somebody at work here."""
    for path in files.folder.glob(".*-*.tmp"):
        with suppress(OSError):
            if abs(time.time() - path.stat().st_mtime) > TEMPORARY_SECONDS:
                path.unlink()
