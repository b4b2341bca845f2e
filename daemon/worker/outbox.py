"""Outbox: publish results and errors under the name that people look for.

A dropped file's result is ``outbox/<same relative path>.json``, the newest for that name; one that came another
way is ``outbox/<job_id>.json``, unless its record has another name. A failed job leaves ``….error.json`` there, a
rejected file ``….rejected.txt``. Publishing twice changes nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from daemon.errors import Interrupted
from daemon.fs.atomic import atomic_write, sweep
from daemon.fs.folders import Folders
from daemon.fs.identity import shown
from daemon.fs.mounts import Mount, mount_of
from daemon.fs.moves import NAME_BYTES
from daemon.jobs import Job, JobSource, JobStatus
from daemon.threads import NamedLocks

RESULT = ".json"
ERROR = ".error.json"
REJECTED = ".rejected.txt"
OUR_ENDING = re.compile(r".*\.(json|txt)~*", re.DOTALL | re.IGNORECASE)
COPY_BYTES = 1 << 20
NOT_OURS = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})
"""Why a published file cannot be opened when it is gone, or was replaced by a link."""
OLD_SECONDS = 3600.0
"""Age at which an unfinished file is nobody's: others may write to the same folder, with another clock."""


class Outbox:
    """Puts results and errors into a folder that may be on another file system, or away for a while.

    Args:
        folder: The outbox.
        jobs: Every job so far, to know which result and which error are the newest for a name.
        mount: What the folder was on when it was last used, if that is known.
    """

    def __init__(self, folder: Path, jobs: Iterable[Job] = (), mount: Mount | None = None) -> None:
        self._folder = folder
        self._mount = mount or mount_of(folder)
        self._locks = NamedLocks()
        """By what all names of a job's files begin with: a copy that takes long holds up nothing of other jobs."""
        self._deleted: set[str] = set()
        """Jobs of which an error may be about to be published by another thread."""
        self._newest: dict[str, int] = {}
        for job in jobs:
            if job.status is JobStatus.COMPLETED:
                self._published(job)
            elif job.status is JobStatus.FAILED:
                self._published(job, ERROR)

    def path(self, job: Job, ending: str = RESULT) -> Path:
        """Return where a job's result (or with another ending its error) is published.

        Every part of the name is at most 255 bytes: a longer one is cut and told apart by the job's id.
        """
        if job.outbox_name is None and job.source is not JobSource.INBOX:
            return self._folder / f"{job.job_id}{ending}"
        return self._folder / place_of(job.outbox_name or job.source_name, ending, job.job_id[:8])

    def note_path(self, name: str) -> Path:
        """Return where it is said why a dropped file was rejected.

        Args:
            name: Its path below the inbox.
        """
        name = shown(name)
        return self._folder / place_of(name, REJECTED, hashlib.sha256(name.encode()).hexdigest()[:8])

    def check(self) -> None:
        """Make sure that the outbox is there, and is the file system that it was.

        Raises:
            OSError: it is away.
        """
        # A share that is not mounted must not be taken for an empty one: only folders below it are made.
        if not self._folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder))
        mount = mount_of(self._folder)
        if mount.has_lost(self._mount):
            raise FileNotFoundError(errno.ENOENT, f"nothing is mounted on {self._mount.point}", str(self._folder))
        self._mount = mount

    def sweep(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Remove what killed daemons were writing more than an hour ago; return how many files."""
        return sweep(self._folder, OLD_SECONDS, deep=True, stopping=stopping)

    def publish(self, job: Job, document: BinaryIO, stopping: Callable[[], bool] = lambda: False) -> Path | None:
        """Publish a result; an error that this job or an older one of the same name left is replaced by it.

        Args:
            job: Whose result it is.
            document: The result document, open at its start.
            stopping: Asked between blocks; True ends it.

        Returns:
            Where it is, or None if a newer job of the same name has published already.

        Raises:
            OSError: the outbox cannot be written. Nothing of the document is visible then.
            Interrupted: ``stopping`` said so. Nothing of the document is visible then.
        """
        with self._locks.of(self.path(job, "")):
            if self.is_outdated(job):
                return None
            path = self.path(job)
            with self._below(path) as place:
                _copy(document, place / path.name, stopping)
                if not self.is_outdated(job, ERROR):
                    (place / self.path(job, ERROR).name).unlink(missing_ok=True)
                self._remove_note(job, place)
            self._published(job)
            return path

    def publish_beside(self, job: Job, ending: str, export: BinaryIO, stopping: Callable[[], bool]) -> bool:
        """Publish an export beside a job's result; False if the job was deleted, or a newer one has its name.

        Raises:
            OSError: the outbox cannot be written. Nothing of the export is visible then.
            Interrupted: ``stopping`` said so. Nothing of the export is visible then.
        """
        with self._locks.of(self.path(job, "")):
            if job.job_id in self._deleted or self.is_outdated(job):
                return False
            path = self.path(job, ending)
            with self._below(path) as place:
                _copy(export, place / path.name, stopping)
            return True

    def withdraw_beside(self, job: Job, ending: str, sha256: str) -> None:
        """Remove what ``publish_beside`` published, if it is still there as it was.

        Raises:
            OSError: the outbox cannot be reached or written.
        """
        with self._locks.of(self.path(job, "")):
            self.check()
            self._remove_if(self.path(job, ending), lambda published: sha256_of(published) == sha256)

    def publish_error(self, job: Job) -> Path | None:
        """Say in the outbox why a job failed; not if a newer job of the same name has a result or an error.

        Raises:
            OSError: the outbox cannot be written.
        """
        with self._locks.of(self.path(job, "")):
            if job.job_id in self._deleted or self.is_outdated(job) or self.is_outdated(job, ERROR):
                return None
            path = self.path(job, ERROR)
            with self._below(path) as place:
                with atomic_write(place / path.name) as file:
                    file.write(error_document(job))
                self._remove_note(job, place)
            self._published(job, ERROR)
            return path

    def publish_note(self, name: str, reason: str, rejected_at: float) -> None:
        """Say in the outbox why a dropped file was rejected, unless a file of its name was analysed since.

        Args:
            name: Its path below the inbox.
            reason: In sentences.
            rejected_at: Seconds since 1970; the note gets this as its mtime.

        Raises:
            OSError: the outbox cannot be written.
        """
        path, result = self.note_path(name), place_of(name, RESULT, "")
        with self._lock_of_note(name), self._below(path) as place:
            with suppress(FileNotFoundError):
                if os.stat(place / os.path.basename(result), follow_symlinks=False).st_mtime > rejected_at + 1:
                    return
            with atomic_write(place / path.name) as file:
                file.write(f"{shown(name)} was rejected. {reason}\n".encode())
                file.flush()
                os.utime(file.fileno(), (rejected_at, rejected_at))

    def withdraw_note(self, name: str) -> None:
        """Remove what was said about a rejected file, if it is still there.

        Raises:
            OSError: the outbox cannot be written.
        """
        path = self.note_path(name)
        with self._lock_of_note(name):
            self.check()
            with suppress(FileNotFoundError, NotADirectoryError), self._below(path, make=False) as place:
                (place / path.name).unlink(missing_ok=True)

    def _remove_note(self, job: Job, place: Path) -> None:
        """Remove what was said about a file of the same name that was rejected before this one was taken in."""
        if job.source is not JobSource.INBOX or not job.created_at:
            return
        note = place / self.note_path(job.source_name).name
        with suppress(FileNotFoundError):
            if os.stat(note, follow_symlinks=False).st_mtime < datetime.fromisoformat(job.created_at).timestamp():
                note.unlink()

    def withdraw(self, job: Job, document: BinaryIO) -> bool:
        """Remove a published result, if what has its name is still that very document; tell whether it did.

        Raises:
            OSError: the outbox cannot be reached or written.
        """
        with self._locks.of(self.path(job, "")):
            self.check()
            same = partial(_holds, document)
            return not self.is_outdated(job) and self._remove_if(self.path(job), same)

    def withdraw_all(self, job: Job, document: BinaryIO | None) -> None:
        """Remove what a deleted job has published and is still its own, and publish nothing of it any more.

        Args:
            job: As it was.
            document: Its result document, open at its start; None if there is none.

        Raises:
            OSError: the outbox cannot be reached or written.
        """
        with self._locks.of(self.path(job, "")):
            self._deleted.add(job.job_id)
            self.check()
            if document is not None:
                self.withdraw(job, document)
            if job.status is JobStatus.FAILED:
                named = f'"job_id": "{job.job_id}"'.encode()
                self._remove_if(self.path(job, ERROR), lambda published: named in published.read(COPY_BYTES))
            for ending in (RESULT, ERROR):  # or it would be in the way of an older job that is tried again
                if self._newest.get(self.name_of(job, ending)) == job.sequence:
                    del self._newest[self.name_of(job, ending)]

    def _remove_if(self, path: Path, is_ours: Callable[[BinaryIO], bool]) -> bool:
        """Remove a published file if its content is still what was published; tell whether it did."""
        try:
            with self._below(path, make=False) as place:
                found = os.open(place / path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                with open(found, "rb") as published:
                    if is_ours(published):
                        (place / path.name).unlink()
                        return True
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
        return False

    @contextmanager
    def _below(self, path: Path, make: bool = True) -> Iterator[Path]:
        """Open the folder of a path, and give a name for it that no exchanged folder changes."""
        folder = path.parent.relative_to(self._folder).as_posix()
        with Folders(self._folder) as folders:
            with suppress(FileNotFoundError):
                folders.get("")  # held before it is checked, so that what is unmounted then is not written to
            self.check()
            try:
                descriptor = folders.get("" if folder == "." else folder, make=make and folder != ".")
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                why = f"{path.parent} is not a folder, or is reached through a link"
                raise OSError(errno.ENOTDIR, why, str(path)) from error
            yield Path(f"/proc/self/fd/{descriptor}")

    def _lock_of_note(self, name: str) -> AbstractContextManager[object]:
        return self._locks.of(self._folder / place_of(shown(name), "", ""))

    def name_of(self, job: Job, ending: str) -> str:
        """Return the path below the outbox at which something of a job is published."""
        return str(self.path(job, ending).relative_to(self._folder))

    def is_outdated(self, job: Job, ending: str = RESULT) -> bool:
        """Tell whether a newer job of the same name has published its result (or with another ending its error)."""
        return self._newest.get(self.name_of(job, ending), 0) > job.sequence

    def _published(self, job: Job, ending: str = RESULT) -> None:
        name = self.name_of(job, ending)
        self._newest[name] = max(self._newest.get(name, 0), job.sequence)


def error_document(job: Job) -> bytes:
    """Return what is published of a job that failed."""
    content = {
        "error_kind": job.error_kind,
        "error_message": job.error_message,
        "job_id": job.job_id,
        "pipeline_id": job.pipeline_id,
        "source_name": job.source_name,
    }
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def place_of(name: str, ending: str, mark: str) -> str:
    """Return where something about a dropped file is published, below the outbox.

    Args:
        name: The file's path below the inbox.
        ending: Added to its name.
        mark: Tells names apart that are too long and have to be cut.
    """
    *folders, last = name.split("/")
    if len((last + ending).encode()) > NAME_BYTES:
        room = NAME_BYTES - len(ending.encode()) - len(mark) - 1
        last = f"{last.encode()[:room].decode(errors='ignore')}~{mark}"
    # A folder that is named as what we publish would lie where the result of a file of that name belongs.
    folders = [f"{folder}~" if OUR_ENDING.fullmatch(folder) else folder for folder in folders]
    return "/".join([*folders, last + ending])


def _copy(source: BinaryIO, target: Path, stopping: Callable[[], bool]) -> None:
    with atomic_write(target) as file:
        for block in _blocks(source):
            if stopping():
                raise Interrupted("Publishing was ended because Dropframe is stopping.")
            file.write(block)


def _holds(document: BinaryIO, published: BinaryIO) -> bool:
    return all(published.read(COPY_BYTES) == block for block in _blocks(document)) and not published.read(1)


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of what is in an open file."""
    digest = hashlib.sha256()
    for block in _blocks(file):
        digest.update(block)
    return digest.hexdigest()


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(COPY_BYTES):
        yield block
