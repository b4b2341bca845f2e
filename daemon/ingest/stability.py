"""Whether a file of the inbox is whole yet. One TrackedFile per file.

Time is always an argument, in seconds of a monotonic clock; a file's mtime is compared, never believed.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from dataclasses import dataclass
from enum import StrEnum

from daemon.containers import ENDINGS, check, final_problem
from daemon.fs.identity import has_writer, identity_of, open_regular, shown
from daemon.ingest.blocks import BlockWatch
from daemon.ingest.control_files import control_file
from daemon.ingest.names import is_options_name, is_ours, is_working_name
from daemon.jobs import Identity
from daemon.mp4 import Completeness, Structure
from daemon.settings import Settings

UNKNOWN_NAME = "Its name is not that of a video"

CLOSE_CONFIRM_SECONDS = 0.2
"""A close event counts once size and mtime stayed the same this long after it: a writer may open it again."""

ENDLESS_SETTLES = 5
"""How many times ``settle_seconds`` a file must be quiet whose kind of video has no end: a pause could pass for it."""

NOT_FILES = {
    stat.S_IFLNK: "It is a symbolic link; links are never followed. Copy the file itself.",
    stat.S_IFDIR: "It is a folder, not a file; remove it.",
    stat.S_IFIFO: "It is a pipe, not a file; remove it.",
    stat.S_IFSOCK: "It is a socket, not a file; remove it.",
    stat.S_IFBLK: "It is a device, not a file; remove it.",
    stat.S_IFCHR: "It is a device, not a file; remove it.",
}


class Stability(StrEnum):
    """What a look at a file says."""

    WHOLE = "whole"
    """It can become a job; of an options file: it can be read."""

    WAIT = "wait"
    """Not yet."""

    REJECT = "reject"
    """It will never become a job; ``why`` is the reason."""

    IGNORE = "ignore"
    """It is not a regular file, or was acknowledged as ignored; it stays where it is."""

    GONE = "gone"
    """There is no such file any more."""


@dataclass
class TrackedFile:
    """What is known of one file of the inbox from looking at it again and again."""

    path: str
    """Below the inbox, "/" between its parts."""
    first_seen: float
    identity: Identity | None = None
    changed_at: float = 0.0
    """When it was first seen with the present size and mtime."""
    closed_at: float | None = None
    """When a writer closed it, if that was after its last known change."""
    touched_at: float = 0.0
    """When it was last written to, renamed, opened for writing or given other attributes, as far as is known."""
    ctime_ns: int | None = None
    """Changes with whatever is done to the file by name, and nobody can set it."""
    blocks: BlockWatch | None = None
    """Of the present content, where nothing else tells that somebody writes."""
    open_for_writing: bool = False
    structure: Structure | None = None
    """What the parts of the present content say, once looked at."""
    why: str = "It has just been seen."
    """A sentence for people: what it waits for."""
    due: float = 0.0
    """When to look again."""
    offer_again: float = 0.0
    """Before when the present content is not handed out again."""
    handed_out: bool = False
    """Whether it was handed out in the latest step, so that it may be gone by now."""
    blocked: str = ""
    """Why the present content could not be taken in the last time, if it was tried."""
    ignored: str = ""
    """Why the present content stays where it is for good, if it does."""
    kept: bool = False
    """Whether the present content is a job already and stays where it is."""
    goes_with_kept: bool = False
    """Whether it is an options file whose video is such a one."""
    warned: bool = False
    """Whether the log was told that it has been held open for long."""
    denied: bool = False
    """Whether its permissions did not let it be read at the last look."""
    kind: int = stat.S_IFREG

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def waits(self) -> bool:
        """Whether it is known to be there and not a job yet."""
        if self.kept or self.goes_with_kept:
            return False
        return not self.handed_out or bool(self.blocked or self.ignored)

    def explain(self, now: float) -> str:
        """Say what it waits for, and in how many seconds it is tried again if something is in the way.

        Args:
            now: Monotonic time in seconds.
        """
        if not self.blocked or self.why != self.blocked:
            return self.why
        why = self.why.removesuffix(" It resumes by itself.")
        return f"{why} It is tried again in {max(1, math.ceil(self.offer_again - now))} s."

    def look(
        self, folder: int, now: float, settings: Settings, closed: bool = False, trust_locks: bool = True
    ) -> Stability:
        """Look at the file once.

        Args:
            folder: Descriptor of its folder.
            now: Monotonic time in seconds.
            settings: For times and limits.
            closed: A writer has closed it since the last look.
            trust_locks: Whether this kernel knows all writers (not so on a network share).
        """
        try:
            status = os.stat(self.name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return Stability.GONE
        except OSError as error:
            return self._wait(f"It cannot be looked at: {error.strerror}.", now + settings.poll_seconds)
        self.kind = stat.S_IFMT(status.st_mode)
        if self.kind == stat.S_IFDIR:
            return Stability.GONE
        self._notice(status, now, closed)
        if self.kind != stat.S_IFREG:
            self.why = NOT_FILES.get(self.kind, "It is not a file.")
            self.due = now + settings.rescan_seconds
            return Stability.IGNORE
        if self.ignored:
            self.due = now + settings.rescan_seconds
            self.why = self.ignored
            return Stability.IGNORE
        if not is_ours(self.name) and (not _rejects_unknown(settings) or is_working_name(self.name)):
            return self._leave_alone(now, settings)
        if self.kept:
            self.due = now + settings.rescan_seconds
            return Stability.IGNORE
        return self._look_inside(folder, now, settings, trust_locks)

    def _look_inside(self, folder: int, now: float, settings: Settings, trust_locks: bool) -> Stability:
        try:
            descriptor = open_regular(self.name, folder)
        except OSError as error:
            self.denied = error.errno == errno.EACCES
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EINVAL):  # exchanged since lstat: look again
                return self._wait("It has just been exchanged.", now + 0.1)
            reason = "its permissions do not let Dropframe read it" if self.denied else error.strerror
            return self._wait(f"It cannot be read: {reason}.", now + settings.poll_seconds)
        self.denied = False
        try:
            self._notice(os.fstat(descriptor), now, closed=False)
            stability = self._judge(descriptor, now, settings, trust_locks)
            is_good = stability is Stability.WHOLE
            if (is_good or stability is Stability.REJECT) and (control := control_file(self.name, folder, is_good)):
                self.touched_at = now
                return self._wait(
                    f"It is being downloaded: {shown(control)} is beside it. If that was given up, remove both.",
                    now + settings.poll_seconds,
                )
            return stability
        except OSError as error:
            return self._wait(f"It cannot be read: {error.strerror}.", now + settings.poll_seconds)
        finally:
            os.close(descriptor)

    def _notice(self, status: os.stat_result, now: float, closed: bool) -> None:
        identity = identity_of(status)
        if status.st_ctime_ns != self.ctime_ns:
            self.ctime_ns, self.touched_at = status.st_ctime_ns, now
        if identity != self.identity:
            self.identity, self.changed_at, self.touched_at = identity, now, now
            self.closed_at, self.structure, self.blocks = None, None, None
            self.offer_again, self.handed_out = 0.0, False
            self.blocked, self.ignored, self.kept = "", "", False
            self.warned = False
        if closed:
            self.closed_at, self.structure = now, None

    def _judge(self, descriptor: int, now: float, settings: Settings, trust_locks: bool) -> Stability:
        assert self.identity is not None
        size = self.identity.size
        if not self._is_quiet(descriptor, now, settings, trust_locks):
            return Stability.WAIT
        if not is_ours(self.name):
            return self._reject_unknown(now, settings)
        if size == 0:
            patience = self.changed_at + settings.incomplete_timeout_seconds
            if now - self.changed_at >= settings.incomplete_timeout_seconds:
                if is_options_name(self.name):
                    return Stability.WHOLE  # what reads options says so
                return self._reject("It is empty. Copy it again.")
            return self._wait("It is empty so far.", min(patience, now + 5))
        if is_options_name(self.name):
            return Stability.WHOLE
        if problem := size_problem(size, settings):
            return self._reject(problem)
        unwritten = self.structure is not None and self.structure.completeness is Completeness.INCOMPLETE
        if self.structure is None or (unwritten and self.blocks is not None):
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                self.structure = check(file, size, settings.containers)
        return self._judge_structure(self.structure, now, settings)

    def _is_quiet(self, descriptor: int, now: float, settings: Settings, trust_locks: bool) -> bool:
        """Tell whether nobody writes to it or is busy with it any more; if not, say until when it waits."""
        quiet = now - self.changed_at
        writer = has_writer(descriptor) if trust_locks else None
        self.open_for_writing = writer is True
        if writer:
            # Known to be open: a pause of any length proves nothing, so it is neither taken nor rejected.
            self.touched_at = now
            self._wait("Another program still has it open for writing.", now + min(1 + quiet / 4, 5))
            return False
        due = self.touched_at + settings.close_grace_seconds
        if writer is None and trust_locks and self.closed_at is not None:
            due = max(due, self.closed_at + CLOSE_CONFIRM_SECONDS)
        elif writer is None and not self._has_settled(descriptor, now, settings, trust_locks):
            return False
        if now < due:
            self._wait(f"It waits until it has been left alone for {settings.close_grace_seconds:g} s.", due)
            return False
        return True

    def _has_settled(self, descriptor: int, now: float, settings: Settings, trust_locks: bool) -> bool:
        """Tell whether size and mtime stayed the same for long enough; on a share some blocks too, for one poll."""
        settled, still = self.changed_at + settings.settle_seconds, True
        if not trust_locks:
            assert self.identity is not None
            self.blocks = self.blocks or BlockWatch()
            if self.blocks.moved(descriptor, self.identity.size, now, settings.poll_seconds):
                self.changed_at = self.touched_at = now
                self.structure = None
            settled = max(self.changed_at + settings.settle_seconds, self.blocks.still_at(settings.poll_seconds))
            still = self.blocks.is_still(settings.poll_seconds)
        if now >= settled and still:
            return True
        self._wait(
            f"It waits until it has not changed for {settings.settle_seconds:g} s.",
            min(settled, now + max(0.25, settings.settle_seconds / 4)),
        )
        return False

    def _judge_structure(self, structure: Structure, now: float, settings: Settings) -> Stability:
        quiet = now - self.changed_at
        patience = self.changed_at + settings.incomplete_timeout_seconds
        if structure.completeness is Completeness.INCOMPLETE and now < patience:
            due = min(patience, now + min(0.5 + quiet / 4, 5))
            return self._wait(f"It is not complete yet: {structure.reason}", due)
        if problem := final_problem(structure, settings.containers):
            if structure.completeness is Completeness.INCOMPLETE:
                minutes = settings.incomplete_timeout_seconds / 60
                problem += f" It has not grown for {minutes:g} minutes. Copy it again, best under a name that ends in "
                problem += ".part, renamed when it is done."
            return self._reject(problem)
        if structure.completeness is Completeness.INCOMPLETE:  # a recorder that lost its power, say
            return Stability.WHOLE
        settle = settings.settle_seconds * (ENDLESS_SETTLES if structure.is_endless else 1)
        if structure.must_settle and quiet < settle:
            return self._wait("It could still grow.", self.changed_at + settle)
        return Stability.WHOLE

    def _leave_alone(self, now: float, settings: Settings) -> Stability:
        """Wait for another name; it is not opened, as even that may be in its program's way."""
        quiet = now - self.changed_at
        due = now + min(1 + quiet / 4, settings.rescan_seconds)
        return self._wait(f"{UNKNOWN_NAME}, so it is left alone; it is looked at once it is renamed.", due)

    def _reject_unknown(self, now: float, settings: Settings) -> Stability:
        patience = self.changed_at + settings.incomplete_timeout_seconds
        minutes = f"{settings.incomplete_timeout_seconds / 60:g} minutes"
        if now < patience:
            why = f"{UNKNOWN_NAME}; it is rejected once it has not changed for {minutes}."
            return self._wait(why, min(patience, now + settings.rescan_seconds))
        return self._reject(
            f"{UNKNOWN_NAME}, and it has not changed for {minutes}. If it is a video, rename it to end as one, "
            f"such as {ENDINGS[0]}, and drop it again."
        )

    def _wait(self, why: str, due: float) -> Stability:
        self.why, self.due = why, due
        return Stability.WAIT

    def _reject(self, why: str) -> Stability:
        self.why = why
        return Stability.REJECT


def _rejects_unknown(settings: Settings) -> bool:
    """Tell whether a file that is not named as a video is rejected at last; never where files stay."""
    return settings.unknown_files == "reject" and settings.inbox_mode == "take"


def size_problem(size: int, settings: Settings) -> str | None:
    """Say why a video of so many bytes is not taken; None if it may be."""
    if size <= settings.max_video_bytes:
        return None
    return (
        f"It has {size} bytes, and at most {settings.max_video_bytes} are taken "
        "(setting max_video_bytes). Cut it into parts, or raise the limit."
    )
