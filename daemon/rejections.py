"""Rejections: what lies in ``inbox/rejected/`` is listed for people and programs, and told in the outbox."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from daemon.errors import StoreError
from daemon.failpoints import failpoint
from daemon.fs import mounts
from daemon.fs.identity import shown
from daemon.ingest.model import REJECTED_FOLDER
from daemon.ingest.rejected import RejectedFile, read_reason, rejected_files
from daemon.ipc import rejected_list
from daemon.ipc.rejected_list import MOST_FILES, Note, RejectedList, RejectedRecord
from daemon.jobs import timestamp
from daemon.logs import LogOnce
from daemon.settings import Settings
from daemon.threads import join
from daemon.worker.outbox import Outbox

log = logging.getLogger(__name__)

STEP_SECONDS = 2.0
"""Time between two looks at the folders."""
FRESH_SECONDS = 4.0
"""Longer than the coarsest time stamps of a file system."""
JOIN_SECONDS = 0.2
"""Time that a look gets to end at shutdown; it can be cut off anywhere."""


class Rejections:
    """Keeps the list and the notes up with the folder, in a thread of its own: a share that hangs holds up nobody.

    A context manager that runs it.

    A kill costs nothing: what the list does not name yet is told again. Where no list has been made yet, what was
    rejected before this process began is an earlier version's, and the outbox is not told of it.

    Args:
        settings: Where the folders are.
        outbox: Gets the notes.
        clock: Monotonic time in seconds.
        others: What was rejected elsewhere and is still there.
        announce: Is told of files that have been rejected; must not mind being told twice. When it raises StoreError
            it is told again.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        clock: Callable[[], float] = time.monotonic,
        others: Callable[[], list[RejectedRecord]] = list,
        announce: Callable[[Sequence[RejectedRecord]], None] = lambda records: None,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._announce = announce
        self._clock = clock
        self._others = others
        self._seen_elsewhere: list[RejectedRecord] = []
        self._began = timestamp(datetime.now(UTC).replace(microsecond=0))  # reasons are dated to the second
        self._listed: RejectedList | None = None
        self._folders: dict[Path, int] = {}
        self._due = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="rejections", daemon=True)
        self._log_once = LogOnce(log)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End looking; a look that does not come back is not waited for."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step(self._clock())
                self._log_once.solved()
            except (OSError, StoreError) as error:
                why = getattr(error, "strerror", None) or error
                self._log_once(f"The list of rejected files is not up to date: {why}.")
            except Exception:
                log.exception("Listing rejected files goes on after an unexpected error")
            self._stopping.wait(STEP_SECONDS)

    def step(self, now: float) -> None:
        """Look once; do nothing if nothing can have changed.

        Args:
            now: Monotonic time in seconds.

        Raises:
            OSError: a folder cannot be used just now; it is tried again.
            StoreError: the same of the job store.
        """
        inbox = self._settings.inbox_dir
        if not inbox.is_dir() or mounts.away(self._settings.data_dir, inbox):
            return  # what cannot be seen has not been removed
        if now < self._due and not self._has_changed():
            return
        self._due = now  # should anything fail, it is tried again in the next step
        # Before the files are read: what comes meanwhile is seen by the next look.
        self._seen_elsewhere = self._others()
        self._folders = {folder: _changed_ns(folder) for folder in _folders_below(inbox / REJECTED_FOLDER)}
        known = self._listed or rejected_list.read(self._settings.data_dir)
        listed = self._look(known)
        if listed != known:
            rejected_list.write(self._settings.data_dir, listed)
        self._listed = listed
        listed = self._tell_receivers(listed)
        self._tell_outbox(listed)
        if not self._is_fresh():
            self._due = now + self._settings.rescan_seconds

    # The folder.

    def _has_changed(self) -> bool:
        if self._others() != self._seen_elsewhere:
            return True
        return any(_changed_ns(folder) != changed for folder, changed in self._folders.items())

    def _is_fresh(self) -> bool:
        """Tell whether a folder changed so lately that it may change again without another time stamp."""
        now = time.time()
        return any(0 <= now - changed / 1e9 < FRESH_SECONDS for changed in self._folders.values())

    def _look(self, known: RejectedList | None) -> RejectedList:
        """Return the list as it should be now."""
        before = {record.path: record for record in known.files} if known else {}
        told = {(record.name, record.rejected_at) for record in before.values() if record.told}
        untold = {(record.name, record.rejected_at): record for record in before.values() if not record.told}
        found = [file for file in rejected_files(self._settings.inbox_dir) if file.own_bytes is not None]
        records = []
        for file in found:
            record = before.pop(shown(file.path), None)
            if record is None or record.written_at != timestamp(file.since) or record.note is Note.OUTDATED:
                record = self._read(file)
            records.append(record)
        for record in self._seen_elsewhere:
            # Also if it was moved since; what may have been told before a kill is told to the byte as it was then.
            record = replace(record, told=(record.name, record.rejected_at) in told)
            record = untold.get((record.name, record.rejected_at), record)
            earlier = before.pop(record.path, None)
            if earlier is not None and earlier.note is not Note.OUTDATED and _is_same(earlier, record):
                record = earlier
            records.append(record)
        newest = sorted(records, key=lambda record: (record.rejected_at, record.path), reverse=True)[:MOST_FILES]
        if known is None:
            newest = [_known_before(record) if record.rejected_at < self._began else record for record in newest]
        elif len(known.files) >= MOST_FILES:  # those that were too many to be listed are not new
            oldest = min(record.rejected_at for record in known.files)
            newest = [_known_before(record) if record.rejected_at < oldest else record for record in newest]
        names = {record.name for record in newest}
        gone = [replace(record, note=Note.OUTDATED) for record in before.values() if record.name not in names]
        return RejectedList((*newest, *gone), len(records))

    def _read(self, file: RejectedFile) -> RejectedRecord:
        reason = read_reason(self._settings.inbox_dir, file)
        path, rejected_at, written_at = shown(file.path), timestamp(reason.time), timestamp(file.since)
        size_bytes = file.own_bytes or 0
        return RejectedRecord(reason.name, path, reason.text, rejected_at, size_bytes, written_at, told=False)

    # Those who are told of events.

    def _tell_receivers(self, listed: RejectedList) -> RejectedList:
        """Have new records told as events; a kill before that is noted here has the same events told again."""
        if not (new := [record for record in listed.files if not record.told]):
            return listed
        self._announce(new)
        failpoint("rejections.told")
        self._listed = replace(listed, files=tuple(replace(record, told=True) for record in listed.files))
        rejected_list.write(self._settings.data_dir, self._listed)
        return self._listed

    # The outbox.

    def _tell_outbox(self, listed: RejectedList) -> None:
        """Publish and remove notes; what was done is kept even if the next one fails."""
        told: dict[str, RejectedRecord] = {}
        names: set[str] = set()
        try:
            for record in listed.files:
                if record.note is Note.PUBLISHED:
                    continue
                if self._stopping.is_set():
                    return
                if record.note is Note.OUTDATED:
                    self._outbox.withdraw_note(record.name)
                elif record.name not in names:  # the newest of a name comes first
                    self._publish(record)
                names.add(record.name)
                told[record.path] = record
        finally:
            if told:
                self._keep(listed, told)

    def _keep(self, listed: RejectedList, told: dict[str, RejectedRecord]) -> None:
        files = [
            _published(record) if record == told.get(record.path) else record
            for record in listed.files
            if record.note is not Note.OUTDATED or record != told.get(record.path)
        ]
        self._listed = replace(listed, files=tuple(files))
        rejected_list.write(self._settings.data_dir, self._listed)

    def _publish(self, record: RejectedRecord) -> None:
        try:
            self._outbox.publish_note(
                record.name, record.reason, datetime.fromisoformat(record.rejected_at).timestamp()
            )
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR):
                raise
            log.warning("The outbox cannot be told why %s was rejected: %s", record.name, error.strerror)


def _known_before(record: RejectedRecord) -> RejectedRecord:
    return replace(record, note=Note.PUBLISHED, told=True)


def _is_same(earlier: RejectedRecord, record: RejectedRecord) -> bool:
    return replace(earlier, note=record.note, told=record.told) == record


def _published(record: RejectedRecord) -> RejectedRecord:
    return replace(record, note=Note.PUBLISHED)


def _changed_ns(folder: Path) -> int:
    try:
        return os.stat(folder, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0


def _folders_below(root: Path) -> list[Path]:
    return [root, *(Path(above, name) for above, names, _ in os.walk(root) for name in names)]
