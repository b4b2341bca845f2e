"""What `make release` makes, for tests that install it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from daemon import __version__
from tests.system.running import ROOT


@dataclass(frozen=True)
class Release:
    """What `make release` makes."""

    wheel: Path
    archive: Path
    source: Path
    """The archive, unpacked."""


def make_release(folder: Path) -> Release:
    """Build wheel and source archive from a copy of this checkout."""
    tree = folder / "tree"
    # .coverage.* come and go while other tests run.
    caches = (".*_cache", ".hypothesis", "__pycache__", ".coverage*", "build", "dist", "*.egg-info")
    litter = shutil.ignore_patterns(*caches, ".git", ".venv", "data")
    shutil.copytree(ROOT, tree, ignore=litter)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", tree],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (wheel,), (archive,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extraction_filter = lambda member, path: member  # as an argument only from Python 3.11.4 on
        packed.extractall(folder / "source")
    return Release(wheel, archive, folder / "source" / f"dropframe-{__version__}")
