"""The web page in a real browser, and a page of another site that submits with fetch."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from daemon.export.client import Exports
from daemon.export_formats import FORMATS
from daemon.ipc import health, rejected_list, spool
from daemon.ipc.health import Heartbeat
from daemon.ipc.rejected_list import RejectedList, RejectedRecord
from daemon.jobs import ErrorKind, Job, JobStatus, Options, input_key, new_job_id, output_key, utc_now
from daemon.pipeline.pipelines import NO_OBJECTS
from daemon.search.index import SearchIndex
from daemon.search.reader import FoundKind
from daemon.settings import Settings
from daemon.stills.client import Stills
from daemon.store.job_store import JobStore
from tests.browser import browsing
from tests.clips import BEGINNING, make_clip
from tests.container_clips import in_container
from tests.integration.test_http_daemon import result_of, running_daemon, wait_for_end
from tests.sidecar_process import running_sidecar
from tests.unit.sidecar.test_app import beat
from tests.unit.sidecar.test_document import write_document

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
        f"[...document.querySelectorAll('.job')].find(j => j.querySelector('.name').textContent === {name!r}).click()"
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
        assert "It is a ZIP archive, not an MP4." in browser.ask("document.querySelector('#uploads').innerText")
        with running_daemon(home):
            browser.wait_for(in_list("match.mp4", "completed"), 240)
            browser.wait_for(in_list(dropped.name, "completed"), 120)
            browser.wait_for(in_list("cut.mp4", "completed"), 120)
            browser.wait_for(in_list("torn.mp4", "failed"), 120)
            browser.wait_for("document.querySelector('#health').textContent === 'ready'")
            browser.wait_for("document.querySelector('#wrong').hidden")
            browser.wait_for("!!document.querySelector('#pipeline [value=yolo]').dataset.problem")
            assert browser.ask("document.querySelector('#pipeline').value") == "ocr_only"
            for pipeline_id, words in (("yolo", "It needs object weights and there are none"), ("yolo_ocr", "")):
                browser.ask(f"document.querySelector('#pipeline').value = {pipeline_id!r}")
                browser.ask("document.querySelector('#pipeline').dispatchEvent(new Event('change'))")
                assert browser.ask("document.querySelector('#unfit').innerText").startswith(words)
            assert browser.ask("document.querySelector('#unfit').innerText") == ""

        # The one that was submitted last is shown, and the failed one is not asked for without a pause.
        browser.wait_for("!!document.querySelector('#detail .pill.failed')")
        assert browser.ask("document.querySelector('#detail .notice').innerText").endswith(("?", "."))
        asked = len(sidecar.log())
        time.sleep(3)
        assert len(sidecar.log()) - asked < 30  # list, health and status, about once a second; a storm has hundreds
        browser.ask(choose("cut.mp4"))
        cut_short = "warning => warning.innerText.startsWith('The video is cut short: ')"
        browser.wait_for(f"[...document.querySelectorAll('#detail .warning')].some({cut_short})")
        browser.ask(choose(dropped.name))
        browser.wait_for("document.querySelector('#detail h2').innerText.includes('fat')")
        marked = "[...document.querySelectorAll('.job:has(.mark) .name')].map(name => name.textContent).sort()"
        assert browser.ask(marked) == ["cut.mp4", "match.mp4"]
        assert not browser.ask("!!document.querySelector('#detail .warning')")
        browser.ask(KEEP_LABELS)
        browser.ask(choose("match.mp4"))
        browser.wait_for(f"document.querySelector('#result table')?.innerText.includes({SENTENCE!r})")
        browser.wait_for("document.querySelector('#result video')?.videoWidth === 320")
        browser.ask("document.querySelector('#result video').play()")
        browser.wait_for("document.querySelector('#result video').currentTime > 0.5")
        browser.wait_for(PAINTED)
        assert browser.ask("[...window.labels]") == [SENTENCE]  # not "text 84 %" as well, at the same place
        assert "no object weights" in browser.ask("document.querySelector('#detail .warning').innerText")
        assert browser.ask("document.querySelector('b') === null")  # a name is text, never markup
        assert browser.errors == []


def test_text_is_shown_where_it_was_looked_for_and_as_far_as_it_was_fetched(home: Path) -> None:
    with JobStore.open(home / "data") as store, running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        cases = [
            (completed(store, home, frames=3, text="", roles=("objects",)), None, None),
            (completed(store, home, frames=3, text="", roles=("text",)), "Text", "None was read."),
            (completed(store, home, frames=300, text=SENTENCE, roles=("text",)), "Text", SENTENCE),
            (completed(store, home, frames=301, text=SENTENCE, roles=("text",)), "Text of the first 12 s", SENTENCE),
        ]
        for job_id, heading, words in cases:
            browser.open(f"{sidecar.url}/docs")
            browser.open(f"{sidecar.url}/#{job_id}")
            # It is painted, and the text listed, once the frames are there.
            browser.wait_for("document.querySelector('#result video')?.videoWidth > 0 && " + PAINTED)
            assert browser.ask("document.querySelector('#result h2')?.textContent ?? null") == heading
            assert browser.ask("document.querySelector('#result td:last-child')?.textContent ?? null") == words
        assert browser.errors == []


def test_the_files_of_a_folder_that_is_dropped_are_submitted_one_by_one(home: Path) -> None:
    clip = make_clip(home / "clip.mp4", frames=3, size=(64, 48)).read_bytes()
    for name in ("Holiday/a.mp4", "Holiday/Beach/Evening/b.mp4", "Holiday/@eaDir/c.mp4", "Holiday/._a.mp4"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(clip)
    for number in range(120):  # a browser gives a hundred entries at a time
        (home / "Holiday" / f"{number:03}.txt").write_text("notes")
    (home / "Holiday" / "z.mp4").write_bytes(clip)
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        browser.open(sidecar.url + "/")
        browser.wait_for("document.querySelectorAll('#pipeline option').length === 3")
        browser.drop_files("#drop", [home / "clip.mp4", home / "Holiday"])
        names = ("clip.mp4", "a.mp4", "b.mp4", "z.mp4")
        for name in names:
            browser.wait_for(in_list(name, "pending"))
        browser.wait_for("document.querySelector('#uploads').children.length === 0")
        assert browser.ask("document.querySelectorAll('.job').length") == len(names)
        said = "120 files of the folder are not videos and were left out."
        assert browser.ask("document.querySelector('#left-out').innerText") == said
        (home / "empty").mkdir()
        browser.drop_files("#drop", [home / "empty"])
        browser.wait_for("document.querySelector('#left-out').innerText === 'The folder holds no videos.'")
        browser.drop_files("#drop", [home / "clip.mp4"])
        browser.wait_for("document.querySelectorAll('.job').length === 5")
        assert browser.ask("document.querySelector('#left-out').innerText") == ""
        assert browser.errors == []


def test_rejected_files_are_shown_with_their_reasons(home: Path) -> None:
    files = [
        RejectedRecord(
            f"b/<i>{n}.mp4", f"rejected/b/<i>{n}.mp4", "It is text.", f"2026-01-31T12:00:{n}.000000+00:00", 1
        )
        for n in range(40, 10, -1)
    ]
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        browser.open(sidecar.url + "/")
        browser.wait_for("document.querySelectorAll('#pipeline option').length === 3")
        assert browser.ask("document.querySelector('#rejected').hidden")
        rejected_list.write(home / "data", RejectedList(tuple(files), 30))
        browser.wait_for("document.querySelectorAll('#rejected-files p').length === 21")
        text = browser.ask("document.querySelector('#rejected').innerText")
        assert "b/<i>40.mp4" in text
        assert text.count("It is text.") == 20
        assert "10 more in inbox/rejected." in text
        rejected_list.write(home / "data", RejectedList())
        browser.wait_for("document.querySelector('#rejected').hidden")
        assert browser.errors == []


def test_a_job_is_deleted_after_a_question_and_a_cancelled_one_reads_so(home: Path) -> None:
    with JobStore.open(home / "data") as store, running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        job_id = completed(store, home, frames=3, text="", roles=("text",))
        [ended] = store.create([Job(new_job_id(), source_name="unwanted.mp4")])
        store.move(ended.job_id, JobStatus.FAILED, error_kind=ErrorKind.CANCELLED, error_message="Cancelled.")
        browser.open(f"{sidecar.url}/#{job_id}")
        browser.wait_for(in_list("unwanted.mp4", "cancelled"))
        browser.wait_for("!!document.querySelector('#detail button.delete')")
        for answer, asked in (("false", []), ("true", [("delete", job_id)])):
            browser.ask(
                f"window.question = ''; window.confirm = text => {{ window.question = text; return {answer}; }}"
            )
            browser.ask("document.querySelector('#detail button.delete').click()")
            assert "“match.mp4” with its video and result? This cannot be undone." in browser.ask("window.question")
            if asked:
                browser.wait_for("document.querySelector('#detail').innerText.includes('is being deleted')")
            assert [(t.kind, t.job_id) for t in spool.tickets(home / "data" / "spool")] == asked
        store.delete(store.get(job_id))
        browser.wait_for("document.querySelectorAll('.job').length === 1")
        browser.open(f"{sidecar.url}/docs")
        browser.open(f"{sidecar.url}/#{job_id}")
        browser.wait_for("document.querySelector('#detail .notice')?.innerText.startsWith('The job was deleted at ')")
        assert browser.errors == []


def test_what_is_found_in_any_video_is_opened_at_its_time(home: Path) -> None:
    with JobStore.open(home / "data") as store:
        ids = [completed(store, home, frames=75, text="", roles=("text",)) for _ in range(2)]
        jobs = store.jobs()
    index = SearchIndex(home / "data")
    for job in jobs:
        index.put(job.sequence, job.job_id, "", [(FoundKind.TEXT, "<b>GATE</b> B12", 1.5, 2.0, 37, [0.0] * 4, 0.9, 9)])
    index.set_complete(True)
    index.close()
    with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        browser.open(sidecar.url + "/")
        browser.wait_for("document.querySelectorAll('.job').length === 2")
        browser.ask(search_for("gate b1"))
        browser.wait_for("document.querySelectorAll('.hit').length === 2")
        assert "<b>GATE</b> B12\nmatch.mp4 · 0:01.5" in browser.ask("document.querySelector('.hit').innerText")
        for number, job_id in enumerate(reversed(ids)):
            browser.ask(f"document.querySelectorAll('.hit')[{number}].click()")
            browser.wait_for(f"document.querySelector('#result video')?.src.includes('{job_id}')")
            browser.wait_for("document.querySelector('#result video').currentTime === 1.5")
        browser.ask(search_for("\u202e"))
        browser.wait_for("document.querySelector('#found').innerText.includes('that can be seen')")
        browser.ask(search_for(""))
        browser.wait_for("document.querySelector('#found').hidden")
        assert browser.errors == []


def test_the_list_shows_a_picture_of_each_video_whose_video_is_there(home: Path) -> None:
    with JobStore.open(home / "data") as store:
        shown = completed(store, home, frames=20, text="", roles=())
        gone = completed(store, home, frames=20, text="", roles=())
        (home / "data" / input_key(gone)).unlink()
    (home / "data" / "spool").mkdir()
    health.write(home / "data", beat("2100-01-01T00:00:00+00:00"))
    stills = Stills(Settings(home=home, min_free_bytes=0))
    stills.start()
    try:
        with running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
            browser.open(sidecar.url + "/")
            picture = "[...document.querySelectorAll('.thumb')].find(image => image.src.includes('{}'))"
            browser.wait_for(picture.format(shown) + "?.naturalWidth === 160")
            browser.wait_for(picture.format(gone) + "?.hidden")
            browser.ask(f"window.kept = {picture.format(shown)}")
            browser.ask("document.querySelectorAll('.job').forEach(job => { job.dataset.old = '1'; })")
            browser.wait_for("![...document.querySelectorAll('.job')].some(job => job.dataset.old)")
            assert browser.ask("window.kept.isConnected")  # it is not fetched again
            assert browser.errors == []
    finally:
        stills.stop()


def search_for(words: str) -> str:
    """An expression that types words into the search."""
    typed = f"box.value = {words!r}; box.dispatchEvent(new Event('input'))"
    return f"(box => {{ {typed} }})(document.querySelector('#search'))"


def test_a_result_is_exported_from_the_list_of_formats(home: Path) -> None:
    downloads = home / "downloads"
    with JobStore.open(home / "data") as store, running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        job_id = completed(store, home, frames=3, text="", roles=("text",))
        exports = Exports(Settings.load(home=home), store.find)
        exports.start()
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        browser.open(f"{sidecar.url}/#{job_id}")
        browser.wait_for(f"document.querySelectorAll('#export option').length === {len(FORMATS) + 1}")
        for name in ("csv", "coco"):
            browser.ask(
                f"document.querySelector('#export').value = '{name}';"
                "document.querySelector('#export').dispatchEvent(new Event('change'))"
            )
            if name == "csv":
                browser.wait_for("!document.querySelector('#export').disabled")
                until(lambda: (downloads / "match.mp4.csv").exists())
        browser.wait_for("document.querySelector('#export-note').textContent.includes('how large the picture is')")
        exports.stop()
        assert len((downloads / "match.mp4.csv").read_text().splitlines()) == 4
        assert [error for error in browser.errors if "409" not in error] == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_that_lacks_objects_is_run_again_once_there_are_weights(home: Path) -> None:
    def beat(*roles: str) -> None:
        models = tuple({"role": role} for role in roles)
        health.write(
            home / "data", Heartbeat(utc_now(), "running", 1, models=models, weights_note="x is being fetched.")
        )

    again = "[...document.querySelectorAll('#detail button')].find(b => b.textContent === 'Run again with objects')"
    with JobStore.open(home / "data") as store, running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        job_id = completed(store, home, frames=3, text="", roles=("text",), warnings=[NO_OBJECTS])
        beat("text")
        browser.open(f"{sidecar.url}/#{job_id}")
        browser.wait_for("document.querySelector('#detail').innerText.includes('No objects were looked for')")
        browser.wait_for("!!document.querySelector('#lacking').textContent")
        assert browser.ask("document.querySelector('#lacking').textContent") == (
            "x is being fetched. There are no object weights, so it finds text alone. Put an Ultralytics .pt into "
            "data/models/, or run dropframe models pull yolo11n; no restart is needed."
        )
        assert not browser.ask(f"!!({again})")
        beat("objects", "text")
        browser.wait_for(f"!!({again})")
        assert browser.ask("document.querySelector('#lacking').textContent") == ""
        browser.ask(f"({again}).click()")
        browser.wait_for(f"location.hash.length === 37 && !location.hash.endsWith('{job_id}')")
        [ticket] = spool.tickets(home / "data" / "spool")
        job = ticket.to_job()
        assert (job.source_name, job.options.frame_stride) == ("match.mp4", 4)
        assert store.get(job_id).status is JobStatus.COMPLETED
        assert browser.errors == []


def completed(
    store: JobStore,
    home: Path,
    *,
    frames: int,
    text: str,
    roles: tuple[str, ...],
    warnings: Sequence[str] = (),
) -> str:
    """Add a job with its video and its result; return its id."""
    job_id = new_job_id()
    make_clip(home / "data" / input_key(job_id), frames=frames, size=(160, 120))
    found = {"bbox": [10.0, 10.0, 60.0, 40.0], "class": "ball", "class_id": 1, "confidence": 0.9}
    result = {"detections": [found], "text": text, "text_blocks": []}
    path = home / "data" / output_key(job_id)
    write_document(path, [{"frame_index": i, "result": result, "timestamp_s": i / 25} for i in range(frames)])
    models = [{"name": "any", "role": role} for role in roles]
    path.write_text(path.read_text().replace('"models": []', f'"models": {json.dumps(models)}'))
    store.create([Job(job_id, input_path=input_key(job_id), source_name="match.mp4", options=Options(4))])
    store.move(job_id, JobStatus.RUNNING)
    summary = {"detection_count": frames, "frame_count": frames, "warnings": list(warnings)}
    store.move(job_id, JobStatus.COMPLETED, output_path=output_key(job_id), summary=summary, frames_processed=frames)
    return job_id


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


def test_a_video_that_the_browser_cannot_play_says_so_and_can_be_downloaded(home: Path) -> None:
    with JobStore.open(home / "data") as store, running_sidecar(home) as sidecar, browsing(home / "profile") as browser:
        job_id = completed(store, home, frames=3, text=SENTENCE, roles=("text",))
        video = home / "data" / input_key(job_id)
        in_container(video, "avi")
        browser.open(f"{sidecar.url}/#{job_id}")
        browser.wait_for("!!document.querySelector('.unplayed a')")
        said = browser.ask("document.querySelector('.unplayed').innerText")
        assert said.startswith("This browser cannot play the video (AVI")
        assert "ffmpeg -i IN -c copy OUT.mp4" in said
        assert browser.ask("document.querySelector('.unplayed a').href").endswith(f"/v1/jobs/{job_id}/video")
        browser.wait_for(f"document.querySelector('#result table')?.innerText.includes({SENTENCE!r})")
        in_container(video, "webm")
        browser.open(f"{sidecar.url}/docs")
        browser.open(f"{sidecar.url}/#{job_id}")
        browser.wait_for("document.querySelector('#result video')?.videoWidth === 160")
        video.unlink()
        browser.open(f"{sidecar.url}/docs")
        browser.open(f"{sidecar.url}/#{job_id}")
        browser.wait_for("document.querySelector('.unplayed')?.innerText === 'The video has been deleted.'")
        assert browser.errors == []
