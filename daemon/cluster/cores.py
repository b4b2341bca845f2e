"""Which cores of its machine a slot of a cluster keeps to. No two slots of a machine have the same."""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from daemon.pipeline.machine import count_cores


class Cores:
    """Cores that are ours as long as this process lives.

    A core is held by a lock on a file of its name, which the kernel gives up with the process, however that ends.

    Args:
        wanted: How many.
        folder: Where the files are; all slots of a machine have to use the same.
    """

    def __init__(self, wanted: int, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"dropframe-cores-{os.getuid()}"
        self._held: list[int] = []
        self.numbers = self._take(wanted)
        """Of the cores; others if fewer than that are free, since a slower slot is better than none."""

    def _take(self, wanted: int) -> tuple[int, ...]:
        there = sorted(os.sched_getaffinity(0))
        if count_cores() < len(there):  # a container with a share of all cores: others of the machine have theirs
            random.shuffle(there)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            taken = [core for core in there if len(self._held) < wanted and self._lock(core)]
        except OSError:
            taken = []
        return _filled_up(taken, there, min(wanted, len(there)))

    def _lock(self, core: int) -> bool:
        file = os.open(self._folder / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._held.append(file)
        return True

    def close(self) -> None:
        """Give them back."""
        while self._held:
            os.close(self._held.pop())


def _filled_up(taken: Sequence[int], there: Sequence[int], wanted: int) -> tuple[int, ...]:
    others = [core for core in there if core not in taken]
    return tuple(sorted([*taken, *others[: wanted - len(taken)]]))
