"""What of the machine a test needs, by name; where it is missing the test is skipped, and the last line says so."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

import pytest

MISSING = "needs "
"""How the reason of such a skip begins."""
ADVICE = "`.ci/run packages` installs the Debian packages, and `make test-all` runs every test."
OTHER_NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome")}
FILES = {
    "moto": str(Path(__file__).parents[1] / ".venv-moto/bin/moto_server"),
    "systemd": "/lib/systemd/systemd",
    "python3-venv": "/usr/lib/python3*/ensurepip",
    "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu",
    "tesseract-ocr-heb": "/usr/share/tesseract-ocr/*/tessdata/heb.traineddata",
    "tesseract-ocr-rus": "/usr/share/tesseract-ocr/*/tessdata/rus.traineddata",
}
"""Where to look for what is not on the search path."""


def find(name: str) -> str | None:
    """Return the path of a program or package, or None if it is not installed."""
    if name in FILES:
        return next(glob.iglob(FILES[name]), None)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return next((found for other in OTHER_NAMES.get(name, (name,)) if (found := shutil.which(other, path=path))), None)


def skip_without(*names: str) -> None:
    """Skip the test that runs where something is missing.

    Args:
        names: Of programs and packages, or ``root`` for a user who may mount and act as others.
    """
    missing = [name for name in names if not (os.geteuid() == 0 if name == "root" else find(name))]
    if missing:
        pytest.skip(MISSING + ", ".join(missing))


def sentence(reasons: list[str]) -> str:
    """Return the line at the end of a run.

    Args:
        reasons: Of every test that was skipped.
    """
    wanting = [reason.removeprefix(MISSING).split(", ") for reason in reasons if reason.startswith(MISSING)]
    names = sorted({name for missing in wanting for name in missing})
    skipped = f"{len(reasons)} tests were skipped" if len(reasons) != 1 else "1 test was skipped"
    listed = f", {len(wanting)} for want of {', '.join(names)}" if names else ""
    return f"{skipped}{listed}. {ADVICE}"
