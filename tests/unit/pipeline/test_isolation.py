"""The pipeline process has no network, whoever runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

TRIES = """
import ctypes, os, socket, sys
from daemon.pipeline.isolation import unshare_network
PR_SET_DUMPABLE = 4
user = int(sys.argv[2])
if user != os.getuid():
    os.setgid(user)
    os.setuid(user)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # as a program has it that this user started
print(unshare_network())
try:
    socket.socket().connect((b"127.0.0.1", int(sys.argv[1])))  # not text: its codec would be read from a file
    print("reached")
except OSError as error:
    print(error.strerror)
print(os.getuid(), os.getgid())
"""
SOMEBODY = 65_533


@pytest.mark.parametrize("user", sorted({os.geteuid(), SOMEBODY if os.geteuid() == 0 else os.geteuid()}))
def test_nothing_can_be_reached_any_more(user: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 5).close()  # so that a refusal below means something
        done = subprocess.run(
            [sys.executable, "-c", TRIES, str(port), str(user)], capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines()[:2] == ["None", "Network is unreachable"]
    assert int(done.stdout.split()[-2]) == user
