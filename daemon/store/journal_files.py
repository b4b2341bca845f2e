"""The files of a store: their names, what is in them, and how the state is read from them.

In a folder, for the name ``jobs``:

* ``jobs.json``: the snapshot, all tables as one JSON document. Always whole, as only a rename replaces it.
* ``jobs.<generation>.journal``: the changes since the snapshot of that generation, one line a commit: the
  CRC32 in hex, a space, ``{table: {doc_id: document or null}}`` as JSON.
* ``jobs.previous.json``: the snapshot before, in case ``jobs.json`` is damaged.

A snapshot holds what its predecessor's journal led to, so the state is any snapshot plus the journals from
its generation on, as far as their numbers follow each other. A line holds whole documents, so replaying one
twice changes nothing. Journals outlive their snapshot, so files copied one after another while the daemon
writes still fit together.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.errors import StoreDamaged, StoreError

JsonDocument = dict[str, Any]
Tables = dict[str, dict[str, JsonDocument]]
Changes = Mapping[str, Mapping[str, JsonDocument | None]]

META = "_meta"
"""The table that every snapshot must have: a JSON document without it is not ours."""

GENERATION = "_journal"
"""The table in which a snapshot names its generation."""


class NoJsonForm(StoreError):
    """A change holds what cannot be stored; nothing was written."""


def encode(changes: Changes) -> bytes:
    """Return changes as one line of JSON, without its end.

    Raises:
        NoJsonForm: a value has no JSON form: NaN, a set, bytes, text with lone surrogates.
    """
    try:
        return json.dumps(changes, allow_nan=False, ensure_ascii=False, sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NoJsonForm(f"The change cannot be stored as JSON: {error}.") from error


def apply(tables: Tables, changes: Changes) -> None:
    """Carry changes out on tables; a document of None is removed."""
    for name, documents in changes.items():
        rows = tables.setdefault(name, {})
        for doc_id, document in documents.items():
            if document is None:
                rows.pop(doc_id, None)
            else:
                rows[doc_id] = _with_shared_keys(document)


def _with_shared_keys(value: Any) -> Any:
    """Return parsed JSON with keys that all documents have in common in memory: each line brings its own otherwise,
    and they are half of what a record takes."""
    if isinstance(value, dict):
        return {sys.intern(key): _with_shared_keys(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_shared_keys(each) for each in value]
    return value


def parse(data: bytes, skip_bad: bool = False) -> tuple[list[Changes], int, int]:
    """Read journal lines: the changes, the offset behind the last good line, how many bad lines precede it.

    Args:
        data: Whole lines and perhaps a torn one.
        skip_bad: Read on behind a bad line. A line is written in one piece before the next one, so a bad line
            with good ones behind it is damage to the disk, and each line stands for itself.
    """
    found: list[Changes] = []
    end = start = bad = doubtful = 0
    while (stop := data.find(b"\n", start)) >= 0:
        changes = _decode(data[start:stop])
        start = stop + 1
        if changes is not None:
            found.append(changes)
            end, bad = start, doubtful
        elif skip_bad:
            doubtful += 1
        else:
            break
    return found, end, bad


def _decode(line: bytes) -> Changes | None:
    try:
        if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        changes: Changes = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return changes if _has_shape(changes) else None


def _has_shape(tables: Any) -> bool:
    return isinstance(tables, dict) and all(
        isinstance(rows, dict) and all(row is None or isinstance(row, dict) for row in rows.values())
        for rows in tables.values()
    )


@dataclass(frozen=True)
class Files:
    """The names of the files of one store."""

    folder: Path
    name: str

    @property
    def snapshot(self) -> Path:
        """The latest state that was written whole."""
        return self.folder / f"{self.name}.json"

    @property
    def previous(self) -> Path:
        """The snapshot before."""
        return self.folder / f"{self.name}.previous.json"

    def kept(self, word: str) -> Path:
        """A snapshot that stays until it is replaced by hand or by the next of that word."""
        return self.folder / f"{self.name}.{word}.json"

    def journal(self, generation: int) -> Path:
        """The changes since the snapshot of a generation."""
        return self.folder / f"{self.name}.{generation}.journal"

    def generations(self) -> list[int]:
        """The generations that have a journal, lowest first."""
        pattern = re.compile(re.escape(self.name) + r"\.(\d+)\.journal")
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))

    def free_copy_name(self, path: Path, word: str) -> Path:
        """Return a free name ``<file>.<word>-<number>`` beside a file of which a copy must be kept."""
        number = 1
        while (target := path.with_name(f"{path.name}.{word}-{number}")).exists():
            number += 1
        return target


@dataclass
class LoadedStore:
    """What the files of a store say."""

    tables: Tables
    generation: int
    """Of the last journal read; new changes go there."""
    base: int = 0
    """Of the snapshot it began with."""
    end: int = 0
    """Bytes of the last journal that are good."""
    changed_bytes: int = 0
    """Length of all journals read."""
    snapshot_bytes: int = 0
    fresh: bool = False
    """Nothing was there."""
    damaged: list[Path] = field(default_factory=list)
    """Files with damage in them."""
    unused: list[Path] = field(default_factory=list)
    """Journals that do not follow from anything that is left."""
    notes: list[str] = field(default_factory=list)
    """A sentence for each thing that was not as it should be."""


def load(files: Files, initial: Tables, repair: bool = True) -> LoadedStore:
    """Read the state of a store; write nothing.

    Args:
        files: Where.
        initial: The state of a store that holds nothing yet; becomes part of the result.
        repair: Read on behind damage in the last journal. A reader must not: what looks like damage may be a
            line that is being written.

    Raises:
        StoreDamaged: there was a store, and no readable snapshot of it is left.
        OSError: a file is there and cannot be read.
    """
    generations = files.generations()
    loaded = _choose_snapshot(files, generations, initial)
    generation = loaded.base
    while generation in generations:
        last = generation + 1 not in generations
        data = files.journal(generation).read_bytes()
        found, loaded.end, bad = parse(data, skip_bad=repair or not last)
        for changes in found:
            apply(loaded.tables, changes)
        if bad:
            loaded.damaged.append(files.journal(generation))
            loaded.notes.append(f"{bad} damaged lines of {files.journal(generation)} were left out.")
        loaded.generation = generation
        loaded.changed_bytes += loaded.end
        generation += 1
    loaded.unused = [files.journal(g) for g in generations if g > loaded.generation]
    if loaded.unused:
        loaded.notes.append("Journals that do not follow from the snapshot were left out; changes may be missing.")
    return loaded


def _choose_snapshot(files: Files, generations: list[int], initial: Tables) -> LoadedStore:
    source, notes, damaged = files.snapshot, [], []
    tables: Tables | None
    try:
        tables, state = _read_snapshot(files.snapshot), "is damaged"
    except FileNotFoundError:  # told by the reading itself: a writer may put the first one there right behind it
        tables, state = None, "is missing"
    if tables is None:
        if state == "is damaged":
            damaged = [files.snapshot]
        tables, source = _read_previous(files), files.previous
        if tables is not None:
            notes = [f"{files.snapshot} {state}; the jobs were restored from {source.name} and the journals."]
        elif 1 in generations and not (damaged and _tells_nothing(files.journal(1))):
            # The first generation begins with nothing, so its journal tells all.
            fresh = not damaged and not any(files.journal(g).stat().st_size for g in generations)
            if not fresh:
                notes = [f"{files.snapshot} {state}; the jobs were restored from the journals."]
            return LoadedStore(initial, 1, 1, fresh=fresh, damaged=damaged, notes=notes)
        elif damaged or generations or os.path.lexists(files.previous):
            raise StoreDamaged(
                f"{files.snapshot} {state} and no good copy of it is left. Put a backup of all "
                f"{files.name}.* files there, or move them away to begin with no jobs."
            )
        else:
            return LoadedStore(initial, 1, 1, fresh=True)
    elif _generation_of(tables) not in generations:
        # Either files were copied while they changed, or the daemon was about to make the journal.
        other = _read_previous(files)
        if other is not None and _generation_of(other) > _generation_of(tables):
            notes = [f"{files.snapshot} is older than {files.previous.name}, which was used instead."]
            tables, source = other, files.previous
    generation = _generation_of(tables)
    tables.pop(GENERATION, None)  # it goes on from here in the number of the journal
    size = source.stat().st_size
    return LoadedStore(tables, generation, generation, snapshot_bytes=size, damaged=damaged, notes=notes)


def _tells_nothing(journal: Path) -> bool:
    return not parse(journal.read_bytes(), skip_bad=True)[0]


def _read_previous(files: Files) -> Tables | None:
    with suppress(FileNotFoundError):
        return _read_snapshot(files.previous)
    return None


def _read_snapshot(path: Path) -> Tables | None:
    """Return the tables of a snapshot, or None if the file holds none.

    Raises:
        OSError: it is missing or cannot be read.
    """
    collecting = gc.isenabled()
    gc.disable()  # nothing of it is garbage, and looking for some takes two thirds of the time
    try:
        tables = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    finally:
        if collecting:
            gc.enable()
    if not _has_shape(tables) or META not in tables:
        return None
    return dict(tables)


def _generation_of(tables: Tables) -> int:
    """Return a snapshot's generation; 0 for one from before there were journals."""
    return int(tables.get(GENERATION, {}).get("1", {}).get("generation", 0))


def peek_generation(path: Path) -> int | None:
    """Return a snapshot's generation from its first bytes, or None if it cannot be told."""
    try:
        with path.open("rb") as file:
            match = re.match(rb'\{"_journal": \{"1": \{"generation": (\d+)\}\}', file.read(100))
    except OSError:
        return None
    return int(match[1]) if match else None


def encode_text(value: Any) -> bytes:
    """Return any value as JSON in the store's form."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True).encode()
