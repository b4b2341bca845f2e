"""InboxOwner: an inbox belongs to one Dropframe, which says so in a hidden file.

On a local disk a lock on that file decides (flock(2)): it goes with its process, however that ends. A share's locks may
reach no further than this machine (FUSE, NFS with local_lock) or forbid reading (CIFS), so the file is also written
anew every few seconds, and on a share it is taken over once nobody has done so for long. The clocks of two machines
are never compared for that: what counts is how long this one has seen the file stand still.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from daemon.fs.atomic import atomic_write
from daemon.fs.identity import shown
from daemon.fs.locks import fcntl
from daemon.jobs import utc_now
from daemon.logs import LogOnce
from daemon.settings import Settings

log = logging.getLogger(__name__)

OWNER = ".dropframe-owner"
HOME_ID = "home-id"
"""In the data folder: tells this home from others whose folders have the same names, as in containers."""
BEAT_SECONDS = 10.0
"""Between two writings of the file."""
STALE_SECONDS = 120.0
"""After so long without a new one the owner on a share is taken for gone."""
MAX_OWNER_BYTES = 16_384
PADDED_BYTES = 1024
"""So that a file that is written over is never seen with the end of the one before."""


def awake_and_asleep() -> float:
    """Seconds since the machine started, those during which it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Owner:
    """What the file says."""

    home_id: str
    token: str
    """Of the process; another one writes another."""
    host: str
    pid: int
    home: str
    since: str
    beat: int = 0
    """Goes up with each writing."""


def sentence(inbox: Path, owner: Owner | None) -> str:
    """Say who has the inbox, as far as that is known, and what to do."""
    who = ""
    if owner is not None:
        place = f"home {shown(owner.home)} on {shown(owner.host)}"
        who = f" ({place}, process {owner.pid}, since {shown(owner.since)[:19]} UTC)"
    return (
        f"The inbox {shown(str(inbox))} belongs to another Dropframe{who}, and two would take the same files. "
        "Give this one an inbox of its own (setting inbox_dir), or stop the other."
    )


class InboxOwner:
    """Takes the inbox for this home, and keeps it. One thread uses it.

    Args:
        settings: Of the home.
        clock: Seconds; goes on while the machine is suspended.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = awake_and_asleep) -> None:
        self._inbox = settings.inbox_dir
        self._path = settings.inbox_dir / OWNER
        self._data_dir = settings.data_dir
        self._clock = clock
        self._me = Owner(
            home_id="",
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            home=str(settings.home),
            since=utc_now(),
        )
        self._due = 0.0
        self._beats = 0
        self._lock: int | None = None
        self._holds = False
        self._was_lost = False
        """Whether another process took it from this one: then its home's name is no title any more."""
        self._other: Owner | None = None
        self._other_since = 0.0
        """Since when the file of the other stands still."""
        self._problem: str | None = None
        self._log_unlocked = LogOnce(log)

    def refusal(self, on_share: bool) -> str | None:
        """Take the inbox, or look whether it is still this home's, if it is time.

        Args:
            on_share: Whether others can write to it without this kernel knowing.

        Returns:
            None if its files may be taken; else who has it, in a sentence or two.
        """
        now = self._clock()
        if now < self._due:
            return self._problem
        self._due = now + BEAT_SECONDS
        if not self._me.home_id:
            with contextlib.suppress(OSError):  # a data disk that cannot be written now; the lock is held all the same
                self._me = replace(self._me, home_id=home_id(self._data_dir))
        try:
            self._problem = self._by_heartbeat(now) if on_share else self._by_lock(now)
            self._log_unlocked.solved()
        except OSError as error:
            if not self._holds and self._problem is None:  # such as one that may only be read
                self._log_unlocked(
                    f"Nothing keeps another Dropframe from using the inbox {shown(str(self._inbox))} as well: "
                    f"{OWNER} cannot be written there ({error.strerror})."
                )
        return self._problem

    def was_heard_of(self) -> bool:
        """Tell whether another owner has written the file lately, by the clock of the machine that it is on."""
        try:
            with self._written() as probe:
                return probe.stat().st_mtime - self._path.stat().st_mtime < STALE_SECONDS
        except OSError:
            return True

    def refresh(self, on_share: bool) -> None:
        """Say that this process is there; called again and again during a long copy."""
        if self._holds:
            self.refusal(on_share)

    def forget(self) -> None:
        """Take it anew at the next call: another folder is there now."""
        self._unlock()
        self._holds, self._due, self._other = False, 0.0, None

    def release(self) -> None:
        """Let another have the inbox."""
        with contextlib.suppress(OSError):
            if self._holds and (self._lock is not None or self._is_mine(self._read())):
                self._path.unlink()
        self.forget()

    # A local disk.

    def _by_lock(self, now: float) -> str | None:
        if self._lock is None or not self._is_in_place(self._lock):
            self._unlock()
            if refusal := self._take_lock(now):
                self._was_lost = self._was_lost or self._holds
                self._holds = False
                return refusal
        if self._lock is not None:
            self._holds = True
            self._introduce(self._lock)
        return None

    def _take_lock(self, now: float) -> str | None:
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_in_place(descriptor):
                    return self._keep_lock(descriptor, now)
            except BlockingIOError:
                there = _parsed(os.pread(descriptor, MAX_OWNER_BYTES, 0))
                return None if there is not None and self._is_this_process(there) else sentence(self._inbox, there)
            finally:
                if descriptor != self._lock:
                    os.close(descriptor)

    def _keep_lock(self, descriptor: int, now: float) -> str | None:
        """Keep a lock, unless another machine, to which this folder is a share, writes the file."""
        there = _parsed(os.pread(descriptor, MAX_OWNER_BYTES, 0))
        if there is not None and there.host != self._me.host and not self._is_free(there, now):
            return sentence(self._inbox, there)
        self._lock, self._other = descriptor, None
        return None

    def _is_this_process(self, there: Owner) -> bool:
        return (there.host, there.pid, there.home_id) == (self._me.host, self._me.pid, self._me.home_id)

    def _open(self) -> int:
        """Open the file for reading, or its disk could not be made read-only while this runs; make it if need be."""
        flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with contextlib.suppress(PermissionError):  # another user's; the lock is all that counts
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | flags, 0o644))
        descriptor = os.open(self._path, os.O_RDONLY | flags)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a regular file")
        return descriptor

    def _is_in_place(self, descriptor: int) -> bool:
        """Tell whether a file that is open still has its name, and another has not been put there."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path, follow_symlinks=False))
        return False

    def _introduce(self, locked: int) -> None:
        """Say in the file who has the lock, unless the file is known by another name too, and not ours."""
        self._beats += 1
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # read-only, or the disk is full
            descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            status = os.fstat(descriptor)
            if os.path.samestat(status, os.fstat(locked)) and status.st_nlink == 1:
                os.ftruncate(descriptor, os.pwrite(descriptor, self._text(), 0))

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    # A share.

    def _by_heartbeat(self, now: float) -> str | None:
        there = self._read()
        if there is None:
            there = self._make()
        elif self._is_mine(there) or self._is_free(there, now):
            self._write()
            there = None
        if there is None:
            self._holds, self._other = True, None
            return None
        if self._holds:
            self._holds, self._was_lost = False, True
        return sentence(self._inbox, there)

    def _is_mine(self, there: Owner | None) -> bool:
        return there is not None and there.token == self._me.token

    def _is_free(self, there: Owner, now: float) -> bool:
        """Tell whether the owner is an earlier process of this home, or has not been heard of for long."""
        is_this_home = (there.home_id, there.home) == (self._me.home_id, self._me.home)
        if is_this_home and not (self._holds or self._was_lost):
            return True
        if there != self._other:
            self._other, self._other_since = there, now
        return now >= self._other_since + STALE_SECONDS

    def _read(self) -> Owner | None:
        """Return what the file says; None if there is none, or it says nothing.

        Raises:
            OSError: it cannot be read.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            return _parsed(os.read(descriptor, MAX_OWNER_BYTES))
        finally:
            os.close(descriptor)

    def _make(self) -> Owner | None:
        """Make the file; return who was quicker, if somebody was.

        Raises:
            OSError: it cannot be written.
        """
        with self._written() as temporary:
            try:
                os.link(temporary, self._path)
            except FileExistsError:
                if (other := self._read()) is not None:
                    return other
                temporary.replace(self._path)  # it said nothing
            except OSError:  # a share that does not know hard links
                temporary.replace(self._path)
        return None

    def _write(self) -> None:
        """Write the file anew.

        Raises:
            OSError: it cannot be written.
        """
        with self._written() as temporary:
            temporary.replace(self._path)

    @contextlib.contextmanager
    def _written(self) -> Iterator[Path]:
        """Write what is to be the file under another name, which is gone afterwards."""
        self._beats += 1
        temporary = self._path.with_name(f"{OWNER}.{self._me.home_id}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o644), "wb") as file:
            file.write(self._text())
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _text(self) -> bytes:
        return json.dumps(asdict(self._me) | {"beat": self._beats}).encode().ljust(PADDED_BYTES)


def _parsed(text: bytes) -> Owner | None:
    try:
        values = json.loads(text)
        texts = {name: str(values[name]) for name in ("home_id", "token", "host", "home", "since")}
        return Owner(**texts, pid=int(values["pid"]), beat=int(values["beat"]))
    except (ValueError, KeyError, TypeError):
        return None


def home_id(data_dir: Path) -> str:
    """Return what tells a home from all others, made once.

    Raises:
        OSError: the data folder cannot be written.
    """
    path = data_dir / HOME_ID
    with contextlib.suppress(FileNotFoundError):
        if text := path.read_text(encoding="ascii", errors="replace").strip():
            return text
    text = uuid.uuid4().hex
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())
    return text
