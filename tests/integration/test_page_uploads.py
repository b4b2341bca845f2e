"""Uploads from the page in a real browser: of files and folders, refused, cancelled, cut off and gone on with."""

from __future__ import annotations

import hashlib
import struct
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.export_formats import FORMATS
from daemon.ipc import spool
from tests import page_home
from tests.browser import Browser, browsing
from tests.clips import make_clip
from tests.sidecar_process import Sidecar, running_sidecar

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.needs("chromium")]

LARGE_BYTES = 70 * 1024 * 1024
SLOW, SLOW_PIECES = 60_000, 1_500_000
"""Bytes a second at which two megabytes, or LARGE_BYTES, take more than half a minute."""
STATES = "[...document.querySelectorAll('.upload')].map(line => line.dataset.state)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    page_home.make_folders(tmp_path)
    page_home.say_well(tmp_path)
    return tmp_path


@pytest.fixture
def sidecar(home: Path) -> Iterator[Sidecar]:
    with running_sidecar(home, log_level="debug") as running:
        yield running


@pytest.fixture
def browser(home: Path, sidecar: Sidecar) -> Iterator[Browser]:
    with browsing(home / "profile") as opened:
        opened.open(sidecar.url + "/")
        opened.wait_for("document.querySelectorAll('#pipeline option').length === 3")
        yield opened


def line(name: str) -> str:
    """An expression: the line of the upload of that name."""
    return f"[...document.querySelectorAll('.upload')].find(l => l.querySelector('.name').textContent === {name!r})"


def click(name: str, label: str) -> str:
    """An expression that presses a button of an upload."""
    return f"[...{line(name)}.querySelectorAll('button')].find(b => b.textContent === {label!r}).click()"


def names(home: Path) -> list[str]:
    """Names of all submissions."""
    return sorted(ticket.to_job().source_name for ticket in spool.tickets(home / "data" / "spool"))


def posts(sidecar: Sidecar) -> int:
    return sum(entry.get("method") in ("POST", "PATCH") for entry in sidecar.log())


def parts(home: Path) -> Iterator[Path]:
    """What has come of uploads in pieces."""
    return (path for path in (home / "data" / "spool").rglob("*") if path.is_file() and "part" in path.name)


def wait_for_part(home: Path) -> None:
    """Wait until some of an upload in pieces has come."""
    deadline = time.monotonic() + 60
    while sum(path.stat().st_size for path in parts(home)) < 500_000:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def slow_down(browser: Browser, bytes_a_second: int, *, offline: bool = False) -> None:
    """Have a slow line, or none."""
    speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
    browser.call("Network.emulateNetworkConditions", offline=offline, **speed)


def wait_for_cut(sidecar: Sidecar) -> None:
    """Wait until an upload was cut: a browser that is busy ends it some time after it was told to."""
    deadline = time.monotonic() + 30
    while b'uploads_total{outcome="cut"} 1' not in urllib.request.urlopen(sidecar.url + "/metrics").read():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def large(path: Path, size: int = LARGE_BYTES) -> Path:
    """Make a clip with a box behind it that is left free, so that it is large and whole."""
    clip = make_clip(path, frames=5, size=(160, 120))
    free = size - clip.stat().st_size
    with clip.open("ab") as file:
        file.write(struct.pack(">I4s", free, b"free"))
        file.truncate(size)
    return clip


def test_what_is_not_a_video_is_said_before_anything_is_sent(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    kinds = {
        "holiday.mp4": (b"PK\x03\x04" + bytes(1000), "It is a ZIP archive, not a video."),
        "photo.mp4": (b"\xff\xd8\xff\xe0" + bytes(1000), "It is a JPEG picture, not a video."),
        "notes.txt": (b"Dear diary,\n" * 500, "It is text, not a video."),
        "page.mov": (b"<!doctype html>", "It is a text or web page, not a video."),
        "empty.mp4": (b"", "It is empty."),
    }
    for name, (content, _) in kinds.items():
        (home / name).write_bytes(content)
    browser.choose_files("#files", [home / name for name in kinds])
    browser.wait_for(f"{STATES}.join() === '{','.join(['refused'] * len(kinds))}'")
    for name, (_, why) in kinds.items():
        assert browser.ask(f"{line(name)}.querySelector('.notice').textContent") == why
    assert posts(sidecar) == 0
    browser.wait_for("document.querySelector('#said').textContent.includes('page.mov is not taken')")
    # What only Dropframe itself can tell is said as soon as it has seen the beginning.
    (home / "odd.mp4").write_bytes(bytes(range(256)) * 100)
    browser.choose_files("#files", [home / "odd.mp4"])
    browser.wait_for(f"({line('odd.mp4')})?.querySelector('.notice').textContent.startsWith('It does not begin as')")
    for name in (*kinds, "odd.mp4"):
        browser.ask(click(name, "Dismiss"))
    assert browser.ask("document.querySelector('#uploads').children.length") == 0
    assert browser.errors == []


def test_a_finished_upload_leaves_what_one_watches_alone(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    first = make_clip(home / "<b>first<b>.mp4", frames=5, size=(160, 120))
    browser.ask("document.querySelector('#pipeline').value = 'ocr_only'")
    browser.ask("document.querySelector('#stride').value = '3'")
    browser.choose_files("#files", [first])
    browser.wait_for(f"{STATES}.join() === 'done'")
    [ticket] = spool.tickets(home / "data" / "spool")
    job = ticket.to_job()
    assert (job.source_name, job.pipeline_id, job.options.frame_stride) == ("<b>first<b>.mp4", "ocr_only", 3)
    assert browser.ask("location.hash") == ""
    assert browser.ask("document.querySelector('b') === null")  # a name is text, never markup
    browser.ask(f"{line(first.name)}.querySelector('a').click()")
    browser.wait_for(f"location.hash === '#/job/{job.job_id}'")
    browser.wait_for("document.querySelector('#viewer').textContent.includes('first')")
    browser.ask("window.watched = document.querySelector('#viewer').firstElementChild")
    browser.drop_files("main", [make_clip(home / "second.mp4", frames=5, size=(160, 120))])
    browser.wait_for(f"({line('second.mp4')})?.dataset.state === 'done'")
    browser.wait_for("document.querySelectorAll('.job').length === 2")
    assert browser.ask("location.hash") == f"#/job/{job.job_id}"
    assert browser.ask("window.watched.isConnected")
    assert browser.errors == []


def test_formats_of_exports_are_chosen_from_those_that_there_are(
    home: Path, sidecar: Sidecar, browser: Browser
) -> None:
    browser.ask("document.querySelector('#exports summary').focus()")
    browser.press("Enter")
    browser.wait_for(f"document.querySelectorAll('#exports input').length === {len(FORMATS)}")
    for name in ("srt", "csv"):
        browser.ask(f"document.querySelector('#exports [value={name}]').focus()")
        browser.press(" ")
    assert browser.ask("document.querySelector('#exports summary').innerText") == "Exports: 2 formats"
    small, whole = make_clip(home / "small.mp4", frames=3, size=(64, 48)), large(home / "large.mp4")
    browser.choose_files("#files", [small, whole])
    browser.wait_for(f"{STATES}.join() === 'done,done'")
    asked = [ticket.to_job().options.exports for ticket in spool.tickets(home / "data" / "spool")]
    assert [set(names) for names in asked] == [{"csv", "srt"}] * 2
    assert browser.errors == []


def test_only_files_are_taken_from_whoever_drops_something(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    x, y = browser.ask("(({x, y}) => [x + 9, y + 9])(document.querySelector('#search').getBoundingClientRect())")
    data = {"items": [{"mimeType": "text/plain", "data": "gate b12"}], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
    browser.wait_for("document.querySelector('#search').value === 'gate b12'")
    assert browser.ask("document.querySelector('#uploads').children.length") == 0
    browser.drop_files("#search", [make_clip(home / "clip.mp4", frames=3, size=(64, 48))])
    browser.wait_for(f"{STATES}.join() === 'done'")
    assert browser.ask("!document.body.classList.contains('over')")
    assert browser.errors == []


def test_the_files_of_a_folder_are_submitted_one_by_one(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    clip = make_clip(home / "clip.mp4", frames=3, size=(64, 48)).read_bytes()
    for name in ("Holiday/a.mp4", "Holiday/Beach/Evening/b.mp4", "Holiday/@eaDir/c.mp4", "Holiday/._a.mp4"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(clip)
    for number in range(120):  # a browser gives a hundred entries at a time
        (home / "Holiday" / f"{number:03}.txt").write_text("notes")
    (home / "Holiday" / "z.mp4").write_bytes(clip)
    said = "120 files of the folder are not videos and were left out."
    browser.drop_files("#drop", [home / "clip.mp4", home / "Holiday"])
    browser.wait_for(f"{STATES}.filter(state => state === 'done').length === 4")
    assert names(home) == ["a.mp4", "b.mp4", "clip.mp4", "z.mp4"]
    assert browser.ask("document.querySelector('#left-out').innerText") == said
    (home / "empty").mkdir()
    browser.drop_files("#drop", [home / "empty"])
    browser.wait_for("document.querySelector('#left-out').innerText === 'The folder holds no videos.'")
    browser.drop_files("#drop", [home / "clip.mp4"])
    browser.wait_for(f"{STATES}.filter(state => state === 'done').length === 5")
    assert browser.ask("document.querySelector('#left-out').innerText") == ""
    browser.choose_files("#folder", [home / "Holiday"])
    browser.wait_for(f"{STATES}.filter(state => state === 'done').length === 8")
    assert names(home) == ["a.mp4", "a.mp4", "b.mp4", "b.mp4", "clip.mp4", "clip.mp4", "z.mp4", "z.mp4"]
    assert browser.ask("document.querySelector('#left-out').innerText") == said
    assert browser.errors == []


def test_an_upload_shows_its_progress_and_is_cancelled(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    browser.call("Network.enable")
    slow_down(browser, SLOW)
    unwanted, kept = (large(home / name, 2_000_000) for name in ("unwanted.mp4", "kept.mp4"))
    browser.choose_files("#files", [unwanted, kept])
    browser.wait_for(f"({line('unwanted.mp4')})?.querySelector('progress').value > 0.05")
    assert " of 2.0 MB" in browser.ask(f"{line('unwanted.mp4')}.querySelector('.note').textContent")
    browser.wait_for("/^2 uploading · \\d+ %$/.test(document.querySelector('#uploading').textContent)")
    browser.ask(f"{line('unwanted.mp4')}.querySelector('button').focus()")
    browser.press("Enter")
    browser.wait_for(f"!({line('unwanted.mp4')})")
    assert browser.ask("document.activeElement.textContent") == "Cancel"  # of the next one
    wait_for_cut(sidecar)
    slow_down(browser, -1)
    browser.wait_for(f"{STATES}.join() === 'done'")
    assert browser.ask("document.querySelector('#uploading').hidden")
    assert names(home) == ["kept.mp4"]
    assert browser.errors == []


def test_an_upload_is_sent_again_by_itself_when_dropframe_was_gone(home: Path) -> None:
    with browsing(home / "profile") as browser:
        with running_sidecar(home) as sidecar:
            browser.open(sidecar.url + "/")
            browser.wait_for("document.querySelectorAll('#pipeline option').length === 3")
            browser.call("Network.enable")
            slow_down(browser, SLOW)
            browser.choose_files("#files", [large(home / "kept.mp4", 2_000_000)])
            browser.wait_for(f"({line('kept.mp4')})?.querySelector('progress').value > 0.05")
            sidecar.process.kill()
            browser.wait_for(f"{STATES}.join() === 'later'")
            said = browser.ask(f"{line('kept.mp4')}.querySelector('.note').textContent")
            assert said.startswith("The connection broke. Trying again in ")
            slow_down(browser, -1)
        with running_sidecar(home, "--port", str(sidecar.port)):
            browser.wait_for(f"{STATES}.join() === 'done'")
        assert names(home) == ["kept.mp4"]
        assert browser.errors == []


def test_a_large_upload_goes_on_after_the_page_was_loaded_again(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    clip = large(home / "large.mp4")
    browser.call("Network.enable")
    slow_down(browser, SLOW_PIECES)
    browser.choose_files("#files", [clip])
    wait_for_part(home)
    browser.call("Page.disable")  # or it would ask whether to leave
    browser.call("Page.navigate", url="about:blank")
    browser.wait_for("location.href === 'about:blank'")
    slow_down(browser, -1)
    browser.call("Page.enable")
    browser.open(sidecar.url + "/")
    browser.wait_for(f"({line('large.mp4')})?.dataset.state === 'cut off'")
    said = browser.ask(f"{line('large.mp4')}.querySelector('.note').textContent")
    assert said.endswith("of 73.4 MB had come when it was cut off; it goes on from there.")
    browser.choose_files("#files", [clip])
    browser.wait_for(f"{STATES}.join() === 'done'")
    [ticket] = spool.tickets(home / "data" / "spool")
    [stored] = [path for path in (home / "data" / "spool").glob(f"{ticket.job_id}*") if path.stat().st_size > 1e6]
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(clip.read_bytes()).digest()
    begun = [entry for entry in sidecar.log() if entry["event" if "event" in entry else "message"] == "upload begun"]
    assert len(begun) == 1
    assert browser.errors == []


def test_nothing_is_left_of_a_large_upload_that_is_cancelled(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    browser.call("Network.enable")
    slow_down(browser, SLOW_PIECES)
    browser.choose_files("#files", [large(home / "large.mp4")])
    wait_for_part(home)
    browser.ask(click("large.mp4", "Cancel"))
    browser.wait_for("document.querySelector('#uploads').children.length === 0")
    deadline = time.monotonic() + 30
    while list(parts(home)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    browser.wait_for("localStorage.length === 0", 10)  # its answer may come after the file is gone
    assert names(home) == []
    assert browser.errors == []


def test_another_tab_leaves_a_large_upload_to_the_one_that_is_at_it(
    home: Path, sidecar: Sidecar, browser: Browser
) -> None:
    browser.call("Network.enable")
    slow_down(browser, SLOW_PIECES)
    browser.choose_files("#files", [large(home / "large.mp4")])
    wait_for_part(home)
    other = browser.new_tab()
    other.open(sidecar.url + "/")
    other.wait_for("document.querySelectorAll('#pipeline option').length === 3")
    other.ask("import('./page/app.js').then(() => 0)")  # which is over once it has looked for uploads
    assert other.ask("document.querySelector('#uploads').children.length") == 0
    slow_down(browser, -1)
    browser.wait_for(f"{STATES}.join() === 'done'")
    assert [entry for entry in sidecar.log() if entry.get("status") == 409] == []
    assert names(home) == ["large.mp4"]


def test_a_large_upload_that_was_cut_off_is_given_up(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    clip = large(home / "large.mp4")
    browser.call("Network.enable")
    slow_down(browser, SLOW_PIECES)
    browser.choose_files("#files", [clip])
    wait_for_part(home)
    browser.call("Page.disable")
    browser.call("Page.navigate", url="about:blank")
    browser.wait_for("location.href === 'about:blank'")
    slow_down(browser, -1)
    browser.call("Page.enable")
    browser.open(sidecar.url + "/")
    browser.wait_for(f"({line('large.mp4')})?.dataset.state === 'cut off'")
    browser.ask(click("large.mp4", "Give up"))
    browser.wait_for("document.querySelector('#uploads').children.length === 0")
    assert names(home) == []
    browser.open(sidecar.url + "/docs")
    browser.open(sidecar.url + "/")
    browser.wait_for("document.querySelectorAll('#pipeline option').length === 3")
    assert browser.ask("document.querySelector('#uploads').children.length") == 0
    assert browser.errors == []
