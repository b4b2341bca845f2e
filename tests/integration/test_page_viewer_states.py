"""What the page's viewer says of a job in each of its states, and of a result as long as a film."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from daemon.derive.derivation import derive
from daemon.derive.files import folder_of
from daemon.export.client import Exports
from daemon.ipc import health, spool
from daemon.ipc.health import Heartbeat
from daemon.jobs import ErrorKind, Job, JobStatus, input_key, new_job_id, output_key, utc_now
from daemon.pipeline.pipelines import NO_OBJECTS
from daemon.settings import Settings
from daemon.stills.client import Stills
from daemon.store.job_store import JobStore
from tests.browser import Browser, browsing
from tests.clips import make_clip
from tests.derived_documents import frame, write_document
from tests.integration.test_page_viewer import outlined
from tests.numbered_clips import analyse, even, make_numbered
from tests.page_home import add_completed, make_folders
from tests.sidecar_process import running_sidecar
from tests.unit.sidecar.test_app import beat
from tests.viewer_page import open_viewer, wait_for_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.needs("chromium")]

LONG = 200_000
SECONDS = 7200.0
OPEN_MS, TASK_MS = 1000, 100


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_folders(tmp_path / "home")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_numbered(tmp_path / "clip.mp4", even(30, Fraction(25)))


@pytest.fixture
def document(tmp_path: Path, clip: Path) -> Path:
    analyse(clip, tmp_path / "clip.json")
    return tmp_path / "clip.json"


def add(home: Path, status: JobStatus, **changes: Any) -> str:
    job_id = new_job_id()
    make_clip(home / "data" / input_key(job_id), frames=10, size=(160, 120))
    with JobStore.open(home / "data") as store:
        store.create([Job(job_id, input_path=input_key(job_id), source_name="holiday.mp4")])
        if status is not JobStatus.PENDING:
            store.move(job_id, JobStatus.RUNNING, attempts=1, started_at=utc_now())
        if status is JobStatus.FAILED:
            store.move(job_id, status, **changes)
        elif changes:
            store.note(job_id, **changes)
    return job_id


def said(browser: Browser) -> str:
    text: str = browser.ask("document.querySelector('.viewer').innerText")
    return text


def button(words: str) -> str:
    return f"[...document.querySelectorAll('.viewer button')].find((one) => one.innerText === {words!r})"


def test_a_job_without_a_result_says_how_far_it_is_and_what_can_be_done(home: Path) -> None:
    waits = add(home, JobStatus.PENDING)
    runs = add(home, JobStatus.RUNNING, frames_processed=98, frames_total=250)
    sentence = "The video ends in the middle. Was it copied whole?"
    failed = add(home, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message=sentence)
    cancelled = add(home, JobStatus.FAILED, error_kind=ErrorKind.CANCELLED, error_message="It was cancelled.")
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        open_viewer(browser, sidecar.url, waits)
        browser.wait_for("document.querySelector('.waiting')?.innerText.includes('It is the next.')")
        browser.ask(f"{button('Cancel')}.click()")
        browser.wait_for("document.querySelector('.waiting').innerText.includes('It is being cancelled')")
        status = "document.querySelector('.waiting [role=status]').innerText"
        browser.ask("viewer.update({...viewer.job, updated_at: '2100-01-01T00:00:00+00:00', queue_position: 3})")
        assert "3 videos ahead of it" in said(browser)
        assert browser.ask(status) == "It is being cancelled …"  # numbers are not read out, and do not take it away
        browser.ask("viewer.update({...viewer.job, updated_at: '2101-01-01T00:00:00+00:00', status: 'running'})")
        assert browser.ask(status) == "It is being analysed."
        open_viewer(browser, sidecar.url, runs)
        browser.wait_for("document.querySelector('.waiting progress')?.value === 98 / 250")
        assert "98 of 250 frames" in said(browser)
        open_viewer(browser, sidecar.url, failed)
        browser.wait_for(f"document.querySelector('.waiting')?.innerText.includes({sentence!r})")
        browser.ask(f"{button('Retry')}.click()")
        browser.wait_for("document.querySelector('.waiting').innerText.includes('It will be tried again')")
        open_viewer(browser, sidecar.url, cancelled)
        browser.wait_for("document.querySelector('.viewer .pill')?.innerText === 'cancelled'")
        assert browser.ask(f"!!{button('Run it after all')}")
        open_viewer(browser, sidecar.url, new_job_id())
        browser.wait_for("document.querySelector('#viewer .notice')?.innerText.includes('There is no job')")
        assert browser.errors == []


def test_a_video_that_is_gone_leaves_its_boxes_lanes_plots_and_texts(home: Path, clip: Path, document: Path) -> None:
    kept = add_completed(home, document=document, video=clip)
    (home / "data" / input_key(kept)).unlink()
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        open_viewer(browser, sidecar.url, kept, "t=0.5")
        browser.wait_for("document.querySelector('.unplayed')?.innerText.includes('has been deleted')")
        browser.wait_for("document.querySelector('.stage canvas').dataset.frame === '12'")
        browser.ask("viewer.watch.player.step(1)")
        browser.wait_for("document.querySelector('.stage canvas').dataset.frame === '13'")
        browser.wait_for("viewer.watch.texts.all.length === 1 && viewer.watch.plots.chart.data[1].length > 3")
        assert not browser.ask(f"!!{button('Play')}")
        assert browser.errors == []


def test_of_every_fifth_frame_boxes_stay_until_the_next_and_steps_lead_to_it(home: Path, tmp_path: Path) -> None:
    clip = make_numbered(tmp_path / "clip.mp4", even(60, Fraction(25)))
    box = [{"bbox": [10.0, 10.0, 50.0, 50.0], "class": "box", "confidence": 0.9}]
    seen = [frame(n, n / 25, [], box) for n in range(0, 60, 5)]
    write_document(tmp_path / "r.json", seen, stride=5, video={"width": 320, "height": 180})
    job_id = add_completed(home, document=tmp_path / "r.json", video=clip, is_derived=False)
    drawn = "document.querySelector('.stage canvas').dataset.frame === '{}'"
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        open_viewer(browser, sidecar.url, job_id, "t=0.48")
        browser.wait_for(drawn.format(10) + " && Math.abs(viewer.watch.player.time - 0.48) < 0.002")
        for way, frame_index in ((1, 15), (1, 20), (-1, 15), (-1, 10)):
            browser.ask(f"viewer.watch.player.step({way})")
            browser.wait_for(drawn.format(frame_index))
            assert browser.ask(f"Math.abs(viewer.watch.player.time - {frame_index / 25}) < 0.002")
        assert browser.errors == []


def test_a_video_that_does_not_play_is_shown_frame_by_frame(home: Path, tmp_path: Path) -> None:
    clip = make_numbered(tmp_path / "h.mp4", even(30, Fraction(25)), codec="libx265")
    analyse(clip, tmp_path / "h.json")
    job_id = add_completed(home, document=tmp_path / "h.json", video=clip, is_derived=False)
    health.write(home / "data", beat("2100-01-01T00:00:00+00:00"))
    stills = Stills(Settings(home=home, min_free_bytes=0))
    stills.start()
    try:
        with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
            open_viewer(browser, sidecar.url, job_id, "t=0.4")
            browser.wait_for("document.querySelector('.unplayed')?.innerText.includes('cannot play the video')")
            for frame_index in (10, 11, 12):
                browser.wait_for(
                    f"viewer.watch.player.stills.query === 'index={frame_index}'"
                    f" && document.querySelector('.stage canvas').dataset.frame === '{frame_index}'"
                )
                browser.ask("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
                assert outlined(browser.picture(".stage"))
                browser.ask("viewer.watch.player.step(1)")
            assert browser.ask(f"!!({button('Download the video')})")
            assert browser.errors == []
    finally:
        stills.stop()


def test_a_result_is_watched_while_texts_and_tracks_are_still_made_of_it(
    home: Path, clip: Path, document: Path
) -> None:
    job_id = add_completed(home, document=document, video=clip, is_derived=False)
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        open_viewer(browser, sidecar.url, job_id)
        wait_for_picture(browser)
        browser.wait_for("document.querySelector('.viewer').innerText.includes('are being made from the result')")
        derive(home / "data" / output_key(job_id), folder_of(home / "data", job_id))
        browser.wait_for("viewer.watch.texts.complete && document.querySelectorAll('.lane').length === 2")
        assert "are being made" not in said(browser)
        assert browser.errors == []


def test_a_damaged_and_an_empty_result_say_so_and_the_video_plays_on(
    home: Path, clip: Path, document: Path, tmp_path: Path
) -> None:
    damaged = add_completed(home, document=document, video=clip, is_derived=False)
    stored = home / "data" / output_key(damaged)
    stored.write_bytes(stored.read_bytes()[:2000])
    write_document(tmp_path / "empty.json", [frame(n, n / 25, [], []) for n in range(30)])
    empty = add_completed(home, document=tmp_path / "empty.json", video=clip)
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        open_viewer(browser, sidecar.url, damaged)
        browser.wait_for("document.querySelector('.notices')?.innerText.startsWith('The stored result is damaged')")
        browser.ask("viewer.watch.player.toggle()")
        browser.wait_for("viewer.watch.player.time > 0.3")
        open_viewer(browser, sidecar.url, empty)
        browser.wait_for("document.querySelector('.notices')?.innerText === 'Nothing was found in this video.'")
        wait_for_picture(browser)
        assert browser.errors == []


def test_a_job_that_lacks_objects_is_run_again_once_there_are_weights(home: Path, clip: Path, document: Path) -> None:
    def weights(*roles: str) -> None:
        models = tuple({"role": role} for role in roles)
        health.write(home / "data", Heartbeat(utc_now(), "running", 1, models=models))

    job_id = add_completed(home, document=document, video=clip, warnings=[NO_OBJECTS], is_derived=False)
    again = button("Run again with objects")
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        weights("text")
        open_viewer(browser, sidecar.url, job_id)
        browser.wait_for("document.querySelector('.again')?.innerText.includes('There are no object weights')")
        assert "No objects were looked for" in said(browser)
        assert browser.ask(f"({again}).hidden")
        weights("objects", "text")
        browser.wait_for(f"!!({again}) && !({again}).hidden")
        browser.ask(f"({again}).click()")
        browser.wait_for(f"address.job && address.job !== '{job_id}'")
        [ticket] = spool.tickets(home / "data" / "spool")
        assert ticket.to_job().source_name == "clip.mp4"
        assert browser.errors == []


def test_who_has_left_a_job_that_is_run_again_is_not_led_away(home: Path, clip: Path, document: Path) -> None:
    job_id = add_completed(home, document=document, video=clip, warnings=[NO_OBJECTS], is_derived=False)
    health.write(home / "data", Heartbeat(utc_now(), "running", 1, models=({"role": "objects"}, {"role": "text"})))
    again = button("Run again with objects")
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        open_viewer(browser, sidecar.url, job_id)
        browser.wait_for(f"!!({again}) && !({again}).hidden")
        browser.ask(
            """(() => {
              const call = viewer.api.fetch.bind(viewer.api), left = new Promise((done) => { window.leave = done; });
              viewer.api.fetch = async (path, init) => {
                const answer = await call(path, init);
                if (path === "v1/video/submit") await left.then(() => { window.answered = 1; });
                return answer;
              };
            })()"""
        )
        browser.ask(f"({again}).click()")
        browser.ask("(address.go(null), leave())")
        browser.wait_for("window.answered === 1")
        browser.ask("new Promise((done) => setTimeout(done, 300))")
        assert browser.ask("address.job") is None
        assert browser.errors == []


def test_a_video_without_texts_opens_with_its_objects_and_stays_there(home: Path, tmp_path: Path, clip: Path) -> None:
    found = [{"bbox": [10.0, 10.0, 60.0, 60.0], "class": "cat", "class_id": 15, "confidence": 0.9}]
    document = write_document(tmp_path / "objects.json", [frame(n, n / 25, [], found) for n in range(30)])
    job_id = add_completed(home, document=document, video=clip)
    selected = "document.querySelector('[role=tab][aria-selected=true]').id"
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        open_viewer(browser, sidecar.url, job_id)
        browser.wait_for(f"{selected} === 'tab-objects'")
        browser.press("b")
        browser.wait_for("viewer.watch.view.boxes === false")
        assert browser.ask(selected) == "tab-objects"
        browser.ask("viewer.watch.follow()")
        assert browser.ask(selected) == "tab-objects"
        browser.ask("document.querySelector('#tab-text').click()")
        browser.press("b")
        browser.wait_for("viewer.watch.view.boxes === true")
        assert browser.ask(selected) == "tab-text"
        assert browser.errors == []


def test_a_format_is_made_and_downloaded_as_it_is_filtered(home: Path, clip: Path, document: Path) -> None:
    job_id = add_completed(home, document=document, video=clip)
    downloads = home / "downloads"
    row = "[...document.querySelectorAll('.download')].find((one) => one.innerText.includes({!r}))"
    with JobStore.open(home / "data") as store:
        exports = Exports(Settings.load(home=home), store.find)
        exports.start()
        with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
            browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
            open_viewer(browser, sidecar.url, job_id, "class=nothing")
            wait_for_picture(browser)
            browser.ask("document.querySelector('.downloads > button').click()")
            browser.wait_for(f"!!{row.format('.csv')}")
            assert "only nothing" in browser.ask("document.querySelector('.only').innerText")
            browser.ask(f"document.querySelector('.only input').click(), {row.format('.csv')}.click()")
            browser.wait_for(f"{row.format('.csv')}.innerText.includes('being made')")
            browser.wait_for(f"{row.format('.csv')}.innerText.includes('ready')")
            browser.wait_for("new Promise((wake) => setTimeout(() => wake(true), 500))")
            assert len((downloads / "clip.mp4.csv").read_text().splitlines()) == 1
            assert browser.errors == []
        exports.stop()


def records() -> Iterator[dict[str, Any]]:
    """Yield the frames of a film; its objects come late, as following them takes the time of this test."""
    for number in range(LONG):
        words = [{"bbox": [50.0, 600.0, 400.0, 640.0], "confidence": 0.95, "text": f"SCENE {number // 100}"}]
        objects = [
            {"bbox": [x, 100.0, x + 80, 200.0], "class": f"thing {n}", "class_id": n, "confidence": 0.5 + n / 40}
            for n in range(12)
            for x in [100.0 * n]
        ]
        yield frame(
            number,
            round(number * SECONDS / LONG, 6),
            words if number % 100 < 10 else [],
            objects if number >= LONG - 1500 and number % 30 < 10 else [],
        )


def test_a_film_of_two_hours_opens_at_once_and_is_never_stuck(home: Path, tmp_path: Path) -> None:
    about = {"duration_s": SECONDS, "width": 1280, "height": 720}
    document = write_document(tmp_path / "long.json", records(), fps=LONG / SECONDS, video=about)
    clip = make_clip(tmp_path / "long.mp4", frames=720, size=(64, 48), fps=0.1)
    job_id = add_completed(home, document=document, video=clip)
    opened = "document.querySelector('.row-item') && document.querySelector('.lane') && viewer.watch.player.painted"
    with running_sidecar(home) as sidecar, browsing(home / "profile", (1400, 1000)) as browser:
        before = sidecar.cpu_ms()
        with browser.working() as opening:
            open_viewer(browser, sidecar.url, job_id, "t=3600")
            browser.wait_for(opened)
        opened_ms = opening.all_ms + sidecar.cpu_ms() - before
        browser.wait_for("viewer.watch.texts.complete && viewer.watch.lanes.lanes[0].bars.length > 0")
        with browser.working() as using:
            browser.ask("""(async () => {
              const list = document.querySelector(".long-list");
              for (let n = 0; n < 30; n += 1) {
                list.scrollTop = n * 1500;
                await new Promise(requestAnimationFrame);
              }
              for (const time of [100, 7000, 20, 7190, 3333]) await viewer.watch.player.seek(time);
              viewer.watch.change({ words: "SCENE 12" });
              viewer.watch.change({ span: [3000, 3600] });
              await new Promise((wake) => setTimeout(wake, 200));
            })()""")
        assert browser.ask("viewer.watch.texts.all.length") == LONG // 100
        assert browser.errors == []
    assert opened_ms < OPEN_MS
    assert max(opening.longest_ms, using.longest_ms) < TASK_MS
