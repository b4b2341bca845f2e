"""Every door takes and refuses the same videos and the same options, and says why in the same sentences."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from daemon.cli import main
from daemon.errors import DropframeError
from tests.clips import make_clip
from tests.container_clips import in_container
from tests.integration.test_taking_in import Taker
from tests.odd_clips import boxes
from tests.sidecar_process import Sidecar, running_sidecar

Verdict = str | None
"""Why a door refused, or None where it took what it was given."""
TUS = {"tus-resumable": "1.0.0"}
PIECE = {**TUS, "content-type": "application/offset+octet-stream", "upload-offset": "0"}


class Doors:
    """All doors of one home, each as a function of a video's bytes and its options."""

    def __init__(self, home: Path, sidecar: Sidecar, containers: str) -> None:
        self.home = home
        self.client = httpx.Client(base_url=sidecar.url, timeout=30)
        self.containers = containers

    def put(self, video: bytes, options: dict[str, Any]) -> Verdict:
        return _answer(self.client.put("/v1/video/submit/a.mp4", params=options, content=video))

    def form(self, video: bytes, options: dict[str, Any]) -> Verdict:
        texts = {name: str(value) for name, value in options.items()}
        return _answer(self.client.post("/v1/video/submit", data=texts, files={"file": ("a.mp4", video)}))

    def tus(self, video: bytes, options: dict[str, Any]) -> Verdict:
        pairs = [f"{name} {base64.b64encode(str(value).encode()).decode()}" for name, value in options.items()]
        headers = {**TUS, "upload-length": str(len(video)), "upload-metadata": ",".join(pairs)}
        begun = self.client.post("/v1/uploads", headers=headers)
        if begun.status_code != 201:
            return _answer(begun)
        return _answer(self.client.patch(begun.headers["location"], headers=PIECE, content=video))

    def submit(self, video: bytes, options: dict[str, Any]) -> Verdict:
        file = self.home / "a.mp4"
        file.write_bytes(video)
        flags = [part for name, value in options.items() for part in (f"--{_flag(name)}", str(value))]
        try:
            command = ["submit", *flags, str(file), "--home", str(self.home)]
            done = CliRunner().invoke(main.app, command, catch_exceptions=False)
        except DropframeError as error:
            return str(error).removeprefix("a.mp4 was not submitted. ")
        assert done.exit_code == 0, done.output
        return None

    def folder(self, video: bytes, options: dict[str, Any]) -> Verdict:
        """Drop it into an inbox of its own, where the doors before have left nothing."""
        home = self.home / f"folder-{time.monotonic_ns()}"
        times = {"settle_seconds": 0.2, "close_grace_seconds": 0, "incomplete_timeout_seconds": 0.5}
        taker = Taker(home, poll_seconds=0.1, watch="polling", containers=self.containers, **times)
        try:
            values = dict(options)
            path = taker.folder / values.pop("pipeline_id", "") / "a.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            if values:
                (path.parent / "a.mp4.options.json").write_text(json.dumps(values))
            path.write_bytes(video)
            deadline = time.monotonic() + 10
            while not taker.jobs() and not list((taker.folder / "rejected").rglob("a*.mp4")):
                assert time.monotonic() < deadline, "it was neither taken nor rejected"
                time.sleep(0.02)
            if taker.jobs():
                return None
            (note,) = (taker.folder / "rejected").rglob("a*.mp4.reason.txt")  # written before the video is moved
            return note.read_text().splitlines()[2]
        finally:
            taker.close()

    def all(self) -> list[Callable[[bytes, dict[str, Any]], Verdict]]:
        return [self.folder, self.submit, self.put, self.form, self.tus]


def _flag(name: str) -> str:
    return "pipeline" if name == "pipeline_id" else name.replace("_", "-")


def _answer(response: httpx.Response) -> Verdict:
    if response.status_code < 300:
        return None
    problem = response.json()
    return " ".join(error["message"] for error in problem.get("errors", ())) or str(problem["detail"])


@pytest.fixture(params=["mp4", "all"])
def doors(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    home = tmp_path / "home"
    monkeypatch.setenv("DROPFRAME_CONTAINERS", request.param)
    with running_sidecar(home, containers=request.param) as sidecar:
        made = Doors(home, sidecar, request.param)
        yield made
        made.client.close()


def test_every_door_judges_a_video_alike(doors: Doors, tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.mp4", frames=12)
    fast = make_clip(tmp_path / "fast.mp4", frames=12, faststart=True).read_bytes()
    video = whole.read_bytes()
    matroska = in_container(tmp_path / "a.mkv", "mkv").read_bytes()
    taken = {
        "an MP4": video,
        "one whose index comes first": fast,
        "one with a trailer of a camera": video + b"camera trailer" * 20,
        "one that ends three bytes later": video + b"abc",
        "QuickTime without ftyp": video[int.from_bytes(video[:4], "big") :],
        "one that was cut in its pictures": fast[: len(fast) * 3 // 4],
    }
    refused = {
        "text": b"These are notes and not a video." * 10,
        "a ZIP archive": b"PK\x03\x04" + bytes(500),
        "a JPEG picture": b"\xff\xd8\xff\xe0" + bytes(500),
        "an archive of nothing known": bytes(range(1, 200)) * 5,
        "one whose index was cut off": video[: len(video) - 200],
        "one that is all index": boxes((b"ftyp", b"isom\0\0\2\0isommp41")),
        "a picture": boxes((b"ftyp", b"heic\0\0\0\0heicmif1"), (b"mdat", bytes(100))),
    }
    (taken if doors.containers == "all" else refused)["Matroska"] = matroska
    for name, content in taken.items():
        assert {door.__name__: door(content, {}) for door in doors.all()} == dict.fromkeys(
            ("folder", "submit", "put", "form", "tus")
        ), name
    for name, content in refused.items():
        verdicts = {door.__name__: door(content, {}) for door in doors.all()}
        assert all(verdicts.values()), f"{name}: {verdicts}"
        said = {str(verdict).partition(" It has not grown")[0] for verdict in verdicts.values()}
        assert len(said) == 1, f"{name}: {verdicts}"


@pytest.mark.parametrize("doors", ["mp4"], indirect=True)
def test_every_door_judges_options_alike(doors: Doors, tmp_path: Path) -> None:
    video = make_clip(tmp_path / "whole.mp4", frames=3).read_bytes()
    good: list[dict[str, Any]] = [{}, {"frame_stride": 5, "max_frames": 7}, {"pipeline_id": "yolo"}]
    good += [{"exports": "csv,srt"}, {"exports": "annotated", "frame_stride": 2}]
    bad: list[dict[str, Any]] = [
        {"frame_stride": 0},
        {"frame_stride": -1},
        {"max_frames": 0},
        {"frame_stride": 10**15},
        {"frame_stride": 0, "max_frames": -5},
        {"exports": "cvs"},
        {"exports": "csv,docx", "frame_stride": 0},
    ]
    for options in good:
        assert [door(video, options) for door in doors.all()] == [None] * 5, options
    for options in bad:
        said = {(door(video, options) or "").partition(" Correct the options file")[0] for door in doors.all()}
        assert len(said) == 1, said
        assert said != {""}
    # A command has its own words for a flag that there is not, and the folder takes a name for a plain folder's.
    both = {"pipeline_id": "yollo", "frame_stride": 0}
    for options, other in (
        ({"stride": 5}, doors.submit),
        ({"pipeline_id": "yollo"}, doors.folder),
        (both, doors.folder),
    ):
        asked = [door for door in doors.all() if door != other]
        [sentence] = {(door(video, options) or "").partition(" Correct the options file")[0] for door in asked}
        assert "did you mean " in sentence
