"""What our child processes have in common: how they speak to their parent, and that they end with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

PR_SET_PDEATHSIG = 1


def private_stdout() -> BinaryIO:
    """Keep the pipe to the parent for answers alone; what libraries print goes to standard error."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def without_credentials() -> dict[str, str]:
    """Return the environment for a child that reads strangers' videos or results: without credentials."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_AUTH_"))}


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends; end now if it has ended already.

    Args:
        parent: The process that started this one.
    """
    # A Ctrl-C, or a service manager that signals the whole group, means the parent, which ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(0)


def be_killed_first() -> None:
    """Be the process that the kernel ends when memory runs out."""
    with contextlib.suppress(OSError):  # not allowed in some containers; the parent's memory limit still holds
        Path("/proc/self/oom_score_adj").write_text("900")


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
