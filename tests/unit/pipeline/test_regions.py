"""Regions: RapidOCR's detector finds lines of text, one box each."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from daemon.pipeline.inference import cpu_capabilities
from daemon.pipeline.models import file_sha256
from daemon.pipeline.records import Box, Image, VideoInfo
from daemon.pipeline.regions import RapidOcrRegions, rapidocr_models

HD = VideoInfo(codec="h264", width=1280, height=720, fps=25.0, duration_s=None, frame_count=None)
LINES = {"HOME 2 - 1 AWAY": (60, 80), "BREAKING NEWS": (320, 660)}


def frame(lines: dict[str, tuple[int, int]]) -> Image:
    """Draw lines of text at places over a gradient."""
    ramp = np.linspace(40, 120, 1280, dtype=np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (720, 1280, 3)))
    for text, place in lines.items():
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3, cv2.LINE_AA)
    return image


def drawn_box(text: str, place: tuple[int, int]) -> Box:
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.5, 3)
    return (place[0], place[1] - height, place[0] + width, place[1] + below)


def overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    return both / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - both)


@pytest.fixture(scope="module")
def finder() -> RapidOcrRegions:
    return RapidOcrRegions(384)


def test_each_line_has_one_region(finder: RapidOcrRegions) -> None:
    (regions,) = finder([frame(LINES)])
    assert len(regions) == len(LINES)
    for text, place in LINES.items():
        (box,) = [region.box for region in regions if overlap(region.box, drawn_box(text, place)) > 0.5]
        (region,) = [region for region in regions if region.box == box]
        x1, y1 = region.quad.min(axis=0)
        x2, y2 = region.quad.max(axis=0)
        assert x1 <= box[0]
        assert x2 >= box[2]  # the reader gets the whole line
        inked = np.flatnonzero((frame({text: place}) != frame({})).any(axis=(1, 2)))
        assert y1 <= inked[0] + 1
        assert y2 >= inked[-1] - 1
        assert 0 < region.confidence <= 1


def test_a_frame_without_text_has_none_and_frames_do_not_mix(finder: RapidOcrRegions) -> None:
    empty, full = frame({}), frame(LINES)
    assert [len(regions) for regions in finder([empty, full, empty])] == [0, len(LINES), 0]
    assert [r.box for r in finder([full])[0]] == [r.box for r in finder([empty, full])[1]]
    assert finder([]) == []


@pytest.mark.parametrize("size", [(16, 16), (720, 90), (90, 720), (2160, 3840)])
def test_frames_of_any_size_are_taken(finder: RapidOcrRegions, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)
    (regions,) = finder([noise])
    assert all(np.isfinite(region.quad).all() for region in regions)


def test_models_name_the_finder(finder: RapidOcrRegions) -> None:
    model = finder.model(HD)
    assert (model.name, model.role, model.imgsz) == ("PP-OCRv6_det_small", "text_regions", [576, 1024])
    assert model.sha256 == file_sha256(rapidocr_models()[0])


@pytest.mark.skipif("BF16" not in cpu_capabilities(), reason="this processor does not compute in bf16")
def test_half_precision_is_named_and_hardly_moves_a_line() -> None:
    half, full = RapidOcrRegions(384, half=True), RapidOcrRegions(384)
    assert full.model(HD).precision == "fp32"
    assert half.model(HD).precision == "bf16"
    for one, other in zip(half([frame(LINES)])[0], full([frame(LINES)])[0], strict=True):
        assert overlap(one.box, other.box) > 0.95
