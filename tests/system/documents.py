"""Documents: the commands in a page, and a shell session that runs them as a reader would."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.jobs import Job
from daemon.store.job_reader import JobReader
from tests.clips import make_clip
from tests.system.running import ROOT, environment, wait_for

NOT_RUN = re.compile(r"^_Not run by the tests: (.+)\._$")
"""The line above a block that is not run. Readers see it too."""
SERVES = re.compile(r"^(make run|(\.venv/bin/)?dropframe (run|daemon))\b")
"""Commands that do not end by themselves."""
STOP = "# Stop Dropframe"
"""A comment that readers follow by hand."""


@dataclass(frozen=True)
class Block:
    """A fenced block of commands."""

    page: str
    """Relative to the repository."""
    line: int
    section: str
    """The last heading above it."""
    commands: str
    not_run: str | None
    """Why the tests do not run it."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page that may hold commands."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, languages: tuple[str, ...] = ("sh",)) -> list[Block]:
    """Return a page's blocks of commands in order."""
    found = []
    section, reason, fence = "", None, None
    body: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if fence is not None:
            if line.strip() == "```":
                if fence[0] in languages:
                    text = "\n".join(part[fence[2] :] for part in body) + "\n"
                    found.append(Block(str(page.relative_to(ROOT)), fence[1], section, text, reason))
                fence, reason, body = None, None, []
            else:
                body.append(line)
        elif line.lstrip().startswith("```"):
            fence = (line.strip().removeprefix("```"), number, len(line) - len(line.lstrip()))
        elif line.startswith("#"):
            section, reason = line.lstrip("# "), None
        elif marked := NOT_RUN.match(line.strip()):
            reason = marked[1]
        elif line.strip():
            reason = None
    return found


class Session:
    """A checkout with an installed program, an empty home in it, and a terminal.

    Dropframe is what is here, not installed anew; the release is tested elsewhere. Between two blocks the session
    waits until the jobs have ended, as a reader waits for the result.

    Args:
        folder: Where to make it.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "dropframe"
        self.home.mkdir()
        for entry in ROOT.iterdir():
            if entry.name not in ("inbox", "outbox", "data", ".venv", ".git", "dropframe.toml"):
                (self.home / entry.name).symlink_to(entry)
        programs = self.home / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, call in (("dropframe", "-m daemon "), ("python", "")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} {call}"$@"\n')
            program.chmod(0o755)
        (self.home / ".venv" / ".installed").touch()
        make_clip(self.home / "street.mp4", frames=10, text="HOME 2 - 1 AWAY")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.environment = {
            **environment(),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "DROPFRAME_PORT": str(self.port),
            "COLUMNS": "120",
        }
        self.data = self.home / "data"
        self.server: subprocess.Popen[bytes] | None = None

    def call(self, commands: str) -> str:
        """Run commands; return what they print. Any that fails fails the test."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def run(self, block: Block) -> str:
        """Run a block as a reader would; return what its commands print."""
        serves = None
        ends: list[str] = []
        for line in block.commands.splitlines():
            if line.startswith(STOP):
                assert not ends, f"{block}: the stop is not its first line"
                self.stop()
            elif SERVES.match(line):
                serves = line
            else:
                assert serves is None, f"{block}: nothing comes after a command that does not end"
                ends.append(line)
        said = self.call("\n".join(ends))
        if serves is not None:
            self.start(serves)
        self.wait_idle()
        return said

    def start(self, command: str = "dropframe run") -> None:
        """Start Dropframe in another terminal and wait until it is ready."""
        assert self.server is None, "Dropframe runs already; the page does not say to stop it"
        with (self.home.parent / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def ready() -> bool:
            assert self.server is not None
            assert self.server.poll() is None, f"it ended:\n{self.log()}"
            daemon = self.data / "daemon.json"
            if not daemon.exists() or '"running"' not in daemon.read_text():
                return False
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", self.port)) == 0

        (self.data / "daemon.json").unlink(missing_ok=True)
        wait_for(ready, 90, "it was not ready")

    def stop(self) -> None:
        """End Dropframe as Ctrl-C would, if it runs."""
        if self.server is None:
            return
        os.killpg(self.server.pid, 2)
        self.server.wait(20)
        self.server = None

    def wait_idle(self) -> None:
        """Wait until every job has ended; nothing to wait for while Dropframe is down."""
        if self.server is None:
            return

        def idle() -> bool:
            waiting = [*self.home.glob("inbox/*.mp4"), *self.data.glob("spool/*.submit.json")]
            return not waiting and all(job.ended for job in self.jobs())

        wait_for(idle, 90, lambda: f"jobs did not end:\n{self.log()}")

    def get(self, path: str) -> Any:
        """Return the sidecar's JSON answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.load(answer)

    def jobs(self) -> list[Job]:
        with JobReader(self.data) as reader:
            reader.refresh()
            return reader.jobs()

    def log(self) -> str:
        return (self.home.parent / "server.log").read_text(errors="replace")


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    """Open a session; at its end Dropframe is stopped."""
    opened = Session(folder)
    try:
        yield opened
    finally:
        opened.stop()
