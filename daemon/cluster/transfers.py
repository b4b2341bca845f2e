"""What the daemon and its slots need alike where they share no folder: names of objects, and ways to send and fetch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from daemon.errors import Interrupted, ObjectChanged, ObjectMissing, ObjectRefused, ObjectStoreError
from daemon.objects.bucket import PART_BYTES, Bucket, RemoteObject

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long object storage may fail before a machine is taken to be cut off from it, or it to be away."""
AGAIN_SECONDS = 2.0
BLOCK_BYTES = 1 << 20
MEDIA_TYPE = "application/octet-stream"
JOBS, MODELS = "jobs", "models"
"""Folders below ``cluster_store`` and the id of the home."""


@dataclass(frozen=True)
class ObjectRef:
    """Which object, and where; the JSON form is that of ``vars``."""

    address: str
    key: str
    etag: str
    size: int

    @classmethod
    def of(cls, bucket: Bucket, found: RemoteObject) -> Self:
        """Return the reference to an object that is there."""
        return cls(str(bucket.address), found.key, found.etag, found.size)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what ``vars`` was called on."""
        return cls(**record)

    @property
    def remote(self) -> RemoteObject:
        """The object, as a bucket wants it."""
        return RemoteObject(self.key, self.etag, self.size, datetime.now(UTC))


@dataclass(frozen=True)
class ModelFile:
    """A file that slots need in ``data/models/``."""

    name: str
    """Below ``data/models/``."""
    sha256: str
    ref: ObjectRef

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "ref": vars(self.ref)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what ``to_record`` was called on."""
        return cls(record["name"], record["sha256"], ObjectRef.from_record(record["ref"]))


def keep_trying(work: Callable[[], T], should_stop: Callable[[], bool], done: Callable[[], int] = lambda: 0) -> T:
    """Do something with object storage, again and again while that fails, for a minute after it first did.

    Args:
        work: Does it.
        should_stop: Asked between two tries; True ends it.
        done: How far it is; the minute begins anew when that has grown.

    Raises:
        ObjectMissing, ObjectChanged, ObjectRefused: at once, as another try would not help.
        ObjectStoreError: it still fails.
        Interrupted: ``should_stop`` said so.
    """
    failed_at, before = float("inf"), -1
    while True:
        try:
            return work()
        except (ObjectMissing, ObjectChanged, ObjectRefused):
            raise
        except ObjectStoreError:
            now, done_now = time.monotonic(), done()
            if done_now > before:
                failed_at, before = now, done_now
            if now - failed_at > PATIENCE_SECONDS:
                raise
        check_stop(should_stop)
        time.sleep(AGAIN_SECONDS)


def check_stop(should_stop: Callable[[], bool]) -> None:
    """Raise Interrupted if a transfer is to end; asking also tells that whoever does it does not stand still."""
    if should_stop():
        raise Interrupted("The transfer was ended.")


def content_of(path: Path, should_stop: Callable[[], bool]) -> bytes | Iterator[bytes]:
    """Return a file as it is to be put: a small one as a whole, for which one request is enough, or else in blocks.

    Raises:
        Interrupted: ``should_stop`` said so.
        OSError: it cannot be read.
    """
    check_stop(should_stop)
    return path.read_bytes() if path.stat().st_size <= PART_BYTES else _blocks_of(path, should_stop)


def _blocks_of(path: Path, should_stop: Callable[[], bool]) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            check_stop(should_stop)
            yield block


def require_store(bucket: Bucket) -> None:
    """Make sure that this machine reaches object storage.

    Raises:
        ObjectStoreError: it does not, or lacks credentials.
    """
    bucket.notes(f"{MODELS}/none")
