"""The page opened on one job in a browser."""

from __future__ import annotations

from tests.browser import Browser

PARTS = "import('./page/app.js').then(({ address, viewer }) => { Object.assign(window, { address, viewer }); })"
"""What the page is made of, for tests to look at and to act on; once that is there, it has begun."""


def open_viewer(browser: Browser, url: str, job_id: str, query: str = "") -> None:
    """Open a job, as its address does."""
    browser.open(f"{url}/healthz")  # to another hash alone it would be the same page
    browser.open(f"{url}/#/job/{job_id}{'?' + query if query else ''}")
    browser.ask(PARTS)


def wait_for_picture(browser: Browser) -> None:
    """Wait until the picture is there and what was found in it is drawn."""
    browser.wait_for("document.querySelector('.stage canvas')?.dataset.frame")
