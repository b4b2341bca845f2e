"""Entries: what is known of the objects of the inbox store, a small file each in ``data/inbox_store/``.

An object's identity is its key, ETag and size. Its entry is written before anything is done, with the id of the job
that it will be; so whatever a kill cuts off, it is that job and no other. An entry goes when its object has gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from daemon.fs.atomic import atomic_write, fsync_folder, sweep
from daemon.jobs import new_job_id, utc_now
from daemon.objects.bucket import RemoteObject

FOLDER = "inbox_store"
ENDING, PART = ".json", ".part"


class EntryState(StrEnum):
    """How far it is with an object."""

    FETCHING = "fetching"
    SUBMITTED = "submitted"
    """Its job is promised."""
    REJECTED = "rejected"


@dataclass(frozen=True)
class Entry:
    """One object, as it was when it was listed."""

    address: str
    """Of the bucket and the prefix."""
    key: str
    etag: str
    size: int
    job_id: str
    """Of the job that it is, or is to be."""
    since: str
    """When it was first seen, ISO 8601 UTC."""
    state: EntryState = EntryState.FETCHING
    kept_bytes: int = 0
    """So many bytes of the part are durable."""
    digest: str = ""
    """MD5 of what was fetched in pieces and was not what the ETag seemed to say."""
    reason: str = ""
    """Why it was rejected, in sentences."""
    rejected_at: str = ""
    options_etag: str = ""
    """Of the options file that it had when it was rejected."""
    moved_to: str = ""
    """The key that it gets, or has got."""
    moved: bool = False
    """It is not where it was any more."""

    @classmethod
    def of(cls, address: str, found: RemoteObject) -> Self:
        """Return the entry of an object that is seen for the first time."""
        return cls(address, found.key, found.etag, found.size, new_job_id(), utc_now())

    @property
    def name(self) -> str:
        """What its files are called."""
        return name_of(self.address, self.key, self.etag, self.size)


def name_of(address: str, key: str, etag: str, size: int) -> str:
    """Return what the files of an object are called."""
    return hashlib.sha256(json.dumps([address, key, etag, size]).encode()).hexdigest()[:40]


_FORMAT = TypeAdapter(Entry)


class Entries:
    """All entries of one address. One thread uses it, but for ``all``.

    Args:
        data_dir: The data folder.
        address: Entries of others are left alone.
    """

    def __init__(self, data_dir: Path, address: str) -> None:
        self._folder = data_dir / FOLDER
        self._address = address
        self._entries: dict[str, Entry] = {}
        self._is_open = False

    def open(self) -> None:
        """Read what was written, once, and remove the parts that belong to nothing, and what a kill left half-written.

        Raises:
            OSError: the folder cannot be used.
        """
        if self._is_open:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob(f"*{ENDING}"):
            with contextlib.suppress(ValidationError):
                entry = _FORMAT.validate_json(path.read_bytes())
                if entry.address == self._address:
                    self._entries[entry.name] = entry
        sweep(self._folder, 0.0)
        for part in self._folder.glob(f"*{PART}"):
            if not part.with_suffix(ENDING).exists():
                part.unlink(missing_ok=True)
        self._is_open = True

    def all(self) -> list[Entry]:
        """Return all."""
        return list(self._entries.values())

    def find(self, found: RemoteObject) -> Entry | None:
        """Return the entry of an object."""
        return self._entries.get(name_of(self._address, found.key, found.etag, found.size))

    def part(self, entry: Entry) -> Path:
        """Return where what has been fetched of an object is."""
        return self._folder / f"{entry.name}{PART}"

    def keep(self, entry: Entry) -> Entry:
        """Write an entry; it is durable afterwards.

        Raises:
            OSError: it cannot be written; the one before stands.
        """
        with atomic_write(self._folder / f"{entry.name}{ENDING}") as file:
            file.write(json.dumps(asdict(entry)).encode())
        self._entries[entry.name] = entry
        return entry

    def drop(self, entry: Entry) -> None:
        """Remove an entry, and what was fetched of its object.

        Raises:
            OSError: it cannot be removed.
        """
        self.part(entry).unlink(missing_ok=True)
        (self._folder / f"{entry.name}{ENDING}").unlink(missing_ok=True)
        fsync_folder(self._folder)
        self._entries.pop(entry.name, None)
