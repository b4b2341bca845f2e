"""Text: read where the picture changed, and the same as reading everything anew."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from daemon.errors import MachineError
from daemon.pipeline import changes, engines
from daemon.pipeline.engines import RapidOcrReader, TesseractReader
from daemon.pipeline.looks import together
from daemon.pipeline.order import in_reading_order
from daemon.pipeline.read import TextStage, clean
from daemon.pipeline.readings import Reading
from daemon.pipeline.recognisers import load_reader
from daemon.pipeline.records import Analysis, Box, Frame, Image, TextBlock
from daemon.pipeline.regions import RapidOcrRegions, Region, with_room
from daemon.pipeline.video import Video
from daemon.settings import Settings
from tests import programs
from tests.clips import draw_frame, make_clip

SIZE = (640, 360)


class Counted:
    """A reader that counts its crops and calls."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.crops = self.calls = 0

    def models(self) -> list[Any]:
        return []

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading]:
        self.calls += bool(crops)
        self.crops += len(crops)
        readings: Iterator[Reading] = self._reader(crops)
        return readings


@pytest.fixture(scope="module")
def finder() -> RapidOcrRegions:
    return RapidOcrRegions(384)


@pytest.fixture(scope="module")
def recogniser() -> RapidOcrReader:
    return RapidOcrReader()


@pytest.fixture
def counted(recogniser: RapidOcrReader) -> Counted:
    return Counted(recogniser)


@pytest.fixture
def stage(finder: RapidOcrRegions, counted: Counted) -> TextStage:
    return TextStage(finder, counted, 0.5)


def analyses(images: Sequence[Image]) -> list[Analysis]:
    return [Analysis(Frame(number, number / 25, image)) for number, image in enumerate(images)]


def in_batches(stage: TextStage, images: Sequence[Image]) -> list[list[str]]:
    stage.new_segment()
    lines = []
    frames = analyses(images)
    for start in range(0, len(images), 8):
        lines += [[block.text for block in each.text_blocks] for each in stage(frames[start : start + 8])]
    return lines


def anew(stage: TextStage, images: Sequence[Image]) -> list[list[str]]:
    """Read every frame as if it were the first."""
    lines = []
    for image in images:
        stage.new_segment()
        (done,) = stage(analyses([image]))
        lines.append([block.text for block in done.text_blocks])
    return lines


def drawn(text: str, index: int = 0) -> Image:
    return np.ascontiguousarray(draw_frame(index, SIZE, text)[..., ::-1])


def squeezed(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def frames_of(path: Path, stride: int, most: int | None = None) -> list[Image]:
    return [frame.image for frame in Video(path).frames(stride, most)]


def test_a_line_that_stands_still_is_read_once_in_a_segment(stage: TextStage, counted: Counted, tmp_path: Path) -> None:
    images = frames_of(make_clip(tmp_path / "a.mp4", frames=16, size=SIZE, text="HOME 2 - 1 AWAY"), 1)
    lines = in_batches(stage, images)
    assert [squeezed(" ".join(frame)) for frame in lines] == ["HOME21AWAY"] * 16
    assert counted.crops <= 4  # of 16 frames on which other things move
    before = counted.crops
    in_batches(stage, images[:8])
    assert counted.crops > before  # nothing is remembered across the edge of a segment


def test_text_is_what_reading_every_frame_anew_gives(stage: TextStage, tmp_path: Path) -> None:
    text = tuple(["HOME 2 - 1 AWAY"] * 4 + ["HOME 2 - 2 AWAY"] * 4 + ["FULL TIME"] * 4)
    images = frames_of(make_clip(tmp_path / "a.mp4", frames=12, size=SIZE, text=text), 1)
    assert in_batches(stage, images) == anew(stage, images)


@pytest.mark.parametrize("change", [("08:10", "08:11"), ("2 - 1", "2 - 7"), ("3", "8"), ("AB", "ABC"), ("ON", "")])
def test_a_changed_character_is_noticed(stage: TextStage, change: tuple[str, str]) -> None:
    before, after = (f"SCORE {part}" for part in change)
    lines = in_batches(stage, [drawn(before)] * 3 + [drawn(after)] * 3)
    assert [squeezed(" ".join(frame)) for frame in lines] == [squeezed(before)] * 3 + [squeezed(after)] * 3


def test_text_that_goes_away_is_gone(stage: TextStage) -> None:
    assert in_batches(stage, [drawn("GOAL"), drawn(""), drawn("GOAL")]) == [["GOAL"], [], ["GOAL"]]


def test_noise_of_coding_is_no_change(
    stage: TextStage, counted: Counted, finder: RapidOcrRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    still = drawn("NO SIGNAL").astype(np.int16)
    images = [np.clip(still + random.integers(-12, 13, still.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    assert in_batches(stage, images) == [["NO SIGNAL"]] * 8
    assert counted.crops == 1
    monkeypatch.setattr(changes, "NOISY_THRESHOLD", -1)
    in_batches(stage, images)
    assert counted.crops == 1 + 3  # the count can tell: one in each look of eight frames


def found_share(lines: list[list[str]], truth: dict[str, Any], stride: int) -> dict[str, float]:
    """Return for each known line the share of its frames on which it was read."""
    shares = {}
    for known in truth["text"]:
        wanted = [n for n in range(len(lines)) if known["first_frame"] <= n * stride <= known["last_frame"]]
        hits = sum(any(squeezed(known["line"]) in squeezed(line) for line in lines[n]) for n in wanted)
        shares[known["line"]] = hits / len(wanted)
    return shares


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stride"), [("street.mp4", 4), ("bunny_cam.mp4", 2)])
def test_known_lines_are_found_on_their_frames(
    stage: TextStage, counted: Counted, shared_media: Path, truth: dict[str, Any], name: str, stride: int
) -> None:
    images = frames_of(shared_media / name, stride)
    assert len(images) >= 60
    lines = in_batches(stage, images)
    shares = found_share(lines, truth[name], stride)
    assert min(shares.values()) >= 0.95, shares
    assert counted.crops < sum(map(len, lines))  # some were not read again, though the picture pans


@pytest.mark.parametrize("size", [(16, 16), (8, 640), (640, 8), (1, 1), (1080, 1920), (240, 320)])
def test_pictures_of_any_size_and_noise_are_taken(stage: TextStage, size: tuple[int, int]) -> None:
    random = np.random.default_rng(9)
    image = random.integers(0, 255, (*size, 3), np.uint8)
    blank = np.zeros((*size, 3), np.uint8)
    stage.new_segment()
    assert len(stage(analyses([image, blank, image]))) == 3


def test_a_line_that_stands_upright_does_no_harm(stage: TextStage) -> None:
    image = np.ascontiguousarray(np.rot90(drawn("STANDING UPRIGHT")))
    stage.new_segment()
    (done,) = stage(analyses([image]))
    for block in done.text_blocks:
        assert block.box[0] <= block.box[2]


def test_crops_of_any_shape_are_read(recogniser: RapidOcrReader) -> None:
    shapes = [(1, 1), (2, 300), (300, 2), (48, 9000), (5, 5)]
    readings = list(recogniser([np.full((*shape, 3), 200, np.uint8) for shape in shapes]))
    assert len(readings) == len(shapes)
    assert all(0 <= reading.confidence <= 1 or reading.text == "" for reading in readings)


def test_a_reading_does_not_depend_on_its_neighbours(recogniser: RapidOcrReader) -> None:
    crops = [drawn(text)[40:90, 20:500] for text in ("ONE", "TWO 22", "A LONG LINE OF TEXT", "4")]
    together = list(recogniser(crops))
    assert together == [next(recogniser([crop])) for crop in crops]
    assert list(recogniser(crops[::-1])) == together[::-1]
    assert list(recogniser(crops * 12)) == together * 12  # more than are read at once


@pytest.mark.parametrize(
    ("quad", "wider"),
    [
        ([[10, 10], [110, 10], [110, 30], [10, 30]], True),
        ([[10, 10], [30, 10], [30, 110], [10, 110]], False),  # upright
        ([[5, 5], [5, 5], [5, 5], [5, 5]], False),  # a point
    ],
)
def test_a_line_is_made_longer_and_a_little_lower(quad: list[list[int]], wider: bool) -> None:
    given = np.asarray(quad, np.float32)
    grown = with_room(given)
    assert np.isfinite(grown).all()
    assert (np.ptp(grown[:, 0]) > np.ptp(given[:, 0])) is np.bool_(wider)
    assert np.ptp(grown[:, 1]) == pytest.approx(np.ptp(given[:, 1]) * (0.9 if wider else 1.0))


def block(text: str, *box: float) -> TextBlock:
    return TextBlock(box, text, 1.0)  # type: ignore[arg-type]


def found_with(known: list[Box], found: list[Box]) -> list[Box]:
    def region_of(box: Box) -> Region:
        left, top, right, bottom = box
        corners = np.asarray([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        return Region(box, 0.9, corners, corners)

    return together(known, found, region_of)


def test_a_line_found_whole_takes_the_place_of_its_part_and_none_is_lost() -> None:
    name, role, whole = (630, 100, 880, 130), (480, 100, 600, 130), (476, 98, 884, 134)
    assert found_with([name], [whole]) == [whole]
    assert found_with([name, role], [whole]) == [name, role]  # nothing new in it
    assert found_with([whole], [name, role]) == [whole]
    assert found_with([name], [role]) == [name, role]


def test_two_rows_found_as_one_do_not_take_the_place_of_a_row() -> None:
    row, both = (100, 100, 300, 130), (96, 98, 304, 178)
    assert found_with([row], [both]) == [row]


def test_lines_are_in_reading_order() -> None:
    blocks = [
        block("right", 200, 12, 300, 32),
        block("below", 10, 50, 100, 70),
        block("left", 10, 10, 100, 30),
        block("last", 150, 55, 300, 75),
    ]
    for order in itertools.permutations(blocks):
        assert [b.text for b in in_reading_order(order)] == ["left", "right", "below", "last"]
    assert in_reading_order([]) == []


def test_text_is_one_line_of_printable_characters() -> None:
    assert clean("  A\tB\n\n C\x00D\x1b[31m\u202e ") == "A B C D [31m"
    assert clean("日本 é №") == "日本 é №"


class Slow:
    """An engine in front of which somebody watches."""

    def __init__(self, reader: RapidOcrReader, look: Callable[[], None]) -> None:
        self._reader, self._look = reader, look
        self.models = reader.models

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading]:
        for reading in self._reader(crops):
            self._look()
            yield reading


def test_what_is_read_of_a_batch_is_counted_while_it_is_read(
    finder: RapidOcrRegions, recogniser: RapidOcrReader
) -> None:
    seen: list[int] = []
    stage = TextStage(finder, Slow(recogniser, lambda: seen.append(stage.steps)), 0.5)
    in_batches(stage, [drawn(text) for text in ("HOME 2 AWAY 1", "BREAKING NEWS", "WEATHER SUNNY")])
    assert len(seen) >= 3
    assert seen == list(range(1, len(seen) + 1)), "the regions are a step, and each reading"


# Tesseract.


@pytest.fixture(scope="module")
def tesseract() -> TesseractReader:
    programs.skip_without("tesseract")
    return TesseractReader()


def test_tesseract_reads_a_batch_in_one_process(
    finder: RapidOcrRegions, tesseract: TesseractReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    popen = engines.pytesseract.pytesseract.subprocess.Popen
    monkeypatch.setattr(
        engines.pytesseract.pytesseract.subprocess, "Popen", lambda *a, **k: started.append(a) or popen(*a, **k)
    )
    texts = ["HOME 2 AWAY 1", "BREAKING NEWS", "WEATHER SUNNY", "FULL TIME"]
    images = [drawn(text) for text in texts]
    lines = in_batches(TextStage(finder, tesseract, 0.5), images)
    assert [squeezed(" ".join(frame)) for frame in lines] == [squeezed(text) for text in texts]
    assert len(started) == 1


def test_tesseract_reads_a_crop_alone_as_it_does_with_others(tesseract: TesseractReader) -> None:
    crops = [drawn(text)[40:90, 20:500] for text in ("ONE", "TWO 22", "A LONG LINE OF TEXT", "4")]
    together = list(tesseract(crops))
    assert together == [next(tesseract([crop])) for crop in crops]
    assert list(tesseract(crops * 9)) == together * 9  # more than are read at once


def test_tesseract_takes_crops_without_text(tesseract: TesseractReader) -> None:
    random = np.random.default_rng(2)
    crops = [random.integers(0, 255, (h, w, 3), np.uint8) for h, w in ((30, 200), (3, 3), (1, 1))]
    word = cv2.resize(drawn("MIDDLE")[40:90, 20:260], None, fx=1.0, fy=1.0)
    readings = list(tesseract([crops[0], word, crops[1], crops[2]]))
    assert len(readings) == 4
    assert readings[1] is not None
    assert squeezed(readings[1].text) == "MIDDLE"  # the answers are not shifted by one
    assert list(tesseract([])) == []


def test_an_engine_that_is_not_installed_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.pytesseract.pytesseract, "tesseract_cmd", str(tmp_path / "tesseract"))
    with pytest.raises(MachineError, match=r"install the package tesseract-ocr, or set text_engine to rapidocr"):
        load_reader(Settings.load(home=tmp_path, text_engine="tesseract"))


@pytest.mark.parametrize(
    ("read", "right"),
    [("12\uff1a45", "12:45"), ("Start \uff1a Berlin", "Start : Berlin"), ("\uff08A\uff09\u3000B", "(A) B")],
)
def test_full_width_signs_in_a_latin_line_become_plain_ones(read: str, right: str) -> None:
    assert clean(read) == right


def test_full_width_signs_stay_among_eastern_letters() -> None:
    assert clean("\u65f6\u95f4\uff1a12") == "\u65f6\u95f4\uff1a12"


def coloured(text: str, ink: tuple[int, int, int], ground: tuple[int, int, int]) -> Image:
    image = np.full((SIZE[1], SIZE[0], 3), ground, np.uint8)
    cv2.putText(image, text, (80, 190), cv2.FONT_HERSHEY_SIMPLEX, 1.6, ink, 3, cv2.LINE_AA)
    return image


@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        pytest.param((116, 116, 116), (100, 100, 100), id="16 levels"),
        pytest.param((40, 150, 40), (60, 60, 150), id="green on red, as bright"),
        pytest.param((60, 60, 150), (150, 50, 40), id="red on blue, as bright"),
    ],
)
def test_a_digit_that_changes_faintly_or_in_colour_alone_is_read_anew(
    stage: TextStage, ink: tuple[int, int, int], ground: tuple[int, int, int]
) -> None:
    frames = [coloured(f"Lap 23:0{digit}", ink, ground) for digit in (1, 1, 2, 2, 7, 7)]
    lines = in_batches(stage, frames)
    assert [squeezed("".join(frame))[-1:] for frame in lines] == ["1", "1", "2", "2", "7", "7"]


def test_a_sign_that_comes_before_a_line_is_read(stage: TextStage) -> None:
    frames = [coloured(text, (235, 235, 235), (20, 20, 20)) for text in ("  1.5 mm", "-1.5 mm", "  1.5 mm")]
    lines = in_batches(stage, frames)
    assert ["".join(frame).startswith("-") for frame in lines] == [False, True, False]


# Small, turned and lone text, looked for as by default.


@pytest.fixture(scope="module")
def default_stage(recogniser: RapidOcrReader) -> TextStage:
    return TextStage(RapidOcrRegions(Settings.model_fields["text_detect_size"].default), recogniser, 0.5)


def page(lines: Sequence[tuple[str, int, int]], size: tuple[int, int], height: int) -> Image:
    """Draw lines at places in letters that are so many pixels high."""
    image = np.full((size[1], size[0], 3), (52, 44, 38), np.uint8)
    scale = height / 21
    for text, x, y in lines:
        cv2.putText(
            image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (235, 235, 235), 1 + height // 16, cv2.LINE_AA
        )
    return image


@pytest.mark.parametrize(
    ("size", "height"), [((1280, 720), 11), ((1920, 1080), 14), ((3840, 2160), 28)], ids=["720", "1080", "2160"]
)
def test_small_text_is_read_in_frames_of_any_height(
    default_stage: TextStage, size: tuple[int, int], height: int
) -> None:
    lines = [(f"PLATFORM {n} TRAIN 421{n}", size[0] // 3, size[1] // 4 + 3 * height * n) for n in range(6)]
    read = in_batches(default_stage, [page(lines, size, height)])
    assert [squeezed(line) for line in read[0]] == [squeezed(text) for text, _, _ in lines]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_text_that_lies_on_its_side_or_head_is_read(default_stage: TextStage, quarters: int) -> None:
    image = np.ascontiguousarray(np.rot90(page([("EMERGENCY EXIT 24", 60, 320)], (640, 640), 32), quarters))
    assert [squeezed("".join(lines)) for lines in in_batches(default_stage, [image])] == ["EMERGENCYEXIT24"]


def test_a_lone_digit_is_read(default_stage: TextStage) -> None:
    images = [page([(digit, 300, 200)], SIZE, 60) for digit in "02357"]
    assert in_batches(default_stage, images) == [[digit] for digit in "02357"]


@pytest.mark.parametrize("specks", ["\u00b7", "-", "--", "...", "' '", "\u201c", "|", ":", "\u2014 .", "_", "/"])
def test_specks_are_no_text(specks: str) -> None:
    assert clean(specks) == ""


@pytest.mark.parametrize("text", ["-5", "?", "!", "$", "+", "%", "- No.", "7", "&", "#", "(", "x"])
def test_a_sign_that_means_something_is_text(text: str) -> None:
    assert clean(text) == text


def test_two_columns_are_read_one_by_one_between_what_is_above_and_below() -> None:
    left = [block(f"left line number {n}", 10, 100 + 30 * n, 300, 120 + 30 * n) for n in range(4)]
    right = [block(f"right line number {n}", 400, 108 + 30 * n, 690, 128 + 30 * n) for n in range(3)]
    title, foot = block("A title over all of it", 10, 20, 690, 60), block("7 / 23", 640, 500, 690, 520)
    wanted = [title, *left, *right, foot]
    assert in_reading_order(wanted[::-1]) == wanted
    assert in_reading_order(sorted(wanted, key=lambda b: b.box)) == wanted


def test_a_table_and_names_beside_what_they_are_of_are_read_row_by_row() -> None:
    rows = [("Region", "Orders", "Late"), ("North", "1,204", "4 %"), ("South", "987", "11 %"), ("West", "645", "3 %")]
    cells = [
        block(text, 10 + 200 * c, 30 * r, 90 + 200 * c, 20 + 30 * r)
        for r, row in enumerate(rows)
        for c, text in enumerate(row)
    ]
    assert in_reading_order(cells[::-1]) == cells


def test_lines_that_run_downwards_are_read_from_right_to_left() -> None:
    title, foot = block("日本語の本", 200, 5, 500, 40), block("12", 340, 660, 370, 690)
    columns = [
        block("この日本語の文章は", 554, 59, 618, 613),
        block("複数の列に", 402, 55, 471, 368),
        block("分かれて", 251, 59, 316, 300),
        block("いる", 100, 59, 165, 180),
    ]
    wanted = [title, *columns, foot]
    assert in_reading_order(wanted[::-1]) == wanted
    assert in_reading_order(sorted(wanted, key=lambda b: b.box)) == wanted
    signs = [block("出口", 10, 60, 130, 110), block("入口", 300, 60, 420, 110)]
    assert in_reading_order(signs[::-1]) == signs  # lines across stay from left to right
    latin = [block("EXIT", 10, 60, 50, 200), block("HOTEL", 300, 60, 340, 220)]
    assert in_reading_order(latin[::-1]) == latin


def test_a_tall_line_comes_before_the_lines_beside_it() -> None:
    lines = [
        block("72", 10, 20, 150, 140),
        block("Speed in km/h", 200, 30, 500, 60),
        block("measured today", 200, 90, 500, 120),
    ]
    assert in_reading_order(lines[::-1]) == lines


def test_lines_that_stand_upright_beside_each_other_are_put_in_order_once() -> None:
    upright = [block("one two three", 100, 20, 110, 320), block("four", 112, 20, 120, 60)]
    upright += [block(f"stands below {n}", 112, 80 + 40 * n, 120, 110 + 40 * n) for n in range(4)]
    assert sorted(in_reading_order(upright), key=lambda b: b.box) == sorted(upright, key=lambda b: b.box)


def test_a_form_of_wide_rows_is_read_row_by_row_however_many_words_it_has() -> None:
    rows = [
        block(f"{side} words of row {n}", x, 30 + 85 * n, x + 400, 70 + 85 * n)
        for n in range(6)
        for side, x in (("first", 40), ("second", 690))
    ]
    assert in_reading_order(rows[::-1]) == rows


def test_a_line_shown_for_a_fifth_of_a_second_is_seen_on_each_of_its_frames(stage: TextStage) -> None:
    for first in range(1, 7):
        images = [page([("GOAL", 200, 200)] if first <= n < first + 5 else [], SIZE, 40) for n in range(16)]
        assert [bool(lines) for lines in in_batches(stage, images)] == [first <= n < first + 5 for n in range(16)]


def test_a_line_that_moves_is_found_on_its_way_and_read_in_the_looks_alone(
    stage: TextStage, counted: Counted, finder: RapidOcrRegions
) -> None:
    images = [page([("LAST TRAIN 23:58", 40 + 8 * n, 200)], SIZE, 30) for n in range(16)]
    stage.new_segment()
    frames = analyses(images)
    done = [each for start in (0, 8) for each in stage(frames[start : start + 8])]
    assert [squeezed(" ".join(b.text for b in each.text_blocks)) for each in done] == ["LASTTRAIN2358"] * 16
    for image, each in zip(images, done, strict=True):
        (right,) = finder([image])[0]
        assert np.allclose(each.text_blocks[0].box, right.box, atol=4)
    assert counted.crops <= 6


def passing(text: str, at: int, pixels: float = 3.3, ink: int = 235) -> Image:
    """Draw a line that moves to the left by so many pixels a frame."""
    image: Image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    cv2.putText(image, text, (200, 180), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (ink, ink, ink), 2, cv2.LINE_AA)
    way = np.asarray([[1, 0, -pixels * at], [0, 1, pixels * at / 3]], np.float32)
    return np.asarray(cv2.warpAffine(image, way, SIZE, borderValue=(60, 60, 60)), np.uint8)


def test_a_line_that_moved_but_looks_the_same_is_not_read_again(
    stage: TextStage, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [passing("PLATFORM 7", at) for at in range(24)]
    assert in_batches(stage, images) == [["PLATFORM 7"]] * 24
    assert counted.crops <= 2
    before = counted.crops
    monkeypatch.setattr("daemon.pipeline.lines.MOST_TRIED", 0)
    in_batches(stage, images)
    assert counted.crops - before >= 6  # the count can tell: one in each look


@pytest.mark.parametrize(
    ("first", "second", "kept", "read"),
    [
        (("PLATFORMN", 0.95), ("PLATFORM 7", 0.96), "PLATFORM 7", 2),
        (("A", 0.95), ("B", 0.9), "A", 2),
        (("A", 0.98), ("B", 0.99), "A", 1),
    ],
)
def test_a_line_that_moved_is_read_a_second_time_unless_the_first_reading_is_sure(
    finder: RapidOcrRegions, first: tuple[str, float], second: tuple[str, float], kept: str, read: int
) -> None:
    told = itertools.chain([Reading(*first), Reading(*second)], itertools.repeat(Reading("never", 1.0)))
    given = Counted(lambda crops: (next(told) for _ in crops))
    images = [passing("PLATFORM 7", at) for at in range(32)]
    assert in_batches(TextStage(finder, given, 0.5), images)[16:] == [[kept]] * 16
    assert given.crops == read


@pytest.mark.parametrize("ink", [235, 76])
@pytest.mark.parametrize(("before", "after"), [("PLATFORM 3", "PLATFORM 8"), ("GATE C", "GATE G"), ("08:11", "08:17")])
def test_a_character_that_changes_while_its_line_moves_is_read(
    stage: TextStage, before: str, after: str, ink: int
) -> None:
    images = [passing(before if at < 16 else after, at, ink=ink) for at in range(32)]
    assert in_batches(stage, images) == [[before]] * 16 + [[after]] * 16


def test_with_no_time_between_looks_a_line_that_is_shown_on_one_frame_is_seen(
    finder: RapidOcrRegions, counted: Counted
) -> None:
    images = [page([("GOAL", 200, 200)] if n in (2, 5) else [], SIZE, 40) for n in range(8)]
    every_frame = TextStage(finder, counted, 0.5, look_seconds=0)
    assert [bool(lines) for lines in in_batches(every_frame, images)] == [n in (2, 5) for n in range(8)]
