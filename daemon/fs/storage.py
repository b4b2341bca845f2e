"""StorageService and LocalStorageService: files by key below one root; every write is whole or not there.

A key is a relative path with "/" between its parts, such as ``video_jobs/<job_id>.mp4``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO, Protocol

from daemon.errors import StorageError
from daemon.fs.atomic import atomic_write


class StorageService(Protocol):
    """Files by key."""

    def save_file(self, source: BinaryIO, key: str) -> None:
        """Write all of an open file under a key; a reader sees the old content or the new, never a part."""

    def load_file(self, key: str) -> BinaryIO:
        """Open a stored file for reading.

        Raises:
            StorageError: nothing is stored under the key.
        """

    def delete_file(self, key: str) -> None:
        """Remove a stored file; one that is not there is no error."""

    def path(self, key: str) -> Path:
        """Return where a key is kept, for code that needs a path (a decoder, a rename)."""


class LocalStorageService:
    """A StorageService in a folder of a local disk.

    Args:
        root: Folder that no key can leave; made if missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._root.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """See StorageService.path.

        Raises:
            StorageError: the key is empty, absolute, or has a part that is empty or dots.
        """
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise StorageError(f"{key!r} is not a storage key.")
        path = self._root.joinpath(*parts)
        if not path.parent.resolve().is_relative_to(self._root):  # a symbolic link led out
            raise StorageError(f"{key!r} leads out of the storage folder.")
        return path

    def save_file(self, source: BinaryIO, key: str) -> None:
        """See StorageService.save_file."""
        with atomic_write(self.path(key)) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def load_file(self, key: str) -> BinaryIO:
        """See StorageService.load_file."""
        try:
            return self.path(key).open("rb")
        except OSError as error:
            raise StorageError(f"Nothing can be read under {key!r}: {error.strerror}.") from error

    def delete_file(self, key: str) -> None:
        """See StorageService.delete_file."""
        self.path(key).unlink(missing_ok=True)
