"""StorageService and LocalStorageService: files by key below one root; every write is whole or not there.

A key is a relative path with "/" between its parts, such as ``video_jobs/<job_id>.mp4``. ``load_file`` gives an open
file, and not a path to one, because an open file stays readable when retention removes it.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from daemon.errors import StorageError, StoredFileMissing
from daemon.fs.atomic import atomic_write


class StorageService(Protocol):
    """Files by key."""

    def save_file(self, src: BinaryIO | Path | str, dest_path: str) -> str:
        """Write a whole file under a key; a reader sees the old content or the new, never a part.

        Args:
            src: An open file, which is read from where it is to its end, or the path of a file.
            dest_path: The key.

        Returns:
            The key, for ``load_file``.

        Raises:
            StorageError: it is not a key.
            OSError: the source cannot be read, or the disk refuses; what was stored before stays.
        """

    def load_file(self, path: str) -> BinaryIO:
        """Open the file stored under a key for reading; the caller closes it.

        Raises:
            StoredFileMissing: nothing is stored under the key; a FileNotFoundError, too.
            StorageError: it is not a key, or the file cannot be read.
        """

    def delete_file(self, path: str) -> None:
        """Remove a stored file; it is not an error if there is none."""

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

    def save_file(self, src: BinaryIO | Path | str, dest_path: str) -> str:
        """See StorageService.save_file."""
        with (
            Path(src).open("rb") if isinstance(src, Path | str) else nullcontext(src) as source,
            atomic_write(self.path(dest_path)) as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
        return dest_path

    def load_file(self, path: str) -> BinaryIO:
        """See StorageService.load_file."""
        try:
            return self.path(path).open("rb")
        except OSError as error:
            kind = StoredFileMissing if isinstance(error, FileNotFoundError) else StorageError
            raise kind(f"Nothing can be read under {path!r}: {error.strerror}.") from error

    def delete_file(self, path: str) -> None:
        """See StorageService.delete_file."""
        self.path(path).unlink(missing_ok=True)
