"""Inbox: events, scans and time become files that are whole.

An event is a hint; a scan is the truth. Events make Dropframe quick; losing any of them only makes it slower.
Without events our own scan is what polls.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from daemon.fs import mounts
from daemon.fs.folders import Folders
from daemon.fs.identity import identity_of, shown
from daemon.fs.mounts import is_remote, mount_of
from daemon.ingest.model import REJECTED_FOLDER, Dropped, InboxHealth, WaitingFile
from daemon.ingest.stability import OPTIONS_SUFFIX, Stability, TrackedFile, is_ignored, is_options_name
from daemon.ingest.watcher import CANARY, Watch
from daemon.settings import Settings

log = logging.getLogger(__name__)

MAX_DEPTH = 5
"""Folders below the inbox that are looked into."""
LOOKS_A_STEP = 1000
"""Most files looked at in one step, so that the first of a great many do not wait for the last."""
OFFER_AGAIN_SECONDS = 5.0
"""A file that was handed out and is still there is handed out again after this long, doubling up to 20 s."""
SHOWN_WAITING = 50


class Inbox:
    """The drop folder. One thread calls ``poll`` whenever ``wake`` was called or ``next_due`` has passed.

    Args:
        settings: Where the inbox is and how patient it is.
        wake: Called from another thread when there is something new.
        clock: Monotonic time in seconds.
        answered: Called whenever the folder has answered, so that a hang can be told from work.
    """

    def __init__(
        self,
        settings: Settings,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._root: Path = settings.inbox_dir
        self._wake = wake
        self._clock = clock
        self._answered = answered
        self._candidates: dict[str, TrackedFile] = {}
        self._agenda: list[tuple[float, int, str]] = []
        self._ticket = itertools.count()
        self._watch: Watch | None = None
        self._root_identity: tuple[int, int] | None = None
        self._known_mount = mounts.known(settings.data_dir, self._root)
        self._mount = self._known_mount or mount_of(self._root)
        self._online = False
        self._scan_due = 0.0
        self._scanned = clock()
        """When a scan came to its end, good or not; the start, if none has yet."""
        self._last_scan: float | None = None
        self._overflows = 0
        self._problems: dict[str, str] = {}
        self._events_given_up = False

    def startup(self) -> None:
        """Make the folder, unless it is on a share, and begin to watch; the first ``poll`` scans.

        Raises:
            OSError: the folder cannot be made.
        """
        if self._known_mount is None:
            self._root.mkdir(parents=True, exist_ok=True)
        self._attached(self._clock())

    def shutdown(self) -> None:
        """End watching. Nothing needs to be saved."""
        self._stop_watching()
        with contextlib.suppress(OSError):
            (self._root / CANARY).unlink()

    def poll(self, now: float) -> list[Dropped]:
        """Do what is due: act on hints, scan, look at files. Never raises for what the file system does.

        Returns:
            What can be acted on, in order of readiness, then mtime, then name. A file that is still there
            later is handed out again after some seconds, unless ``leave`` was called.
        """
        if not self._attached(now):
            return []
        closed = self._act_on_hints(now)
        if now >= self._scan_due:
            self._scan_all(now)
        self._prove_events(now)
        with Folders(self._root) as folders:
            return self._look_around(folders, now, closed)

    def next_due(self, now: float) -> float:
        """Return after how many seconds ``poll`` should be called at the latest."""
        if not self._online:
            return self._settings.poll_seconds
        if self._watch is not None and self._watch.pending():
            return 0.0
        due = [self._scan_due]
        while self._agenda and self._stale(self._agenda[0]):
            heapq.heappop(self._agenda)
        if self._agenda:
            due.append(self._agenda[0][0])
        if self._watch is not None:
            due.append(self._watch.proof_due(self._settings.rescan_seconds))
        return max(0.0, min(due) - now)

    @property
    def online(self) -> bool:
        """Whether the folder could be reached by the latest ``poll``."""
        return self._online

    def leave(self, dropped: Dropped, why: str) -> None:
        """Leave a file where it is until its content changes; ``why`` is shown in health."""
        candidate = self._candidates.get(dropped.path)
        if candidate is not None and candidate.identity == dropped.identity:
            candidate.left = candidate.why = why
            candidate.handed_out = False

    def is_stuck(self, longest_seconds: float, now: float) -> bool:
        """Tell whether no scan has come to its end for that long although the inbox can be reached.

        A scan that was no good, for a folder that cannot be read, came to its end: a new start would mend nothing.
        """
        return self._online and now - self._scanned > longest_seconds

    def health(self, now: float | None = None) -> InboxHealth:
        """Return how watching goes; callable from any thread.

        Args:
            now: Monotonic time in seconds; the present if not given.
        """
        now = self._clock() if now is None else now
        waiting = [c for c in list(self._candidates.values()) if not c.handed_out]
        oldest = sorted(waiting, key=lambda c: (c.first_seen, c.path))[:SHOWN_WAITING]
        watch = self._watch  # another thread may take it away
        arrived = None if watch is None else watch.arrived_at
        return InboxHealth(
            mode="polling" if watch is None else "events",
            file_system=self._mount.kind,
            online=self._online,
            scan_age_seconds=None if self._last_scan is None else now - self._last_scan,
            canary_age_seconds=None if arrived is None else now - arrived,
            waiting_count=len(waiting),
            waiting=tuple(
                WaitingFile(
                    path=shown(c.path),
                    size_bytes=c.identity.size if c.identity else 0,
                    age_seconds=now - c.first_seen,
                    why=c.why,
                )
                for c in oldest
            ),
            overflows=self._overflows,
            problem=" ".join(self._problems.values()) or None,
        )

    # Attaching: which folder, on which file system, watched how.

    def _attached(self, now: float) -> bool:
        try:
            status = os.stat(self._root)
            identity = (status.st_dev, status.st_ino)
            if identity != self._root_identity:
                mount = mount_of(self._root)
                if mount.has_lost(self._mount):  # the share's empty mount point is not the share
                    raise OSError(f"nothing is mounted on {self._mount.point}")
                self._attach(identity, now)
        except OSError as error:
            if self._online or "root" not in self._problems:
                self._problem("root", f"The inbox {self._root} is offline: {error.strerror or error}.")
            self._stop_watching()
            self._online = False
            return False
        if not self._online:
            if self._watch is None and not self._events_given_up:
                self._attach(identity, now)
            self._scan_due = now
        self._online = True
        self._solved("root")
        return True

    def _attach(self, identity: tuple[int, int], now: float) -> None:
        self._stop_watching()
        self._mount = mount_of(self._root)
        self._events_given_up = False
        wanted = self._settings.watch
        if wanted == "events" or (wanted == "auto" and not is_remote(self._mount.kind)):
            self._solved("watch")
            self._start_watching()
        self._root_identity = identity
        self._scan_due = now
        for candidate in self._candidates.values():  # nobody looked meanwhile, so nobody knows it was quiet
            candidate.changed_at = now
            self._plan(candidate, now)

    def _start_watching(self, failures: int = 0) -> None:
        try:
            self._watch = Watch(self._root, self._wake, failures)
            self._watch.add("")
        except OSError as error:
            self._give_up_events(f"Events cannot be had ({error.strerror or error}), so the inbox is polled.")

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._watch = None

    def _give_up_events(self, sentence: str) -> None:
        self._stop_watching()
        self._events_given_up = True
        self._scan_due = 0.0
        self._problem("watch", sentence)

    # Scanning.

    def _act_on_hints(self, now: float) -> set[str]:
        """Turn hints into looks and scans; return the paths that a writer has closed."""
        if self._watch is None:
            return set()
        hints = self._watch.collect()
        if hints.overflow:
            self._overflows += 1
            log.info("The kernel dropped file events; the whole inbox is scanned.")
            self._scan_due = now
        for path in hints.files:
            self._hinted(path, now)
        if now < self._scan_due:
            for folder in hints.folders:
                if not self._skipped(folder):
                    self._scan(folder, now)
        return {path for path, closed in hints.files.items() if closed}

    def _scan_all(self, now: float) -> None:
        good = self._scan("", now)
        self._scanned = self._clock()
        if not good:
            self._scan_due = now + self._settings.poll_seconds
            return
        self._last_scan = now
        wait = self._settings.poll_seconds if self._watch is None else self._settings.rescan_seconds
        self._scan_due = now + wait

    def _scan(self, start: str, now: float) -> bool:
        """Look into a folder and those below it; tell whether it was read as far as that is ours to do."""
        pending = [start]
        good = True
        unreadable: dict[str, str] = {}
        with Folders(self._root) as folders:
            while pending:
                folder = pending.pop()
                try:
                    if self._watch is not None and folder:
                        self._watch_folder(folder)
                    with os.scandir(folders.get(folder)) as entries:
                        self._answered()
                        for entry in entries:
                            path = f"{folder}/{entry.name}" if folder else entry.name
                            if self._skipped(path):
                                continue
                            if entry.is_dir(follow_symlinks=False):
                                if path.count("/") + 1 <= MAX_DEPTH:
                                    pending.append(path)
                                else:
                                    self._too_deep(path)
                            elif path not in self._candidates:
                                self._discovered(path, entry, now)
                except (FileNotFoundError, NotADirectoryError):
                    good = good and folder != ""
                except OSError as error:  # a folder that is not ours to read is no bad scan, one on a sick disk is
                    good = good and folder != "" and error.errno != errno.EIO
                    unreadable[folder] = error.strerror or str(error)
        if unreadable:  # one sentence a scan, the same each time, so that the log has it once
            first = min(unreadable)
            others = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
            self._problem(
                "scan", f"The inbox folder {shown(first) or 'itself'}{others} cannot be read: {unreadable[first]}."
            )
        elif not start:
            self._solved("scan")
        return good

    def _too_deep(self, path: str) -> None:
        if "depth" not in self._problems:
            self._problem(
                "depth",
                f"Folders more than {MAX_DEPTH} deep are not looked into, such as {shown(path)[:200]}.",
            )

    def _watch_folder(self, folder: str) -> None:
        assert self._watch is not None
        try:
            self._watch.add(folder)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # gone again, or reading it will say so
        except OSError as error:
            self._give_up_events(f"Not all folders can be watched ({error.strerror}), so the inbox is polled.")

    def _skipped(self, path: str) -> bool:
        parts = path.split("/")
        if len(parts) > MAX_DEPTH + 1 or parts[0] == REJECTED_FOLDER:
            return True
        return bool(path) and any("\0" in part or is_ignored(part, self._settings.ignore) for part in parts)

    def _discovered(self, path: str, entry: os.DirEntry[str], now: float) -> None:
        """Take note of a file that a scan has found; the oldest of all found are looked at first."""
        with contextlib.suppress(OSError):  # gone again
            identity = identity_of(entry.stat(follow_symlinks=False))
            candidate = TrackedFile(path, first_seen=now, changed_at=now, identity=identity)
            self._candidates[path] = candidate
            self._plan(candidate, now)

    def _hinted(self, path: str, now: float) -> None:
        candidate = self._candidates.get(path)
        if candidate is None:
            if self._skipped(path):
                return
            candidate = self._candidates[path] = TrackedFile(path, first_seen=now, changed_at=now)
        self._plan(candidate, now)

    # Looking.

    def _plan(self, candidate: TrackedFile, due: float) -> None:
        candidate.due = due
        order = candidate.identity.mtime_ns if candidate.identity else next(self._ticket)
        heapq.heappush(self._agenda, (due, order, candidate.path))

    def _stale(self, item: tuple[float, int, str]) -> bool:
        candidate = self._candidates.get(item[2])
        return candidate is None or candidate.due != item[0]

    def _look_around(self, folders: Folders, now: float, closed: set[str]) -> list[Dropped]:
        found: list[tuple[int, Dropped]] = []
        todo: dict[str, TrackedFile] = {}
        while self._agenda and self._agenda[0][0] <= now and len(todo) < LOOKS_A_STEP:
            item = heapq.heappop(self._agenda)
            if not self._stale(item):
                todo[item[2]] = self._candidates[item[2]]
        for candidate in todo.values():
            dropped = self._look(candidate, folders, now, candidate.path in closed)
            if dropped is not None:
                found.append((dropped.identity.mtime_ns, dropped))
            if candidate.path in self._candidates:
                self._plan(candidate, max(candidate.due, now))
        for path in closed - todo.keys():  # over this step's limit: what the event said must not be lost
            if path in self._candidates:
                self._candidates[path].closed_at = now
        found.sort(key=lambda pair: (pair[0], pair[1].path))
        return [dropped for _, dropped in found]

    def _look(self, candidate: TrackedFile, folders: Folders, now: float, closed: bool) -> Dropped | None:
        folder, _, name = candidate.path.rpartition("/")
        self._answered()
        try:
            descriptor = folders.get(folder)
            verdict = candidate.look(descriptor, now, self._settings, closed, self._trust_locks)
        except (FileNotFoundError, NotADirectoryError):
            verdict = Stability.GONE
        except OSError as error:
            candidate.why = f"Its folder cannot be read: {error.strerror}."
            candidate.due = now + self._settings.poll_seconds
            return None
        if verdict is Stability.GONE:
            del self._candidates[candidate.path]
            return None
        if verdict in (Stability.LEAVE, Stability.WAIT):
            self._alarm(candidate, now)
            return None
        assert candidate.identity is not None
        companion = None
        if is_options_name(name):
            video = candidate.path[: -len(OPTIONS_SUFFIX)]
            if verdict is Stability.WHOLE:
                verdict = self._lonely(candidate, video, now)
                if verdict is Stability.WAIT:
                    return None
        elif verdict is Stability.WHOLE:
            companion = candidate.path + OPTIONS_SUFFIX
            state = self._companion(companion, descriptor, now)
            if state is Stability.WAIT:
                candidate.why, candidate.due = "It waits for its options file to be complete.", now + 0.5
                return None
            companion = companion if state is Stability.WHOLE else None
        return self._offer(candidate, companion, verdict, now)

    def _offer(self, candidate: TrackedFile, companion: str | None, verdict: Stability, now: float) -> Dropped | None:
        """Hand a file out, and look again in the next step whether it is still there."""
        assert candidate.identity is not None
        if now < candidate.offer_again:
            candidate.handed_out, candidate.due = False, candidate.offer_again
            return None
        reason = candidate.why if verdict is Stability.REJECT else None
        if reason is None:
            candidate.why = "It is whole and waits to be taken in."
        candidate.offered += 1
        candidate.offer_again = now + min(OFFER_AGAIN_SECONDS * candidate.offered, 20.0)
        candidate.handed_out, candidate.due = True, now
        return Dropped(candidate.path, candidate.identity, companion, reason)

    def _companion(self, path: str, folder: int, now: float) -> Stability:
        """Look at a video's options file: GONE if it has none, WHOLE if it can be read."""
        candidate = self._candidates.get(path) or TrackedFile(path, first_seen=now, changed_at=now)
        verdict = candidate.look(folder, now, self._settings, trust_locks=self._trust_locks)
        if verdict is Stability.GONE:
            self._candidates.pop(path, None)
        elif path not in self._candidates:
            self._candidates[path] = candidate
            self._plan(candidate, candidate.due)
        if verdict is Stability.REJECT:  # empty for long: let the reader of the options say so
            return Stability.WHOLE
        return Stability.WAIT if verdict is Stability.LEAVE else verdict

    def _lonely(self, candidate: TrackedFile, video: str, now: float) -> Stability:
        patience = candidate.changed_at + self._settings.incomplete_timeout_seconds
        if video in self._candidates or now < patience:
            candidate.why, candidate.due = "It waits for its video.", now + 2
            return Stability.WAIT
        candidate.why = "It is an options file, and no video of that name came. Drop it again just before its video."
        return Stability.REJECT

    def _alarm(self, candidate: TrackedFile, now: float) -> None:
        long = now - candidate.first_seen >= self._settings.incomplete_timeout_seconds
        if candidate.open_for_writing and long and not candidate.alarmed:
            candidate.alarmed = True
            log.warning("%s waits: another program holds it open for writing.", shown(candidate.path))

    @property
    def _trust_locks(self) -> bool:
        return not is_remote(self._mount.kind)

    def _prove_events(self, now: float) -> None:
        if self._watch is None or self._watch.prove(now, self._settings.rescan_seconds):
            return
        failures = self._watch.failures
        if failures > 1:
            self._give_up_events("Events do not arrive, so the inbox is polled.")
            return
        log.warning("A test event did not arrive in the inbox; watching starts anew.")
        self._stop_watching()
        self._start_watching(failures)
        self._scan_due = now

    def _problem(self, key: str, sentence: str) -> None:
        if self._problems.get(key) != sentence:
            self._problems[key] = sentence
            log.warning("%s", sentence)

    def _solved(self, key: str) -> None:
        if self._problems.pop(key, None) and key == "root":
            log.info("The inbox %s is online again.", self._root)
