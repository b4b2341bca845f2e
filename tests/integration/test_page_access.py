"""The page with a token, below a path, and without a network, in a real browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.settings import Settings
from daemon.stills.client import Stills
from daemon.store.job_store import JobStore
from daemon.tokens import Rights, new_token
from sidecar.passes import PASS_SECONDS
from tests import page_home
from tests.browser import Browser, browsing
from tests.clips import make_clip
from tests.integration.test_page_uploads import large
from tests.page_audit import findings, load_axe
from tests.sidecar_process import running_sidecar
from tests.system.running import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.needs("chromium")]

REFUSED = "addEventListener('securitypolicyviolation', event => (window.refused ??= []).push(event.blockedURI))"
LISTED = "document.querySelectorAll('.job').length"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    page_home.make_folders(tmp_path)
    page_home.say_well(tmp_path)
    with JobStore.open(tmp_path / "data") as store:
        page_home.add_drawn(store, tmp_path, "match.mp4")
        page_home.index_texts(store, tmp_path, ("GATE B12",))
    return tmp_path


@pytest.fixture
def stills(home: Path) -> Iterator[None]:
    client = Stills(Settings(home=home, min_free_bytes=0))
    client.start()
    yield
    client.stop()


def log_in(browser: Browser, token: str) -> None:
    browser.wait_for("!!document.querySelector('dialog.login[open]')")
    browser.ask("document.querySelector('#token').focus()")
    browser.ask("document.querySelector('#token').select()")
    browser.write(token)
    browser.press("Enter")


def cookies(browser: Browser, url: str) -> list[dict[str, Any]]:
    """What the browser sends to the calls; the page itself cannot see them, as its own address is not below v1."""
    kept: list[dict[str, Any]] = browser.call("Network.getCookies", urls=[url + "/v1/jobs"])["cookies"]
    return kept


@pytest.mark.usefixtures("stills")
def test_a_token_is_asked_for_once_and_forgotten_with_the_tab(home: Path) -> None:
    secret, token = new_token("writer", Rights.SUBMIT)
    reading, reader = new_token("reader", Rights.READ)
    axe = load_axe()
    with (
        running_sidecar(home, tokens=[str(token), str(reader)]) as sidecar,
        browsing(home / "profile") as browser,
    ):
        browser.open(sidecar.url + "/")
        browser.wait_for("document.activeElement.id === 'token'")
        assert findings(browser, axe) == []
        log_in(browser, "df_tök\u2026n")
        browser.wait_for("document.querySelector('.login .notice').textContent.startsWith('A token has only letters')")
        log_in(browser, "df_wrong")
        browser.wait_for(
            "document.querySelector('.login .notice').textContent === 'Dropframe does not know that token.'"
        )
        browser.press("Escape")
        log_in(browser, secret)
        browser.wait_for(f"{LISTED} === 1")
        assert not browser.ask("document.querySelector('dialog').open")
        # What the browser fetches by itself comes too: pictures, videos, downloads.
        browser.wait_for("document.querySelector('.thumb.here')?.naturalWidth === 160")
        browser.ask("document.querySelector('.open').click()")
        browser.wait_for("document.querySelector('#viewer video')?.videoWidth === 320")
        for name, size in (("small.mp4", 20_000), ("large.mp4", 70 * 1024 * 1024)):
            clip = large(home / name, size)
            browser.choose_files("#files", [clip])
            browser.wait_for(
                f"document.querySelector('.upload:last-child[data-state=done] .name')?.textContent === '{name}'"
            )
        browser.open(sidecar.url + "/docs")
        browser.wait_for("document.querySelectorAll('details').length > 20")
        browser.open(sidecar.url + "/")
        browser.wait_for(f"{LISTED} === 3")  # loaded again, it asks for nothing
        [cookie] = cookies(browser, sidecar.url)
        assert (cookie["sameSite"], cookie["path"]) == ("Strict", "/v1/")
        assert 600 < cookie["expires"] - time.time() <= PASS_SECONDS == 900
        assert secret not in json.dumps(cookie)
        assert secret not in browser.ask("JSON.stringify([{...localStorage}, location.href])")
        browser.ask("new Promise(done => setTimeout(done, 1100))")
        browser.ask("document.dispatchEvent(new Event('visibilitychange'))")
        wait_for(lambda: cookies(browser, sidecar.url)[0]["value"] != cookie["value"], 20)  # looked at again
        assert browser.ask("Object.values(sessionStorage)") == [secret]
        browser.ask("document.querySelector('#log-out').click()")
        browser.wait_for("!!document.querySelector('dialog.login[open]')")
        assert browser.ask("sessionStorage.length") == 0
        assert cookies(browser, sidecar.url) == []
        assert browser.ask("fetch('v1/jobs').then(answer => answer.status)") == 401
        log_in(browser, reading)
        browser.wait_for("!document.querySelector('#reads').hidden")
        browser.choose_files("#files", [home / "small.mp4"])
        browser.wait_for("document.querySelector('#left-out').textContent.startsWith('The token may only read')")
        assert browser.errors == []


def test_each_tab_asks_for_its_own_token(home: Path) -> None:
    secret, token = new_token("writer", Rights.SUBMIT)
    with running_sidecar(home, tokens=[str(token)]) as sidecar, browsing(home / "profile") as browser:
        browser.open(sidecar.url + "/")
        log_in(browser, secret)
        browser.wait_for(f"{LISTED} === 1")
        other = browser.new_tab()
        other.open(sidecar.url + "/")
        log_in(other, secret)
        other.wait_for(f"{LISTED} === 1 && !document.querySelector('#log-out').hidden")
        assert other.ask("document.querySelector('#reads').hidden")
        assert other.ask("Object.values(sessionStorage)") == [secret]
        [before] = cookies(browser, sidecar.url)
        other.ask("document.querySelector('#log-out').click()")
        other.wait_for("!!document.querySelector('dialog.login[open]')")
        # The browser has one pass for both; the first tab has got itself another one at once.
        wait_for(lambda: [cookie["name"] for cookie in cookies(browser, sidecar.url)] == [before["name"]], 20)
        assert browser.ask("!document.querySelector('dialog.login[open]')")
        assert browser.errors == other.errors == []


def test_a_page_that_was_not_answered_at_first_goes_on_by_itself(home: Path) -> None:
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        browser.call("Network.enable")
        browser.call("Network.setBlockedURLs", urls=["*/v1/*", "*/readyz"])
        browser.open(sidecar.url + "/")
        browser.wait_for("document.querySelector('#health').textContent === 'no answer'")
        browser.call("Network.setBlockedURLs", urls=[])
        browser.wait_for(f"{LISTED} === 1")
        assert browser.errors == []


@pytest.mark.usefixtures("stills")
def test_below_a_path_and_without_a_network_all_comes_from_dropframe(home: Path) -> None:
    nothing_else = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with (
        running_sidecar(home, base_path="/dropframe") as sidecar,
        browsing(home / "profile", more=[nothing_else]) as browser,
    ):
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=REFUSED)
        browser.open(sidecar.url + "/dropframe/")
        browser.wait_for(f"{LISTED} === 1")
        browser.wait_for("document.querySelector('.thumb.here')?.naturalWidth === 160")
        browser.choose_files("#files", [large(home / "large.mp4"), make_clip(home / "small.mp4", frames=3)])
        browser.wait_for("document.querySelectorAll('.upload[data-state=done]').length === 2")
        browser.ask("document.querySelector('#search').focus()")
        browser.write("gate")
        browser.wait_for("document.querySelectorAll('.hit').length === 1")
        browser.press("ArrowDown", "Enter")
        browser.wait_for("document.querySelector('#viewer video')?.videoWidth === 320")
        loaded = browser.ask("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert len(loaded) > 30
        outside = [url for url in loaded if not url.startswith(sidecar.url + "/dropframe/")]
        assert outside == []
        assert browser.ask("window.refused ?? []") == []
        browser.open(sidecar.url + "/dropframe/docs")
        browser.wait_for("document.querySelectorAll('details').length > 20")
        assert browser.ask("window.refused ?? []") == []
        assert browser.errors == []


def test_no_page_may_run_what_is_written_in_it(home: Path) -> None:
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=REFUSED)
        browser.open(sidecar.url + "/")
        browser.wait_for(f"{LISTED} === 1")
        browser.ask("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
        browser.wait_for("window.refused?.length > 0")
        assert browser.ask("window.ran ?? null") is None
