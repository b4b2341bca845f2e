"""InboxStore: take videos from object storage (the setting ``inbox_store``).

The bucket is listed at an interval. Each object that is named as a video is fetched into the data folder, checked, and
handed to the spool as an upload is; from there on it is a job like any other. With ``inbox_store_after = "move"`` its
object is then moved below ``done/``, or below ``rejected/`` with the reason beside it. A context manager that runs it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

from daemon.errors import (
    BadOptions,
    BadVideo,
    DropframeError,
    Interrupted,
    ObjectChanged,
    ObjectMissing,
    ObjectRefused,
)
from daemon.failpoints import failpoint
from daemon.fs.identity import shown
from daemon.fs.space import DiskGuard
from daemon.ingest.model import REJECTED_FOLDER
from daemon.ingest.names import is_ignored, is_ignored_folder, is_options_name, is_video_name
from daemon.ingest.options_file import MAX_OPTIONS_BYTES
from daemon.ingest.options_pairing import pair
from daemon.ipc.health import StoreBeat
from daemon.ipc.rejected_list import RejectedRecord
from daemon.jobs import utc_now
from daemon.logs import LogOnce
from daemon.objects.bucket import Bucket, RemoteObject
from daemon.objects.entries import Entries, Entry, EntryState
from daemon.objects.fetch import fetch
from daemon.objects.moving import DONE_FOLDER, move
from daemon.objects.submissions import ObjectSubmissions
from daemon.s3_address import S3Address
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.threads import join

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
"""Until it is tried again after the bucket could not be used."""
JOIN_SECONDS = 0.5
"""Time that a fetch gets to end at shutdown; it can be cut off anywhere."""
OURS = frozenset({DONE_FOLDER, REJECTED_FOLDER})
"""Folders below the prefix that nothing is taken from."""


@dataclass
class Listing:
    """What is in the bucket."""

    videos: list[RemoteObject] = field(default_factory=list)
    """The oldest first."""
    options: dict[str, RemoteObject] = field(default_factory=dict)
    """By the key of the video that they are for."""
    problem: str | None = None
    """Why not all of it could be seen."""


class InboxStore:
    """Looks, fetches and hands over, in a thread of its own: a bucket that does not answer holds up nothing else.

    Args:
        settings: Where the bucket is; without ``inbox_store`` nothing is done.
        store: Knows which jobs there are, or were.
        pipelines: Ids of those there are.

    Raises:
        MachineError: obstore is not installed.
    """

    def __init__(self, settings: Settings, store: JobStore, pipelines: frozenset[str]) -> None:
        self._settings = settings
        self._submissions = ObjectSubmissions(settings, store, pipelines)
        self._bucket = Bucket(S3Address.of(settings.inbox_store), settings) if settings.inbox_store else None
        self._entries = Entries(settings.data_dir, settings.inbox_store or "")
        self._moves = settings.inbox_store_after == "move"
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="inbox-store", daemon=True)
        self._log_once, self._log_refused = LogOnce(log), LogOnce(log)
        self._problem: str | None = None
        self._waiting = 0

    def __enter__(self) -> Self:
        """Begin to look."""
        if self._bucket is not None:
            with contextlib.suppress(OSError):  # of a disk that is full just now
                self._entries.open()  # before anybody asks what was rejected
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; what has been fetched of an object stays."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def beat(self) -> StoreBeat:
        """Return how it goes. Callable from any thread."""
        return StoreBeat(self._problem, self._waiting)

    def rejected(self) -> list[RejectedRecord]:
        """Return what was rejected and is still there. Callable from any thread."""
        rejected = [entry for entry in self._entries.all() if entry.state is EntryState.REJECTED]
        return [self._rejected_record(entry) for entry in rejected]

    def entry_of(self, job_id: str) -> Entry | None:
        """Return what is known of the object that became a job. Callable from any thread."""
        return next((entry for entry in self._entries.all() if entry.job_id == job_id), None)

    def _loop(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            wait = self._settings.inbox_store_seconds
            try:
                self._problem = self.step()
                if self._problem is None:
                    self._log_once.solved()
                else:
                    self._log_once(self._problem)
            except Interrupted:
                return
            except (OSError, DropframeError) as error:
                self._problem = f"Nothing can be taken from {self._settings.inbox_store} just now. {error}"
                self._log_once(self._problem)
                wait = min(RETRY_SECONDS, wait)
            except Exception:
                log.exception("Taking videos from object storage goes on after an unexpected error")
                wait = RETRY_SECONDS

    def step(self) -> str | None:
        """Look once, and take what is there.

        Returns:
            What is in the way of some of it, in sentences; not of single objects that may not be read or moved.

        Raises:
            ObjectStoreError: the bucket cannot be used just now; nothing is lost.
            OSError, StoreError: the data folder cannot be used just now; nothing is lost.
            Interrupted: the daemon is stopping.
        """
        assert self._bucket is not None
        self._entries.open()
        listing = self._list(self._bucket)
        if listing.problem is None:  # what cannot be seen has not gone
            self._forget_gone(listing, self._bucket)
        problems = [listing.problem]
        new = [found for found in listing.videos if not self._is_settled(found, listing.options.get(found.key))]
        refused = []
        for number, found in enumerate(new):
            self._waiting = len(new) - number
            try:
                problems.append(self._take(self._bucket, found, listing.options.get(found.key)))
            except ObjectRefused as error:
                refused.append(str(error))
            except (ObjectChanged, ObjectMissing):  # the next look sees what is there now
                self._drop(found)
        self._waiting = len(refused)
        if self._moves:
            refused += self._move_all(self._bucket, listing)
        if refused:
            self._log_refused(" ".join(refused))
        else:
            self._log_refused.solved()
        return " ".join(dict.fromkeys(filter(None, problems))) or None

    def _list(self, bucket: Bucket) -> Listing:
        listing = Listing()
        folders: defaultdict[str, dict[str, RemoteObject]] = defaultdict(dict)
        for found in bucket.objects(leave_out=OURS):
            if isinstance(found, ObjectRefused):
                listing.problem = str(found)
                continue
            *above, name = found.key.split("/")
            if not is_ignored(name, self._settings.ignore) and not self._is_ignored_below(above):
                folders["/".join(above)][name] = found
        for names in folders.values():
            options_of = pair(names).options_of
            for name, found in names.items():
                if is_video_name(name) and not is_options_name(name):
                    listing.videos.append(found)
                    if name in options_of:
                        listing.options[found.key] = names[options_of[name]]
        listing.videos.sort(key=lambda found: (found.modified, found.key))
        return listing

    def _is_ignored_below(self, folders: Iterable[str]) -> bool:
        return any(is_ignored_folder(folder, self._settings.ignore) for folder in folders)

    def _is_settled(self, found: RemoteObject, options: RemoteObject | None) -> bool:
        """Tell whether nothing is to be done with an object; a rejected one is judged anew with other options."""
        entry = self._entries.find(found)
        if entry is None or entry.state is EntryState.FETCHING:
            return False
        return entry.state is EntryState.SUBMITTED or entry.moved_to != "" or entry.options_etag == _etag(options)

    def _forget_gone(self, listing: Listing, bucket: Bucket) -> None:
        """Drop the entries of objects that are not there any more, or are other ones."""
        there = {(found.key, found.etag, found.size) for found in listing.videos}
        gone = [entry for entry in self._entries.all() if (entry.key, entry.etag, entry.size) not in there]
        moved = [entry for entry in gone if entry.state is EntryState.REJECTED and entry.moved_to]
        rejected = _keys(bucket, REJECTED_FOLDER) if moved else set()
        for entry in gone:
            if entry not in moved and self._is_still_there(bucket, entry):
                continue
            if entry not in moved or entry.moved_to not in rejected:
                self._entries.drop(entry)
            elif not entry.moved:  # a kill came after it was deleted where it was
                self._entries.keep(replace(entry, moved=True))

    def _is_still_there(self, bucket: Bucket, entry: Entry) -> bool:
        """Tell whether a listing only left an object out, as one does that is not consistent: it is not taken twice."""
        try:
            found = bucket.find(entry.key)
        except ObjectRefused:  # it may not be asked for, so it cannot be told
            return True
        return found is not None and (found.etag, found.size) == (entry.etag, entry.size)

    def _drop(self, found: RemoteObject) -> None:
        if entry := self._entries.find(found):
            self._entries.drop(entry)

    # One object.

    def _take(self, bucket: Bucket, found: RemoteObject, options: RemoteObject | None) -> str | None:
        """Fetch an object and hand it over; return what is in the way."""
        if self._stopping.is_set():
            raise Interrupted("Dropframe is stopping.")
        entry = self._entries.find(found)
        if entry is None:
            entry = self._entries.keep(Entry.of(str(bucket.address), found))
            failpoint("inbox_store.entered")
        try:
            if not self._submissions.is_promised(entry.job_id):
                ticket = self._submissions.ticket(entry, None if options is None else self._options(bucket, options))
                if not self._submissions.is_being_promised(entry.job_id):
                    if shortage := self._disk.shortage(found.size - entry.kept_bytes):
                        return f"{bucket.address.to(found.key)} waits. {shortage}"
                    fetch(bucket, self._entries, entry, found, self._stopping.is_set, self._submissions.look)
                    failpoint("inbox_store.fetched")
                self._submissions.promise(ticket, self._entries.part(entry), found.size)
        except (BadVideo, BadOptions) as error:
            self._reject(bucket, self._entries.find(found) or entry, str(error), _etag(options))
            return None
        self._entries.part(entry).unlink(missing_ok=True)
        self._entries.keep(replace(entry, state=EntryState.SUBMITTED, kept_bytes=0))
        failpoint("inbox_store.submitted")
        log.info("%s was fetched and is job %s", shown(bucket.address.to(found.key)), entry.job_id)
        return None

    def _options(self, bucket: Bucket, options: RemoteObject) -> bytes:
        text = b""
        for block in bucket.read(options):
            text += block
            if len(text) > MAX_OPTIONS_BYTES:
                break
        return text

    def _reject(self, bucket: Bucket, entry: Entry, reason: str, options_etag: str) -> None:
        self._entries.part(entry).unlink(missing_ok=True)
        rejected = replace(entry, state=EntryState.REJECTED, kept_bytes=0, reason=reason, rejected_at=utc_now())
        self._entries.keep(replace(rejected, options_etag=options_etag))
        failpoint("inbox_store.rejected")
        log.info("%s was rejected: %s", shown(bucket.address.to(entry.key)), reason)

    # Afterwards.

    def _move_all(self, bucket: Bucket, listing: Listing) -> list[str]:
        """Move what is settled; say of what cannot be moved, such as an object above 5 GB, why it stays."""
        problems = []
        for found in listing.videos:
            entry = self._entries.find(found)
            if entry is None or entry.state is EntryState.FETCHING or entry.moved:
                continue
            if self._stopping.is_set():
                break
            try:
                move(bucket, self._entries, entry, found, listing.options.get(found.key))
            except (ObjectChanged, ObjectMissing):
                continue  # the next look sees what is there now
            except ObjectRefused as error:
                problems.append(f"It was taken, and cannot be moved: {error}")
        return problems

    def _rejected_record(self, entry: Entry) -> RejectedRecord:
        place = f"{entry.address}/{entry.moved_to if entry.moved else entry.key}"
        rejected_at = entry.rejected_at
        return RejectedRecord(
            shown(entry.key), shown(place), entry.reason, rejected_at, entry.size, rejected_at, told=False
        )


def _etag(options: RemoteObject | None) -> str:
    return "" if options is None else options.etag


def _keys(bucket: Bucket, folder: str) -> set[str]:
    return {found.key for found in bucket.objects(folder) if isinstance(found, RemoteObject)}
