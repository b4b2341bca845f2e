"""Lines of text at any angle: each is known again, and none is taken for the one beside it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from daemon.pipeline.changes import thumbnail
from daemon.pipeline.engines import RapidOcrReader
from daemon.pipeline.lines import Line, around, edges_moved, goes_on, line_of, same_place
from daemon.pipeline.looks import LineFinder, full_looks, together
from daemon.pipeline.moved import between, may_be_one
from daemon.pipeline.read import TextStage
from daemon.pipeline.readings import Reading
from daemon.pipeline.records import Analysis, Frame, Image
from daemon.pipeline.regions import RapidOcrRegions, Region, enclosing

SIDE = 640
TEXTS = ["FIRST LINE 1", "SECOND LINE 2", "THIRD LINE 3"]
ANGLES = [0, 12, 45, 60, 90, 135, 180, 240, 270, 300]


def placed(points: np.ndarray, angle: float) -> np.ndarray:
    """Turn places in a picture about its middle, counter-clockwise."""
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, 1)
    return np.asarray(points @ turn[:, :2].T + turn[:, 2], np.float32)


def region(left: float, top: float, right: float, bottom: float, angle: float = 0) -> Region:
    """Return what the detector gives of a line that lies so before the picture is turned: corners from the top left."""
    corners = placed(np.asarray([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32), angle)
    by_side = corners[np.argsort(corners[:, 0], kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (side[np.argsort(side[:, 1])] for side in np.split(by_side, 2))
    quad = np.asarray([top_left, top_right, bottom_right, bottom_left], np.float32)
    return Region(enclosing(quad), 0.9, quad, quad)


def page(lines: Sequence[str], angle: float, pitch: int = 60, block: int = 0) -> Image:
    """Draw lines below each other, turn them, and put a block into a corner."""
    image: Image = np.full((SIDE, SIDE, 3), 32, np.uint8)
    for number, text in enumerate(lines):
        place = (190, 320 + round((number - (len(lines) - 1) / 2) * pitch))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 1.1, (235, 235, 235), 2, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, 1)
    image = cv2.warpAffine(image, turn, (SIDE, SIDE), borderValue=(32, 32, 32))
    cv2.rectangle(image, (8 + 20 * block, 8), (48 + 20 * block, 40), (0, 80, 200), -1)
    return image


@pytest.fixture(scope="module")
def stage() -> TextStage:
    return TextStage(RapidOcrRegions(384), RapidOcrReader(), 0.5)


def read(stage: TextStage, images: Sequence[Image]) -> list[list[str]]:
    """Return the lines of frames that are each looked at, in order of the alphabet."""
    stage.new_segment()
    found = [stage([Analysis(Frame(n, n / 5, image))])[0] for n, image in enumerate(images)]
    lines = ([block.text for block in each.text_blocks if " " in block.text] for each in found)  # not the block
    return [sorted(some) for some in lines]


@pytest.mark.parametrize("angle", [45, 60, 90, 270])
def test_still_lines_beside_each_other_keep_their_texts_whichever_way_they_run(stage: TextStage, angle: int) -> None:
    images = [page(TEXTS, angle, block=number) for number in range(3)]
    first, *later = read(stage, images)
    assert first == TEXTS
    assert later == [TEXTS] * 2


@pytest.mark.parametrize("angle", [90, 240])
def test_turned_lines_that_take_each_others_places_are_read_anew(stage: TextStage, angle: int) -> None:
    turns = [TEXTS, [*TEXTS[1:], TEXTS[0]], TEXTS[:2]]
    assert read(stage, [page(some, angle, pitch=50) for some in turns]) == [sorted(some) for some in turns]


@pytest.mark.parametrize("pitch", [26, 40, 60, 100])
@pytest.mark.parametrize("angle", ANGLES)
def test_a_region_is_the_line_that_it_holds_and_not_one_beside_it(angle: int, pitch: int) -> None:
    image = page([], angle)
    now = thumbnail(image)
    regions = [region(180, 200 + n * pitch, 460, 230 + n * pitch, angle) for n in range(3)]
    known = [line_of(each, image, now, []) for each in regions]
    again = [region(182, 202 + n * pitch, 458, 231 + n * pitch, angle) for n in range(3)]
    found = [line_of(each, image, now, known) for each in again]
    assert all(line is right for line, right in zip(found, known, strict=True))
    longer = region(180, 200, 475, 230, angle)  # by a letter
    assert line_of(longer, image, now, known) not in known


@pytest.mark.parametrize("angle", ANGLES)
def test_lines_beside_each_other_are_not_one_place_whichever_way_they_run(angle: int) -> None:
    one, other = region(180, 300, 460, 330, angle), region(180, 335, 460, 365, angle)
    assert together([one], [other], lambda each: each) == [one, other]
    part, both = region(180, 300, 320, 330, angle), region(178, 298, 460, 368, angle)
    assert same_place(one, part)
    assert goes_on(one, [part])
    assert not goes_on(part, [one])
    assert not goes_on(both, [one])


@pytest.mark.parametrize("angle", ANGLES)
def test_a_line_that_moved_is_like_itself_and_not_like_a_longer_one(angle: int) -> None:
    line, further, longer = (
        Line(region(180, top, right, top + 30, angle), np.zeros(0), None)  # type: ignore[arg-type]
        for top, right in ((200, 420), (280, 420), (280, 470))
    )
    assert may_be_one(line, further)
    assert not may_be_one(line, longer)
    halfway = between((line, further), 0.5).region
    assert edges_moved(region(180, 240, 420, 270, angle), halfway) < 0.05


@pytest.mark.parametrize("angle", ANGLES)
def test_there_is_room_for_a_sign_before_a_line_whichever_way_it_runs(angle: int) -> None:
    line = Line(region(180, 300, 420, 330, angle), np.zeros(0), None)  # type: ignore[arg-type]
    sign = region(168, 312, 176, 318, angle).box
    left, top, right, bottom = around([line])
    assert left <= sign[0]
    assert top <= sign[1]
    assert right >= sign[2]
    assert bottom >= sign[3]


@pytest.mark.parametrize("angle", [0, 30, 60, 90, 180, 270, 330])
def test_turned_lines_are_given_in_the_order_in_which_they_are_read(stage: TextStage, angle: int) -> None:
    stage.new_segment()
    (found,) = stage([Analysis(Frame(0, 0.0, page(TEXTS, angle)))])
    assert [block.text for block in found.text_blocks if " " in block.text] == TEXTS


ROW = 100
"""Pixels from one row of a list to the next."""


def rows(texts: Sequence[str], shape: tuple[int, int], size: float, contrast: int) -> tuple[Image, list[Region]]:
    """Draw rows of a list, and return where they stand."""
    image: Image = np.full((*shape, 3), 40, np.uint8)
    found = []
    for number, text in enumerate(texts):
        low = ROW * (number + 1)
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 3)
        cv2.putText(image, text, (200, low), cv2.FONT_HERSHEY_SIMPLEX, size, (40 + contrast,) * 3, 3, cv2.LINE_AA)
        found.append(region(200, low - height, 200 + width, low, 0))
    return image, found


class Rows:
    """Finds rows where they were drawn."""

    def __init__(self, places: Sequence[Sequence[Region]]) -> None:
        self._places = list(places)

    def __call__(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Region]]:
        return [[] if quick else list(self._places.pop(0)) for _ in images]

    def least_quick_height(self, image: Image) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("shape", "size", "contrast"),
    [((1080, 1920), 1.2, 12), ((2160, 3840), 1.0, 40), ((2160, 3840), 0.6, 100), ((720, 1280), 0.6, 20)],
)
def test_a_row_that_appears_is_read_and_not_taken_for_one_like_it(
    shape: tuple[int, int], size: float, contrast: int
) -> None:
    texts = ["Item 1385", "Item 1365"]
    images, places = zip(*(rows(texts[:shown], shape, size, contrast) for shown in (1, 2)), strict=True)

    def look_up(writings: object) -> None:
        for writing in writings:  # type: ignore[attr-defined]
            row = round(writing.region.box[3] / ROW) - 1
            writing.reading, writing.image = Reading(texts[row], 0.99), None

    finder = LineFinder(Rows(places), 0.5, look_up, 0.2)  # type: ignore[arg-type]
    shown = [
        [line.reading.text for line in finder([image], [at])[0] if line.reading] for at, image in enumerate(images)
    ]
    assert shown == [texts[:1], texts]


def test_a_row_that_moved_is_known_again() -> None:
    image, places = rows(["Item 1385"], (1080, 1920), 1.4, 100)
    known = line_of(places[0], image, thumbnail(image), [])
    known.writing.reading, known.writing.image = Reading("Item 1385", 0.99), None
    later = np.roll(image, 20, axis=0)
    left, top, right, bottom = places[0].box
    moved = region(left, top + 20, right, bottom + 20)
    assert line_of(moved, later, thumbnail(later), [known]).writing is known.writing


def test_a_line_between_two_places_is_not_known_by_a_part_of_what_was_kept() -> None:
    image, places = rows(["ABCDEF"], (720, 1280), 1.0, 200)
    left, top, right, bottom = places[0].box
    later = np.roll(image, 450, axis=1)
    before = line_of(places[0], image, thumbnail(image), [])
    after = line_of(region(left + 450, top, right + 450, bottom), later, thumbnail(later), [])
    way = left + 444 - right  # it ends where the room kept around the later one begins
    halfway = between((before, after), way / 450)
    other = np.full_like(image, 40)
    cv2.putText(other, "LIGHT", (round(left + way), ROW), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (240,) * 3, 3)
    assert line_of(halfway.region, other, thumbnail(other), [halfway]) is not halfway


def test_every_frame_is_looked_at_where_no_time_may_pass_even_if_times_are_equal() -> None:
    assert full_looks([2.0, 2.0, 2.0, 2.04, 2.04], 2.0, 0) == [0, 1, 2, 3, 4]
