"""BlockWatch: whether a file's content moves though neither its size nor its mtime does, as on a share."""

from __future__ import annotations

from daemon.fs.samples import look_at_blocks


class BlockWatch:
    """Reads a few blocks of one content of a file now and then. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._digest: bytes | None = None
        self._since = 0.0
        """When the blocks were first read as they are."""
        self._read_at = 0.0

    def moved(self, descriptor: int, size: int, now: float, every_seconds: float) -> bool:
        """Read the blocks if it is time, and tell whether they are others than the last time.

        Raises:
            OSError: they cannot be read.
        """
        if self._digest is not None and now < self._read_at + every_seconds:
            return False
        before, self._digest, self._read_at = self._digest, look_at_blocks(descriptor, size), now
        if before == self._digest:
            return False
        self._since = now
        return before is not None

    def is_still(self, every_seconds: float) -> bool:
        """Tell whether the blocks were read twice and were the same."""
        return self._read_at >= self.still_at(every_seconds)

    def still_at(self, every_seconds: float) -> float:
        """Return when the blocks will have been the same for long enough."""
        return self._since + every_seconds
