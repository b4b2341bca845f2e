"""Ending threads."""

from __future__ import annotations

import threading


def join(thread: threading.Thread | None, seconds: float | None = None) -> None:
    """Wait for the end of a thread; one that was never started has ended.

    Args:
        thread: Which one.
        seconds: How long at most; as long as it takes if not given.
    """
    if thread is not None and thread.ident is not None:
        thread.join(None if seconds is None else max(0.0, seconds))
