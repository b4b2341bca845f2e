"""The page over a connection that breaks, in a real browser: it goes on by itself, and never asks in a storm."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from daemon.derive.derivation import derive
from daemon.derive.files import folder_of
from daemon.ipc import health
from daemon.jobs import new_job_id, output_key
from daemon.settings import Settings
from daemon.stills.client import Stills
from tests.browser import Browser, browsing
from tests.clips import make_clip
from tests.derived_documents import frame, write_document
from tests.numbered_clips import analyse, even, make_numbered
from tests.page_home import ALWAYS, add_completed, make_folders
from tests.sidecar_process import running_sidecar
from tests.unit.sidecar.test_app import beat
from tests.viewer_page import open_viewer, wait_for_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.needs("chromium")]

SAID = "document.querySelector('.stage-says').innerText"
BROKEN = "The connection is broken. The video goes on by itself once it is back."


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_folders(tmp_path / "home")


@pytest.fixture
def numbered(home: Path, tmp_path: Path) -> str:
    """A job whose video has ten seconds."""
    clip = make_numbered(tmp_path / "clip.mp4", even(250, Fraction(25)))
    analyse(clip, tmp_path / "clip.json")
    return add_completed(home, document=tmp_path / "clip.json", video=clip)


@pytest.fixture
def browser(home: Path) -> Iterator[Browser]:
    with browsing(home / "profile") as opened:
        opened.call("Network.enable")
        yield opened


def block(browser: Browser, *urls: str) -> None:
    """Have nothing answer at those addresses."""
    browser.call("Network.setBlockedURLs", urls=list(urls))


def slow_down(browser: Browser, bytes_a_second: int) -> None:
    speed = {"latency": 0, "downloadThroughput": bytes_a_second, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=False, **speed)


def test_a_video_goes_on_where_it_was_once_a_broken_connection_is_back(home: Path, browser: Browser) -> None:
    clip = make_clip(home / "clip.mp4", frames=250, size=(320, 180), faststart=True, crf=1)
    document = write_document(home / "clip.json", [frame(n, n / 25, [], []) for n in range(250)])
    job_id = add_completed(home, document=document, video=clip, is_derived=False)
    with running_sidecar(home) as sidecar:
        open_viewer(browser, sidecar.url, new_job_id())
        slow_down(browser, clip.stat().st_size // 40)
        browser.ask(f"address.go({job_id!r})")
        wait_for_picture(browser)
        browser.ask("viewer.watch.bar.setSpeed(0.5), viewer.watch.player.toggle()")
        browser.wait_for("viewer.watch.player.time > 0.2")
        sidecar.process.kill()
        browser.wait_for(f"{SAID} === {BROKEN!r}")
        where = browser.ask("viewer.watch.player.goal")
        assert browser.ask("!document.querySelector('.stage video').hidden")
        assert not browser.ask("!!document.querySelector('.unplayed')")  # it can be played
        slow_down(browser, -1)
    with running_sidecar(home, "--port", str(sidecar.port)):
        browser.wait_for(f"viewer.watch.player.goal > {where + 0.3}")
        assert browser.ask(f"viewer.watch.player.goal < {where + 8}")
        browser.wait_for(f"{SAID} === '' && viewer.watch.player.playing")
        assert browser.ask("viewer.watch.player.video.playbackRate") == 0.5
        assert browser.errors == []


def test_a_job_is_shown_once_dropframe_answers_and_says_until_then_what_is_awaited(
    home: Path, numbered: str, browser: Browser
) -> None:
    with running_sidecar(home) as sidecar:
        video, density, texts = (f"*/v1/jobs/{numbered}/{what}" for what in ("video", "density", "texts"))
        block(browser, f"*/v1/jobs/{numbered}", video, density, texts, "*/v1/video/results/*")
        open_viewer(browser, sidecar.url, numbered, "t=4")
        browser.wait_for("document.querySelector('.viewer-loading')?.innerText.includes('does not answer')")
        block(browser, video, density, texts, "*/v1/video/results/*")
        browser.wait_for("document.querySelector('.watch .note[role=status]')?.innerText.includes('does not answer')")
        browser.wait_for(f"{SAID} === {BROKEN!r}")
        block(browser, texts)
        wait_for_picture(browser)
        browser.wait_for("document.querySelector('.stage canvas').dataset.frame === '100'")
        browser.wait_for("document.querySelectorAll('.lane').length === 2")
        block(browser)
        browser.wait_for("viewer.watch.texts.complete && viewer.watch.objects.rows.get('marker').n > 0")
        texts = json.loads((folder_of(home / "data", numbered) / "texts.json").read_text())["texts"]
        assert browser.ask("viewer.watch.texts.all.length") == len(texts) > 0
        assert browser.ask("document.querySelector('.watch > .watch-main > .note').hidden")
        assert browser.errors == []


def test_texts_that_are_cut_off_come_each_once(home: Path, numbered: str, browser: Browser) -> None:
    cut_off = """(() => {
      const call = viewer.api.fetch.bind(viewer.api);
      window.cuts = 0;
      viewer.api.fetch = async (path, init) => {
        const answer = await call(path, init);
        if (!path.includes("/texts") || cuts === 2) return answer;
        cuts += 1;
        const whole = await answer.text();
        return new Response(whole.slice(0, whole.length * cuts / 3), { headers: answer.headers });
      };
    })()"""
    with running_sidecar(home) as sidecar:
        open_viewer(browser, sidecar.url, numbered)
        browser.wait_for("viewer.watch?.texts.complete")
        listed = browser.ask("viewer.watch.texts.all.map((one) => one.text)")
        browser.ask(f"({cut_off}, viewer.render(viewer.job))")
        browser.wait_for("viewer.watch.texts.complete")
        assert browser.ask("cuts") == 2
        assert browser.ask("viewer.watch.texts.all.map((one) => one.text)") == listed
        assert browser.errors == []


def test_frames_that_are_not_known_are_not_asked_for_again_and_again(home: Path, browser: Browser) -> None:
    clip = make_numbered(home / "clip.mp4", even(75, Fraction(25)))
    late = write_document(home / "late.json", [frame(n, n / 25, [], []) for n in range(60, 75)])
    begins_late = add_completed(home, document=late, video=clip, is_derived=False)
    damaged = add_completed(home, document=late, video=clip, is_derived=False)
    stored = home / "data" / output_key(damaged)
    count = """(() => {
      const call = viewer.api.fetch.bind(viewer.api);
      window.asked = 0;
      viewer.api.fetch = (path, init) => {
        asked += Number(path.includes("/results/"));
        return call(path, init);
      };
    })()"""
    with running_sidecar(home) as sidecar:
        for job_id in (begins_late, damaged):
            if job_id == damaged:
                stored.write_bytes(stored.read_bytes()[:500])
            open_viewer(browser, sidecar.url, job_id)
            browser.wait_for("viewer.watch?.player.presented")
            browser.ask(count)
            browser.ask("viewer.watch.player.toggle()")
            browser.wait_for("viewer.watch.player.time > 1.5")
            assert browser.ask("asked") <= 4, job_id
        block(browser, "*/v1/video/results/*")
        open_viewer(browser, sidecar.url, begins_late)
        browser.wait_for("viewer.watch?.player.presented")
        browser.ask(f"{count}, viewer.watch.player.toggle()")
        browser.wait_for("viewer.watch.player.time > 1.5")
        assert browser.ask("asked") <= 12  # after growing pauses
        assert browser.errors == []


def test_a_picture_is_saved_only_once_it_has_been_made(home: Path, numbered: str, browser: Browser) -> None:
    downloads = home / "downloads"
    row = "[...document.querySelectorAll('.download')].find((one) => one.innerText.startsWith('This picture'))"
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
    with running_sidecar(home) as sidecar:
        open_viewer(browser, sidecar.url, numbered, "t=1")
        wait_for_picture(browser)
        browser.ask("document.querySelector('.downloads > button').click()")
        browser.wait_for(f"!!{row}")
        browser.ask(f"{row}.click()")
        browser.wait_for(f"{row}.innerText.includes('made by the daemon, which is not running')")
        health.write(home / "data", beat(ALWAYS))
        stills = Stills(Settings(home=home, min_free_bytes=0))
        stills.start()
        try:
            browser.wait_for(f"{row}.innerText.includes('ready')")
        finally:
            stills.stop()
        deadline = time.monotonic() + 30
        while not (saved := [path for path in downloads.glob("*") if not path.name.endswith(".crdownload")]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [path.read_bytes()[:3] for path in saved] == [b"\xff\xd8\xff"]
        assert browser.errors == []


def test_nobody_waits_for_hours_because_an_answer_says_so(home: Path, browser: Browser) -> None:
    with running_sidecar(home) as sidecar:
        browser.open(sidecar.url + "/")
        seconds = browser.ask(
            "import('./page/api.js').then(({ ApiError }) => ['86400', '0', '-5', '7', 'Thu, 26 Nov 2026', null]"
            ".map((header) => new ApiError(503, null, header).retryAfter))"
        )
    assert seconds == [60, None, None, 7, None, None]


def test_what_is_derived_late_is_awaited(home: Path, tmp_path: Path, browser: Browser) -> None:
    clip = make_numbered(tmp_path / "clip.mp4", even(30, Fraction(25)))
    analyse(clip, tmp_path / "clip.json")
    job_id = add_completed(home, document=tmp_path / "clip.json", video=clip, is_derived=False)
    with running_sidecar(home) as sidecar:
        open_viewer(browser, sidecar.url, job_id)
        browser.wait_for("document.querySelector('.viewer')?.innerText.includes('are being made from the result')")
        sidecar.process.kill()
        browser.wait_for("document.querySelector('.watch').innerText.includes('It is tried again')")
    derive(home / "data" / output_key(job_id), folder_of(home / "data", job_id))
    with running_sidecar(home, "--port", str(sidecar.port)):
        browser.wait_for("viewer.watch.texts.complete && document.querySelectorAll('.lane').length === 2")
        assert browser.errors == []
