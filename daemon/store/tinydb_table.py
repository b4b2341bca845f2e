"""The seam to TinyDB: a storage that takes one changed document at a time, and the table that writes so."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from threading import RLock
from typing import Any, Protocol

from tinydb.storages import Storage
from tinydb.table import Document, Table

from daemon.store.journal import Journal
from daemon.store.journal_files import Changes, Tables, apply, encode
from daemon.store.migrations import new_tables


class JobStorage(Protocol):
    """A TinyDB storage that can also take changes one by one."""

    @property
    def loads(self) -> int:
        """Grows when the state was read anew, so that an index of it is out of date."""

    def read(self) -> Tables:
        """Return the live tables, not a copy: to be read only."""

    def write(self, data: Tables) -> None:
        """Replace everything."""

    def append_all(self, commits: Sequence[Changes], durable: bool = True) -> None:
        """Carry out commits of ``{table: {doc_id: document or None}}``; each whole, and all or none of them."""

    def close(self) -> None:
        """Let go of files."""


class JournalStorage(Storage):
    """A JobStorage on disk."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    @property
    def loads(self) -> int:
        """See JobStorage.loads."""
        return self.journal.loads

    def read(self) -> Tables:
        """See JobStorage.read."""
        return self.journal.tables

    def write(self, data: Tables) -> None:
        """See JobStorage.write."""
        self.journal.replace(data)

    def append_all(self, commits: Sequence[Changes], durable: bool = True) -> None:
        """See JobStorage.append_all."""
        first, *further = commits
        self.journal.append(first, durable, further)

    def close(self) -> None:
        """See JobStorage.close."""
        self.journal.close()


class MemoryStorage(Storage):
    """A JobStorage in memory; refuses what the one on disk refuses."""

    def __init__(self) -> None:
        self.tables = new_tables()
        self._loads = 1

    @property
    def loads(self) -> int:
        """See JobStorage.loads."""
        return self._loads

    def read(self) -> Tables:
        """See JobStorage.read."""
        return self.tables

    def write(self, data: Tables) -> None:
        """See JobStorage.write."""
        self.tables = json.loads(encode(data))
        self._loads += 1

    def append_all(self, commits: Sequence[Changes], durable: bool = True) -> None:
        """See JobStorage.append_all."""
        for payload in [encode(changes) for changes in commits]:
            apply(self.tables, json.loads(payload))


class _Overlay(MutableMapping[int, Any]):
    """A table as an updater of TinyDB sees it: documents are copied when touched."""

    def __init__(self, rows: Mapping[str, Any]) -> None:
        self._rows = rows
        self._touched: dict[int, Any] = {}

    def __getitem__(self, doc_id: int) -> Any:
        if doc_id not in self._touched:
            self._touched[doc_id] = copy.deepcopy(self._rows[str(doc_id)])
        document = self._touched[doc_id]
        if document is None:
            raise KeyError(doc_id)
        return document

    def __contains__(self, doc_id: object) -> bool:
        if doc_id in self._touched:
            return self._touched[doc_id] is not None
        return str(doc_id) in self._rows

    def __setitem__(self, doc_id: int, document: Any) -> None:
        self._touched[doc_id] = document

    def __delitem__(self, doc_id: int) -> None:
        if doc_id not in self:
            raise KeyError(doc_id)
        self._touched[doc_id] = None

    def __iter__(self) -> Iterator[int]:
        known = [int(doc_id) for doc_id in self._rows]
        added = [doc_id for doc_id in self._touched if str(doc_id) not in self._rows]
        return iter([doc_id for doc_id in known + added if doc_id in self])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        for doc_id in list(self):
            self._touched[doc_id] = None

    def changes(self) -> dict[int, Any]:
        """Return the documents that differ now; None for one that is gone."""
        return {k: v for k, v in self._touched.items() if self._rows.get(str(k)) != v}


class JournalTable(Table):
    """A TinyDB table whose changes cost what they change, safe to use from any thread.

    Args:
        storage: Where its documents are.
        name: Of the table.
        check: Shown each id as text and its new document before a commit; raises if that may not be stored.
        changed: Told ``{doc_id: document or None}`` after each commit, and None when all may have changed.
    """

    def __init__(
        self,
        storage: JobStorage,
        name: str,
        check: Callable[[str, Any], object] = lambda doc_id, document: None,
        changed: Callable[[Mapping[str, Any] | None], None] = lambda changes: None,
    ) -> None:
        super().__init__(storage, name)  # type: ignore[arg-type]
        self.lock = RLock()
        self._source = storage
        self._check = check
        self._changed = changed
        self._loads = -1

    def rows(self) -> Mapping[str, Any]:
        """Return the live documents by id as text; hold the lock while reading."""
        tables = self._source.read()
        if self._loads != self._source.loads:
            self._loads = self._source.loads
            self._next_id = None
            self.clear_cache()
            self._changed(None)
        return tables.get(self.name, {})

    def commit(self, changes: Mapping[int, Any], durable: bool = True, others: Changes | None = None) -> None:
        """Write documents by id, None to remove; every write of the store comes through here.

        Args:
            changes: Whole documents.
            durable: See Journal.append.
            others: Changes of other tables, in the same commit.
        """
        self.commit_all([(changes, others or {})], durable)

    def commit_all(self, commits: Sequence[tuple[Mapping[int, Any], Changes]], durable: bool = True) -> None:
        """Write several commits of different documents, as ``commit`` does, with one sync; all or none of them.

        Args:
            commits: The changes of each and its others; see ``commit``.
            durable: See Journal.append.
        """
        with self.lock:
            self.rows()
            texts = [{str(doc_id): document for doc_id, document in changes.items()} for changes, _ in commits]
            for doc_id, document in ((key, value) for each in texts for key, value in each.items()):
                if document is not None:
                    self._check(doc_id, document)
            lines = [{self.name: each, **others} for each, (_, others) in zip(texts, commits, strict=True)]
            self._source.append_all(lines, durable)
            self.clear_cache()
            for each in texts:
                self._changed(each)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """See tinydb.table.Table.get."""
        with self.lock:
            return super().get(*args, **kwargs)

    def search(self, cond: Any) -> list[Document]:
        """See tinydb.table.Table.search."""
        with self.lock:
            return super().search(cond)

    def __iter__(self) -> Iterator[Document]:
        with self.lock:
            return iter(list(super().__iter__()))

    def __len__(self) -> int:
        with self.lock:
            return len(self.rows())

    def _read_table(self) -> Any:
        return self.rows()

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        with self.lock:
            overlay = _Overlay(self.rows())
            updater(overlay)
            if changes := overlay.changes():
                self.commit(changes)
