"""The page's viewer for everybody: axe-core finds nothing serious in it, light and dark, wide and narrow."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests import page_audit
from tests.browser import browsing
from tests.integration.test_page_viewer_states import add
from tests.numbered_clips import analyse, even, make_numbered
from tests.page_home import add_completed, make_folders
from tests.sidecar_process import running_sidecar
from tests.viewer_page import open_viewer, wait_for_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.needs("chromium")]


def test_nothing_serious_keeps_somebody_from_using_the_viewer(tmp_path: Path) -> None:
    axe = page_audit.load_axe()
    home = make_folders(tmp_path / "home")
    clip = make_numbered(tmp_path / "clip.mp4", even(30, Fraction(25)))
    analyse(clip, tmp_path / "clip.json")
    whole = add_completed(home, document=tmp_path / "clip.json", video=clip, warnings=["The video is cut short."])
    gone = add_completed(home, document=tmp_path / "clip.json", is_derived=False)
    runs = add(home, JobStatus.RUNNING, frames_processed=98, frames_total=250)
    failed = add(home, JobStatus.FAILED, error_message="It has no video track.")
    found: dict[object, list[str]] = {}
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        for width, scheme in ((1400, "light"), (1400, "dark"), (768, "dark"), (390, "light")):
            browser.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
            )
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.call("Emulation.setEmulatedMedia", features=features)
            open_viewer(browser, sidecar.url, whole, "q=number&class=marker&conf=0.3&from=0.2&to=1")
            wait_for_picture(browser)
            browser.wait_for("viewer.watch.texts.complete")
            browser.ask("viewer.downloads.toggle()")
            browser.wait_for("document.querySelectorAll('.download').length > 6")
            found[width, scheme, "texts"] = page_audit.findings(browser, axe)
            browser.ask("viewer.downloads.toggle(), document.querySelector('#tab-objects').click()")
            found[width, scheme, "objects"] = page_audit.findings(browser, axe)
            assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
        browser.ask("document.querySelector('.viewer-head [aria-label=Keys]').click()")
        found["keys"] = page_audit.findings(browser, axe)
        for job_id in (gone, runs, failed):
            open_viewer(browser, sidecar.url, job_id)
            browser.wait_for("!!document.querySelector('.unplayed, .waiting')")
            found[job_id] = page_audit.findings(browser, axe)
    assert {where: what for where, what in found.items() if what} == {}
