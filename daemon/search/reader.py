"""Read the index of texts and objects: who searches never waits for the daemon that writes it, nor holds it up."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from daemon.errors import StorageError
from daemon.jobs import JobStatus
from daemon.search.folding import WORD, words_of

VERSION = 1
"""Of the tables and of what is in them; with another one the index is made again."""
FILE = Path("index") / "search.db"
"""Below the data folder."""
CHECK = "search.check"
"""Of a file in the spool that asks the daemon whether the index is damaged."""
PLACES = 1 << 24
"""Places of a job; those of a later job are higher."""
LAST = (1 << 62) - 1
"""Above every place."""
STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock: some milliseconds."""
READ_AGAIN = 3
"""Tries at an index that is exchanged just then."""


class FoundKind(StrEnum):
    """What a hit is."""

    TEXT = "text"
    OBJECT = "object"


KINDS = list(FoundKind)
"""A kind's number in the index is its place here."""


class TookTooLong(StorageError):
    """A search was given up."""


@dataclass(frozen=True)
class Hit:
    """A text that stayed on the screen, or all objects of one class in a video."""

    place: int
    """Hits come from the highest to the lowest: the newest job first, in it objects first, then texts by time."""
    job_id: str
    kind: FoundKind
    text: str
    """Of an object the class."""
    start_s: float
    end_s: float
    """Of objects those of the first and of the last one."""
    frame_index: int
    """A frame that shows it: the first one with a text, or the best one of an object."""
    bbox: list[float]
    """Where, in pixels."""
    confidence: float
    count: int
    """Frames on which a text was read, or tracks of a class."""

    def to_public(self, source_name: str) -> dict[str, Any]:
        """Return it as programs see it, with the name of the video."""
        return {"source_name": source_name, **{name: value for name, value in vars(self).items() if name != "place"}}


@dataclass(frozen=True)
class SearchPage:
    """Some hits."""

    hits: list[Hit] = field(default_factory=list)
    more: bool = False
    """Whether there are others behind the last one."""
    complete: bool = False
    """Whether the index has all results; False while it is being made."""

    def to_public(self, name_of: Callable[[str], str | None]) -> dict[str, Any]:
        """Return it as programs see it.

        Args:
            name_of: Returns the video's name by a job's id, or None for a job whose result is gone.
        """
        names = {hit.job_id: name_of(hit.job_id) for hit in self.hits}
        shown = [hit.to_public(name) for hit in self.hits if (name := names[hit.job_id]) is not None]
        return {
            "hits": shown,
            "next_cursor": str(self.hits[-1].place) if self.more else None,
            "complete": self.complete,
        }


def place_of(cursor: str | None) -> int:
    """Return the place where a page ended.

    Raises:
        ValueError: it is not the cursor of a page.
    """
    if not cursor:
        return LAST
    if not re.fullmatch("[0-9]{1,18}", cursor):
        raise ValueError("not a cursor")
    return int(cursor)


def shown_name(record: Mapping[str, Any] | None) -> str | None:
    """Return the name of a job's video, or None if the job or its result is gone."""
    if record is None or record["status"] != JobStatus.COMPLETED or record.get("result_removed_at"):
        return None
    name: str = record["source_name"]
    return name


def search(
    data_dir: Path, query: str, limit: int, *, before: int = LAST, kind: FoundKind | None = None, seconds: float = 2.0
) -> SearchPage:
    """Return the first hits that contain every word of a query, in any order, inside of words as well.

    An index that is missing, damaged or of another version has no hits, and is not complete.

    Args:
        data_dir: Of the home.
        query: Words; what stands between quotation marks is one.
        limit: Most hits.
        before: Only hits with lower places.
        kind: Only these.
        seconds: Longest time.

    Raises:
        BadQuery: it cannot be searched for.
        TookTooLong: it did.
    """
    words, path, deadline = words_of(query), data_dir / FILE, time.monotonic() + seconds
    for _ in range(READ_AGAIN):
        inode, is_settled = _state(path)
        if inode is None:
            return SearchPage()
        try:
            with _opened(path, is_settled, deadline) as connection:
                page = _page(connection, words, limit, before, kind)
            failure = None
        except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise TookTooLong("The search took too long; search for longer or rarer words.") from error
            page, failure = SearchPage(), error
        if _state(path) == (inode, is_settled):  # else it was exchanged meanwhile, or its writer came
            if failure is not None:
                _request_check(data_dir)
            return page
    return SearchPage()


def _state(path: Path) -> tuple[int | None, bool]:
    """Return which file the index is, and whether all of it is in there: nobody writes to it."""
    with contextlib.suppress(OSError):
        inode = os.stat(path, follow_symlinks=False).st_ino
        return inode, not os.path.exists(f"{path}-wal")
    return None, False


@contextmanager
def _opened(path: Path, is_settled: bool, deadline: float) -> Iterator[sqlite3.Connection]:
    # Without a log beside it a reader would make one, which it may not be allowed to, and which would be its own.
    how = "immutable=1" if is_settled else "mode=ro"
    connection = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None, timeout=1.0)
    with closing(connection):
        connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
        yield connection


def _page(
    connection: sqlite3.Connection, words: tuple[str, ...], limit: int, before: int, kind: FoundKind | None
) -> SearchPage:
    connection.execute("BEGIN")
    if connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
        return SearchPage()
    [(complete,)] = connection.execute("SELECT complete FROM state")
    statement, values = _statement(words, before, kind)
    rows = connection.execute(f"{statement} LIMIT ?", (*values, limit + 1)).fetchall()
    return SearchPage([_hit(*row) for row in rows[:limit]], len(rows) > limit, bool(complete))


def _statement(words: tuple[str, ...], before: int, kind: FoundKind | None) -> tuple[str, list[Any]]:
    """Return the statement that yields hits; the words of it are values, whatever they hold."""
    columns = "j.job_id, s.id, s.kind, s.text, s.start_s, s.end_s, s.frame_index, s.bbox, s.confidence, s.count"
    long, short = [word for word in words if len(word) >= WORD], [word for word in words if len(word) < WORD]
    values: list[Any]
    if long:
        source = "words JOIN spans s ON s.id = words.rowid JOIN jobs j ON j.sequence = s.id / :places"
        tests, order = ["words MATCH ?", "words.rowid < ?"], "words.rowid DESC"
        values = [" AND ".join(f'"{word.replace(chr(34), chr(34) * 2)}"' for word in long), before]
    else:
        # Which jobs have a short part is known; theirs are looked through.
        source = (
            "parts p CROSS JOIN spans s ON s.id BETWEEN p.sequence * :places AND p.sequence * :places + :places - 1"
        )
        source += " JOIN jobs j ON j.sequence = p.sequence"
        tests, order = ["p.part = ?", "p.sequence <= ? / :places", "s.id < ?"], "p.sequence DESC, s.id DESC"
        values = [short[0], before, before]
    for word in short:
        tests.append("instr(s.folded, ?)")
        values.append(word)
    if kind is not None:
        tests.append("s.kind = ?")
        values.append(KINDS.index(kind))
    statement = f"SELECT {columns} FROM {source} WHERE {' AND '.join(tests)} ORDER BY {order}"  # noqa: S608 - our words
    return statement.replace(":places", str(PLACES)), values


def _hit(job_id: str, place: int, kind: int, text: str, *rest: Any) -> Hit:
    start_s, end_s, frame_index, bbox, confidence, count = rest
    return Hit(place, job_id, KINDS[kind], text, start_s, end_s, frame_index, json.loads(bbox), confidence, count)


def _request_check(data_dir: Path) -> None:
    with contextlib.suppress(OSError):  # it is not ours to write: the daemon finds out at its next start
        (data_dir / "spool" / CHECK).touch(mode=0o640)
