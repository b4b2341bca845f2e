"""Locks of files between processes, and what else of fcntl(2) there is; Windows has none, so nothing is locked there.

Whatever needs ``fcntl`` takes it from here, so that importing it fails nowhere.
"""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["fcntl", "try_lock"]


def try_lock(descriptor: int) -> bool:
    """Take a file for this process alone until it closes it or ends; tell whether that worked."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
