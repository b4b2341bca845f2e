"""Journal: crash-safe tables, written by one process and followed by others (``journal_reader``).

A change is one line at the end of the journal, so its cost does not grow with the tables. When the journal
has outgrown the snapshot, a new snapshot takes its place. The files are described in ``journal_files``.

After a failed write the writer does what a start does: it forgets its memory, reads the files and opens them::

              the files are opened             append fails
    start ─► READ ────────────────────► OPEN ───────────────► UNREAD
              ▲ ▲       a sync or a new  │                      │
              │ └── journal fails ───────┘                      │
              └──────────────── the files are read ◄────────────┘
    any state ── close, abandon ──► CLOSED

A journal whose fsync failed, or that could not be cut back to its last acknowledged line, is never written to again:
opening the files then begins a new generation, and writes the whole state as its snapshot before anything is
acknowledged. Any other journal is gone on with, as at a start, so a full disk needs room for a line alone.
"""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from daemon.errors import StoreError
from daemon.failpoints import failpoint
from daemon.fs.atomic import atomic_write, fsync_folder
from daemon.store.journal_compaction import (
    keep_damaged_copies,
    remove_old_journals,
    remove_temporaries,
    write_snapshot,
    write_tables,
)
from daemon.store.journal_file import JournalFile
from daemon.store.journal_files import META, Changes, Files, LoadedStore, Tables, apply, encode, encode_text, load

COMPACT_BYTES = 1 << 20
"""A journal may grow to this size, or to the snapshot's if that is larger."""

KEEP_SECONDS = 600.0
"""Journals older than the previous snapshot stay this long, for a copy of the folder that takes its time."""

KEEP_BYTES = 64 << 20
"""Unless together they are larger than this."""

_log = logging.getLogger(__name__)


class _State(Enum):
    READ = auto()
    """Memory is what the files say; the journal must be opened before the next change."""
    OPEN = auto()
    """Memory is what the files say, and the journal takes changes."""
    UNREAD = auto()
    """A write failed, so only the files know what is stored; they must be read before anything else."""
    CLOSED = auto()
    """The files were let go of."""


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
        self.loads = 0
        """How often the state was read from disk; whoever keeps an index of it compares."""
        self.recovered_from: str | None = None
        """What was wrong with the files when they were opened, in sentences; None if all was well."""
        self.problem: str | None = None
        """Why the latest change could not be stored; None when the next one may be."""
        self.changed_bytes = 0
        """Length of the journals since the snapshot."""
        self.snapshot_bytes = 0
        """Length of the snapshot."""
        self._initial = encode_text(initial or {META: {}})
        self._check = check
        self._state = _State.UNREAD
        self._tables: Tables = {}
        self._found: LoadedStore | None = None  # what the latest reading found, until the files are opened
        self._file = JournalFile(self.files, 0)  # the journal that changes are written to
        self._base = 0  # generation of the snapshot that the state builds on
        self._trusted_from = 0  # a state that builds on an earlier snapshot must be written whole
        self._compact_at = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._read()
            remove_temporaries(self.files)
            self._open()
        except OSError as error:
            self._file.close()
            raise StoreError(f"The job store in {folder} cannot be opened: {error}.") from error

    @property
    def generation(self) -> int:
        """That of the journal that changes are written to."""
        return self._file.generation

    @property
    def tables(self) -> Tables:
        """The live state; change it by ``append`` alone.

        Raises:
            StoreError: an earlier write failed, and the files cannot be read now.
        """
        if self._state is _State.UNREAD:
            self._read()
        return self._tables

    def append(self, changes: Changes, durable: bool = True, further: Sequence[Changes] = ()) -> None:
        """Write changes as one commit.

        Args:
            changes: ``{table: {doc_id: document}}``; None removes.
            durable: Survive a power cut from then on; else the end of this process alone, until the next one that is.
            further: Commits behind it, with the same sync. A power cut in between may leave the first ones alone.

        Raises:
            StoreError: nothing of it was acknowledged, and nothing is changed in memory.
        """
        payloads = [encode(each) for each in (changes, *further)]
        try:
            self._append(payloads, durable)
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

    def _append(self, payloads: Sequence[bytes], durable: bool) -> None:
        self._make_ready()
        lines = b"".join(b"%08x %s\n" % (zlib.crc32(each), each) for each in payloads)
        self._state = _State.UNREAD  # unless nothing fails
        try:
            self._file.append(lines, durable)
        except OSError as error:
            raise StoreError(f"The change could not be stored in {self.files.folder}: {error}.") from error
        self.changed_bytes += len(lines)
        for payload in payloads:
            apply(self._tables, json.loads(payload))  # parsed anew: nothing is shared with the caller
        self._state = _State.OPEN
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
        generation = max([self.generation, *self.files.generations()]) + 2
        self._state = _State.UNREAD
        try:
            size = write_snapshot(self.files, tables, generation)
            self._adopt(LoadedStore(tables, generation, generation, snapshot_bytes=size))
            self._open()
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
        self._make_ready()
        try:
            if self.changed_bytes or force:
                if self._file.size:
                    self._state = _State.READ  # until the next journal is in use
                    self._file.sync()
                    self._write_to(JournalFile(self.files, self.generation + 1))
                    self._state = _State.OPEN
                self._write_snapshot()
        except OSError as error:
            raise StoreError(f"The snapshot in {self.files.folder} could not be written: {error}.") from error

    def keep(self, word: str) -> None:
        """Write the state beside the snapshot as ``jobs.<word>.json``, in the place of an earlier one."""
        path = self.files.kept(word)
        try:
            write_tables(path, self.tables, self.generation)
        except OSError as error:
            raise StoreError(f"{path} could not be written: {error}.") from error

    def close(self) -> None:
        """Write a last snapshot if that is possible, and let go of the files."""
        if self._state is _State.CLOSED:
            return
        self._compact_quietly()
        with suppress(OSError):
            self._file.sync()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files as they are."""
        self._file.close()
        self._state = _State.CLOSED

    def _make_ready(self) -> None:
        """Open the files for a change, wherever an earlier failure has left them."""
        if self._state is _State.CLOSED:
            raise StoreError(f"The job store in {self.files.folder} is closed.")
        if self._state is _State.UNREAD:
            self._read()
        if self._state is _State.READ:
            try:
                self._open()
            except OSError as error:
                raise StoreError(f"The job store in {self.files.folder} cannot be written: {error}.") from error

    def _read(self) -> None:
        """Make the state what the files say; nothing is written, so a read-only folder will do."""
        try:
            loaded = load(self.files, json.loads(self._initial))
        except OSError as error:
            raise StoreError(f"The job store in {self.files.folder} cannot be read: {error}.") from error
        self._check(loaded.tables)
        self._adopt(loaded)

    def _adopt(self, loaded: LoadedStore) -> None:
        if not self._file.sound:
            self._trusted_from = self.generation + 1
        self._file.close()
        self._file = JournalFile(self.files, loaded.generation, loaded.end)
        self._found, self._tables, self._base = loaded, loaded.tables, loaded.base
        self.changed_bytes, self.snapshot_bytes = loaded.changed_bytes, loaded.snapshot_bytes
        self._compact_at = max(COMPACT_BYTES, loaded.snapshot_bytes)
        self.loads += 1
        self._state = _State.READ

    def _open(self) -> None:
        """Open the files for changes: READ becomes OPEN."""
        if not self._file.sound:
            self._trusted_from = self.generation + 1
        found = self._found
        if found:
            keep_damaged_copies(self.files, found)
        whole = self._base < self._trusted_from
        self._write_to(JournalFile(self.files, max(self.generation, self._trusted_from)) if whole else self._file)
        if whole or (found and found.fresh):
            self._write_snapshot()
        self._state, self._found = _State.OPEN, None
        if found and found.notes:
            self.recovered_from = " ".join(found.notes)
            _log.warning("%s", self.recovered_from)
            self._compact_quietly(force=True)

    def _write_to(self, file: JournalFile) -> None:
        """Make a journal the one that changes are written to.

        From the moment a new one is there all changes go to it, or a reader would miss them.
        """
        file.open()
        if file is not self._file:
            self._file.close()
            self._file = file
            failpoint("journal.created")
        file.trim()
        fsync_folder(self.files.folder)

    def _write_snapshot(self) -> None:
        self.snapshot_bytes = write_snapshot(self.files, self._tables, self.generation)
        self._base = self.generation
        self.changed_bytes = 0
        self._compact_at = max(COMPACT_BYTES, self.snapshot_bytes)
        with suppress(OSError):  # tidying up is tried again next time
            remove_old_journals(self.files, self.generation, KEEP_SECONDS, KEEP_BYTES)

    def _compact_quietly(self, force: bool = False) -> None:
        """Compact where a failure does not fail the caller: every change is in the journal."""
        try:
            self.compact(force)
        except StoreError as error:
            self._compact_at = self.changed_bytes + max(COMPACT_BYTES, self.snapshot_bytes)
            _log.warning("%s It is tried again later; no change is lost.", error)
