"""Regions: the detector in the box finds lines of text, one box each, and is loaded like any other weights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from daemon.pipeline.inference import cpu_capabilities
from daemon.pipeline.models import bundled_weights, load_checkpoint
from daemon.pipeline.records import Box, Detection, Image, VideoInfo
from daemon.pipeline.regions import (
    RapidOcrRegions,
    RegionFinder,
    YoloRegions,
    load_finder,
    one_box_a_line,
)
from daemon.settings import Settings

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
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.load(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def yolo(settings: Settings) -> YoloRegions:
    return YoloRegions.load(settings, "cpu")


@pytest.fixture(scope="module", params=["yolo", "rapidocr"])
def finder(request: pytest.FixtureRequest, yolo: YoloRegions) -> RegionFinder:
    return yolo if request.param == "yolo" else RapidOcrRegions(384)


def test_each_line_has_one_region(finder: RegionFinder) -> None:
    (regions,) = finder([frame(LINES)])
    assert len(regions) == len(LINES)
    for text, place in LINES.items():
        (box,) = [region.box for region in regions if overlap(region.box, drawn_box(text, place)) > 0.5]
        (region,) = [region for region in regions if region.box == box]
        x1, y1 = region.quad.min(axis=0)
        x2, y2 = region.quad.max(axis=0)
        assert x1 <= box[0]
        assert x2 >= box[2]  # the reader gets the whole line
        assert y2 - y1 >= box[3] - box[1] - 1
        assert 0 < region.confidence <= 1


def test_a_frame_without_text_has_none_and_frames_do_not_mix(finder: RegionFinder) -> None:
    empty, full = frame({}), frame(LINES)
    assert [len(regions) for regions in finder([empty, full, empty])] == [0, len(LINES), 0]
    assert [r.box for r in finder([full])[0]] == [r.box for r in finder([empty, full])[1]]
    assert finder([]) == []


@pytest.mark.parametrize("size", [(16, 16), (720, 90), (90, 720), (2160, 3840)])
def test_frames_of_any_size_are_taken(finder: RegionFinder, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)
    (regions,) = finder([noise])
    assert all(np.isfinite(region.quad).all() for region in regions)


def test_the_weights_in_the_box_are_small_safe_to_load_and_know_one_class() -> None:
    weights = bundled_weights()
    assert weights.path.stat().st_size < 4_000_000
    assert load_checkpoint(weights).names == {0: "text"}


def test_models_name_the_finder(yolo: YoloRegions) -> None:
    model = yolo.model(HD)
    assert (model.name, model.role, model.imgsz) == ("dropframe-text", "text_regions", [384, 640])
    assert model.sha256 == bundled_weights().sha256


def test_half_precision_is_named_and_hardly_moves_a_line() -> None:
    half, full = RapidOcrRegions(384), RapidOcrRegions(384, half=False)
    assert full.model(HD).precision == "fp32"
    assert half.model(HD).precision == ("bf16" if "BF16" in cpu_capabilities() else "fp32")
    for one, other in zip(half([frame(LINES)])[0], full([frame(LINES)])[0], strict=True):
        assert overlap(one.box, other.box) > 0.95


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("auto", RapidOcrRegions),
        ("yolo", YoloRegions),
        ("rapidocr", RapidOcrRegions),
    ],
)
def test_the_setting_chooses(settings: Settings, setting: str, expected: type) -> None:
    chosen = Settings.load(home=settings.home, text_regions=setting)
    assert isinstance(load_finder(chosen, "cpu"), expected)


def boxes(*places: Box) -> list[Detection]:
    return [Detection(place, "text", 0, 0.9 - number / 100) for number, place in enumerate(places)]


def test_pieces_of_a_line_become_one() -> None:
    (line,) = one_box_a_line(boxes((0, 0, 60, 10), (50, 1, 120, 11), (110, 0, 200, 10)))
    assert line.box == (0, 0, 200, 11)
    assert line.confidence == pytest.approx(0.9)


def test_lines_beside_and_below_each_other_stay_apart() -> None:
    apart = boxes((0, 0, 60, 10), (70, 0, 120, 10), (0, 9, 60, 19), (0, 0, 30, 40))
    assert [region.box for region in one_box_a_line(apart)] == [each.box for each in apart]
