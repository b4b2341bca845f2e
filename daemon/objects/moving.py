"""move: put an object that was taken below ``done/``, and one that was rejected below ``rejected/``.

Object storage cannot rename: an object is copied and then deleted, on the condition that it is still the same one. The
new key is noted first, so that whoever goes on after a kill copies to the same place.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from daemon.errors import ObjectChanged
from daemon.failpoints import failpoint
from daemon.ingest.model import REJECTED_FOLDER
from daemon.ingest.quarantine import REASON_SUFFIX, reason_text
from daemon.objects.bucket import Bucket, RemoteObject
from daemon.objects.entries import Entries, Entry, EntryState

DONE_FOLDER = "done"
MARK_LETTERS = 8
"""Of the job's id behind a name that is taken."""


def move(bucket: Bucket, entries: Entries, entry: Entry, found: RemoteObject, options: RemoteObject | None) -> None:
    """Move an object, its options file too.

    Args:
        bucket: Where it is.
        entries: Get to know where it goes, and that it went.
        entry: The object's; its job is promised, or it was rejected.
        found: The object, as it was listed.
        options: Its options file.

    Raises:
        ObjectChanged, ObjectMissing: it is not there any more.
        ObjectRefused, ObjectStoreError: it cannot be moved just now.
        OSError: the entry cannot be written.
    """
    is_rejected = entry.state is EntryState.REJECTED
    if not entry.moved_to:
        folder = REJECTED_FOLDER if is_rejected else DONE_FOLDER
        entry = entries.keep(replace(entry, moved_to=_free_key(bucket, f"{folder}/{entry.key}", entry.job_id)))
    if is_rejected:
        text = reason_text(entry.key.rpartition("/")[2], entry.reason, datetime.fromisoformat(entry.rejected_at))
        bucket.put(entry.moved_to + REASON_SUFFIX, text.encode(), "text/plain; charset=utf-8")
    if options is not None:
        bucket.copy(options.key, f"{entry.moved_to}.options.json")
    _move_one(bucket, found, entry.moved_to)
    if options is not None:
        bucket.delete_only(options)
    failpoint("inbox_store.moved")
    if is_rejected:
        entries.keep(replace(entry, moved=True))
    else:
        entries.drop(entry)


def _free_key(bucket: Bucket, key: str, job_id: str) -> str:
    if bucket.find(key) is None:
        return key
    stem, dot, ending = key.rpartition(".")
    return f"{stem}~{job_id[:MARK_LETTERS]}{dot}{ending}"


def _move_one(bucket: Bucket, found: RemoteObject, to: str) -> None:
    now = bucket.find(found.key)
    if now is None:
        return  # moved before a kill
    if (now.etag, now.size) != (found.etag, found.size):
        raise ObjectChanged(f"{bucket.address.to(found.key)} has been replaced.")
    bucket.copy(found.key, to)
    failpoint("inbox_store.copied")
    bucket.delete_only(found)
