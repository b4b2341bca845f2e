"""Takes the picture of the page for README: ``python -m tests.page_picture URL``.

The URL is that of a job in a Dropframe that runs, best of the clip that ``dropframe demo`` draws:
``http://127.0.0.1:8000/#/job/<id>?t=2.5``. Only clips that we draw ourselves may be in it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.browser import browsing

TARGET = Path(__file__).parents[1] / "docs" / "page.png"
SIZE = (1400, 960)
SETTLED_SECONDS = 3.0
"""Until pictures, lanes and plots are there."""


def take(url: str, target: Path = TARGET) -> None:
    """Save what the page shows once a video's picture is painted."""
    with tempfile.TemporaryDirectory() as folder, browsing(Path(folder) / "profile", SIZE) as browser:
        browser.show_on(*SIZE)
        browser.open(url)
        browser.wait_for("document.querySelector('#viewer video')?.readyState >= 2")
        time.sleep(SETTLED_SECONDS)
        browser.screenshot(target)


if __name__ == "__main__":
    take(sys.argv[1])
