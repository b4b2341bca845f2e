"""Taking the network away from the pipeline process: whatever a hostile video makes of a decoder stays in here.

A process can leave its network namespace for a new, empty one (network_namespaces(7)), in which nothing can be
reached, not even this machine itself. Root may do so at once; others need a user namespace of their own first
(user_namespaces(7)), which some distributions and containers forbid.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000


def unshare_network() -> str | None:
    """Move this process into an empty network namespace. Call it before threads are started.

    Returns:
        None, or why it is not possible here; then nothing has changed.
    """
    user, group = os.geteuid(), os.getegid()
    problem = _unshare(CLONE_NEWNET)
    if problem is None:
        return None
    if _unshare(CLONE_NEWUSER | CLONE_NEWNET) is not None:
        return problem
    # Files are reached as before in any case; without these lines we would see ourselves as "nobody".
    with contextlib.suppress(OSError):
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return None


def _unshare(flags: int) -> str | None:
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if unshare is None:
        return "this system has no network namespaces"
    return None if unshare(flags) == 0 else os.strerror(ctypes.get_errno())
