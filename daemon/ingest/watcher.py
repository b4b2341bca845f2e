"""Watch: inotify over the inbox, and the proof that its events arrive. The only file that knows watchdog.

Of watchdog this takes the layer that reads inotify (``InotifyFD``), one thread for the whole inbox. Its
observers start a thread for each watched folder, and hold all events for half a second behind a file that was
moved out; each file we take in is moved out. Its PollingObserver keeps every file in memory, and its thread
dies of a deep tree or a passing error.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from daemon.fs.identity import shown

CANARY = ".dropframe-canary"
CANARY_SECONDS = 20.0
"""Longest time between two proofs that events arrive."""
CANARY_PATIENCE_SECONDS = 5.0

_MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
"""Not IN_MODIFY, which a fast writer sends by the thousand, nor IN_OPEN and IN_MOVED_FROM, which we cause."""


@dataclass
class Hints:
    """What events said since the last time they were collected."""

    files: dict[str, bool] = field(default_factory=dict)
    """Path, and whether a writer closed it."""
    folders: dict[str, None] = field(default_factory=dict)
    overflow: bool = False

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.overflow)


class Watch:
    """One inotify instance over the inbox; its thread only collects hints.

    Raises:
        OSError: the limit of instances is reached.
    """

    def __init__(self, root: Path, wake: Callable[[], None], failures: int = 0) -> None:
        self._root = root
        self._wake = wake
        self.failures = failures
        """How many proofs in a row have failed."""
        self.arrived_at: float | None = None
        """When the latest canary whose event arrived was touched."""
        self._sent_at: float | None = None
        self._before = 0
        self._late_since: float | None = None
        self._lock = threading.Lock()
        self._folders: dict[WatchDescriptor, tuple[str, CallbackId]] = {}
        self._watched: set[str] = set()
        self._ids = itertools.count(1)
        self._hints = Hints()
        self._canaries = 0
        self._inotify = InotifyFD()
        self._inotify.start()

    def add(self, folder: str) -> None:
        """Watch a folder below the root ("" is the root); doing it twice is harmless.

        Raises:
            OSError: ENOSPC if the limit of watches is reached.
        """
        with self._lock:
            if folder in self._watched:
                return
        callback_id = CallbackId(next(self._ids))
        path = os.fsencode(os.path.join(os.path.realpath(self._root), folder))
        descriptor = self._inotify.add_callback(path, _MASK, self, callback_id)
        if descriptor == -1:  # watchdog reports a folder that may not be read like this
            raise PermissionError(f"{shown(folder)} may not be read.")
        with self._lock:
            before = self._folders.get(descriptor)
            if before is not None:
                self._watched.discard(before[0])
            self._folders[descriptor] = (folder, callback_id)
            self._watched.add(folder)
        if before is not None:  # the folder was renamed: the kernel knows it by its inode
            self._inotify.remove_callbacks([(descriptor, before[1])])

    def on_event(self, event: InotifyEvent) -> None:
        """See watchdog's WatchCallback; runs in its thread."""
        with self._lock:
            folder, _ = self._folders.get(event.wd, (None, None))
            if folder is None:  # being added just now; a scan follows
                return
            path = os.path.join(folder, os.fsdecode(event.name)) if event.name else folder
            if path == CANARY:
                self._canaries += 1
                return
            if event.is_delete_self or event.is_move_self:
                self._hints.folders[os.path.dirname(folder)] = None
                if event.is_move_self:
                    self._watched.discard(folder)
                    self._folders[event.wd] = ("\0moved", self._folders[event.wd][1])
            elif event.is_directory or not event.name:
                self._hints.folders[path] = None
            else:
                self._hints.files[path] = self._hints.files.get(path, False) or event.is_close_write
        self._wake()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """See watchdog's WatchCallback; runs in its thread."""
        with self._lock:
            folder, _ = self._folders.pop(wd, ("", None))
            self._watched.discard(folder)
            self._hints.folders[os.path.dirname(folder)] = None
        self._wake()

    def on_queue_overflow(self) -> None:
        """See watchdog's WatchCallback; runs in its thread."""
        with self._lock:
            self._hints.overflow = True
        self._wake()

    def pending(self) -> bool:
        """Tell whether there are hints."""
        with self._lock:
            return bool(self._hints)

    def collect(self) -> Hints:
        """Return the hints since the last call."""
        with self._lock:
            hints, self._hints = self._hints, Hints()
        return hints

    def stop(self) -> None:
        """End the thread."""
        self._inotify.stop()
        self._inotify.join(5)

    def prove(self, now: float, rescan_seconds: float) -> bool:
        """Touch the canary when it is time, and see whether the last touch arrived.

        A thread that lives proves nothing; one that has died is known at once.

        Args:
            now: Monotonic time in seconds.
            rescan_seconds: A proof is made at least this often.

        Returns:
            False if events do not arrive.
        """
        if not self._inotify.is_alive():
            self.failures += 1
            return False
        if self._sent_at is None:
            self._touch(now)
        elif not self._waiting:
            if self._before >= 0:
                self.arrived_at, self.failures = self._sent_at, 0
            if now - self._sent_at >= min(CANARY_SECONDS, rescan_seconds):
                self._touch(now)
        elif now - self._sent_at >= CANARY_PATIENCE_SECONDS:
            # A second look a moment later: we may have been stopped, with the event waiting to be read.
            if self._late_since is None:
                self._late_since = now
            elif now - self._late_since >= 1:
                self.failures += 1
                return False
        return True

    def proof_due(self, rescan_seconds: float) -> float:
        """Return the monotonic time at which ``prove`` should be called next."""
        if self._sent_at is None:
            return 0.0
        if not self._waiting:
            return self._sent_at + min(CANARY_SECONDS, rescan_seconds)
        if self._late_since is not None:
            return self._late_since + 1
        return self._sent_at + CANARY_PATIENCE_SECONDS

    @property
    def _waiting(self) -> bool:
        return self._canaries == self._before

    def _touch(self, now: float) -> None:
        self._sent_at, self._late_since, self._before = now, None, self._canaries
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            os.close(os.open(self._root / CANARY, flags, 0o644))
        except OSError:  # read-only or full: nothing can be proved, and nothing can be dropped either
            self._before = -1
