"""booted: the real systemd, as process 1 of namespaces of its own, running the units of a scratch root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import programs
from tests.system.running import children, wait_for

NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--mount-proc", "--kill-child"]
UNITS = ("dropframe.service", "dropframe-sidecar.service")

DROP_IN = """[Unit]
DefaultDependencies=no
[Service]
StandardOutput=append:/var/lib/dropframe/{unit}.log
StandardError=append:/var/lib/dropframe/{unit}.log
WatchdogSec={watchdog}
RestartSec=1
Environment=DROPFRAME_MIN_FREE_BYTES=0 DROPFRAME_PORT={port}
"""
"""What the units do otherwise here: no other unit is started with them, and there is no journal."""

PROCESS_1 = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /opt
mount -t tmpfs tmpfs /var/lib
mkdir /opt/dropframe /var/lib/dropframe
mount --bind "$1/opt/dropframe" /opt/dropframe
mount --bind "$1/var/lib/dropframe" /var/lib/dropframe
mount -t overlay overlay -o "lowerdir=$1/etc:/etc" /etc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export container=test
exec /lib/systemd/systemd --system --unit=dropframe-test.target --show-status=no --log-target=console
"""
"""Puts the scratch root's folders where the units look for them, then becomes systemd. $1 is the root."""


@dataclass
class Booted:
    """A running systemd."""

    pid: int
    """Of its process 1, as seen from here."""
    root: Path

    def _inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=60, check=False)

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl; it must end well."""
        done = self._inside("systemctl", *arguments)
        assert done.returncode == 0, done.stderr + self.log()
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self._inside("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def wait_active(self, unit: str) -> None:
        """Wait until a unit has said that it is ready."""
        try:
            wait_for(lambda: self.show(unit, "ActiveState") == "active", 240, f"{unit} was not ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._inside('systemctl', 'status', unit).stdout}\n{self.log()}") from None

    def status(self, inner_pid: str) -> dict[str, str]:
        """Return /proc/PID/status of a process, by its number inside."""
        text = self._inside("cat", f"/proc/{inner_pid}/status").stdout
        return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}

    def can_write(self, unit: str, path: str) -> bool:
        """Tell whether the file system that a unit sees can be written at a path, were permissions no matter."""
        main = self.show(unit, "MainPID")
        return self._inside("nsenter", "--target", main, "--mount", "--", "touch", path).returncode == 0

    def freeze(self, unit: str) -> None:
        """Make a unit's main process hang."""
        self._inside("kill", "-STOP", self.show(unit, "MainPID"))

    def log(self) -> str:
        """Return what the units wrote."""
        return "\n".join(
            (self.root / "var" / "lib" / "dropframe" / f"{unit}.log").read_text(errors="replace")
            for unit in UNITS
            if (self.root / "var" / "lib" / "dropframe" / f"{unit}.log").exists()
        )


@contextmanager
def booted(root: Path, port: int, watchdog_seconds: int = 20) -> Iterator[Booted]:
    """Boot systemd with the units of a scratch root; at the end it and all its processes are killed.

    Args:
        root: What deploy/install.sh has installed into.
        port: For the sidecar.
        watchdog_seconds: Shorter than the shipped ones, so that a test need not wait for minutes.
    """
    programs.skip_without("systemd", "root")
    units = root / "etc" / "systemd" / "system"
    wants = " ".join(UNITS)
    (units / "dropframe-test.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={wants}\nAfter={wants}\n")
    for unit in UNITS:
        drop_in = units / f"{unit}.d" / "test.conf"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(DROP_IN.format(unit=unit, watchdog=watchdog_seconds, port=port))
    group = _cgroup2() / f"dropframe-test-{os.getpid()}"
    group.mkdir()
    log = root / "systemd.log"
    with log.open("wb") as output:
        outer = subprocess.Popen(
            [*NAMESPACES, "bash", "-c", PROCESS_1, "bash", str(root)],
            stdout=output,
            stderr=output,
            preexec_fn=lambda: (group / "cgroup.procs").write_text("0") and None,
        )
    try:

        def up() -> bool:
            assert outer.poll() is None, log.read_text()
            inner = children(outer.pid)
            return bool(inner) and Booted(inner[0], root)._inside("systemctl", "show-environment").returncode == 0

        wait_for(up, 60, "systemd did not start")
        yield Booted(children(outer.pid)[0], root)
    finally:
        for pid in children(outer.pid):
            os.kill(pid, signal.SIGKILL)  # process 1: the kernel ends all that it has started
        outer.wait(30)
        _remove(group)
        for unit in UNITS:
            shutil.rmtree(units / f"{unit}.d")
        (units / "dropframe-test.target").unlink()


def _cgroup2() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(point)
    pytest.skip("there is no cgroup2 file system here, which systemd needs")


def _remove(group: Path) -> None:
    deadline = time.monotonic() + 20
    while group.exists() and time.monotonic() < deadline:
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):  # the kernel still ends its processes
                os.rmdir(folder)
        time.sleep(0.05)
