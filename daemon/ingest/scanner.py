"""Scanner: which files there are. An event is a hint; a scan is the truth.

Events make Dropframe quick; losing any of them only makes it slower. Without events our own scan is what polls.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Container, Generator, Iterator
from dataclasses import dataclass

from daemon.fs.folders import Folders
from daemon.fs.identity import identity_of, shown
from daemon.ingest.model import REJECTED_FOLDER
from daemon.ingest.names import is_ignored, is_ignored_folder
from daemon.ingest.root import InboxRoot, Problems
from daemon.jobs import Identity
from daemon.logs import LogOnce
from daemon.settings import Settings

log = logging.getLogger(__name__)

MAX_DEPTH = 5
"""Folders below the inbox that are looked into."""
TOO_DEEP = f"Folders more than {MAX_DEPTH} deep are not looked into; move their videos higher up."


@dataclass(frozen=True)
class Sighting:
    """A file that wants to be looked at."""

    path: str
    """Below the inbox, "/" between its parts."""
    identity: Identity | None = None
    """The content that a scan saw; an event says nothing of it."""
    closed: bool = False
    """Whether a writer has closed it."""


class Scanner:
    """Finds files by events and scans.

    Args:
        settings: How often to scan, and names to ignore.
        root: The folder.
        problems: Gets what is wrong.
        clock: Monotonic time in seconds.
        answered: Called whenever the folder has answered.
    """

    def __init__(
        self,
        settings: Settings,
        root: InboxRoot,
        problems: Problems,
        clock: Callable[[], float],
        answered: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._root = root
        self._problems = problems
        self._clock = clock
        self._answered = answered
        self._due = 0.0
        self._ended = clock()
        """When a scan came to its end, good or not; the start, if none has yet."""
        self.last_good: float | None = None
        """When the last full scan began that worked."""
        self.overflows = 0
        """How often the kernel dropped events."""
        self.too_deep: tuple[str, ...] = ()
        """Folders that the latest full scan found below those that are looked into, in order."""
        self._found_deep: set[str] = set()
        self._log_depth = LogOnce(log)

    def due(self) -> float:
        """Return the monotonic time at which ``sightings`` should be called next."""
        if self._root.needs_scan:
            return 0.0
        events = self._root.events_due()
        return self._due if events is None else min(self._due, events)

    def is_stuck(self, longest_seconds: float, now: float) -> bool:
        """Tell whether no scan has come to its end for that long although the inbox can be reached.

        A scan that was no good, for a folder that cannot be read, came to its end: a new start would mend nothing.
        """
        return self._root.online and now - self._ended > longest_seconds

    def sightings(self, now: float, known: Container[str]) -> Iterator[Sighting]:
        """Yield what events told of and, when one is due, what a scan finds. Never raises for what the disk does.

        Args:
            now: Monotonic time in seconds.
            known: Paths of which a scan need not tell.
        """
        hints = self._root.collect()
        if hints.overflow:
            self.overflows += 1
            log.info("The kernel dropped file events; the whole inbox is scanned.")
            self._root.needs_scan = True
        for path, closed in hints.files.items():
            if path in known or not self._skipped(path):
                yield Sighting(path, closed=closed)
        if self._root.needs_scan or now >= self._due:
            yield from self._scan_all(now, known)
        else:
            for folder in hints.folders:
                if not self._skipped(folder, is_folder=True):
                    yield from self._scan(folder, known)

    def _scan_all(self, now: float, known: Container[str]) -> Iterator[Sighting]:
        self._root.needs_scan = False
        self._found_deep.clear()
        good = yield from self._scan("", known)
        self._ended = self._clock()
        if good:
            self.last_good = now
            self._report_depth()
        polls = self._root.watch is None or not good
        self._due = now + (self._settings.poll_seconds if polls else self._settings.rescan_seconds)

    def _scan(self, start: str, known: Container[str]) -> Generator[Sighting, None, bool]:
        """Look into a folder and those below it; return whether it was read as far as that is ours to do."""
        pending = [start]
        good = True
        unreadable: dict[str, str] = {}
        with Folders(self._root.path) as folders:
            while pending:
                folder = pending.pop()
                try:
                    for path, entry in self._entries(folder, folders):
                        if entry.is_dir(follow_symlinks=False):
                            if self._is_shallow(path):
                                pending.append(path)
                        elif path not in known:
                            with contextlib.suppress(OSError):  # gone again
                                yield Sighting(path, identity_of(entry.stat(follow_symlinks=False)))
                except (FileNotFoundError, NotADirectoryError):
                    good = good and folder != ""
                except OSError as error:  # a folder that is not ours to read does not spoil a scan, a failing disk does
                    good = good and folder != "" and error.errno != errno.EIO
                    unreadable[folder] = error.strerror or str(error)
        self._report(unreadable, everything=not start)
        return good

    def _entries(self, folder: str, folders: Folders) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield what is in a folder and may be touched, with its path; see to it that the folder is watched."""
        if folder:
            self._root.watch_folder(folder)
        with os.scandir(folders.get(folder)) as entries:
            self._answered()
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not self._skipped(path, entry.is_dir(follow_symlinks=False)):
                    yield path, entry

    def _is_shallow(self, path: str) -> bool:
        """Tell whether a folder is looked into, or lies too deep for that."""
        if path.count("/") < MAX_DEPTH:
            return True
        self._found_deep.add(path)
        return False

    def _report_depth(self) -> None:
        """Tell of folders that lie too deep: in the log once, among what waits for as long as they are there."""
        self.too_deep = tuple(sorted(self._found_deep))
        if self.too_deep:
            self._log_depth(f"{TOO_DEEP} The first one is {shown(self.too_deep[0])[:200]}.")
        else:
            self._log_depth.solved()

    def _report(self, unreadable: dict[str, str], everything: bool) -> None:
        """Tell of the folders that could not be read: one sentence a scan, the same each time."""
        if unreadable:
            first = min(unreadable)
            others = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
            name = shown(first) or "itself"
            self._problems.set("scan", f"The inbox folder {name}{others} cannot be read: {unreadable[first]}.")
        elif everything:
            self._problems.solve("scan")

    def _skipped(self, path: str, is_folder: bool = False) -> bool:
        parts = path.split("/")
        if len(parts) > MAX_DEPTH + 1 or parts[0].lower() == REJECTED_FOLDER or "\0" in path:
            return True
        name = parts.pop()
        if is_folder:
            parts.append(name)
        elif is_ignored(name, self._settings.ignore):
            return True
        return bool(path) and any(is_ignored_folder(part, self._settings.ignore) for part in parts)
