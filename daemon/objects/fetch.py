"""fetch: bring an object's bytes into the data folder; what has come stays, however often the line is cut."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from daemon.errors import Interrupted, ObjectStoreError
from daemon.failpoints import failpoint
from daemon.ipc.spool import FILE_MODE
from daemon.objects.bucket import BLOCK_BYTES, Bucket, RemoteObject
from daemon.objects.entries import Entries, Entry

MARK_BYTES = 16 << 20
"""So many bytes at most are fetched twice after a kill or a power cut."""
_MD5 = re.compile(r'"([0-9a-f]{32})"')


def fetch(
    bucket: Bucket,
    entries: Entries,
    entry: Entry,
    wanted: RemoteObject,
    stopping: Callable[[], bool],
    look: Callable[[BinaryIO, int, int], None] = lambda file, have, size: None,
) -> Path:
    """Fetch what is missing of an object.

    Args:
        bucket: Where it is.
        entries: Get to know what is durable.
        entry: The object's.
        wanted: The object; its bytes are never mixed with those of another one.
        stopping: Asked at every block; True ends it.
        look: Is called with the part, the bytes in it, and those of the whole, when a block has come; may raise.

    Returns:
        Where all of it is.

    Raises:
        ObjectChanged, ObjectMissing: it is not there any more.
        ObjectRefused, ObjectStoreError: it cannot be fetched just now; what has come stays.
        Interrupted: ``stopping`` said so; the same.
        OSError: the data folder cannot be written; the same.
    """
    part = entries.part(entry)
    resumed = entry.kept_bytes > 0
    with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE), "r+b", 0) as file:
        have = min(entry.kept_bytes, os.fstat(file.fileno()).st_size)
        file.truncate(have)  # what was written after the last mark need not be what was sent
        marked = have
        try:
            for block in bucket.read(wanted, have):
                if stopping():
                    raise Interrupted("Fetching was ended because Dropframe is stopping.")
                have += write_at(file.fileno(), block, have)
                failpoint("inbox_store.block")
                look(file, have, wanted.size)
                if have - marked >= MARK_BYTES:
                    entry, marked = _mark(entries, entry, file, have), have
        except BaseException:
            if have > marked:
                _mark(entries, entry, file, have)
            raise
        os.fsync(file.fileno())
        if resumed:
            _check(bucket, entries, entry, file)
    return part


def write_at(descriptor: int, block: bytes, start: int) -> int:
    """Write all of a block at a place of a file, wherever somebody has read meanwhile; return its length."""
    left = memoryview(block)
    while left:
        left = left[os.pwrite(descriptor, left, start + len(block) - len(left)) :]
    return len(block)


def _mark(entries: Entries, entry: Entry, file: BinaryIO, have: int) -> Entry:
    os.fsync(file.fileno())
    failpoint("inbox_store.mark")
    return entries.keep(replace(entry, kept_bytes=have))


def _check(bucket: Bucket, entries: Entries, entry: Entry, file: BinaryIO) -> None:
    """Compare what was put together from pieces with the ETag, if that looks like an MD5.

    Every request asked for this very object, but disks have lost what they said was written. Where the ETag only looks
    like one, as of objects that are encrypted with a key of KMS, a second fetch gives the same bytes.

    Raises:
        ObjectStoreError: it has to be fetched anew.
    """
    named = _MD5.fullmatch(entry.etag)
    if named is None:
        return
    made = hashlib.md5(usedforsecurity=False)
    file.seek(0)
    while block := file.read(BLOCK_BYTES):
        made.update(block)
    digest = made.hexdigest()
    if digest not in (named[1], entry.digest):
        entries.keep(replace(entry, kept_bytes=0, digest=digest))
        raise ObjectStoreError(f"What was fetched of {bucket.address.to(entry.key)} seems damaged; it is fetched anew.")
