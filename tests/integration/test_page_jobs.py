"""The page's list of jobs in a real browser: many at once, changed in place, by keyboard and on every screen."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.ipc import rejected_list, spool
from daemon.ipc.rejected_list import RejectedList
from daemon.jobs import ErrorKind, Job, JobStatus, input_key, new_job_id, utc_now
from daemon.settings import Settings
from daemon.stills.client import Stills
from daemon.store.job_store import JobStore
from tests import page_home
from tests.browser import Browser, browsing
from tests.page_audit import findings, load_axe
from tests.sidecar_process import Sidecar, running_sidecar

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.needs("chromium")]

SIZES = ((1400, 900), (768, 1024), (390, 844))
NAMES = "[...document.querySelectorAll('.job .name')].map(name => name.textContent)"
FOCUSED = "document.activeElement.closest('.job')?.querySelector('.name').textContent ?? document.activeElement.id"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    page_home.make_folders(tmp_path)
    return tmp_path


@pytest.fixture
def store(home: Path) -> Iterator[JobStore]:
    with JobStore.open(home / "data") as opened:
        yield opened


@pytest.fixture
def sidecar(home: Path, store: JobStore) -> Iterator[Sidecar]:
    with running_sidecar(home) as running:
        yield running


@pytest.fixture
def browser(home: Path) -> Iterator[Browser]:
    with browsing(home / "profile", (1400, 900)) as opened:
        yield opened


def pending(store: JobStore, *names: str) -> list[Job]:
    return store.create([Job(new_job_id(), input_path="x", source_name=name) for name in names])


def row(name: str, part: str) -> str:
    """An expression: a part of the row of that name."""
    return (
        f"[...document.querySelectorAll('.job')].find(job => job.querySelector('.name').textContent === {name!r})"
        f"?.querySelector({part!r})"
    )


def tickets(home: Path) -> list[tuple[str, str]]:
    return sorted((str(t.kind), t.job_id) for t in spool.tickets(home / "data" / "spool"))


def tab_to(browser: Browser, expression: str, *, shift: bool = False) -> None:
    """Press Tab until something has the focus."""
    for _ in range(80):
        if browser.ask(expression):
            return
        browser.press("Tab", shift=shift)
    raise AssertionError((expression, browser.ask("document.activeElement.outerHTML")))


def test_focus_scrolling_and_rows_stay_while_the_list_changes(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    jobs = pending(store, *(f"{n:02}.mp4" for n in range(40)))
    browser.open(sidecar.url + "/")
    browser.wait_for("document.querySelectorAll('.job').length === 40")
    browser.ask(row("20.mp4", ".open") + ".focus()")
    browser.ask(f"window.kept = {row('20.mp4', '.name')}")
    top = browser.ask("kept.getBoundingClientRect().top")
    for n, job in enumerate(jobs[30:35]):
        store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message="It is torn.")
        pending(store, f"new {n}.mp4")
    browser.wait_for("document.querySelectorAll('.job').length === 45")
    browser.wait_for(row("34.mp4", ".pill") + ".textContent === 'failed'")
    assert browser.ask(FOCUSED) == "20.mp4"
    assert browser.ask("kept.isConnected")
    assert abs(browser.ask("kept.getBoundingClientRect().top") - top) < 2  # what one reads does not move away
    browser.press("ArrowDown")
    browser.wait_for(f"({FOCUSED}) === '19.mp4'")
    browser.press("ArrowUp", "ArrowUp")
    browser.wait_for(f"({FOCUSED}) === '21.mp4'")
    store.delete(store.get(jobs[21].job_id))
    browser.wait_for("document.querySelectorAll('.job').length === 44")
    browser.wait_for(f"({FOCUSED}) === '20.mp4'")
    browser.press("End")
    browser.wait_for(f"({FOCUSED}) === '00.mp4'")
    browser.press("Home", "Enter")
    browser.wait_for("location.hash.startsWith('#/job/') && document.body.dataset.view === 'job'")
    assert browser.ask("document.querySelector('.open[aria-current] .name').textContent") == "new 4.mp4"
    assert browser.errors == []


def test_every_control_is_reached_and_used_by_keyboard(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    page_home.fill(home, store, completed=1)
    page_home.reject(home)
    browser.open(sidecar.url + "/")
    browser.wait_for("document.querySelectorAll('.job').length > 3")
    for listed in ("waiting", "rejected"):
        browser.wait_for(f"!document.getElementById({listed!r}).hidden")
    browser.ask("""window.all = new Set([...document.querySelectorAll('a[href], button, input, select, summary')]
      .filter(one => one.checkVisibility() && !one.disabled)); window.reached = new Set(); document.body.focus()""")
    for _ in range(browser.ask("all.size") + 5):
        browser.press("Tab")
        browser.ask("reached.add(document.activeElement), 0")
    missed = "[...all].filter(one => one.isConnected && !reached.has(one)).map(one => one.outerHTML.slice(0, 120))"
    assert browser.ask(missed) == []
    browser.ask("document.querySelector('#choose').focus()")
    browser.press("Tab")
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # where one is can be seen
    browser.call("Page.setInterceptFileChooserDialog", enabled=True)
    for button, chooser in (("choose", "files"), ("choose-folder", "folder")):
        browser.ask(
            f"document.getElementById({chooser!r}).addEventListener('click', () => {{ window.asked = {chooser!r}; }})"
        )
        browser.ask(f"document.getElementById({button!r}).focus()")
        browser.press("Enter")
        browser.wait_for(f"window.asked === {chooser!r}")
    browser.ask("document.querySelector('#waiting summary').focus()")
    browser.press("Enter")
    browser.wait_for("!document.querySelector('#waiting').open")
    browser.ask("document.querySelector('#skip').focus()")
    browser.press("Enter")
    browser.wait_for("document.activeElement.id === 'jobs-title'")
    browser.press("?")
    browser.wait_for("!!document.querySelector('dialog.keys[open]')")
    browser.press("Escape")
    browser.ask("document.querySelector('.open').focus()")
    browser.press("Enter")
    browser.wait_for("document.body.dataset.view === 'job'")
    browser.ask("document.querySelector('#fold').focus()")
    browser.press("Enter")
    browser.wait_for("!document.querySelector('#pane').checkVisibility()")
    assert browser.ask("document.querySelector('#fold').ariaExpanded") == "false"
    browser.show_on(390, 844)
    browser.ask("document.querySelector('.back').focus()")
    browser.press("Enter")
    browser.wait_for("document.body.dataset.view === 'list'")
    browser.wait_for("document.activeElement.classList.contains('open')")  # where one was before
    assert browser.errors == []


def test_many_jobs_are_cancelled_retried_and_deleted_at_once_by_keyboard(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    ids = page_home.fill(home, store, completed=1)
    browser.open(sidecar.url + "/")
    browser.wait_for(f"document.querySelectorAll('.job').length === {len(ids)}")
    assert browser.ask(row("unwanted.mp4", ".pill") + ".textContent") == "cancelled"
    assert browser.ask("document.querySelector('#selected').hidden")

    def pick(*names: str) -> None:
        for name in names:
            browser.ask(row(name, ".pick") + ".focus()")
            browser.press(" ")

    pick("next.mp4", "after that.mp4", "torn.mp4")
    assert browser.ask("document.querySelector('#selected').innerText").split("\n")[:3] == [
        "3 selected",
        "Cancel 2",
        "Retry 1",
    ]
    tab_to(browser, "document.activeElement.dataset.action === 'cancel'", shift=True)
    browser.press("Enter")
    wanted = sorted(("cancel", ids[name]) for name in ("next.mp4", "after that.mp4"))
    browser.wait_for("document.querySelector('#selected').hidden")
    assert tickets(home) == wanted
    browser.wait_for(f"({FOCUSED}) === 'select-all'")
    assert browser.ask(row("next.mp4", ".what") + ".textContent") == "being cancelled"
    browser.wait_for("document.querySelector('#said').textContent === '2 jobs are asked to be cancelled.'")

    pick("torn.mp4")
    tab_to(browser, "document.activeElement.dataset.action === 'retry'", shift=True)
    browser.press("Enter")
    browser.wait_for("document.querySelector('#selected').hidden")
    assert tickets(home) == sorted([*wanted, ("retry", ids["torn.mp4"])])

    long = next(name for name in ids if name.startswith("a film"))
    pick("match.mp4", "unwanted.mp4", long)  # that one runs
    for key, asked in (("Escape", False), ("Enter", False), ("Tab", True)):
        browser.ask("document.querySelector('[data-action=delete]').focus()")
        browser.press("Enter")
        browser.wait_for("!!document.querySelector('dialog[open]')")
        said = browser.ask("document.querySelector('dialog').innerText")
        assert "Delete 2 jobs?" in said
        assert "This cannot be undone." in said
        assert "1 job that is running will be left" in said
        browser.press(key)
        if asked:
            browser.press("Enter")
        browser.wait_for("!document.querySelector('dialog.question')")
        assert browser.ask("document.activeElement.id || document.activeElement.dataset.action") != ""
    browser.wait_for("document.querySelector('#selected').hidden")
    deleted = {("delete", ids["match.mp4"]), ("delete", ids["unwanted.mp4"])}
    assert set(tickets(home)) - {*wanted, ("retry", ids["torn.mp4"])} == deleted
    assert browser.ask(row("match.mp4", ".what") + ".textContent") == "being deleted"
    assert browser.errors == []


def test_thousands_of_jobs_are_paged_and_filtered_and_a_range_is_selected(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    jobs = pending(store, *(f"camera {n:03}.mp4" for n in range(120)))
    for job in jobs[:3]:
        store.move(job.job_id, JobStatus.RUNNING, started_at=utc_now())
        store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message="It is torn.")
    browser.open(sidecar.url + "/")
    browser.wait_for("document.querySelector('#place').textContent === '1\u201350 of 120'")
    browser.ask(row("camera 119.mp4", ".pick") + ".click()")
    shift = "new MouseEvent('click', {shiftKey: true, bubbles: true, cancelable: true})"
    browser.ask(f"{row('camera 115.mp4', '.pick')}.dispatchEvent({shift})")
    assert browser.ask("document.querySelector('#selected .number').textContent") == "5 selected"
    browser.ask("document.querySelector('#older').click()")
    browser.wait_for("document.querySelector('#place').textContent === '51\u2013100 of 120'")
    browser.ask("document.querySelector('#select-all').click()")
    assert browser.ask("document.querySelector('#selected .number').textContent") == "55 selected"
    browser.ask("document.querySelector('#older').click()")
    browser.wait_for("document.querySelector('#older').disabled")
    assert browser.ask(NAMES)[-1] == "camera 000.mp4"
    browser.ask("document.querySelector('#newer').click()")
    browser.wait_for("document.querySelector('#place').textContent === '51\u2013100 of 120'")
    assert browser.ask("document.querySelector('#select-all').checked")
    browser.ask("document.querySelector('#name').focus()")
    browser.write("CAMERA 00")
    browser.wait_for("document.querySelectorAll('.job').length === 10")
    choose = "menu => { menu.value = 'failed'; menu.dispatchEvent(new Event('change')); }"
    browser.ask(f"({choose})(document.querySelector('#status'))")
    browser.wait_for("document.querySelectorAll('.job').length === 3")
    browser.ask("document.querySelector('#retry-failed').click()")
    browser.wait_for("document.querySelector('#said').textContent === '3 jobs are queued again.'")
    [ticket] = spool.tickets(home / "data" / "spool")
    assert (ticket.kind, set(ticket.job_ids)) == ("retry", {job.job_id for job in jobs[:3]})
    browser.write("x")
    browser.wait_for("!document.querySelector('#none').hidden")
    assert browser.errors == []


def test_rejected_and_waiting_files_are_shown_with_their_reasons(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    browser.open(sidecar.url + "/")
    browser.wait_for("!document.querySelector('#empty').hidden")
    assert browser.ask("document.querySelector('#rejected').hidden && document.querySelector('#waiting').hidden")
    page_home.reject(home, tuple((f"b/<i>{n}.mp4", "It is text.") for n in range(30)))
    page_home.say_well(home)
    browser.wait_for("document.querySelectorAll('#rejected li').length === 20")
    text = browser.ask("document.querySelector('#rejected').innerText")
    assert text.startswith("30 files rejected")
    assert "b/<i>0.mp4" in text
    assert text.count("It is text.") == 20
    assert "10 more in inbox/rejected." in text
    browser.wait_for("!document.querySelector('#waiting').hidden")
    text = browser.ask("document.querySelector('#waiting').innerText")
    assert text.startswith("2 files waiting in the inbox")
    for name, why in page_home.WAITING:
        assert re.search(f"{re.escape(name)}\\s+{re.escape(why)}", text)
    browser.ask("window.kept = document.querySelector('#rejected li')")
    rejected_list.write(home / "data", RejectedList(page_home.records((("b/<i>0.mp4", "It is text."),)), 1))
    browser.wait_for("document.querySelectorAll('#rejected li').length === 1")
    assert browser.ask("window.kept.isConnected")
    live = "e.closest('[aria-live], [role=status], [role=alert]')"
    assert not browser.ask(f"[...document.querySelectorAll('#rejected, #waiting, #jobs')].some(e => {live})")
    rejected_list.write(home / "data", RejectedList())
    browser.wait_for("document.querySelector('#rejected').hidden")
    assert browser.errors == []


def test_what_is_found_in_any_video_is_opened_at_its_time_by_keyboard(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    ids = [page_home.add_drawn(store, home, f"{n}.mp4", frames=75) for n in range(2)]
    page_home.index_texts(store, home, ("Departures", "<b>GATE</b> B12"))
    browser.open(sidecar.url + "/")
    browser.wait_for("document.querySelectorAll('.job').length === 2")
    browser.press("/")
    browser.wait_for("document.activeElement.id === 'search'")
    browser.write("gate b1")
    browser.wait_for("document.querySelectorAll('.hit').length === 2")
    assert browser.ask("document.querySelector('.hit').innerText").split("\n") == ["<b>GATE</b> B12", "1.mp4 · 0:01.2"]
    assert browser.ask("[...document.querySelectorAll('.hit mark')].map(m => m.textContent)")[:2] == ["GATE", "B1"]
    for number, job_id in enumerate(reversed(ids)):
        browser.ask("document.querySelector('#search').focus()")
        browser.wait_for("!document.querySelector('#found').hidden")
        browser.press(*["ArrowDown"] * (number + 1), "Enter")
        browser.wait_for(f"location.hash.startsWith('#/job/{job_id}?t=1.24&q=gate+b1')")
        browser.wait_for("document.querySelector('#found').hidden")
        browser.wait_for(f"document.querySelector('#viewer video')?.src.includes('{job_id}')")
        browser.wait_for("Math.abs(document.querySelector('#viewer video').currentTime - 1.25) < 0.05")
    browser.ask("history.back()")
    browser.wait_for(f"location.hash.includes('{ids[1]}')")
    browser.ask("history.back()")
    browser.wait_for("document.body.dataset.view === 'list'")
    browser.ask("document.querySelector('#search').select()")
    browser.write("person")
    browser.wait_for("document.querySelector('.hit')?.innerText.startsWith('person in 40 frames')")
    browser.ask("document.querySelectorAll('.kinds button')[1].click()")
    browser.wait_for("document.querySelector('#found').innerText.includes('Nothing was found.')")
    browser.press("Escape")
    browser.wait_for("document.querySelector('#found').hidden && document.activeElement.id === 'search'")
    browser.ask("document.querySelector('#search').select()")
    browser.write("\u202e")
    browser.wait_for("document.querySelector('#found').innerText.includes('that can be seen')")
    assert browser.errors == []


def test_the_list_shows_a_picture_of_each_video_whose_video_is_there(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    shown = page_home.add_drawn(store, home, "shown.mp4", frames=20)
    gone = page_home.add_drawn(store, home, "gone.mp4", frames=20)
    video = home / "data" / input_key(gone)
    away = video.rename(home / "away.mp4")
    page_home.say_well(home)
    stills = Stills(Settings(home=home, min_free_bytes=0))
    stills.start()
    try:
        browser.open(sidecar.url + "/")
        browser.wait_for(row("shown.mp4", ".thumb.here") + "?.naturalWidth === 160")
        assert f"/v1/jobs/{shown}/frame" in browser.ask(row("shown.mp4", ".thumb") + ".src")
        assert not browser.ask("!!(" + row("gone.mp4", ".thumb.here") + ")")
        browser.ask(f"window.kept = {row('shown.mp4', '.thumb')}")
        pending(store, "another.mp4")
        browser.wait_for("document.querySelectorAll('.job').length === 3")
        assert browser.ask("window.kept.isConnected")  # it is not fetched again
        away.rename(video)
        browser.wait_for("!!(" + row("gone.mp4", ".thumb.here") + ")", 45)  # it is asked for again, and soon
        assert browser.errors == []
    finally:
        stills.stop()


def test_what_is_wrong_with_dropframe_is_said_and_unsaid(home: Path, store: JobStore, browser: Browser) -> None:
    pending(store, "a.mp4")
    with running_sidecar(home) as sidecar:
        browser.open(sidecar.url + "/")
        browser.wait_for("document.querySelector('#wrong').innerText.includes('Daemon The daemon has never run')")
        assert browser.ask("document.querySelector('#health').textContent") == "not ready"
        page_home.say_well(home, objects=False)
        browser.wait_for("document.querySelector('#wrong').hidden")
        browser.wait_for("document.querySelector('#lacking').textContent.startsWith('There are no object weights')")
        assert "dropframe models pull yolo11n" in browser.ask("document.querySelector('#lacking').textContent")
        choose = "menu => { menu.value = 'yolo'; menu.dispatchEvent(new Event('change')); }"
        browser.ask(f"({choose})(document.querySelector('#pipeline'))")
        said = "It needs object weights and there are none"
        assert browser.ask("document.querySelector('#unfit').textContent").startswith(said)
        page_home.say_well(home)
        browser.wait_for("document.querySelector('#lacking').textContent === ''")
        assert browser.ask("document.querySelector('#unfit').textContent") == ""
        assert browser.ask("document.querySelector('#pipeline').value") == "yolo"
    browser.wait_for("document.querySelector('#wrong').innerText.includes('Dropframe does not answer')")
    assert browser.ask("document.querySelector('#health').textContent") == "no answer"
    assert browser.ask(NAMES) == ["a.mp4"]  # what was known last
    assert browser.errors == []


def test_a_job_is_deleted_from_its_own_view_after_a_question(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    job_id = page_home.add_drawn(store, home, "match.mp4")
    page_home.say_well(home)
    for size in SIZES:
        browser.show_on(*size)
        browser.open(f"{sidecar.url}/docs")
        browser.open(f"{sidecar.url}/#/job/{job_id}")
        browser.wait_for("document.title === 'match.mp4 · Dropframe'")
        top = browser.ask("document.querySelector('#viewer').getBoundingClientRect().top")
        assert top < size[1] / 3  # not below a list of jobs
        browser.ask("document.querySelector('#delete').click()")
        browser.wait_for("document.querySelector('dialog.question')?.innerText.includes('match.mp4')")
        if size != SIZES[-1]:
            browser.press("Escape")
            browser.wait_for("!document.querySelector('dialog.question')")
    assert tickets(home) == []
    browser.press("Tab", "Enter")
    browser.wait_for("document.body.dataset.view === 'list'")
    assert tickets(home) == [("delete", job_id)]
    browser.wait_for(f"({FOCUSED}) === 'match.mp4'")
    assert browser.errors == []


def test_what_could_not_be_done_is_shown(home: Path, store: JobStore, sidecar: Sidecar, browser: Browser) -> None:
    page_home.add_ended(store, "torn.mp4", ErrorKind.PERMANENT, page_home.SENTENCE)
    job_id = page_home.add_ended(store, "cut.mp4", ErrorKind.PERMANENT, page_home.SENTENCE)
    browser.open(sidecar.url + "/")
    browser.wait_for("document.querySelectorAll('.job').length === 2")
    choose = "menu => { menu.value = 'failed'; menu.dispatchEvent(new Event('change')); }"
    browser.ask(f"({choose})(document.querySelector('#status'))")
    browser.wait_for("!document.querySelector('#retry-failed').hidden")
    browser.call("Network.enable")
    browser.call("Network.setBlockedURLs", urls=["*/v1/jobs/*"])
    browser.ask("document.querySelector('#retry-failed').click()")
    seen = "[...document.querySelectorAll('.notice')].some(one => one.checkVisibility() && one.innerText === {!r})"
    browser.wait_for(seen.format("They were not queued again. Dropframe does not answer."))
    browser.call("Network.setBlockedURLs", urls=[])
    browser.ask(row("cut.mp4", ".open") + ".click()")
    browser.wait_for("!document.querySelector('#delete').hidden")
    browser.ask("document.querySelector('#delete').click()")
    browser.wait_for("!!document.querySelector('dialog.question')")
    browser.call("Network.setBlockedURLs", urls=["*/v1/jobs/*"])
    browser.press("Tab", "Enter")
    browser.wait_for(seen.format("It was not deleted. Dropframe does not answer."))
    browser.call("Network.setBlockedURLs", urls=[])
    browser.ask("document.querySelector('#delete').click()")
    browser.wait_for("!!document.querySelector('dialog.question')")
    assert not browser.ask(seen.format("It was not deleted. Dropframe does not answer."))
    browser.press("Tab", "Enter")
    browser.wait_for("document.body.dataset.view === 'list'")
    assert tickets(home) == [("delete", job_id)]
    assert browser.errors == []


def test_everybody_can_use_the_list_in_light_and_dark_on_every_screen(
    home: Path, store: JobStore, sidecar: Sidecar, browser: Browser
) -> None:
    axe = load_axe()
    page_home.say_well(home, objects=False)
    browser.open(sidecar.url + "/")
    browser.wait_for("!document.querySelector('#empty').hidden")
    told = {"empty": findings(browser, axe)}
    ids = page_home.fill(home, store, completed=1)
    page_home.reject(home)
    page_home.index_texts(store, home, ("GATE B12",))
    browser.wait_for(f"document.querySelectorAll('.job').length === {len(ids)}")
    browser.wait_for("!document.querySelector('#rejected').hidden")
    browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    (home / "notes.mp4").write_text("notes")
    browser.choose_files("#files", [home / "notes.mp4"])
    browser.wait_for("!!document.querySelector('.upload[data-state=refused]')")
    browser.ask("document.querySelector('#search').focus()")
    browser.write("gate")
    browser.wait_for("document.querySelectorAll('.hit').length === 2")
    browser.ask("document.querySelector('#select-all').click()")
    for width, height in SIZES:
        for dark in (False, True):
            browser.show_on(width, height, dark=dark)
            time.sleep(0.3)  # what fades in has faded in
            screen = f"{width} {'dark' if dark else 'light'}"
            told[f"list {screen}"] = findings(browser, axe)
            wide = browser.ask("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], screen  # nothing is cut off at the side
            browser.ask("document.querySelector('[data-action=delete]').click()")
            told[f"question {screen}"] = findings(browser, axe)
            browser.press("Escape")
            browser.wait_for("!document.querySelector('dialog.question')")
            browser.ask("document.querySelector('#search').focus()")
    browser.open(f"{sidecar.url}/docs")
    browser.wait_for("document.querySelectorAll('details').length > 20")
    told["docs"] = findings(browser, axe)
    for n, (width, height) in enumerate(SIZES):
        browser.show_on(width, height, dark=n % 2 == 0)
        browser.open(f"{sidecar.url}/docs")
        browser.open(f"{sidecar.url}/#/job/{ids['match.mp4']}")
        browser.wait_for("document.querySelector('#viewer video')?.readyState >= 2")
        told[f"job {width}"] = findings(browser, axe)
    assert {name: found for name, found in told.items() if found} == {}, json.dumps(told, indent=1)
    assert browser.errors == []
