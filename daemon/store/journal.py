"""Journal and JournalReader: crash-safe tables, written by one process and followed by others.

A change is one line at the end of the journal, so its cost does not grow with the tables. When the journal
has outgrown the snapshot, a new snapshot takes its place. The files are described in ``journal_files``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daemon.errors import StoreError
from daemon.failpoints import failpoint
from daemon.fs.atomic import atomic_write, fsync_folder
from daemon.store.journal_files import (
    META,
    Changes,
    Files,
    LoadedStore,
    Tables,
    apply,
    encode,
    encode_text,
    load,
    peek_generation,
    write_snapshot,
)

COMPACT_BYTES = 1 << 20
"""A journal may grow to this size, or to the snapshot's if that is larger."""

KEEP_SECONDS = 600.0
"""Journals older than the previous snapshot stay this long, for a copy of the folder that takes its time."""

KEEP_BYTES = 64 << 20
"""Unless together they are larger than this."""

_log = logging.getLogger(__name__)


class Journal:
    """The writer of a store's files. One at a time per folder: the caller holds a lock.

    Args:
        folder: Made if missing.
        name: Begins the name of every file.
        initial: The state of a new store.
        check: Is shown the tables before anything is written, and may raise.

    Raises:
        StoreDamaged: there was a store, and no readable copy of it is left.
        StoreError: the files cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "jobs",
        initial: Tables | None = None,
        check: Callable[[Tables], None] = lambda tables: None,
    ) -> None:
        self.files = Files(folder, name)
        self.generation = 0
        """Of the journal that changes are written to."""
        self.loads = 0
        """How often the state was read from disk; whoever keeps an index of it compares."""
        self.recovered_from: str | None = None
        """What was not as it should be when the files were opened, in sentences; None if all was well."""
        self.problem: str | None = None
        """Why the latest change could not be stored; None when the next one may be."""
        self._initial = encode_text(initial or {META: {}})
        self._tables: Tables = {}
        self._fd = -1
        self._closed = False
        self._size = 0  # bytes of the journal that are good
        self._stale = False  # memory may differ from the disk
        self._untouched = False  # no line was ever written to this journal
        self._distrusted = False  # nothing more may be written to this journal
        self._rewrite = False  # the state must be written whole before anything else is acknowledged
        self.changed_bytes = 0
        """Length of the journals since the snapshot."""
        self.snapshot_bytes = 0
        """Length of the snapshot."""
        self._compact_at = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            loaded = self._load()
            check(loaded.tables)
            self._remove_temporaries()
            self._set_aside(loaded)
            self._adopt(loaded)
            self._attach()
            if loaded.fresh:
                self._write_snapshot()
        except OSError as error:
            self._detach()
            raise StoreError(f"The job store in {folder} cannot be opened: {error}.") from error
        if loaded.notes:
            self.recovered_from = " ".join(loaded.notes)
            _log.warning("%s", self.recovered_from)
            self._compact_quietly(force=True)

    @property
    def tables(self) -> Tables:
        """The live state; change it by ``append`` alone.

        Raises:
            StoreError: an earlier write failed, and the files cannot be read now.
        """
        if self._stale:
            self._reload()
        return self._tables

    def append(self, changes: Changes, durable: bool = True) -> None:
        """Write changes as one commit.

        Args:
            changes: ``{table: {doc_id: document}}``; None removes.
            durable: Return only when it would survive a power cut. Otherwise it survives the end of this
                process, and becomes durable with the next commit that is.

        Raises:
            StoreError: nothing of it was acknowledged, and nothing is changed in memory.
        """
        payload = encode(changes)
        try:
            self._append(payload, durable)
        except StoreError as error:
            self.problem = str(error)
            raise
        self.problem = None

    def mend(self) -> None:
        """After a change that could not be stored, see whether the files can be used again.

        Raises:
            StoreError: they cannot yet.
        """
        if self.problem:
            self._make_ready()
            self.problem = None

    def _append(self, payload: bytes, durable: bool) -> None:
        self._make_ready()
        line = b"%08x %s\n" % (zlib.crc32(payload), payload)
        self._untouched = False
        try:
            _write_all(self._fd, line)
            failpoint("journal.written")
            if durable:
                self._sync(self._fd)
        except OSError as error:
            self._cut()
            raise StoreError(f"The change could not be stored in {self.files.folder}: {error}.") from error
        except BaseException:
            self._stale = True
            raise
        self._size += len(line)
        self.changed_bytes += len(line)
        apply(self._tables, json.loads(payload))  # parsed anew: nothing is shared with the caller
        if self.changed_bytes > self._compact_at:
            self._compact_quietly()

    def replace(self, tables: Tables) -> None:
        """Put other tables in the place of all there are, in one step.

        Raises:
            StoreError: it could not be done; the state is the old or the new one, never a mixture.
        """
        tables = json.loads(encode(tables))
        self._make_ready()
        # Two on, so that no reader and no recovery takes this for what the journal before led to.
        self.generation = max([self.generation, *self.files.generations()]) + 2
        self._stale = True
        try:
            self._tables = tables
            self._write_snapshot()
            self._adopt(LoadedStore(tables, self.generation, self.generation, snapshot_bytes=self.snapshot_bytes))
            self._attach()
            with self.files.snapshot.open("rb") as source, atomic_write(self.files.previous) as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise StoreError(f"The store in {self.files.folder} could not be written: {error}.") from error

    def compact(self, force: bool = False) -> None:
        """Write the state as a new snapshot, so that opening is quick.

        Args:
            force: Also when nothing has changed since the last one.

        Raises:
            StoreError: it could not be written; no change is lost.
        """
        try:
            self._make_ready()
            if self.changed_bytes or force:
                if self._size:
                    self._sync(self._fd)
                    self._create(self.generation + 1)
                self._write_snapshot()
        except OSError as error:
            raise StoreError(f"The snapshot in {self.files.folder} could not be written: {error}.") from error

    def keep(self, word: str) -> None:
        """Write the state beside the snapshot as ``jobs.<word>.json``, in the place of an earlier one."""
        path = self.files.folder / f"{self.files.name}.{word}.json"
        try:
            write_snapshot(path, self.tables, self.generation, lambda: None)
        except OSError as error:
            raise StoreError(f"{path} could not be written: {error}.") from error

    def close(self) -> None:
        """Write a last snapshot if that is possible, and let go of the files."""
        if self._closed:
            return
        self._compact_quietly()
        if self._fd >= 0:
            with suppress(OSError):
                os.fsync(self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files as they are."""
        self._detach()
        self._closed = True

    def _load(self) -> LoadedStore:
        return load(self.files, json.loads(self._initial))

    def _adopt(self, loaded: LoadedStore) -> None:
        """Make what was loaded the state; enough for reading."""
        self._detach()
        self._tables = loaded.tables
        self.generation, self._size = loaded.generation, loaded.end
        self.changed_bytes, self.snapshot_bytes = loaded.changed_bytes, loaded.snapshot_bytes
        self._compact_at = max(COMPACT_BYTES, loaded.snapshot_bytes)
        self._stale = False
        self.loads += 1

    def _attach(self) -> None:
        """Open the journal for more, behind its last good line."""
        path = self.files.journal(self.generation)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(descriptor).st_size != self._size:
                os.ftruncate(descriptor, self._size)
            self._sync(descriptor)  # what was read may be in the cache alone, left there by a killed process
            fsync_folder(self.files.folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._fd, self._untouched = descriptor, False

    def _detach(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _reload(self) -> None:
        try:
            self._adopt(self._load())
        except OSError as error:
            raise StoreError(f"The job store in {self.files.folder} cannot be read: {error}.") from error

    def _make_ready(self) -> None:
        """Mend what an earlier failure has left."""
        if self._closed:
            raise StoreError(f"The job store in {self.files.folder} is closed.")
        if self._stale:
            self._reload()
        try:
            if self._fd < 0:
                self._attach()
            if not (self._distrusted or self._rewrite):
                return
            if self._distrusted and self._untouched:
                self._confirm()
            elif self._distrusted:
                self._create(self.generation + 1)
            self._write_snapshot()
        except OSError as error:
            raise StoreError(f"The job store in {self.files.folder} cannot be written: {error}.") from error

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError:
            # The kernel reports a lost write once and then forgets it, so a second fsync proves nothing.
            self._distrusted = self._rewrite = True
            raise

    def _cut(self) -> None:
        """Take back a line that was not acknowledged."""
        self._stale = True
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._distrusted = self._rewrite = True

    def _create(self, generation: int) -> None:
        """Begin a journal. From the moment it is there all changes go to it, or a reader would miss them."""
        path = self.files.journal(generation)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._detach()
        self._fd, self.generation, self._size = descriptor, generation, 0
        self._untouched = self._distrusted = True
        failpoint("journal.created")
        self._confirm()

    def _confirm(self) -> None:
        """Make a new journal durable; it is empty, so trying again hides no loss."""
        os.fsync(self._fd)
        fsync_folder(self.files.folder)
        self._distrusted = False

    def _write_snapshot(self) -> None:
        self.snapshot_bytes = write_snapshot(self.files.snapshot, self._tables, self.generation, self._keep_previous)
        self._rewrite = False
        self.changed_bytes = 0
        self._compact_at = max(COMPACT_BYTES, self.snapshot_bytes)
        with suppress(OSError):  # tidying up is tried again next time
            self._remove_old_journals()

    def _keep_previous(self) -> None:
        """Make the snapshot that is about to be replaced the previous one."""
        if not self.files.snapshot.exists():
            return
        temporary = self.files.previous.with_name(f".{self.files.previous.name}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(self.files.snapshot, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.files.snapshot, temporary)
        temporary.replace(self.files.previous)
        temporary.unlink(missing_ok=True)  # rename does nothing when both are the same file

    def _compact_quietly(self, force: bool = False) -> None:
        """Compact where a failure is no failure of the caller: every change is in the journal."""
        try:
            self.compact(force)
        except StoreError as error:
            self._compact_at = self.changed_bytes + max(COMPACT_BYTES, self.snapshot_bytes)
            _log.warning("%s It is tried again later; no change is lost.", error)

    def _remove_old_journals(self) -> None:
        needed = peek_generation(self.files.previous)
        kept = 0
        for generation in reversed(self.files.generations()):
            path = self.files.journal(generation)
            if generation >= self.generation or needed is None or generation >= needed:
                continue
            status = path.stat()
            kept += status.st_size
            if kept > KEEP_BYTES or abs(time.time() - status.st_mtime) >= KEEP_SECONDS:
                path.unlink()

    def _remove_temporaries(self) -> None:
        """Remove what writers that were killed have left; a minute's grace for anyone else at work here."""
        for path in self.files.folder.glob(".*-*.tmp"):
            with suppress(OSError):
                if abs(time.time() - path.stat().st_mtime) > 60:
                    path.unlink()

    def _set_aside(self, loaded: LoadedStore) -> None:
        """Keep files with damage under another name."""
        for path in loaded.damaged:
            if path == self.files.snapshot:
                path.rename(self.files.aside(path))
            else:
                shutil.copyfile(path, self.files.aside(path))
        for path in loaded.unused:
            path.rename(self.files.aside(path, "unused"))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
