"""The sidecar's process: ``python -m sidecar --home HOME --host HOST --port PORT``."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import sys
from pathlib import Path

from daemon.errors import DropframeError, MachineError, SettingsError
from daemon.ipc.process import keep_standard_files_open
from daemon.ipc.systemd import notify
from daemon.settings import Settings
from sidecar import logs
from sidecar.app import make_app
from sidecar.server import make_server

CANNOT_RUN = 1
WRONG_SETTINGS = 2
MACHINE = 5
"""The address cannot be used; starting again changes nothing."""

log = logging.getLogger("sidecar")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 32 << 20


def keep_memory() -> None:
    """Have the C library use freed memory again instead of giving it back.

    Each piece of an upload is larger than what it gives back at once, and getting it anew costs more than
    receiving it: half of an upload's processor time. Another C library than glibc is left as it is.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def main() -> int:
    """Serve until a signal comes; return the exit code."""
    keep_standard_files_open()
    parser = argparse.ArgumentParser(prog="sidecar", description="Submit, status and results over HTTP.")
    parser.add_argument("--home", type=Path, help="folder with inbox, outbox and data (default: the current one)")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default 8000; 0 takes a free one)")
    flags = parser.parse_args()
    try:
        settings = Settings.load(home=flags.home, host=flags.host, port=flags.port)
        logs.setup(settings.log_level)
        app = make_app(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_SETTINGS
    except (DropframeError, OSError) as error:
        sys.stderr.write(f"The sidecar cannot start: {error}\n")
        return CANNOT_RUN

    def on_start(port: int) -> None:
        notify("READY=1")
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        log.info("listening", extra={"fields": {"address": f"http://{host}:{port}", "port": port}})

    keep_memory()
    server = make_server(settings, app, on_start)
    try:
        server.run()
    except MachineError as error:
        sys.stderr.write(f"{error}\n")
        return MACHINE
    return 0 if server.started else CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
