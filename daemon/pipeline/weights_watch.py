"""WeightsWatch: notices weights that were put into ``data/models/``, or exchanged, while Dropframe runs."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from daemon.pipeline.models import newest_weights
from daemon.settings import Settings

STILL_SECONDS = 2.0
"""A file that is not a whole archive by its form is whole once it has not changed for so long."""

Seen = tuple[str, int, int, int]
"""Path, inode, size in bytes and mtime in nanoseconds of weights."""


class WeightsWatch:
    """Compares the weights that a start would use now with those that were loaded.

    Args:
        settings: Say where weights are.
        clock: Monotonic time in seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._loaded: Seen | None = None
        self._changing: tuple[Seen, float] | None = None

    def loaded(self, seen: Seen | None) -> None:
        """Note what was loaded, or could not be: it is not offered again before it changes."""
        self._loaded, self._changing = seen, None

    def now(self) -> Seen | None:
        """Return the weights that a start would use now; None if there are none, or they cannot be looked at."""
        try:
            path = self._settings.weights or newest_weights(self._settings)
            if path is None:
                return None
            stat = os.stat(path)
        except OSError:  # what is loaded goes on while the disk is sick
            return None
        return str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns

    def changed(self) -> Seen | None:
        """Return other weights than those that were loaded, once they are whole; None if there are none.

        Weights that were taken away are not missed: what is loaded goes on.
        """
        seen = self.now()
        if seen is None or seen == self._loaded:
            self._changing = None
            return None
        if self._changing is None or self._changing[0] != seen:
            self._changing = seen, self._clock()
        still = self._clock() - self._changing[1] >= STILL_SECONDS
        return seen if _is_whole(Path(seen[0])) or (still and not _is_archive(Path(seen[0]))) else None


def _is_archive(path: Path) -> bool:
    """Tell whether a file begins as torch writes checkpoints: as a ZIP archive, whose end says that it is whole."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return True


def _is_whole(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except OSError:
        return False
