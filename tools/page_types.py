"""Check the types of the web page's modules with TypeScript: ``python -m tools.page_types`` (part of ``make types``).

TypeScript and axe-core are pinned in ``tests/page/package-lock.json`` and installed by npm into a folder that is kept.
Without npm nothing is checked, which is said in a sentence; where nothing may be skipped that is a failure.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "page"
FILES = ("package.json", "package-lock.json")
INSTALL = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--cache", "cache")
INSTALL_SECONDS = 600
SKIPPED = "SKIPPED: the types of the web page were not checked, as"
HOW = "`.ci/run packages` installs npm."


class NotInstalled(Exception):
    """The tools cannot be had; the message says why."""


def install(within: Path = ROOT / ".pytest_cache") -> Path:
    """Return a folder with the tools in ``node_modules``; they are installed once for what is pinned.

    Args:
        within: Folder that is never committed.

    Raises:
        NotInstalled: there is no npm, or it does not reach its registry.
    """
    if not shutil.which("npm"):
        raise NotInstalled(f"npm is not installed. {HOW}")
    known = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in FILES)).hexdigest()[:12]
    folder = within / "page" / known
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for name in FILES:
                shutil.copy(FOLDER / name, folder)
            done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            if done.returncode != 0:
                raise NotInstalled(f"npm cannot install TypeScript. It says: {done.stderr.strip()[-300:]}")
            (folder / "done").touch()
    return folder


def main() -> int:
    """Check the types; return the exit code."""
    try:
        tools = install()
    except NotInstalled as error:
        print(f"{SKIPPED} {error}")
        return int("DROPFRAME_NO_SKIPS" in os.environ)
    command = [str(tools / "node_modules" / ".bin" / "tsc"), "--project", str(FOLDER)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
