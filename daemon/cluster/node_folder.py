"""NodeFolder: what slots keep on a machine that shares no folder with the daemon: weights, and a scratch folder each.

It is below the folder for temporary files (``TMPDIR``), one for each home, and all slots of the home there share it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daemon.errors import MachineError
from daemon.fs.atomic import sweep
from daemon.fs.locks import fcntl, try_lock
from daemon.settings import Settings

FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
LOCK = ".lock"
LEFT_SECONDS = 3600.0
"""Age at which a file that was being fetched was left by a process that was killed."""


def node_folder(settings: Settings) -> Path:
    """Return where the folder of a home is on this machine; nothing is made."""
    home = str(settings.cluster_store).rpartition("/")[2]  # whatever the address, or what is here would be left
    name = hashlib.sha256(home.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dropframe-{os.getuid()}-{name}"


def settings_on_node(settings: Settings) -> Settings:
    """Return the settings of a pipeline process there: its data folder, and the weights in it, are the machine's."""
    return settings.model_copy(update={"data_dir": node_folder(settings) / "data", "weights": None})


class NodeFolder:
    """The folder, as one slot uses it.

    Args:
        settings: Of the home.

    Raises:
        MachineError: it is another user's.
        OSError: it cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = node_folder(settings)
        self.models_dir = settings_on_node(settings).models_dir
        self._path.mkdir(mode=0o700, exist_ok=True)
        status = self._path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise MachineError(f"{self._path} is another user's; remove it, or set another TMPDIR for Ray there.")
        self.models_dir.mkdir(parents=True, exist_ok=True)
        sweep(self.models_dir, LEFT_SECONDS, deep=True)
        self._starting = os.open(self._path / ".starting", FLAGS, 0o600)
        self._lock = -1
        self.scratch = self._make_scratch()
        """For this slot alone; removed by the next one that starts here once this process has ended."""

    def _make_scratch(self) -> Path:
        slots = self._path / "slots"
        slots.mkdir(exist_ok=True)
        with open(os.open(self._path / LOCK, FLAGS, 0o600), "rb") as alone:
            fcntl.flock(alone.fileno(), fcntl.LOCK_EX)
            for old in slots.iterdir():
                with suppress(OSError), open(os.open(old / LOCK, FLAGS, 0o600), "rb") as held:
                    if try_lock(held.fileno()):
                        shutil.rmtree(old)
            made = Path(tempfile.mkdtemp(dir=slots))
            self._lock = os.open(made / LOCK, FLAGS, 0o600)
            try_lock(self._lock)
        return made

    def clear(self, names: str) -> None:
        """Remove what the slot has fetched and made, of such names (a glob)."""
        for path in self.scratch.glob(names):
            if path.name != LOCK:
                path.unlink()

    @contextmanager
    def only_one(self) -> Iterator[bool]:
        """Tell whether no other slot prepares models here; none does until the block is left."""
        had = try_lock(self._starting)
        try:
            yield had
        finally:
            if had:
                fcntl.flock(self._starting, fcntl.LOCK_UN)
