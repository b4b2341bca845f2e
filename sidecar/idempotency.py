"""IdempotencyKeys: which job each Idempotency-Key got, kept in small files, one a key."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.fs.atomic import atomic_write, fsync_folder
from daemon.jobs import is_job_id
from sidecar.problems import bad_field

_FLOCK = struct.Struct("hhqqi")
"""The system's struct flock."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class IdempotencyKeys:
    """Files named by the SHA-256 of a key, each holding a job's id.

    A file is made before the job's ticket, so a key whose job does not exist belongs to an upload that was
    never answered, and may be given to another once no process has it locked.

    Args:
        folder: Made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks = folder.parent / "locks" / folder.name

    def path(self, owner: str, key: str) -> Path:
        """Return the file of a key.

        Args:
            owner: Name of the caller's token: the keys of two callers never meet.
            key: As the client sent it.

        Raises:
            Problem: 422, it is empty, too long, or has other characters than visible ASCII.
        """
        if not _KEY.fullmatch(key):
            raise bad_field("Idempotency-Key", "It must have 1 to 255 visible ASCII characters.")
        return self._folder / hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()

    @contextmanager
    def lock(self, path: Path) -> Iterator[bool]:
        """Keep a key for one upload, whichever process it comes to; yield whether nobody else has it.

        The system lets go of it when the process ends, however that comes.

        Raises:
            OSError: the folder cannot be written.
        """
        self._locks.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._locks, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # One file for all: a key is one byte of it, at an offset of 60 bits of the key's name.
            byte = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, int(path.name[:15], 16), 1, 0)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, byte)
                free = True
            except (BlockingIOError, PermissionError):
                free = False
            yield free
        finally:
            os.close(descriptor)

    def find(self, path: Path) -> str | None:
        """Return the job id that a key got, or None."""
        try:
            text = path.read_text("ascii")
        except (OSError, ValueError):
            return None
        return text if is_job_id(text) else None

    def keep(self, path: Path, job_id: str, instead_of: str | None) -> str:
        """Give a key to a job, durably; return the job that has it.

        Args:
            path: The key's file.
            job_id: The new job.
            instead_of: A job that has it and does not exist.

        Returns:
            ``job_id``, or that of another process which was faster.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(job_id.encode())
                file.flush()
                os.fsync(file.fileno())
            fsync_folder(self._folder)
            return job_id
        holder = self.find(path)
        if holder is not None and holder != instead_of:
            return holder
        with atomic_write(path) as replaced:
            replaced.write(job_id.encode())
        return job_id

    def sweep(self, now: float, days: float) -> None:
        """Forget keys that are older.

        Args:
            now: Seconds since 1970.
            days: How long they are remembered.
        """
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(self._folder)):
                with contextlib.suppress(OSError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > days * 86_400:
                        os.unlink(entry.path)
