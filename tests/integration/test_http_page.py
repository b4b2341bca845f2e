"""The web page in a real browser, and a page of another site that submits with fetch."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser import browsing
from tests.clips import BEGINNING, make_clip
from tests.integration.test_http_daemon import result_of, running_daemon, wait_for_end
from tests.sidecar_process import running_sidecar

pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("chromium")]

SENTENCE = "HOME 2 - 1 AWAY"
PAINTED = """(() => {
  const canvas = document.querySelector(".stage canvas");
  return canvas.width > 0 && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
})()"""


KEEP_LABELS = """(() => {
  window.labels = new Set();
  const write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (...a) { window.labels.add(a[0]); write.apply(this, a); };
})()"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("inbox", "outbox", "data"):
        (tmp_path / name).mkdir()
    return tmp_path


def in_list(name: str, status: str) -> str:
    """An expression: whether the list shows a job of that name in that state."""
    return (
        f"[...document.querySelectorAll('.job')].some(job => job.querySelector('.name').textContent === {name!r}"
        f" && job.querySelector('.pill').textContent === {status!r})"
    )


def choose(name: str) -> str:
    """An expression that opens the job of that name."""
    return (
        f"[...document.querySelectorAll('.job')].find(j => j.querySelector('.name').textContent === {name!r})"
        ".querySelector('.open').click()"
    )


@pytest.mark.slow
def test_a_person_submits_follows_and_watches(home: Path) -> None:
    chosen = make_clip(home / "match.mp4", frames=40, size=(320, 240), text=SENTENCE)
    dropped = make_clip(home / "<b>fat<b>.mp4", frames=5, size=(160, 120))
    archive = home / "holiday.mp4"
    archive.write_bytes(b"PK\x03\x04" + bytes(1000))
    torn = home / "torn.mp4"
    torn.write_bytes(BEGINNING + bytes(2000))
    cut = make_clip(home / "cut.mp4", frames=30, size=(160, 120), faststart=True)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    with running_sidecar(home, log_level="debug") as sidecar, browsing(home / "profile") as browser:
        browser.open(sidecar.url + "/")
        browser.wait_for("document.querySelector('#wrong').innerText.includes('daemon has never run')")
        browser.wait_for("document.querySelectorAll('#pipeline option').length === 3")
        browser.choose_files("#files", [chosen])
        browser.wait_for(in_list("match.mp4", "pending"))
        browser.ask("document.querySelector('#pipeline').value = 'ocr_only'")
        browser.drop_files("#drop", [archive, dropped, cut, torn])
        for name in (dropped.name, cut.name, torn.name):
            browser.wait_for(in_list(name, "pending"))
        assert "It is a ZIP archive, not a video." in browser.ask("document.querySelector('#uploads').innerText")
        with running_daemon(home):
            browser.wait_for(in_list("match.mp4", "completed"), 240)
            browser.wait_for(in_list(dropped.name, "completed"), 120)
            browser.wait_for(in_list("cut.mp4", "completed"), 120)
            browser.wait_for(in_list("torn.mp4", "failed"), 120)
            browser.wait_for("document.querySelector('#health').textContent === 'ready'")
            browser.wait_for("document.querySelector('#wrong').hidden")
            browser.wait_for("document.querySelector('#lacking').textContent !== ''")
            assert browser.ask("document.querySelector('#pipeline').value") == "ocr_only"
            for pipeline_id, words in (("yolo", "It needs object weights and there are none"), ("yolo_ocr", "")):
                browser.ask(f"document.querySelector('#pipeline').value = {pipeline_id!r}")
                browser.ask("document.querySelector('#pipeline').dispatchEvent(new Event('change'))")
                assert browser.ask("document.querySelector('#unfit').innerText").startswith(words)
            assert browser.ask("document.querySelector('#unfit').innerText") == ""
            marked = (
                "[...document.querySelectorAll('.job:has(.mark:not([hidden])) .name')].map(n => n.textContent).sort()"
            )
            browser.wait_for(f"({marked}).join() === 'cut.mp4,match.mp4'")
            assert browser.ask("location.hash") == ""  # nothing is opened by itself
            browser.ask(KEEP_LABELS)
            browser.ask(choose("match.mp4"))
            browser.wait_for(f"document.querySelector('#viewer').innerText.includes({SENTENCE!r})")
        browser.wait_for("document.querySelector('#viewer video')?.videoWidth === 320")
        browser.ask("document.querySelector('#viewer video').play()")
        browser.wait_for("document.querySelector('#viewer video').currentTime > 0.5")
        browser.wait_for(PAINTED)
        assert not browser.ask("[...window.labels].some(label => label.startsWith('text '))")  # a line says what it is
        assert "no object weights" in browser.ask("document.querySelector('#viewer .warning').innerText")

        # A failed job is not asked for without a pause.
        browser.ask(choose("torn.mp4"))
        browser.wait_for("!!document.querySelector('#viewer .pill.failed')")
        assert browser.ask("document.querySelector('#viewer').innerText").strip()
        asked = len(sidecar.log())
        time.sleep(3)
        assert len(sidecar.log()) - asked < 30  # list, health and status, about once a second; a storm has hundreds
        browser.ask(choose("cut.mp4"))
        cut_short = "warning => warning.innerText.startsWith('The video is cut short: ')"
        browser.wait_for(f"[...document.querySelectorAll('#viewer .warning')].some({cut_short})")
        browser.ask(choose(dropped.name))
        browser.wait_for("document.querySelector('#viewer h2')?.innerText.includes('fat')")
        assert not browser.ask("!!document.querySelector('#viewer .warning')")
        assert browser.ask("document.querySelector('b') === null")  # a name is text, never markup
        assert browser.errors == []


def test_a_page_of_an_allowed_site_submits_with_fetch(home: Path) -> None:
    make_clip(home / "clip.mp4", frames=3, size=(160, 120))
    (home / "page.html").write_text("<!doctype html><title>another site</title>")
    with (
        served(home) as port,
        running_sidecar(home, allowed_origins=[f"http://127.0.0.1:{port}"]) as sidecar,
        browsing(home / "profile") as browser,
    ):
        browser.open(f"http://127.0.0.1:{port}/page.html")
        job_id = browser.ask(
            f"""(async () => {{
              const form = new FormData();
              form.append("pipeline_id", "ocr_only");
              form.append("file", await (await fetch("/clip.mp4")).blob(), "clip.mp4");
              const answer = await fetch("{sidecar.url}/v1/video/submit", {{method: "POST", body: form}});
              const told = await (await fetch("{sidecar.url}" + answer.headers.get("location"))).json();
              return told.job_id;
            }})()"""
        )
        with running_daemon(home):
            assert wait_for_end(sidecar, job_id)["status"] == "completed"
        assert result_of(sidecar, job_id) == json.loads((home / "outbox" / f"{job_id}.json").read_text())
        read = f"fetch('{sidecar.url}/v1/video/results/{job_id}').then(answer => answer.json())"
        assert len(browser.ask(f"{read}.then(result => result.results)")) == 3


@contextlib.contextmanager
def served(folder: Path) -> Iterator[int]:
    """Serve a folder from another port: another site, to a browser."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass
