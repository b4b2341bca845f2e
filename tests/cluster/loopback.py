"""A Ray cluster on this machine's loopback address: a head without cores, and nodes of one core. Its pids are kept."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.system.running import ROOT, alive, children, wait_for

START = "Ray runtime started"
# Ray takes the machine's outward address even if told 127.0.0.1, unless it believes to have no other.
STARTER = (
    "from ray._private import services; services.get_node_ip_address = lambda *_: '127.0.0.1'; "
    "from ray.scripts.scripts import main; main()"
)
FLAGS = (
    *("--node-ip-address=127.0.0.1", "--block", "--disable-usage-stats", "--include-log-monitor=false"),
    *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"),
    "--object-store-memory=80000000",
)


def ray_path() -> str:
    """Return PYTHONPATH for processes that have to find us, and Ray where it is not installed beside us."""
    return os.pathsep.join(
        dict.fromkeys([str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    )


HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')
"""Runs a program to which a folder is empty; needs to be root."""


class Node:
    """A head or a node: the processes of one ``ray start``."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], log: Path, hidden: Path | None = None
    ) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*((*HIDDEN, hidden) if hidden else ()), sys.executable, "-c", STARTER, "start", *arguments, *FLAGS],
                env=environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def is_up(self) -> bool:
        """Wait until it runs; return whether it does."""
        wait_for(lambda: self.process.poll() is not None or START in self.log.read_text(), 120, "Ray did not start")
        return self.process.poll() is None

    def pid_of(self, program: str) -> int:
        """Return the process of a program that is part of it: raylet or gcs_server."""
        return wait_for(lambda: next((p for p in children(self.process.pid) if _program(p) == program), None), 30)

    def kill(self, program: str) -> None:
        """Kill a program of it as a power cut would; the rest of it ends then."""
        os.kill(self.pid_of(program), signal.SIGKILL)

    def close(self) -> None:
        """End all of it."""
        found = descendants(self.process.pid)
        for pid in (self.process.pid, *found):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)
        wait_for(lambda: not any(map(alive, found)), 30, "a process of Ray was left")


class Loopback:
    """A head, and nodes of one core each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._temporary = tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True)  # for short names
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DROPFRAME_")},
            "PYTHONPATH": ray_path(),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
        }
        self.nodes: list[Node] = []
        self.head: Node | None = None
        self._started = 0

    @property
    def settings(self) -> dict[str, str]:
        """What a daemon has to be told, by environment name."""
        ours = {name: value for name, value in self.environment.items() if name.startswith(("RAY_", "PYTHONPATH"))}
        return {
            **ours,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or the driver would look at the machine's outward address
            "DROPFRAME_EXECUTOR": "cluster",
            "DROPFRAME_CLUSTER_ADDRESS": self.address,
        }

    def _start(self, *arguments: str, hidden: Path | None = None, **environment: str) -> Node:
        self._started += 1
        log = self.folder / f"ray-{self._started}.log"
        return Node(list(arguments), {**self.environment, **environment}, log, hidden)

    def start_head(self) -> None:
        """Start the head, or another one in its place."""
        folder = f"--temp-dir={self._temporary.name}/{self._started}"
        port = f"--port={self._port}"
        self.head = self._start("--head", port, "--num-cpus=0", "--include-dashboard=false", folder)
        assert self.head.is_up(), self.head.log.read_text()

    def start_nodes(self, number: int, hidden: Path | None = None, **environment: str) -> None:
        """Start nodes.

        Args:
            number: How many.
            hidden: A folder that is empty to them.
            environment: What is different in theirs.
        """
        for _ in range(number):
            for _try in range(3):  # Ray gives up after 30 s, which on a busy machine may be too few
                arguments = (f"--address={self.address}", "--num-cpus=1")
                self.nodes.append(node := self._start(*arguments, hidden=hidden, **environment))
                if node.is_up():
                    break
                self.nodes.remove(node)
                node.close()
            else:
                raise AssertionError(node.log.read_text())

    def actors(self) -> list[int]:
        """Return the processes of the actors."""
        found = [pid for node in self.nodes if alive(node.process.pid) for pid in descendants(node.process.pid)]
        return [pid for pid in found if _title(pid).startswith(b"ray::Placed")]

    def pipelines(self) -> list[int]:
        """Return the pipeline processes."""
        found = [pid for actor in self.actors() for pid in children(actor)]
        return [pid for pid in found if b"daemon.pipeline.process" in _title(pid)]

    def close(self) -> None:
        """End everything."""
        for node in (*self.nodes, self.head):
            if node is not None:
                node.close()
        self._temporary.cleanup()


def descendants(pid: int) -> list[int]:
    """Return all that a process has started, and what that has."""
    found = children(pid)
    return [*found, *(below for child in found for below in descendants(child))]


def _title(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _program(pid: int) -> str:
    return Path(os.fsdecode(_title(pid).split(b"\0")[0])).name


if __name__ == "__main__":
    cluster = Loopback(Path(tempfile.mkdtemp()))
    cluster.start_head()
    cluster.start_nodes(2)
    for name, value in cluster.settings.items():
        print(f"export {name}={value}", flush=True)
    try:
        time.sleep(int(sys.argv[1]))
    finally:
        cluster.close()
