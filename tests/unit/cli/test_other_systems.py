"""Where Linux's own modules and calls are not there, as on macOS and Windows, the commands still say what they do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import typer.main
from typer.core import TyperGroup

from daemon.cli.main import app

HIDING = """
import builtins, ctypes, os, signal, sys
import asyncio, shutil, socket, subprocess, tempfile, typer, rich.progress  # theirs know how to do without

LINUX = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty"}
real_import = builtins.__import__

def hiding(name, globals=None, *rest, **more):
    of = (globals or {}).get("__name__", "")
    if name.split(".")[0] in LINUX and of.split(".")[0] in ("daemon", "sidecar"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real_import(name, globals, *rest, **more)

def no_library(name, *rest, **more):
    raise TypeError("bad argument type for built-in operation")

builtins.__import__ = hiding
ctypes.CDLL = no_library
for name in dir(os):
    if name.startswith(("O_NO", "O_CLO", "O_DIRE", "POSIX_", "posix_")) or name in (
        "getuid", "geteuid", "getegid", "sched_getaffinity", "statvfs", "killpg", "fork", "sysconf", "getpgrp"
    ):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGURG", "SIGUSR1"):
    delattr(signal, name)
"""
CALLING = """
import contextlib, io, json
from daemon.cli.main import main

said, sys.platform = [], {system!r}
for words in json.loads(sys.argv[1]):
    sys.argv = ["dropframe", *words]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.redirect_stderr(text):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    said.append([code, text.getvalue()])
print(json.dumps(said))
"""
NEEDS_A_HOME = (
    ["run"],
    ["run", "--offline"],
    ["daemon"],
    ["sidecar"],
    ["doctor"],
    ["health"],
    ["jobs"],
    ["demo"],
    ["mcp"],
    ["models", "list"],
    ["clean", "--dry-run"],
    ["submit", "street.mp4"],
)


def call(folder: Path, commands: list[list[str]], system: str) -> list[tuple[int, str]]:
    """Return the exit code and the output of commands that another system runs, one after the other."""
    code = HIDING + CALLING.replace("{system!r}", repr(system))
    command = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [(code, text) for code, text in json.loads(done.stdout)]


def all_commands() -> list[list[str]]:
    """Return the words of every command, of groups that of each of theirs."""
    found: list[list[str]] = []
    for name, command in typer.main.get_group(app).commands.items():
        below = command.commands if isinstance(command, TyperGroup) else {}
        found += [[name, *more] for more in [[], *([one] for one in below)]]
    return found


def test_help_of_every_command_is_there_without_the_modules_of_linux(tmp_path: Path) -> None:
    commands = [[], *all_commands()]
    assert ["submit"] in commands
    assert ["models", "list"] in commands
    said = call(tmp_path, [["--version"], *([*words, "--help"] for words in commands)], "win32")
    assert said[0][0] == 0
    assert said[0][1].startswith("dropframe ")
    for words, (code, text) in zip(commands, said[1:], strict=True):
        assert (code, " ".join(["Usage: dropframe", *words]) in text) == (0, True), text


def test_a_command_that_needs_a_home_says_that_dropframe_runs_on_linux_and_touches_nothing(tmp_path: Path) -> None:
    for system in ("win32", "darwin"):
        for code, text in call(tmp_path, list(NEEDS_A_HOME), system):
            assert code == 5
            assert "runs on Linux only" in text
            assert "WSL 2, a virtual machine or a container" in text
    assert list(tmp_path.iterdir()) == []


def test_what_is_hidden_is_hidden() -> None:
    code = HIDING + "import daemon.pipeline.process"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No module named 'resource'" in done.stderr
