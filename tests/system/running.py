"""Real Dropframe processes in a temporary home, and waiting for things with a deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from daemon.ipc import health
from daemon.ipc.health import Heartbeat
from daemon.jobs import Job, JobStatus
from daemon.store.job_reader import JobReader

ROOT = Path(__file__).parents[2]
T = TypeVar("T")

FAST = {
    "DROPFRAME_MIN_FREE_BYTES": "0",
    "DROPFRAME_CLOSE_GRACE_SECONDS": "0",
    "DROPFRAME_RETRY_SECONDS": "0.2",
    "DROPFRAME_SEGMENT_FRAMES": "8",
}
"""Settings that make the tests quick; none changes what is tested."""


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a Dropframe process, free of settings from outside."""
    # What make was called with must not reach a make that a test calls. And the coverage of a whole Dropframe is not
    # measured, which would take half as much processor time again.
    outside = ("DROPFRAME_", "MAKE", "MFLAGS", "ARGS", "COVERAGE_")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(outside) or name == "DROPFRAME_AUTO_PULL"  # tests/__init__.py
    }
    one = {"DROPFRAME_EXECUTOR": "embedded"}  # on any machine; tests of a pool ask for one
    return {**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **one, **FAST, **(settings or {})}


def wait_for(
    what: Callable[[], T | None], seconds: float = 30.0, why: str | Callable[[], str] = "it did not happen"
) -> T:
    """Return the first true answer, asked for every 10 ms; fail after the deadline, with what ``why`` says by then."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"{why() if callable(why) else why} within {seconds:g} s"
        time.sleep(0.01)
    return answer


def dropframe(
    home: Path, *arguments: object, seconds: float = 60.0, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command, *rest = map(str, arguments)
    flags = [command, *rest, "--home", str(home)] if command not in ("--version", "--help") else [command, *rest]
    return subprocess.run(
        [sys.executable, "-m", "daemon", *flags],
        cwd=home,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def as_json(home: Path, *arguments: object, **settings: str) -> Any:
    """Run a command with --json and return what it says."""
    done = dropframe(home, *arguments, "--json", **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found, wanted = [], str(pid).encode()
    for name in os.listdir("/proc"):  # tests ask for this a hundred times a second, so it must be cheap
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # or it ended meanwhile
                if stat.read().rpartition(b")")[2].split(None, 2)[1] == wanted:
                    found.append(int(name))
    return found


def follows_up(pid: int) -> bool:
    """Tell whether a process makes something of a result: it derives, exports or takes pictures."""
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return any(b"daemon.%s.process" % room in command for room in (b"derive", b"export", b"stills"))
    return False


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Daemon:
    """A daemon in a home, which may be started several times.

    Args:
        home: Of everything.
        flags: More flags of ``dropframe daemon``.
        command: ``daemon`` or ``run``.
        settings: By environment name.
    """

    def __init__(self, home: Path, *flags: object, command: str = "daemon", **settings: str) -> None:
        self.home = home
        self.inbox = home / "inbox"
        self.outbox = Path(settings.get("DROPFRAME_OUTBOX_DIR", home / "outbox"))
        self.data = Path(settings.get("DROPFRAME_DATA_DIR", home / "data"))
        self._flags = [command, "--home", str(home), *map(str, flags)]
        self._settings = settings
        self.log_path = home / "daemon.log"
        self._seen: set[int] = set()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, **settings: str) -> None:
        """Start it; returns at once."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", *self._flags],
                cwd=self.home,
                env=environment({**self._settings, **settings}),
                stdout=log,
                stderr=log,
            )

    def beat(self) -> Heartbeat | None:
        """Return the heartbeat of this very process."""
        beat = health.read(self.data)
        return beat if beat is not None and beat.pid == self.pid else None

    def wait_ready(self, seconds: float = 60.0) -> Heartbeat:
        """Wait until its models are loaded."""

        def ready() -> Heartbeat | None:
            assert self.process is not None
            assert self.process.poll() is None, f"it ended:\n{self.log()}"
            beat = self.beat()
            return beat if beat is not None and beat.state == "running" else None

        return wait_for(ready, seconds, "it was not ready")

    def pipelines(self) -> list[int]:
        """Return its pipeline processes; what is made of results comes and goes beside them."""
        found = children(self.pid)
        self._seen.update(found)
        return [pid for pid in found if not follows_up(pid)]

    def send(self, number: signal.Signals) -> None:
        self.pipelines()
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 10.0) -> float:
        """End it by a signal; return how long that took. It must end well, in time, leaving no process."""
        assert self.process is not None
        begun = time.monotonic()
        self.send(number)
        code = self.process.wait(seconds)
        took = time.monotonic() - begun
        assert code == 0, self.log()
        self.check_nothing_left()
        return took

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGKILL)
            self.process.wait(10)
        self.check_nothing_left()

    def wait_killed(self, seconds: float = 60.0) -> None:
        """Wait until a failpoint has killed it."""
        assert self.process is not None
        assert self.process.wait(seconds) == -signal.SIGKILL, self.log()
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        wait_for(lambda: not any(alive(pid) for pid in self._seen), 15.0, "a pipeline process was left")
        self._seen.clear()  # their numbers may be given to others

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    # Jobs.

    def jobs(self) -> list[Job]:
        with JobReader(self.data) as reader:
            reader.refresh()
            return reader.jobs()

    def job(self, name: str) -> Job | None:
        """Return the newest job of a source name."""
        return next((job for job in reversed(self.jobs()) if job.source_name == name), None)

    def wait_job(
        self, name: str, *states: JobStatus, seconds: float = 60.0, when: Callable[[Job], bool] = lambda job: True
    ) -> Job:
        """Wait until the newest job of a name is in one of these states (or has ended, if none is given)."""

        def reached() -> Job | None:
            assert self.process is not None
            assert self.process.poll() is None, "the daemon has ended"
            job = self.job(name)
            if job is None or not when(job):
                return None
            return job if (job.status in states if states else job.ended) else None

        try:
            return wait_for(reached, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {name}: {self.job(name)}\n{self.log()}") from None

    def drop(self, clip: Path, name: str | None = None) -> Path:
        """Drop a copy of a clip the safe way: a rename."""
        target = self.inbox / (name or clip.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        partial.write_bytes(clip.read_bytes())
        return partial.rename(target)

    def results(self) -> dict[str, bytes]:
        """Return what is in the outbox, by relative path."""
        return {
            str(p.relative_to(self.outbox)): p.read_bytes()
            for p in self.outbox.rglob("*")
            if p.is_file() and not p.name.startswith(".")
        }


@contextmanager
def running(home: Path, *flags: object, ready: bool = True, **settings: str) -> Iterator[Daemon]:
    """Start a daemon; at the end it must stop well within 10 s and leave no process."""
    daemon = Daemon(home, *flags, **settings)
    daemon.start()
    try:
        if ready:
            daemon.wait_ready()
        yield daemon
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.stop()
    finally:
        daemon.kill()
