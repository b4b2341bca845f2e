"""Folders: walk below a root folder by folder, with descriptors that follow no symbolic link."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Self


class Folders:
    """Descriptors of the folders below a root, each opened once; a context manager that closes them.

    Args:
        root: The folder that nothing leads out of. It may be a symbolic link itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def get(self, folder: str, make: bool = False) -> int:
        """Return the descriptor of a folder.

        Args:
            folder: Relative path with "/" between its parts; "" is the root.
            make: Make what is missing.

        Raises:
            OSError: it is missing, not a folder, or reached through a symbolic link.
        """
        if folder in self._open:
            return self._open[folder]
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if not folder:
            if make:
                self._root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._root, flags)
        else:
            parent, _, name = folder.rpartition("/")
            above = self.get(parent, make)
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=above)
            descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=above)
        self._open[folder] = descriptor
        return descriptor

    def fsync(self) -> None:
        """Make renames and removals in all folders opened so far durable.

        Raises:
            OSError: the disk refuses; what was done is visible but may not survive a power cut.
        """
        for descriptor in self._open.values():
            # Some network file systems cannot sync a folder (EINVAL); they commit renames by themselves.
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise
