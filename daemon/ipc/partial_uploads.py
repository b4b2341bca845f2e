"""PartialUploads: videos that come in pieces over many requests, as they lie in the spool.

``uploads/<job_id>.json`` says what is coming, ``uploads/<job_id>.part`` is what has come: its size is the offset at
which the next piece goes on. Once all has come, the part becomes a submission like any other, and the record goes
last: whatever a kill cuts off is finished by the next one who looks.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from daemon.errors import StorageError
from daemon.fs.atomic import atomic_write, fsync_folder
from daemon.fs.locks import fcntl
from daemon.ipc import spool
from daemon.ipc.spool import FILE_MODE
from daemon.ipc.ticket import Ticket, TicketKind, ticket_name, video_name
from daemon.jobs import JobSource, is_job_id, utc_now

FOLDER = "uploads"
LEFTOVER_SECONDS = 60.0
"""What a killed writer left is removed when nothing has changed it for this long."""


@dataclass(frozen=True)
class PartialUpload:
    """A video that is to come."""

    job_id: str
    """Of the job that it will be."""
    length: int
    """Bytes of the whole."""
    source_name: str
    pipeline_id: str
    options: dict[str, Any] = field(default_factory=dict)
    metadata: str = ""
    """As the client gave it, to be told again."""

    def to_ticket(self) -> Ticket:
        """Return the ticket of the submission that it becomes."""
        return Ticket(
            TicketKind.SUBMIT,
            self.job_id,
            utc_now(),
            JobSource.HTTP,
            self.source_name,
            self.pipeline_id,
            self.options,
            self.length,
        )


class PartialUploads:
    """The folder of them.

    Args:
        spool_dir: The spool.
    """

    def __init__(self, spool_dir: Path) -> None:
        self._spool_dir = spool_dir
        self._folder = spool_dir / FOLDER
        self._ending = threading.Lock()
        """Held while an upload is made a submission, or is given up: it is one or the other."""

    def part_path(self, job_id: str) -> Path:
        """Return where an upload's bytes are."""
        return self._folder / f"{job_id}.part"

    def _record_path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"

    def is_known(self, job_id: str) -> bool:
        """Tell whether an upload is not a submission yet."""
        return self._record_path(job_id).exists()

    def create(self, upload: PartialUpload) -> None:
        """Begin an upload; it is durable on return.

        Raises:
            OSError: the spool cannot be written; nothing is left that can be removed.
        """
        part, record = self.part_path(upload.job_id), self._record_path(upload.job_id)
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            fsync_folder(self._spool_dir)
        try:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE))
            with atomic_write(record) as file:
                file.write(json.dumps(asdict(upload), sort_keys=True).encode())
        except BaseException:
            for path in (record, part):
                path.unlink(missing_ok=True)
            raise

    def find(self, job_id: str) -> PartialUpload | None:
        """Return an upload that is not a submission yet, or None.

        Raises:
            StorageError: its record is damaged.
            OSError: it cannot be read.
        """
        if not is_job_id(job_id):
            return None
        try:
            upload = PartialUpload(**json.loads(self._record_path(job_id).read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise StorageError(f"The record of the upload {job_id} is damaged.") from error
        if not any(path.exists() for path in (self.part_path(job_id), self._spool_dir / video_name(job_id))):
            self._record_path(job_id).unlink(missing_ok=True)  # a kill left it; the daemon has taken the video
            return None
        return upload

    def offset(self, upload: PartialUpload) -> int:
        """Return how many bytes of an upload have come.

        Raises:
            OSError: the spool cannot be read.
        """
        try:
            return self.part_path(upload.job_id).stat().st_size
        except FileNotFoundError:
            if (self._spool_dir / video_name(upload.job_id)).exists():
                return upload.length
            raise

    def ids(self) -> list[str]:
        """Return the ids of all uploads that are not submissions yet.

        Raises:
            OSError: the folder is there and cannot be read.
        """
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        found = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return [job_id for job_id in found if is_job_id(job_id)]

    def submit(self, upload: PartialUpload) -> Ticket:
        """Make a submission of an upload that is whole. May be called again when it was cut off.

        Returns:
            The ticket. From here on the job survives anything.

        Raises:
            FileNotFoundError: it is one already, or was given up.
            OSError: the spool cannot be written; what has come stays.
        """
        record = self._record_path(upload.job_id)
        with self._ending:
            record.stat()
            ticket = spool.promise(self._spool_dir, upload.to_ticket(), self.part_path(upload.job_id))
            record.unlink(missing_ok=True)
        return ticket

    def discard(self, job_id: str) -> bool:
        """Remove an upload, also one whose record is damaged.

        Returns:
            False if there is none, or none any more: a submission stays.

        Raises:
            OSError: it cannot be removed.
        """
        part, record = self.part_path(job_id), self._record_path(job_id)
        with self._ending:
            is_promised = (self._spool_dir / ticket_name(job_id, TicketKind.SUBMIT)).exists()
            is_there = part.exists() or (self._spool_dir / video_name(job_id)).exists()
            is_given_up = record.exists() and is_there and not is_promised
            part.unlink(missing_ok=True)
            record.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            fsync_folder(self._folder)
        return is_given_up

    def expires_at(self, job_id: str, keep_seconds: float) -> float:
        """Return when an upload is removed unless more of it comes, in seconds since 1970.

        Raises:
            OSError: the spool cannot be read.
        """
        return max(map(_changed_at, (self.part_path(job_id), self._record_path(job_id)))) + keep_seconds

    def sweep(self, now: float, keep_seconds: float) -> int:
        """Remove uploads of which nothing has come for so long, and what killed writers left. For the daemon.

        Args:
            now: Seconds since 1970.
            keep_seconds: How long an upload waits for more.

        Returns:
            How many files were removed.

        Raises:
            OSError: the folder is there and cannot be read.
        """
        removed = 0
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._folder), reverse=True):  # each part before its record
                path = self._folder / name
                if name.endswith(".json") and path.with_suffix(".part").exists():
                    continue  # somebody goes on with it, though nothing has been written for so long
                with contextlib.suppress(OSError):
                    if now > self._expires(path, keep_seconds):
                        with locked(path):  # whoever goes on with it now waits, and then finds it gone
                            if now > self._expires(path, keep_seconds):
                                path.unlink()
                                removed += 1
        return removed

    def _expires(self, path: Path, keep_seconds: float) -> float:
        job_id = path.name.rpartition(".")[0]
        return self.expires_at(job_id, keep_seconds) if is_job_id(job_id) else _changed_at(path) + LEFTOVER_SECONDS


@contextlib.contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """Hold the lock of a file that nobody else holds.

    Raises:
        BlockingIOError: somebody does.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _changed_at(path: Path) -> float:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0.0
    return max(status.st_mtime, status.st_ctime)
