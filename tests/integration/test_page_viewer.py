"""The page's viewer of one job in a real browser: boxes on the right picture."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.browser import Browser, browsing
from tests.numbered_clips import BITS, SIZE, analyse, even, make_numbered, uneven
from tests.page_home import add_completed, make_folders
from tests.sidecar_process import running_sidecar
from tests.viewer_page import open_viewer, wait_for_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.needs("chromium")]

PROBE = """(() => {
  const width = %d, height = %d, bits = %d;
  const pad = document.createElement("canvas");
  const pen = pad.getContext("2d", { willReadFrequently: true });
  const video = viewer.watch.player.video, drawn = document.querySelector(".stage canvas");
  [pad.width, pad.height] = [width, height];
  window.numberShown = () => { // of the canvas: the video itself lies behind it
    const scale = Math.min(drawn.width / width, drawn.height / height), wide = width * scale, high = height * scale;
    pen.drawImage(drawn, (drawn.width - wide) / 2, (drawn.height - high) / 2, wide, high, 0, 0, width, height);
    const row = pen.getImageData(0, height - 18, width, 1).data;
    let number = 0;
    for (let bit = 0; bit < bits; bit += 1) {
      if (row[4 * Math.floor(((bit + 0.5) * width) / bits)] > 128) number += 1 << bit;
    }
    return number;
  };
  window.settled = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  window.sample = () => [numberShown(), drawn.dataset.frame === "" ? null : Number(drawn.dataset.frame)];
  window.afterSeeks = async (times) => {
    const found = [];
    for (const time of times) {
      await viewer.watch.player.seek(time);
      await settled();
      found.push([time, ...sample()]);
    }
    return found;
  };
  window.afterPauses = async (least, most, ms) => {
    const found = [], began = performance.now();
    while (found.length < least || (found.length < most && performance.now() - began < ms)) {
      if (video.duration - video.currentTime < 0.5) await viewer.watch.player.seek(0);
      await video.play();
      await new Promise((wake) => setTimeout(wake, 20 + 13 * (found.length %% 9)));
      const paused = new Promise((done) => video.addEventListener("pause", done, { once: true }));
      video.pause();
      await paused;
      while (viewer.watch.player.seeking) await settled();
      await settled();
      found.push([video.currentTime, ...sample()]);
    }
    return found;
  };
})()"""


PAUSES, PAUSES_MS = (4, 20), 2000
"""Of each kind, at least and at most, and after which time there are enough."""
PAINTED, PASSES = 20, 4
"""Pictures that are judged while a clip of each kind plays, and how often it is played for them at most."""


@dataclass(frozen=True)
class Kind:
    """A clip whose frames carry their numbers."""

    times: list[float]
    more: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = SIZE


def turned_right(picture: Any) -> Any:
    return np.rot90(picture)


def narrow(picture: Any) -> Any:
    return picture[:, ::2]


KINDS = {
    "25": Kind(even(60, Fraction(25))),
    "29.97": Kind(even(72, Fraction(30000, 1001))),
    "50": Kind(even(120, Fraction(50))),
    "60": Kind(even(140, Fraction(60))),
    "2 to 30": Kind(uneven((4, 2), (45, 30))),
    "60 to 10": Kind(uneven((80, 60), (14, 10))),
    "edit list": Kind(even(75, Fraction(25)), {"edits": [(2000, round(0.6 * 12800))], "b_frames": 0}),
    "rotated": Kind(even(50, Fraction(25)), {"matrix": (0, 1, -1, 0), "to_coded": turned_right}),
    "mirrored": Kind(even(50, Fraction(25)), {"matrix": (-1, 0, 0, 1), "to_coded": lambda picture: picture[:, ::-1]}),
    "anamorphic": Kind(even(50, Fraction(25)), {"to_coded": narrow, "aspect": Fraction(2, 1)}),
}


@contextlib.contextmanager
def watching(home: Path, size: tuple[int, int] = (1280, 900)) -> Iterator[tuple[str, Browser]]:
    """Run a sidecar and a browser."""
    with running_sidecar(home) as sidecar, browsing(home / "profile", size) as browser:
        yield sidecar.url, browser


def wrong(found: list[list[Any]], numbers: dict[int, int]) -> list[list[Any]]:
    """Return the samples whose boxes are of another picture than the one that is shown."""
    return [one for one in found if one[2] is None or numbers[one[2]] != one[1]]


def outlined(screenshot: bytes) -> bool | None:
    """Tell whether the outline is around the marker in what was painted; None if there is no marker."""
    decoded = cv2.imdecode(np.frombuffer(screenshot, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    marker = cv2.inRange(decoded, (151, 0, 151), (255, 109, 255))
    if cv2.countNonZero(marker) < 100:
        return None
    left, top, width, height = cv2.boundingRect(marker)
    blue, green, red = decoded[top + (height - 1) // 2].T
    is_line = (green > 150) & (red < 130) & (blue < 180)
    edges = (left, left + width - 1)
    return all(is_line[max(0, edge - 5) : edge + 6].any() for edge in edges)


def resized(browser: Browser, goals: list[float]) -> Iterator[bool | None]:
    """Yield whether boxes are where they belong in a smaller window, and then in full screen."""
    browser.ask("viewer.watch.player.video.pause()")
    browser.call("Emulation.setDeviceMetricsOverride", width=700, height=820, deviceScaleFactor=1, mobile=False)
    for goal in goals:
        browser.ask(f"afterSeeks([{goal}])")
        yield outlined(browser.picture())
    browser.press("Enter")
    browser.wait_for("document.fullscreenElement?.contains(document.querySelector('.stage canvas'))")
    for goal in goals:
        browser.ask(f"afterSeeks([{goal}])")
        yield outlined(browser.picture())
    browser.press("Enter")
    browser.wait_for("!document.fullscreenElement")
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_boxes_are_those_of_the_picture_that_is_shown(tmp_path: Path) -> None:
    home = make_folders(tmp_path / "home")
    numbers, jobs = {}, {}
    for name, kind in KINDS.items():
        clip, document = make_numbered(tmp_path / f"{name}.mp4", kind.times, **kind.more), tmp_path / f"{name}.json"
        numbers[name] = dict(enumerate(analyse(clip, document)))
        jobs[name] = add_completed(home, document=document, video=clip, name=clip.name, is_derived=False)
    told: dict[str, Any] = {}
    shots: dict[str, list[bool | None]] = {}
    with watching(home) as (url, browser):
        for name, kind in KINDS.items():
            open_viewer(browser, url, jobs[name])
            wait_for_picture(browser)
            browser.ask(PROBE % (*kind.size, BITS))
            end = browser.ask("viewer.watch.player.video.duration")
            goals = [round(end * (n * 0.381966 % 1), 4) for n in range(1, 21)]
            sought = browser.ask(f"afterSeeks({json.dumps(goals)})")
            browser.ask("afterSeeks([0])")
            paused = browser.ask(f"afterPauses({PAUSES[0]}, {PAUSES[1]}, {PAUSES_MS})")
            played: list[bool] = []
            for _ in range(PASSES):
                browser.ask("afterSeeks([0]).then(() => viewer.watch.player.video.play()).then(() => 1)")
                played += [fits for shot in browser.screencast(end) if (fits := outlined(shot)) is not None]
                if len(played) >= PAINTED:
                    break
            told[name] = [wrong(found, numbers[name]) for found in (sought, paused)] + [played]
            if name in ("60", "rotated"):
                shots[name] = list(resized(browser, goals[:6]))
            assert browser.errors == []
    assert {name: all(fits) and len(fits) == 12 for name, fits in shots.items()} == {"60": True, "rotated": True}
    painted = [fits for _, _, played in told.values() for fits in played]
    for name, (sought, paused, _) in told.items():
        assert (sought, paused) == ([], []), name
    assert len(painted) >= len(KINDS) * PAINTED / 2
    assert painted.count(False) <= 0.02 * len(painted)
