"""JournalReader: follow a journal that another process writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from daemon.errors import StoreError
from daemon.store.journal_files import (
    META,
    Changes,
    Files,
    Tables,
    apply,
    encode_text,
    load,
    parse,
    peek_generation,
)


class JournalReader:
    """Follows a store's files from another process; never writes and needs no lock.

    Before the first ``refresh`` and while there is no store, ``tables`` is what ``initial`` says.
    """

    def __init__(self, folder: Path, name: str = "jobs", initial: Tables | None = None) -> None:
        self._files = Files(folder, name)
        self._initial = encode_text(initial or {META: {}})
        self.tables: Tables = json.loads(self._initial)
        self.generation = 0
        """Of the journal that is followed."""
        self.version = 0
        """Grows when the state has changed."""
        self._fd = -1
        self._offset = 0
        self._snapshot: tuple[int, int, int] | None = None
        self._loaded = False

    @property
    def position(self) -> tuple[int, int]:
        """How far it has read: the generation and the offset in its journal in bytes."""
        return self.generation, self._offset

    def refresh(self) -> list[Changes] | None:
        """Catch up; return the changes in order, or None if the whole state was loaded.

        Costs two system calls when nothing has changed.

        Raises:
            StoreDamaged: no readable copy of the store is left.
            StoreError: its files cannot be read.
        """
        try:
            return self._refresh()
        except OSError as error:
            self.close()  # changes read just now are known to nobody yet, so the next refresh loads everything
            raise StoreError(f"The job store in {self._files.folder} cannot be read: {error}.") from error

    def close(self) -> None:
        """Let go of the files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._loaded = False

    def _refresh(self) -> list[Changes] | None:
        if self._fd < 0:
            if self._loaded and self._signature() == self._snapshot and not self._files.generations():
                return []
            self._load()
            return None
        found: list[Changes] = []
        while True:
            if not self._read_on(found):
                self._load()
                return None
            following = self._open(self.generation + 1)
            if following < 0 and self._was_replaced():
                following = self._open(self.generation + 1)
                if following < 0:
                    self._load()
                    return None
            if following < 0:
                return found
            # Its existence means that nothing more comes in the old one; what came last may be unread yet.
            complete = self._read_on(found) and os.fstat(self._fd).st_size == self._offset
            os.close(self._fd)
            self._fd, self._offset = following, 0
            self.generation += 1
            if not complete:
                self._load()
                return None

    def _read_on(self, found: list[Changes]) -> bool:
        """Apply what is new in the journal; False if something already read was taken back."""
        size = os.fstat(self._fd).st_size
        if size <= self._offset:
            return size == self._offset
        data = os.pread(self._fd, size - self._offset, self._offset)
        news, end, _ = parse(data)
        for changes in news:
            apply(self.tables, changes)
        found += news
        self._offset += end
        self.version += bool(news)
        return True

    def _was_replaced(self) -> bool:
        """Whether there is a snapshot that our journal does not lead to."""
        signature = self._signature()
        if signature == self._snapshot:
            return False
        self._snapshot = signature
        generation = peek_generation(self._files.snapshot)
        ours_is_gone = os.fstat(self._fd).st_nlink == 0
        return ours_is_gone or (generation is not None and generation > self.generation)

    def _load(self) -> None:
        self.close()
        for _ in range(5):
            signature = self._signature()
            try:
                loaded = load(self._files, json.loads(self._initial), repair=False)
            except FileNotFoundError:  # a journal was removed between listing and reading
                continue
            self._fd = self._open(loaded.generation)
            if self._fd >= 0 or signature == self._signature():
                break
        else:
            raise StoreError(f"The job store in {self._files.folder} changes too fast to be read; try again.")
        self.tables = loaded.tables
        self.generation, self._offset = loaded.generation, loaded.end
        self._snapshot = signature
        self._loaded = True
        self.version += 1
        if self._fd >= 0:
            self._read_on([])

    def _open(self, generation: int) -> int:
        try:
            return os.open(self._files.journal(generation), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = self._files.snapshot.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
