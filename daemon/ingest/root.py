"""InboxRoot: which folder the inbox is, on which file system, whether it can be reached, and how it is watched."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from daemon.errors import MachineError
from daemon.fs import mounts
from daemon.fs.mounts import is_remote, mount_of
from daemon.ingest.owner import InboxOwner
from daemon.ingest.watcher import CANARY, Hints, Watch
from daemon.logs import LogOnce
from daemon.settings import Settings

log = logging.getLogger(__name__)

INOTIFY_LIMITS = {errno.ENOSPC: "fs.inotify.max_user_watches", errno.EMFILE: "fs.inotify.max_user_instances"}
"""The kernel's settings that are too low, by the errors with which it says so."""


class Problems:
    """What is wrong with the inbox, by what has the problem; each is logged when it begins and when it changes."""

    def __init__(self) -> None:
        self._sentences: dict[str, str] = {}
        self._log: dict[str, LogOnce] = defaultdict(lambda: LogOnce(log))

    def set(self, about: str, sentence: str) -> None:
        """Note that something is wrong."""
        self._sentences[about] = sentence
        self._log[about](sentence)

    def solve(self, about: str) -> bool:
        """Note that it is not any more; tell whether it was."""
        self._log.pop(about, None)
        return self._sentences.pop(about, None) is not None

    def __contains__(self, about: str) -> bool:
        return about in self._sentences

    def __str__(self) -> str:
        return " ".join(list(self._sentences.values()))


class InboxRoot:
    """The inbox folder, which may be on a share that comes and goes, and the watch over it.

    Args:
        settings: Where the inbox is, and whether it is to be watched.
        wake: Called from another thread when there are events.
        problems: Gets what is wrong.
    """

    def __init__(self, settings: Settings, wake: Callable[[], None], problems: Problems) -> None:
        self._settings = settings
        self._wake = wake
        self._problems = problems
        self.path: Path = settings.inbox_dir
        self.online = False
        """Whether the folder could be reached by the latest ``attach``."""
        self.watch: Watch | None = None
        """None while the inbox is polled."""
        self.needs_scan = True
        """Whether events may have been missed since a full scan began."""
        self._owner = InboxOwner(settings)
        self._identity: tuple[int, int] | None = None
        self._known_mount = mounts.known(settings.data_dir, self.path)
        self._mount = self._known_mount or mount_of(self.path)

    def startup(self) -> None:
        """Make the folder, unless it is on a share.

        Raises:
            OSError: the folder cannot be made.
        """
        if self._known_mount is None:
            self.path.mkdir(parents=True, exist_ok=True)

    def shutdown(self) -> None:
        """End watching, and let another Dropframe have it."""
        self._owner.release()
        self._stop_watching()
        with contextlib.suppress(OSError):
            (self.path / CANARY).unlink()

    @property
    def file_system(self) -> str:
        """The file system's name as the kernel says it, such as ``ext4`` or ``nfs4``."""
        return self._mount.kind

    @property
    def trusts_locks(self) -> bool:
        """Whether this kernel knows of all who write to a file."""
        return not is_remote(self._mount.kind)

    @property
    def refused(self) -> bool:
        """Whether another Dropframe had it when that was looked at."""
        return "owner" in self._problems

    def require_ownership(self) -> None:
        """Take a folder that can be reached for this home.

        Raises:
            MachineError: another Dropframe has it; one that is not heard of any more is waited for.
        """
        if not self.is_ours() and self._owner.was_heard_of():
            self._stop_watching()
            raise MachineError(str(self._problems))

    def is_ours(self) -> bool:
        """Take the folder, or look whether another Dropframe has it; if so, that is a problem."""
        refusal = self._owner.refusal(on_share=not self.trusts_locks) if self.online else None
        if refusal:
            self._problems.set("owner", refusal)
        elif self._problems.solve("owner"):
            log.info("The inbox %s belongs to this Dropframe now.", self.path)
        return not refusal

    def refresh_ownership(self) -> None:
        """Say that the inbox is in use; called again and again during what takes long."""
        self._owner.refresh(on_share=not self.trusts_locks)

    def attach(self) -> bool:
        """See whether the folder can be reached, and begin to watch one that is new or back.

        Returns:
            Whether nobody has looked at it until now, so that nobody knows that its files were quiet.
        """
        try:
            status = os.stat(self.path)
            identity = (status.st_dev, status.st_ino)
            is_new = identity != self._identity
            if is_new:
                mount = mount_of(self.path)
                if mount.has_lost(self._mount):  # the share's empty mount point is not the share
                    raise OSError(f"nothing is mounted on {self._mount.point}")
                self._mount = mount
        except OSError as error:
            self._problems.set("root", f"The inbox {self.path} is offline: {error.strerror or error}.")
            self._stop_watching()
            self.online = False
            return False
        if self.online and not is_new:
            return False
        self._identity = identity
        self.online = True
        self._owner.forget()
        if self._problems.solve("root"):
            log.info("The inbox %s is online again.", self.path)
        self._begin_watching()
        return True

    def collect(self) -> Hints:
        """Return what events have said since the last call."""
        return Hints() if self.watch is None else self.watch.collect()

    def watch_folder(self, folder: str) -> None:
        """Watch a folder below the inbox too, if there is a watch."""
        if self.watch is None:
            return
        try:
            self.watch.add(folder)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # gone again, or reading it will say so
        except OSError as error:
            self._give_up_events(f"Not all folders can be watched ({_why(error)}), so the inbox is polled.")

    def prove_events(self, now: float) -> None:
        """See whether events arrive; if not, watch anew, and the second time poll.

        Args:
            now: Monotonic time in seconds.
        """
        if self.watch is None or self.watch.prove(now, self._settings.rescan_seconds):
            return
        failures = self.watch.failures
        if failures > 1:
            self._give_up_events("Events do not arrive, so the inbox is polled.")
            return
        log.warning("A test event did not arrive in the inbox; watching starts anew.")
        self._stop_watching()
        self._start_watching(failures)
        self.needs_scan = True

    def events_due(self) -> float | None:
        """Return the monotonic time at which events want to be collected or proved; None if there is no watch."""
        if self.watch is None:
            return None
        return 0.0 if self.watch.pending() else self.watch.proof_due(self._settings.rescan_seconds)

    def _begin_watching(self) -> None:
        self._stop_watching()
        self.needs_scan = True
        wanted = self._settings.watch
        if wanted == "events" or (wanted == "auto" and not is_remote(self._mount.kind)):
            self._problems.solve("watch")
            self._start_watching()

    def _start_watching(self, failures: int = 0) -> None:
        try:
            self.watch = Watch(self.path, self._wake, failures)
            self.watch.add("")
        except OSError as error:
            self._give_up_events(f"Events cannot be had ({_why(error)}), so the inbox is polled.")

    def _stop_watching(self) -> None:
        if self.watch is not None:
            self.watch.stop()
        self.watch = None

    def _give_up_events(self, sentence: str) -> None:
        self._stop_watching()
        self.needs_scan = True
        self._problems.set("watch", sentence)


def _why(error: OSError) -> str:
    limit = INOTIFY_LIMITS.get(error.errno or 0)
    return f"{error.strerror or error}{f'; raise {limit}' if limit else ''}"
