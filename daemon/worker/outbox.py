"""Outbox: publish results and errors under the name that people look for.

A dropped file's result is ``outbox/<same relative path>.json``, the newest for that name; one that came another
way is ``outbox/<job_id>.json``. A failed job leaves ``….error.json`` there. Publishing twice changes nothing.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from daemon.errors import Interrupted
from daemon.fs.atomic import atomic_write, sweep
from daemon.fs.folders import Folders
from daemon.fs.mounts import Mount, mount_of
from daemon.fs.moves import NAME_BYTES
from daemon.jobs import Job, JobSource, JobStatus

RESULT = ".json"
ERROR = ".error.json"
COPY_BYTES = 1 << 20
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
        self._lock = threading.Lock()
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
        if job.source is not JobSource.INBOX:
            return self._folder / f"{job.job_id}{ending}"
        *folders, name = job.source_name.split("/")
        if len((name + ending).encode()) > NAME_BYTES:
            mark = f"~{job.job_id[:8]}"
            room = NAME_BYTES - len(ending.encode()) - len(mark)
            name = name.encode()[:room].decode(errors="ignore") + mark
        return self._folder.joinpath(*folders, name + ending)

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
        with self._lock:
            if self._is_outdated(job):
                return None
            path = self.path(job)
            with self._below(path) as place:
                with atomic_write(place / path.name) as file:
                    for block in _blocks(document):
                        if stopping():
                            raise Interrupted("Publishing was ended because Dropframe is stopping.")
                        file.write(block)
                if not self._is_outdated(job, ERROR):
                    (place / self.path(job, ERROR).name).unlink(missing_ok=True)
            self._published(job)
            return path

    def publish_error(self, job: Job) -> Path | None:
        """Say in the outbox why a job failed; not if a newer job of the same name has a result or an error.

        Raises:
            OSError: the outbox cannot be written.
        """
        with self._lock:
            if self._is_outdated(job) or self._is_outdated(job, ERROR):
                return None
            path = self.path(job, ERROR)
            content = {
                "error_kind": job.error_kind,
                "error_message": job.error_message,
                "job_id": job.job_id,
                "pipeline_id": job.pipeline_id,
                "source_name": job.source_name,
            }
            with self._below(path) as place, atomic_write(place / path.name) as file:
                file.write(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
            self._published(job, ERROR)
            return path

    def withdraw(self, job: Job, document: BinaryIO) -> bool:
        """Remove a published result, if what has its name is still that very document; tell whether it did.

        Raises:
            OSError: the outbox cannot be reached or written.
        """
        with self._lock:
            self.check()
            path = self.path(job)
            if self._is_outdated(job):
                return False
            try:
                with self._below(path, make=False) as place:
                    found = os.open(place / path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                    with open(found, "rb") as published:
                        same = all(published.read(COPY_BYTES) == block for block in _blocks(document))
                        if same and not published.read(1):
                            (place / path.name).unlink()
                            return True
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):  # gone, or replaced by a link
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

    def _name(self, job: Job, ending: str) -> str:
        return str(self.path(job, ending).relative_to(self._folder))

    def _is_outdated(self, job: Job, ending: str = RESULT) -> bool:
        """Tell whether a newer job of the same name has published its result (or with another ending its error)."""
        return self._newest.get(self._name(job, ending), 0) > job.sequence

    def _published(self, job: Job, ending: str = RESULT) -> None:
        name = self._name(job, ending)
        self._newest[name] = max(self._newest.get(name, 0), job.sequence)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(COPY_BYTES):
        yield block
