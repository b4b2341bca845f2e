"""Lanes, plots, lists and addresses of the page's viewer, compared with the documents that they are made from."""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from daemon.derive.files import folder_of
from daemon.jobs import output_key
from tests.browser import Browser, browsing
from tests.clips import make_clip
from tests.derived_documents import frame, write_document
from tests.page_home import add_completed, make_folders
from tests.sidecar_process import running_sidecar
from tests.viewer_page import open_viewer, wait_for_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.needs("chromium")]

FRAMES = 100
LISTED = """[...document.querySelectorAll('.row-item')].map((row) => [...row.children].map((one) => one.textContent))"""


def time_of(number: int) -> float:
    """Two frames a second, then twenty-five."""
    return round(number * 0.5 if number < 10 else 5 + (number - 10) * 0.04, 6)


def objects_of(number: int) -> list[dict[str, Any]]:
    x = 10.0 + number
    found = [{"bbox": [x, 10.0, x + 60, 70.0], "class": "cat", "class_id": 15, "confidence": 0.9}]
    if 40 <= number < 80:
        found.append({"bbox": [200.0, 90.0, 280.0, 170.0], "class": "dog", "class_id": 16, "confidence": 0.62})
    if 60 <= number < 70:
        found.append({"bbox": [100.0, 90.0, 170.0, 150.0], "class": "dog", "class_id": 16, "confidence": 0.41})
    return found if number >= 5 else []


def texts_of(number: int) -> list[dict[str, Any]]:
    words = "GATE B12" if number < 50 else "GATE C7" if number < 70 else ""
    lines = [{"bbox": [20.0, 130.0, 120.0, 150.0], "confidence": 0.98, "text": words}] if words else []
    return [*lines, {"bbox": [200.0, 10.0, 300.0, 30.0], "confidence": 0.7, "text": "DEPARTURES"}]


@dataclass
class Opened:
    """A job in a browser, and its documents."""

    home: Path
    url: str
    browser: Browser
    job_id: str
    other_id: str

    def derived(self, kind: str) -> Any:
        return json.loads((folder_of(self.home / "data", self.job_id) / f"{kind}.json").read_text())[kind]

    @property
    def frames(self) -> list[Any]:
        found: list[Any] = json.loads((self.home / "data" / output_key(self.job_id)).read_text())["results"]
        return found

    def show(self, query: str = "") -> None:
        open_viewer(self.browser, self.url, self.job_id, query)
        wait_for_picture(self.browser)
        self.browser.wait_for("viewer.watch.texts.complete && viewer.watch.objects.rows.get('dog')?.n > 0")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    home = make_folders(tmp_path_factory.mktemp("numbers") / "home")
    records = [frame(n, time_of(n), texts_of(n), objects_of(n)) for n in range(FRAMES)]
    size = {"width": 320, "height": 180, "duration_s": time_of(FRAMES)}
    document = write_document(home / "document.json", records, video=size)
    times = tuple(time_of(n) for n in range(FRAMES))
    clip = make_clip(home / "clip.mp4", frames=FRAMES, size=(320, 180), pts_seconds=times)
    job_id = add_completed(home, document=document, video=clip, name="gate.mp4")
    other_id = add_completed(home, document=document, video=clip, name="other.mp4", is_derived=False)
    with running_sidecar(home) as sidecar, browsing(home / "profile", (1400, 1000)) as browser:
        yield Opened(home, sidecar.url, browser, job_id, other_id)


def test_lanes_plots_and_lists_have_the_numbers_of_the_documents(opened: Opened) -> None:
    opened.show()
    browser, density, tracks = opened.browser, opened.derived("density"), opened.derived("tracks")
    found = [one["class"] for record in opened.frames for one in record["result"]["detections"]]
    names = browser.ask("[...document.querySelectorAll('.lane-name')].map((one) => one.innerText.split(/\\s+/))")
    lines = sum(len(record["result"]["text_blocks"]) for record in opened.frames)
    assert names == [["cat", str(found.count("cat"))], ["dog", str(found.count("dog"))], ["text", str(lines)]]

    bars = browser.ask("viewer.watch.lanes.lanes.map(({name, bars}) => [name, bars.map((b) => [b.start_s, b.end_s])])")
    spans = [[span["start_s"], span["end_s"]] for span in opened.derived("texts")]
    of = {name: [[t["start_s"], t["end_s"]] for t in tracks if t["class"] == name] for name in ("cat", "dog")}
    assert bars == [["cat", of["cat"]], ["dog", of["dog"]], ["text", spans]]
    painted = """((time) => viewer.watch.lanes.lanes.map(({canvas}) => canvas.getContext("2d")
      .getImageData(Math.floor(time / viewer.watch.lanes.duration * canvas.width), 4, 1, 1).data[3] > 0))"""
    for time in (1.0, 5.5, 7.5, 8.4):
        wanted = [any(a <= time < b for a, b in of_lane) for _, of_lane in bars]
        assert browser.ask(f"{painted}({time})") == wanted, time

    places = [n for n, count in enumerate(density["frames"]) if count]
    columns = browser.ask("viewer.watch.plots.chart.data.map((column) => [...column])")
    assert columns[0][:-1] == [round(n * density["bucket_s"], 6) for n in places]
    for name, column in zip(("cat", "dog"), columns[1:], strict=True):
        means = [round(density["objects"][name][n] / density["frames"][n], 6) for n in places]
        assert column[:-1] == pytest.approx(means)
    steps = [0] * 20
    for record in opened.frames:
        for one in record["result"]["detections"]:
            steps[int(one["confidence"] * 20 + 1e-9)] += 1
    browser.ask("document.querySelector('#tab-objects').click()")
    assert browser.wait_for("viewer.watch.plots.bars?.data[1]") == steps
    said = browser.ask("[...document.querySelectorAll('.objects-list p')].map((one) => one.innerText)")
    counted = [sum(t["class"] == name for t in tracks) for name in ("cat", "dog")]
    plural = ["track" if n == 1 else "tracks" for n in counted]
    assert said == [
        f"in 95 of 100 frames, up to 1 at once; {counted[0]} {plural[0]}",
        f"in 40 of 100 frames, up to 2 at once; {counted[1]} {plural[1]}",
    ]


def test_the_plot_tells_how_many_are_in_the_picture_and_the_mean_under_the_pointer(opened: Opened) -> None:
    opened.show()
    browser = opened.browser
    told = "document.querySelector('.legend').innerText.split(/\\s+/).slice(1)"
    for number in (3, 6, 39, 40, 59, 60, 69, 70, 79, 80):
        browser.ask(f"viewer.watch.player.seek({time_of(number) + 0.01})")
        browser.wait_for(f"viewer.watch.player.canvas.dataset.frame === '{number}'")
        classes = [one["class"] for one in objects_of(number)]
        wanted = ["cat", str(classes.count("cat")), "dog", str(classes.count("dog"))]
        browser.wait_for(f"({told}).join() === {','.join(wanted)!r}", 10)
    x, y = browser.ask(
        "(({x, y, width}) => [x + width / 2, y + 20])(document.querySelector('.u-over').getBoundingClientRect())"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.wait_for("document.querySelector('.legend').innerText.includes('mean')", 10)
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    browser.wait_for("!document.querySelector('.legend').innerText.includes('mean')", 10)
    assert browser.errors == []


def test_the_first_click_into_a_list_goes_to_the_text(opened: Opened) -> None:
    opened.show()
    browser = opened.browser
    wanted = browser.wait_for("viewer.watch.texts.list.items[2]?.start_s")
    x, y = browser.ask(
        "(({x, y}) => [x + 20, y + 10])(document.querySelector('[data-place=\"2\"]').getBoundingClientRect())"
    )
    browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    browser.ask("new Promise(requestAnimationFrame)")
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)
    browser.wait_for(f"Math.abs(viewer.watch.player.time - {wanted}) < 0.05", 10)
    assert browser.errors == []


def test_a_job_that_was_left_writes_nothing_into_the_address_of_the_next(opened: Opened) -> None:
    opened.show("t=5")
    browser = opened.browser
    browser.ask(f"window.left = viewer.watch; address.go('{opened.other_id}')")
    browser.wait_for(f"viewer.job?.job_id === '{opened.other_id}'")
    wait_for_picture(browser)
    assert browser.ask("(left.begun(), left.moved(6.5), address.get('t'))") is None
    assert browser.errors == []


def test_texts_are_listed_with_their_times_and_found(opened: Opened) -> None:
    opened.show()
    browser, spans = opened.browser, opened.derived("texts")
    listed = browser.ask(LISTED)
    assert [row[1] for row in listed] == [span["text"] for span in spans]
    assert [row[2] for row in listed] == [f"{span['end_s'] - span['start_s']:.1f} s" for span in spans]
    browser.ask("document.querySelector('#tab-text').click()")
    browser.press("f")
    for letter in "gate c":
        browser.press(letter)
    browser.wait_for("document.querySelectorAll('.row-item').length === 1")
    assert browser.ask("[...document.querySelectorAll('.row-item mark')].map((one) => one.textContent)") == [
        "GATE",
        "C",
    ]
    assert browser.ask("document.querySelector('.texts .note').textContent") == f"1 of {len(spans)} texts"
    browser.press("Enter")
    start = next(span["start_s"] for span in spans if span["text"] == "GATE C7")
    browser.wait_for(f"Math.abs(viewer.watch.player.time - {start}) < 0.002")
    browser.wait_for("location.hash.includes('q=gate+c')")
    assert browser.ask("document.activeElement.getAttribute('role')") == "listbox"


def test_a_link_shows_the_same_picture_and_back_leads_to_it(opened: Opened) -> None:
    browser = opened.browser
    seen = """(({job, watch}) => JSON.stringify([
      job.job_id, watch.player.canvas.dataset.frame, [...watch.view.classes], watch.view.confidence,
      document.querySelector("input[type=range]").value, watch.texts.find.value, watch.view.boxes, watch.view.text,
      watch.view.span, watch.plots.chart.scales.x.min, document.querySelector("[role=tab][aria-selected=true]").id,
    ]))(viewer)"""
    query = "t=6.24&class=dog&conf=0.5&q=gate&text=0&from=5&to=8&tab=objects"
    opened.show(query)
    browser.wait_for("viewer.watch.player.canvas.dataset.frame === '41'")
    first = json.loads(browser.ask(seen))
    assert first == [opened.job_id, "41", ["dog"], 0.5, "0.5", "gate", True, False, [5, 8], 5, "tab-objects"]

    browser.press(".")
    browser.wait_for("location.hash.includes('t=6.28')")
    browser.press("b")
    browser.press("t")
    browser.press("+")
    browser.press("z")
    browser.wait_for("location.hash.includes('boxes=0') && location.hash.includes('conf=0.55')")
    assert not browser.ask("/text=0|from=/.test(location.hash)")
    here, told = browser.ask("address.link"), json.loads(browser.ask(seen))
    browser.ask(f"address.go('{opened.other_id}')")
    browser.wait_for(f"viewer.job?.job_id === '{opened.other_id}'")
    browser.ask("history.back()")
    browser.wait_for(f"viewer.job?.job_id === '{opened.job_id}' && !!viewer.watch.plots.chart")
    browser.wait_for("viewer.watch.player.canvas.dataset.frame === '42'")
    assert (browser.ask("location.href"), json.loads(browser.ask(seen))) == (here, told)
    browser.ask("history.forward()")
    browser.wait_for(f"viewer.job?.job_id === '{opened.other_id}'")
    browser.ask(f"location.hash = '#{opened.job_id}'")  # as addresses were before
    browser.wait_for(f"viewer.job?.job_id === '{opened.job_id}' && location.hash.startsWith('#/job/')")
    assert browser.errors == []


FRAMES_AT = """(async (all, goals, more) => {
  const { Frames } = await import("/page/frames.js");
  const get = async (path) => {
    const query = new URLSearchParams(path.split("?")[1]);
    const [time, index] = [Number(query.get("from_s") ?? 0), Number(query.get("from_frame") ?? 0)];
    const first = all.findIndex((one) => one.timestamp_s >= time && one.frame_index >= index);
    const from = first < 0 ? all.length : first, to = from + Number(query.get("limit"));
    return { ...more, results: all.slice(from, to), next_frame: all[to]?.frame_index ?? null };
  };
  const found = [];
  for (const goal of goals) {
    const frames = new Frames({ get }, "x"), other = goals[(found.length * 7) % goals.length];
    await frames.want(other);
    await frames.want(goal);
    const inside = await frames.inside(goal);
    const [before, after] = [await frames.step(goal, -1), await frames.step(goal, 1)];
    const index = (frame) => frame && frame.frame_index;
    found.push([index(frames.at(goal)), index(frames.at(inside)), index(before), index(after)]);
  }
  return found;
})"""


@pytest.mark.parametrize("stride", [1, 3])
def test_the_frame_of_a_time_is_found_across_blocks_at_any_rate(opened: Opened, stride: int) -> None:
    chance = random.Random(stride)
    times = [round(time, 6) for time in accumulate(chance.choice((0.01, 0.04, 1.7)) for _ in range(700))]
    records = [frame(n * stride, time, [], []) for n, time in enumerate(times)]
    goals = [0.0, *(chance.choice(times) + chance.choice((0.0, 0.005, 1.0)) for _ in range(60)), times[-1] + 5]
    more = {"options": {"frame_stride": stride}, "summary": {"frame_count": 700}, "video": {"fps": 25}}
    opened.show()
    found = opened.browser.ask(f"{FRAMES_AT}({json.dumps(records)}, {json.dumps(goals)}, {json.dumps(more)})")
    for goal, (at, at_inside, before, after) in zip(goals, found, strict=True):
        place = bisect_right(times, goal + 0.002) - 1
        if place < 0:
            assert (at, before, after) == (None, None, 0)
            continue
        assert at == at_inside == place * stride, goal
        assert after == ((place + 1) * stride if place < 699 else None)
        between = stride > 1 and goal - times[place] > 0.004  # where a step back leads to the frame of the boxes
        assert before == (place * stride if between else (place - 1) * stride if place else None)


def test_lanes_and_plots_show_a_part_of_the_time_and_the_whole_again(opened: Opened) -> None:
    opened.show("t=5")
    browser = opened.browser
    span = "[viewer.watch.plots.chart.scales.x.min, viewer.watch.plots.chart.scales.x.max, ...viewer.watch.lanes.span]"
    browser.ask("document.querySelector('.zooms [aria-label=\"Zoom in\"]').click()")
    browser.wait_for(f"({span})[0] > 1")
    from_s, to_s, *of_lanes = browser.ask(span)
    assert [from_s, to_s] == of_lanes == pytest.approx([5 - time_of(FRAMES) / 4, 5 + time_of(FRAMES) / 4])
    heads = browser.ask("[...document.querySelectorAll('.head')].map((one) => one.getBoundingClientRect().x)")
    assert abs(heads[0] - heads[1]) < 1.5  # one above the other
    x, y, width = browser.ask(
        "(({x, y, width}) => [x, y, width])(document.querySelector('.time-slider').getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x + width / 4, y=y + 10, button="left", clickCount=1)
    wanted = from_s + (to_s - from_s) / 4
    browser.wait_for(f"Math.abs(viewer.watch.player.time - {wanted}) < 0.5")
    browser.press("z")
    browser.wait_for(f"({span})[0] === 0")
    assert browser.errors == []


def test_each_key_does_what_the_list_of_keys_says(opened: Opened) -> None:
    opened.show("t=1")
    browser = opened.browser
    now = "viewer.watch.player.time"
    later = next(span["start_s"] for span in opened.derived("texts") if span["start_s"] > 0)
    steps: list[tuple[str, str]] = [
        (".", f"Math.abs({now} - 1.5) < 0.002"),
        (",", f"Math.abs({now} - 1) < 0.002"),
        ("ArrowRight", f"Math.abs({now} - 2) < 0.002"),
        ("ArrowLeft", f"Math.abs({now} - 1) < 0.002"),
        ("End", f"{now} > 8.5"),
        ("Home", f"{now} === 0"),
        ("]", f"Math.abs({now} - {later}) < 0.002"),
        ("[", f"{now} === 0"),
        ("n", f"Math.abs({now} - {later}) < 0.002"),
        ("p", f"{now} === 0"),
        ("2", "[...viewer.watch.view.classes].join() === 'dog'"),
        ("}", f"Math.abs({now} - {time_of(40)}) < 0.002"),
        ("2", "viewer.watch.view.classes.size === 0"),
        ("{", f"Math.abs({now} - {time_of(5)}) < 0.002"),
        ("N", f"Math.abs({now} - {time_of(40)}) < 0.002"),
        ("P", f"Math.abs({now} - {time_of(5)}) < 0.002"),
        ("b", "!viewer.watch.view.boxes"),
        ("t", "!viewer.watch.view.text"),
        ("+", "viewer.watch.view.confidence === 0.05"),
        ("-", "viewer.watch.view.confidence === 0"),
        (">", "viewer.watch.player.video.playbackRate === 1.5"),
        ("<", "viewer.watch.player.video.playbackRate === 1"),
        ("m", "viewer.watch.player.video.muted"),
        ("d", "!document.querySelector('#downloads').hidden"),
        ("Escape", "document.querySelector('#downloads').hidden"),
        ("k", "viewer.watch.player.playing"),
        ("k", "!viewer.watch.player.playing"),
        ("?", "document.querySelector('dialog.keys').open"),
        ("b", "!viewer.watch.view.boxes"),  # nothing happens behind the dialogue
        ("Escape", "!document.querySelector('dialog.keys').open"),
        ("f", "document.activeElement === viewer.watch.texts.find"),
        ("b", "viewer.watch.texts.find.value === 'b' && !viewer.watch.view.boxes"),
    ]
    browser.ask("document.querySelector('.viewer-name').focus()")
    for key, wanted in steps:
        browser.press(key, shift=key.isupper())
        browser.wait_for(wanted, 20)
    browser.ask("window.asked = 0; document.addEventListener('search', () => { window.asked += 1; })")
    browser.ask("viewer.watch.texts.find.blur()")
    browser.press("/")
    browser.wait_for("window.asked === 1")
    assert browser.errors == []


@pytest.mark.parametrize("modifiers", [3, 1])
def test_brackets_are_typed_with_altgr_or_option_on_many_keyboards(opened: Opened, modifiers: int) -> None:
    opened.show("t=1")
    browser = opened.browser
    later = next(span["start_s"] for span in opened.derived("texts") if span["start_s"] > 0)
    for key, wanted in (("]", later), ("[", 0), ("}", time_of(5))):
        about = {"key": key, "code": "Digit9", "modifiers": modifiers}
        browser.call("Input.dispatchKeyEvent", type="keyDown", **about)
        browser.call("Input.dispatchKeyEvent", type="keyUp", **about)
        browser.wait_for(f"Math.abs(viewer.watch.player.time - {wanted}) < 0.002", 20)
    browser.ask("document.querySelector('[aria-label=\"Next text\"]').click()")
    browser.wait_for(f"Math.abs(viewer.watch.player.time - {later}) < 0.002", 20)
    browser.ask("document.querySelector('[aria-label=\"Previous text\"]').click()")
    browser.wait_for("viewer.watch.player.time === 0", 20)
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="b", code="KeyB", modifiers=modifiers)
    assert browser.ask("viewer.watch.view.boxes")  # Alt with a letter is the browser's


def test_a_link_that_is_copied_while_it_plays_leads_to_the_picture_of_that_moment(opened: Opened) -> None:
    opened.show("t=5")
    browser = opened.browser
    writes = "{writeText: async (text) => { window.copied = text; }}"
    browser.ask(f"Object.defineProperty(navigator, 'clipboard', {{value: {writes}}}), viewer.watch.player.toggle()")
    browser.ask("viewer.watch.noted = Infinity, 0")  # the address stays as it is while it plays
    browser.wait_for("viewer.watch.player.time > 5.3")
    at = "(([link, at]) => [Number(new URLSearchParams(link.split('?')[1]).get('t')), at])"
    link, time, label = browser.ask(
        f"viewer.copyLink().then(() => [...{at}([copied, viewer.watch.player.goal]),"
        " document.querySelector('.tools').innerText])"
    )
    assert abs(link - time) < 0.2
    assert "Copied" in label


def test_a_second_on_or_back_leaves_a_picture_that_lasts_longer(opened: Opened) -> None:
    shown = (0.0, 0.5, 1.0, 4.0, 4.5)
    clip = make_clip(opened.home / "long.mp4", frames=5, size=(320, 180), pts_seconds=shown)
    records = [frame(n, time, [], []) for n, time in enumerate(shown)]
    document = write_document(opened.home / "long.json", records, video={"width": 320, "height": 180})
    job_id = add_completed(opened.home, document=document, video=clip, is_derived=False)
    browser, number = opened.browser, "document.querySelector('.stage canvas').dataset.frame"
    open_viewer(browser, opened.url, job_id, "t=1")
    browser.wait_for(f"{number} === '2'")
    for key, wanted in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowRight", 4), ("ArrowLeft", 3), ("ArrowLeft", 2)):
        browser.press(key)
        browser.wait_for(f"!viewer.watch.player.seeking && Math.abs(viewer.watch.player.goal - {wanted}) < 0.01", 20)
    assert browser.ask(number) == "2"
    browser.press("ArrowRight", "ArrowRight")
    browser.wait_for(f"{number} === '3'", 20)
    browser.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
    browser.wait_for(f"{number} === '2' && location.hash.includes('t=1')", 20)
    browser.press("ArrowLeft")
    browser.wait_for(f"{number} === '0'", 20)
    assert browser.errors == []


def test_focus_stays_where_it_is_when_news_of_the_job_comes(opened: Opened) -> None:
    opened.show()
    browser = opened.browser
    browser.ask("document.querySelectorAll('.lane-name')[1].focus()")
    browser.ask("viewer.update({...viewer.job, updated_at: '2100-01-01T00:00:00+00:00'})")
    assert browser.ask("document.activeElement.innerText.startsWith('dog')")
    browser.press("Enter")
    browser.wait_for("[...viewer.watch.view.classes].join() === 'dog'")
    assert browser.ask("document.activeElement.getAttribute('aria-pressed')") == "true"
    browser.ask("viewer.render(viewer.job)")  # as when it is completed: what had the focus is not there any more
    assert browser.ask("document.activeElement.className") == "viewer-name"
