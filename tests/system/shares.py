"""Shares for tests: a Samba server on this machine, and a FUSE file system that can be made to hang."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import programs
from tests.system.running import wait_for

SMB_CONF = """
[global]
  server role = standalone server
  map to guest = bad user
  guest account = root
  interfaces = lo
  bind interfaces only = yes
  smb ports = {port}
  disable spoolss = yes
  load printers = no
  log file = {state}/log
  pid directory = {state}
  lock directory = {state}
  state directory = {state}
  cache directory = {state}
  private dir = {state}
  ncalrpc dir = {state}/ncalrpc
[inbox]
  path = {inbox}
  guest ok = yes
  read only = no
[outbox]
  path = {outbox}
  guest ok = yes
  read only = yes
"""


class Samba:
    """A Samba server that shares an inbox and an outbox, and its client."""

    def __init__(self, port: int) -> None:
        self.port = port

    def client(self, share: str, *commands: str, seconds: float = 60.0) -> str:
        """Run commands of smbclient in a share and return what it says."""
        done = subprocess.run(
            ["smbclient", f"//127.0.0.1/{share}", "-p", str(self.port), "-N", "-c", "; ".join(commands)],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self) -> bool:
        """Tell whether the server is up."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def samba(folder: Path, inbox: Path, outbox: Path) -> Iterator[Samba]:
    """Share two folders on the loopback address."""
    programs.skip_without("smbd", "smbclient", "root")
    state = folder / "samba"
    (state / "ncalrpc").mkdir(parents=True)
    for path in (inbox, outbox):
        path.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = state / "smb.conf"
    config.write_text(SMB_CONF.format(port=port, state=state, inbox=inbox, outbox=outbox))
    with (state / "stdout").open("wb") as log:
        server = subprocess.Popen(
            [str(programs.find("smbd")), "-F", "--no-process-group", "-s", config],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        made = Samba(port)
        wait_for(made.answers, 30, "the Samba server did not start")
        yield made
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(10)


@contextmanager
def mounted(point: Path, *arguments: object) -> Iterator[None]:
    """Mount something; unmount it at the end if it still is."""
    programs.skip_without("root", "mount")
    point.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *map(str, arguments), str(point)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)


class FuseShare:
    """A folder seen through FUSE, for a share of another machine: the kernel sends no events of what happens there."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._server = server

    def hang(self) -> None:
        """Let every call into it wait, as a hard mount does whose server does not answer."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self._server.send_signal(signal.SIGCONT)

    def die(self) -> None:
        """End the server: calls fail from now on (ENOTCONN)."""
        self._server.kill()
        self._server.wait(10)


@contextmanager
def fuse_share(behind: Path, point: Path, read_rate: str | None = None) -> Iterator[FuseShare]:
    """Mount the folder ``behind`` on ``point`` with bindfs; read from it with so many bytes a second at most."""
    programs.skip_without("bindfs", "root")
    for path in (behind, point):
        path.mkdir(parents=True, exist_ok=True)
    # No caches, so that what is written behind is seen at once.
    options = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
    slowly = [f"--read-rate={read_rate}"] if read_rate else []
    command = ["bindfs", "-f", *slowly, "-o", options, str(behind), str(point)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        while f" {point} " not in Path("/proc/self/mountinfo").read_text():
            if server.poll() is not None:
                assert server.stderr is not None
                pytest.skip(f"FUSE cannot be mounted here: {server.stderr.read().decode().strip()}")
            assert time.monotonic() < deadline, "FUSE was not mounted in time"
            time.sleep(0.01)
        yield FuseShare(server)
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)
        server.kill()
        server.wait(10)
        assert server.stderr is not None
        server.stderr.close()
