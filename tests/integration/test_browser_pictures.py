"""What is analysed is what a browser shows: size and colours of the same frame in Chromium and in the pipeline."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from daemon.container_checks import HEAD_BYTES
from daemon.containers import media_type
from daemon.pipeline.video import Video
from daemon.pipeline.video_limits import Limits
from tests.browser import Browser, browsing
from tests.clips import make_clip
from tests.container_clips import in_container
from tests.odd_clips import encode, moving, patches, set_matrix

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]

GRID = (16, 12)
"""Fields across and down whose mean colours are compared."""
SHOWN = """(async () => {
  const video = document.createElement("video");
  video.muted = true;
  video.src = "/NAME";
  await new Promise((there, failed) => { video.onloadeddata = there; video.onerror = () => failed(video.error); });
  const [across, down] = [ACROSS, DOWN], [width, height] = [video.videoWidth, video.videoHeight];
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  const data = pen.getImageData(0, 0, width, height).data;
  const sums = Array.from({ length: across * down }, () => [0, 0, 0, 0]);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const sum = sums[Math.floor(y * down / height) * across + Math.floor(x * across / width)];
    for (let c = 0; c < 3; c++) sum[c] += data[4 * (y * width + x) + c];
    sum[3] += 1;
  }
  return [width, height, sums.map(([r, g, b, n]) => [r / n, g / n, b / n])];
})()"""

PAUSES = (0, 0.2, 1, 3, 5)
"""Seconds before each picture that is asked for: on a busy machine Chromium now and then gives a black one."""

CLIPS: dict[str, Callable[[Path], object]] = {
    "plain.mp4": lambda path: make_clip(path),
    "older.mov": lambda path: encode(path, moving(3)),
    "turned.mp4": lambda path: make_clip(path, rotation=90),
    "upside down.mp4": lambda path: make_clip(path, rotation=180),
    "mirrored.mp4": lambda path: set_matrix(make_clip(path), -1, 0, 0, 1),
    "transposed.mp4": lambda path: set_matrix(make_clip(path), 0, 1, 1, 0),
    "wide pixels.mp4": lambda path: encode(path, moving(3, (360, 288)), aspect=Fraction(64, 45)),
    "narrow pixels.mp4": lambda path: encode(path, moving(3, (360, 288)), aspect=Fraction(8, 9)),
    "vp8.webm": lambda path: in_container(path, "webm"),
    "vp9.webm": lambda path: in_container(path, "vp9.webm"),
    "vp9 hd.webm": lambda path: in_container(path, "vp9.webm", pictures=[patches((1280, 720))] * 3),
    "h264.mkv": lambda path: in_container(path, "mkv", sound=True),
    "hd.mp4": lambda path: encode(path, [patches((1280, 720))] * 3),
    "hd in portrait.mp4": lambda path: make_clip(path, size=(1280, 720), rotation=90, frames=3),
    "nearly hd.mp4": lambda path: encode(path, [patches((1280, 718))] * 3),
    "full hd.mp4": lambda path: encode(path, [patches((1440, 1080))] * 3, aspect=Fraction(4, 3)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    (folder / "page.html").write_text("<title>clips</title>")
    for name, make in CLIPS.items():
        make(folder / name)
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """Gives clips the media type that the sidecar gives them."""

    def guess_type(self, path: Any) -> str:
        if str(path).endswith(".html"):
            return "text/html"
        with Path(path).open("rb") as file:
            return media_type(file.read(HEAD_BYTES))

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def browser(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with browsing(tmp_path_factory.mktemp("browser") / "profile") as browser:
            browser.open(f"http://127.0.0.1:{server.server_port}/page.html")
            yield browser
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("name", CLIPS)
def test_the_picture_that_is_analysed_is_the_one_that_a_browser_shows(
    browser: Browser, folder: Path, name: str
) -> None:
    video = Video(folder / name, Limits(containers="all"))
    ours = next(iter(video.frames(max_frames=1))).image
    video.close()
    script = SHOWN.replace("ACROSS, DOWN", f"{GRID[0]}, {GRID[1]}").replace("NAME", name.replace(" ", "%20"))
    small = cv2.resize(ours, GRID, interpolation=cv2.INTER_AREA)[..., ::-1].astype(float)
    for pause in PAUSES:
        time.sleep(pause)
        width, height, fields = browser.ask(script)
        assert (width, height) == (video.info.width, video.info.height)
        shown = np.array(fields).reshape(GRID[1], GRID[0], 3)
        difference = np.abs(shown - small)
        if difference.mean() < 4:
            break
    assert difference.mean() < 4, difference.mean()
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        # Its software conversion of BT.709 loses a little of the strongest blue.
        assert difference[row, column].max() < 14, (name, row, column, shown[row, column], small[row, column])
