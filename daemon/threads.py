"""Ending threads, and keeping them apart."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakValueDictionary


class NamedLocks:
    """A lock for each name, which the thread that holds it may take again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: WeakValueDictionary[Hashable, Any] = (
            WeakValueDictionary()
        )  # those that somebody holds or waits for

    def of(self, name: Hashable) -> AbstractContextManager[object]:
        """Return the lock of a name."""
        with self._lock:
            lock: AbstractContextManager[object] = self._locks.setdefault(name, threading.RLock())
            return lock


def join(thread: threading.Thread | None, seconds: float | None = None) -> None:
    """Wait for the end of a thread; one that was never started has ended.

    Args:
        thread: Which one.
        seconds: How long at most; as long as it takes if not given.
    """
    if thread is not None and thread.ident is not None:
        thread.join(None if seconds is None else max(0.0, seconds))
