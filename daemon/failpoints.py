"""failpoint: places at which a test can end the process as a power cut would.

Nothing happens unless ``DROPFRAME_FAULT`` is ``name`` or ``name:n``: then the n-th passing of that point (the
first by default) kills the process with SIGKILL, so no handler, buffer or ``finally`` gets a say.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

FAULT_VARIABLE = "DROPFRAME_FAULT"

_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Mark a place between two steps that must be safe to be killed at."""
    fault = os.environ.get(FAULT_VARIABLE)
    if fault is None:
        return
    wanted, _, count = fault.partition(":")
    if wanted != name:
        return
    _passed[name] += 1
    if _passed[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
