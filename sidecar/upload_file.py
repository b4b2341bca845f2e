"""UploadFile: the bytes of one upload on their way to the disk, written by a thread while more arrive."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from daemon.fs.moves import begin_writing
from daemon.fs.space import FULL
from daemon.ipc.spool import FILE_MODE
from sidecar.problems import Problem, busy
from sidecar.reservations import Reservation, disk_full

BLOCK_BYTES = 2 << 20
"""Handed to the disk at a time; two blocks are in memory at most."""
LOCK_SECONDS = 2.0
"""How long an earlier request that was ended may take to let go of a file that is resumed."""
START_BYTES = 16 << 20
"""Writing to the disk begins each time this much has arrived, so that little is left to wait for at the end."""


def storage_problem(error: OSError) -> Problem:
    """Return what a failed write means for the caller: 507 or 503."""
    if error.errno in FULL:
        return disk_full()
    return busy("The upload cannot be stored at the moment; try again later.", "storage", 30)


T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await what must not be cut off: whoever is cancelled meanwhile ends once it is done."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class UploadFile:
    """One upload's file. It holds a lock while it is open, by which ``spool_sweep`` knows that it is in use.

    Args:
        path: Where; must not exist, unless it is resumed.
        executor: Whose threads write.
        room: What it may write.
        hashed: Tell its SHA-256 at the end.
        resumed: Go on with a file that is there.
    """

    def __init__(
        self, path: Path, executor: Executor, room: Reservation, hashed: bool = False, resumed: bool = False
    ) -> None:
        self.path = path
        self.size = 0
        self._resumed = resumed
        self._executor = executor
        self._room = room
        self._digest = hashlib.sha256() if hashed else None
        self._pieces: list[memoryview] = []
        self._collected = 0
        self._writing: asyncio.Future[None] | None = None
        self._descriptor = -1
        self._started = 0  # bytes that the disk was told to write

    @property
    def sha256(self) -> str | None:
        """Of all bytes once everything was written, in hexadecimal; None if nobody asked for it."""
        return self._digest.hexdigest() if self._digest else None

    async def open(self) -> None:
        """Make the file, or open the one that is resumed.

        Raises:
            OSError: it cannot be made or is not there; BlockingIOError, somebody else has it open.
        """
        await self._run(self._open)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_APPEND if self._resumed else os.O_CREAT | os.O_EXCL
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, FILE_MODE)
        self._lock(time.monotonic() + LOCK_SECONDS if self._resumed else 0.0)
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:  # it expired while we waited for its lock
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        self.size = self._started = status.st_size

    def _lock(self, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def head(self, size: int) -> bytes:
        """Return the first bytes of what was there when it was opened.

        Raises:
            OSError: they cannot be read.
        """
        return os.pread(self._descriptor, size, 0)

    async def write(self, pieces: list[memoryview]) -> None:
        """Take bytes; returns before they are on the disk, but never with more than two blocks in memory.

        Raises:
            OSError: the disk refuses these bytes or earlier ones.
            Problem: 507, the disk is nearly full.
        """
        for piece in pieces:
            self._pieces.append(piece)
            self._collected += len(piece)
        if self._collected >= BLOCK_BYTES:
            await self._hand_over()

    async def finish(self) -> None:
        """Wait until everything was written. It is not durable yet.

        Raises:
            OSError: the disk refuses.
            Problem: 507, the disk is nearly full.
        """
        if self._pieces:
            await self._hand_over()
        await self._written()

    async def keep(self) -> None:
        """Write what has come, make it durable and let go of the file, though it is cancelled: others go on with it.

        Raises:
            OSError: the disk refuses.
            Problem: 507, the disk is nearly full.
        """
        await to_the_end(self._keep())

    async def _keep(self) -> None:
        try:
            await self.finish()
        finally:
            await self._run(self._sync_and_close)

    def _sync_and_close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def discard(self) -> None:
        """Remove the file; safe at any moment, also while a thread writes."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file, once no thread writes any more."""
        if self._writing is not None and not self._writing.done():
            self._writing.add_done_callback(self._close_after)
            return
        if self._descriptor >= 0:
            # With the last name gone, closing gives back the space of a large file, which takes a while.
            descriptor, self._descriptor = self._descriptor, -1
            try:
                self._executor.submit(os.close, descriptor)
            except RuntimeError:  # at shutdown there are no threads any more
                os.close(descriptor)

    def _close_after(self, writing: asyncio.Future[None]) -> None:
        if not writing.cancelled():
            writing.exception()  # looked at, so that nobody complains that it was not
        self.close()

    async def _hand_over(self) -> None:
        await self._written()
        pieces, self._pieces, self._collected = self._pieces, [], 0
        self._writing = asyncio.ensure_future(
            asyncio.get_running_loop().run_in_executor(self._executor, self._write_all, pieces)
        )

    async def _written(self) -> None:
        if self._writing is not None:
            # Shielded: a cancelled upload must not lose sight of a thread that still writes.
            await asyncio.shield(self._writing)
            self._writing = None

    async def _run(self, work: Callable[[], None]) -> None:
        self._writing = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(self._executor, work))
        await self._written()

    def _write_all(self, pieces: list[memoryview]) -> None:
        self._room.allow(sum(map(len, pieces)))
        if self._digest:
            for piece in pieces:
                self._digest.update(piece)
        while pieces:
            written = os.writev(self._descriptor, pieces[:1000])
            self.size += written
            self._room.wrote(written)
            while pieces and written >= len(pieces[0]):
                written -= len(pieces.pop(0))
            if written:
                pieces[0] = pieces[0][written:]
        if self.size - self._started >= START_BYTES:
            begin_writing(self._descriptor, self._started, START_BYTES)
            self._started += START_BYTES
