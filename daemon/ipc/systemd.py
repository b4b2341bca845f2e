"""notify: tell the service manager that started us how it goes, as sd_notify(3) describes it."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*assignments: str) -> None:
    """Send ``READY=1``, ``WATCHDOG=1`` and the like; nothing happens without a service manager that listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # a socket without a file
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)  # one that does not read must not hold us up
        manager.sendto("\n".join(assignments).encode(), address)
