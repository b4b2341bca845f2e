"""SearchIndex: the texts and objects of all videos in one SQLite file. Only the daemon writes to it.

It holds nothing that is not in the derived files, so it may be deleted at any time. A job is in it whole or not at
all: each is a transaction, and its log is written ahead (WAL), so that readers see the one before meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from daemon.errors import Interrupted, ResourceUnavailable, StorageError
from daemon.search.folding import fold, short_parts
from daemon.search.reader import FILE, KINDS, PLACES, VERSION, FoundKind

MOST_LETTERS = 10_000
"""Of a text, in the index."""
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT})
"""What SQLite says of a file that has not what we wrote; anything else is the machine's trouble."""
TABLES = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE state (complete INTEGER NOT NULL);
INSERT INTO state VALUES (0);
CREATE TABLE jobs (sequence INTEGER PRIMARY KEY, job_id TEXT NOT NULL, made_from TEXT NOT NULL);
CREATE TABLE spans (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, text TEXT NOT NULL, folded TEXT NOT NULL, start_s REAL NOT NULL,
    end_s REAL NOT NULL, frame_index INTEGER NOT NULL, bbox TEXT NOT NULL, confidence REAL NOT NULL,
    count INTEGER NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5(
    folded, content = 'spans', content_rowid = 'id', columnsize = 0, tokenize = 'trigram case_sensitive 1'
);
CREATE TABLE parts (part TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (part, sequence)) WITHOUT ROWID;
PRAGMA user_version = %d;
COMMIT;
"""
LINE_BYTES = 1_000_000
"""A longer line of a derived file is passed over."""

Span = tuple[FoundKind, str, float, float, int, list[float], float, int]
"""The members of a Hit, from its kind on."""


class DamagedIndex(StorageError):
    """It is not an index of this version, or damaged; it has to be made again."""


class SearchIndex:
    """The index, open for writing; used by one thread.

    Args:
        data_dir: Of the home.

    Raises:
        DamagedIndex: it is there, and is not one.
        ResourceUnavailable: it cannot be used just now.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        with self._errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self._path.exists()
            if is_new:
                delete_index(data_dir)  # a log that was left alone
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=5.0, check_same_thread=False)
            try:
                if is_new:
                    self._connection.executescript(TABLES % VERSION)
                self._inode = os.stat(self._path).st_ino
                self._check()
            except BaseException:
                self._connection.close()
                raise

    def _check(self) -> None:
        if self._connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
            raise DamagedIndex("The search index is of another version.")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if self._connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise DamagedIndex("The search index is damaged.")
        self._connection.execute("SELECT complete FROM state").fetchone()

    def verify(self) -> None:
        """Look at all of it.

        Raises:
            DamagedIndex: it is damaged.
            ResourceUnavailable: it cannot be used just now.
        """
        with self._errors():
            if self._connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                raise DamagedIndex("The search index is damaged.")
            self._connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")

    def is_there(self) -> bool:
        """Tell whether the file is still where it was."""
        try:
            return os.stat(self._path, follow_symlinks=False).st_ino == self._inode
        except FileNotFoundError:
            return False

    def jobs(self) -> dict[str, tuple[int, str]]:
        """Return by id what each job's texts and objects are under: its sequence, and what they were made from."""
        with self._errors():
            rows = self._connection.execute("SELECT job_id, sequence, made_from FROM jobs").fetchall()
        return {job_id: (sequence, made_from) for job_id, sequence, made_from in rows}

    def put(self, sequence: int, job_id: str, made_from: str, spans: Iterable[Span]) -> None:
        """Take a job in, in place of what was known of it.

        Args:
            sequence: Of the job, which is its place.
            job_id: Of the job.
            made_from: What ``jobs`` returns of it.
            spans: In the order in which they are to be found.

        Raises:
            DamagedIndex, ResourceUnavailable: the index cannot be used, or no more.
            Interrupted: ``interrupt`` was called.
        """
        with self._change() as connection:
            self._clear(sequence)
            connection.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
            parts: set[str] = set()
            connection.executemany(
                "INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _rows(sequence, spans, parts)
            )
            values = _range(sequence)
            # In order of the places, as the index of words has to be written.
            connection.execute(
                "INSERT INTO words (rowid, folded) SELECT id, folded FROM spans WHERE id BETWEEN ? AND ? ORDER BY id",
                values,
            )
            connection.executemany("INSERT INTO parts VALUES (?, ?)", ((part, sequence) for part in sorted(parts)))
            connection.execute("INSERT INTO jobs VALUES (?, ?, ?)", (sequence, job_id, made_from))

    def remove(self, sequence: int) -> None:
        """Forget a job; raises what ``put`` does."""
        with self._change():
            self._clear(sequence)

    def set_complete(self, complete: bool) -> None:
        """Note whether all results are in it; raises what ``put`` does."""
        with self._errors():
            if self._connection.execute("SELECT complete FROM state").fetchone() != (int(complete),):
                self._connection.execute("UPDATE state SET complete = ?", (int(complete),))

    def interrupt(self) -> None:
        """End what is going on; safe to call from another thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("SELECT 1")  # an interruption would keep the log from being folded in
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _clear(self, sequence: int) -> None:
        values = _range(sequence)
        self._connection.execute(
            "INSERT INTO words (words, rowid, folded) SELECT 'delete', id, folded FROM spans WHERE id BETWEEN ? AND ? "
            "ORDER BY id",
            values,
        )
        parts = self._connection.execute("SELECT folded FROM spans WHERE id BETWEEN ? AND ?", values)
        gone = {part for (folded,) in parts for part in short_parts(folded)}
        self._connection.executemany(
            "DELETE FROM parts WHERE part = ? AND sequence = ?", ((part, sequence) for part in gone)
        )
        self._connection.execute("DELETE FROM spans WHERE id BETWEEN ? AND ?", values)
        self._connection.execute("DELETE FROM jobs WHERE sequence = ?", (sequence,))

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Make a transaction; nothing of it is left after any error."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code == sqlite3.SQLITE_INTERRUPT:
                raise Interrupted("Dropframe is stopping.") from error
            if code in DAMAGED:
                raise DamagedIndex(f"The search index is damaged ({error}).") from error
            raise ResourceUnavailable(f"The search index cannot be written: {error}.") from error
        except OSError as error:
            raise ResourceUnavailable(f"The search index cannot be written: {error.strerror}.") from error


def delete_index(data_dir: Path) -> None:
    """Remove the index, so that it is made anew.

    Raises:
        OSError: it cannot be removed.
    """
    path = data_dir / FILE
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):  # the first one first: without it there is none
        name.unlink(missing_ok=True)


def spans_of(texts: BinaryIO, tracks: BinaryIO) -> Iterator[Span]:
    """Yield what of derived files is searched for: the classes of objects, then the texts, each by time."""
    classes: dict[str, dict[str, Any]] = {}
    for track in _entries(tracks, b'"tracks": ['):
        known = classes.setdefault(track["class"], {**track, "count": 0, "last_s": track["end_s"]})
        if track["confidence"] > known["confidence"]:
            known.update({name: track[name] for name in ("best_bbox", "best_frame", "confidence")})
        known["count"] += 1
        known["last_s"] = max(known["last_s"], track["end_s"])
    for name, known in classes.items():
        times = known["start_s"], known["last_s"]
        where = known["best_frame"], known["best_bbox"], known["confidence"], known["count"]
        yield FoundKind.OBJECT, name, *times, *where
    for text in _entries(texts, b'"texts": ['):
        times = text["start_s"], text["end_s"]
        yield FoundKind.TEXT, text["text"], *times, text["first_frame"], text["bbox"], text["confidence"], text["reads"]


def _entries(file: BinaryIO, opening: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a list, which stand each in a line; one that is damaged is passed over."""
    is_inside = False
    while line := file.readline(LINE_BYTES):
        if not is_inside:
            is_inside = line.startswith(opening)
        elif line.startswith(b"]"):
            return
        else:
            with contextlib.suppress(ValueError, RecursionError):
                yield json.loads(line.rstrip(b",\n"))


def _range(sequence: int) -> tuple[int, int]:
    return sequence * PLACES, sequence * PLACES + PLACES - 1


def _rows(sequence: int, spans: Iterable[Span], parts: set[str]) -> Iterator[tuple[Any, ...]]:
    """Yield rows, the first one at the highest place; add the short parts of their texts."""
    last = sequence * PLACES + PLACES - 1
    for number, (kind, text, start_s, end_s, frame_index, bbox, confidence, count) in zip(
        range(PLACES), spans, strict=False
    ):
        shown = text[:MOST_LETTERS].encode(errors="replace").decode()
        folded = fold(shown)
        parts |= short_parts(folded)
        where = json.dumps(bbox)
        yield last - number, KINDS.index(kind), shown, folded, start_s, end_s, frame_index, where, confidence, count
