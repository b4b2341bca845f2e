"""Where Linux's own modules and calls are not there, as on macOS and Windows, the commands still say what they do."""

from __future__ import annotations

import subprocess
import sys

import pytest

HIDING = """
import builtins, ctypes, os, signal, sys
import asyncio, shutil, socket, subprocess, tempfile, typer, rich.progress  # theirs know how to do without

LINUX = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty"}
real_import = builtins.__import__

def hiding(name, globals=None, *rest):
    of = (globals or {}).get("__name__", "")
    if name.split(".")[0] in LINUX and of.split(".")[0] in ("daemon", "sidecar"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real_import(name, globals, *rest)

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
sys.argv = ["dropframe", *sys.argv[1:]]
"""


@pytest.mark.parametrize("flags", [["--help"], ["--version"], ["submit", "--help"], ["models", "--help"]])
def test_help_is_there_without_the_modules_of_linux(flags: list[str]) -> None:
    code = HIDING + "from daemon.cli.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "dropframe" in done.stdout
    assert done.stderr == ""


def test_what_is_hidden_is_hidden() -> None:
    code = HIDING + "import daemon.pipeline.process"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No module named 'resource'" in done.stderr
