"""Which code makes the frames of a run: only the same code goes on with what an earlier attempt has kept.

A release's number would not tell: an installation from a checkout keeps it while the code, a constant in it, changes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def code_version(stages: Iterable[object]) -> str:
    """Return a digest of this package, and of those that the stages are from."""
    packages = {type(stage).__module__.partition(".")[0] for stage in stages} | {__name__.partition(".")[0]}
    return " ".join(f"{package}={package_digest(package)}" for package in sorted(packages))


@cache
def package_digest(name: str) -> str:
    """Return a digest of the source of an imported package, as it is the first time that it is asked for.

    Args:
        name: Of the package, or of a module that is in none.
    """
    module = sys.modules[name]
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    source = getattr(module, "__file__", None)
    return digest_of(folders) if folders or source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()


def digest_of(folders: Iterable[Path]) -> str:
    """Return a digest of the names and the content of all Python files in folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
