"""Languages of text, from the video to the result."""

# ruff: noqa: RUF001 - letters that look alike are what this is about

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from daemon.errors import Interrupted
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings
from tests import programs

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
LINES = ["Последние новости", "МОСКВА", "Emergency exit 24"]
SCHEMA = Path(__file__).parents[2] / "docs" / "results.schema.json"
FRAMES = 4


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Write a video of a few frames with lines in two scripts."""
    programs.skip_without("fonts-dejavu-core")
    page = Image.new("RGB", (640, 360), (38, 44, 52))
    for number, line in enumerate(LINES):
        ImageDraw.Draw(page).text((40, 40 + 100 * number), line, font=ImageFont.truetype(FONT, 40), fill="white")
    path = tmp_path / "page.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(page), format="rgb24")))
        container.mux(stream.encode())
    return path


def service(home: Path, *languages: str) -> VideoFilePipelineService:
    return VideoFilePipelineService(
        Settings.load(
            home=home,
            device="cpu",
            text_languages=list(languages),
            segment_frames=2,
        )
    )


def result_of(clip: Path) -> Any:
    document = json.loads(clip.with_name("page.mp4.json").read_text())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    return document


def test_text_in_letters_that_are_not_read_is_told_in_the_summary(clip: Path, tmp_path: Path) -> None:
    service(tmp_path, "en").run_on_file(clip, "ocr_only")
    summary = result_of(clip)["summary"]
    assert summary["frames_letters_unread"] == FRAMES
    assert summary["warnings"] == [
        "Text in letters that are not read was seen in 4 frames; set text_languages to the languages of the video, "
        "unless its text is mirrored (docs/text-languages.md)."
    ]


@pytest.mark.slow
def test_a_result_of_other_languages_is_not_gone_on_with(clip: Path, tmp_path: Path) -> None:
    programs.skip_without("tesseract", "tesseract-ocr-rus")
    checkpoint = clip.with_name("page.mp4.json.checkpoint")
    with pytest.raises(Interrupted):
        service(tmp_path, "en").run_on_file(clip, "ocr_only", should_stop=checkpoint.exists)
    assert json.loads(checkpoint.read_text())["summary"]["frames_letters_unread"] == 2
    service(tmp_path, "en", "ru").run_on_file(clip, "ocr_only")
    document = result_of(clip)
    assert [frame["result"]["text"].splitlines() for frame in document["results"]] == [LINES] * FRAMES
    assert [model["name"].split("-")[-1] for model in document["models"] if model["role"] == "text"] == [
        "OCRv6_rec_small",
        "rus",
        "eng",
    ]
    assert "frames_letters_unread" not in document["summary"]
    assert document["summary"]["warnings"] == []
