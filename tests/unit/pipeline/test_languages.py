"""Languages of text: which engine reads which, and which of several readings is right."""

# ruff: noqa: RUF001 - letters that look alike are what this is about

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from daemon import preflight
from daemon.errors import MachineError, ModelError, SettingsError
from daemon.languages import LANGUAGES, TEXT_MODELS
from daemon.pipeline import recognisers
from daemon.pipeline.account import summary_warnings
from daemon.pipeline.engines import WHOLE, RapidOcrReader
from daemon.pipeline.fingerprint import what_frames_depend_on
from daemon.pipeline.inference import character_list
from daemon.pipeline.pull import RECOGNISERS
from daemon.pipeline.read import TextStage, clean
from daemon.pipeline.readings import LEAST_COVERED, Reading
from daemon.pipeline.recognisers import ManyReaders, better, load_reader, plan
from daemon.pipeline.records import Analysis, Frame, Image
from daemon.pipeline.regions import RapidOcrRegions, rapidocr_models
from daemon.pipeline.results import Summary
from daemon.pipeline.scripts import joined, logical_order, settle, skeleton
from daemon.settings import Settings
from tests import programs

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
PAGE = ["Последние новости", "МОСКВА", "Emergency exit 24", "ТЕАТР"]


def picture(lines: Sequence[str], size: tuple[int, int] = (960, 480)) -> Image:
    """Draw lines of text below each other; one of Hebrew letters as it stands on a sign."""
    image = Pictures.new("RGB", size, (38, 44, 52))
    for number, line in enumerate(lines):
        shown = line[::-1] if any("\u0590" <= c <= "\u05ff" for c in line) else line
        font = ImageFont.truetype(FONT, 44, layout_engine=ImageFont.Layout.BASIC)
        ImageDraw.Draw(image).text((60, 30 + 110 * number), shown, font=font, fill=(240, 240, 240))
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def crop(line: str) -> Image:
    return picture([line])[16:96, 50 : 80 + 36 * len(line)]


@pytest.fixture(scope="module")
def finder() -> RapidOcrRegions:
    programs.skip_without("fonts-dejavu-core")
    return RapidOcrRegions(480)


@pytest.fixture(scope="module")
def own() -> RapidOcrReader:
    programs.skip_without("fonts-dejavu-core")
    return RapidOcrReader()


def read(finder: RapidOcrRegions, reader: Any, image: Image) -> Analysis:
    (analysis,) = TextStage(finder, reader, 0.5)([Analysis(Frame(0, 0.0, image))])
    return analysis


def texts(analysis: Analysis) -> list[str]:
    return [block.text for block in analysis.text_blocks]


def reader_for(home: Path, *languages: str, **more: Any) -> Any:
    return load_reader(Settings.load(home=home, text_languages=list(languages), **more))


# The setting.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["rus"], "'rus' is not a language that can be read; did you mean 'ru'"),
        (["Russain"], "did you mean 'ru'"),
        (["en", "greek"], "did you mean 'el'"),
        (["xx"], "ISO 639-1"),
        ([], "must name one language at least"),
        ("ru", "text_languages must be a list of texts"),
    ],
)
def test_a_language_that_is_not_known_is_refused_with_what_was_meant(tmp_path: Path, given: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.load(home=tmp_path, text_languages=given)


def test_languages_are_named_once_in_small_letters(tmp_path: Path) -> None:
    assert Settings.load(home=tmp_path, text_languages=["EN", "ru", "en"]).text_languages == ["en", "ru"]


def test_what_the_recogniser_of_the_wheel_reads_is_derived_from_its_letters() -> None:
    characters = set(character_list(rapidocr_models()[1]))
    covered = {code for code, language in LANGUAGES.items() if language.is_covered(characters)}
    latin = {code for code, language in LANGUAGES.items() if language.script == "Latn"}
    assert covered == latin - {"vi"} | {"ja", "zh", "zh-hant"}


def test_the_recognisers_are_those_that_rapidocr_pins() -> None:
    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    known = yaml.safe_load((Path(spec.origin).parent / "default_models.yaml").read_text())
    pinned = known["onnxruntime"]["PP-OCRv5"]["rec"]
    assert {name: pinned[name]["SHA256"] for name in TEXT_MODELS} == TEXT_MODELS
    for name, recogniser in RECOGNISERS.items():
        model = LANGUAGES[name.removeprefix("text:")].model
        assert recogniser.url == pinned[model]["model_dir"]


# Letters that the recogniser does not have.


@pytest.mark.parametrize("line", ["Emergency exit 24", "Straße nach Köln", "12:45", "MADE IN ITALY", "a  b"])
def test_a_line_whose_letters_are_known_is_covered(own: RapidOcrReader, line: str) -> None:
    (reading,) = own([crop(line)])
    assert reading.covered >= WHOLE
    assert reading.confidence > 0.8


@pytest.mark.parametrize("line", ["Привет, мир", "Выход 24", "НОВОСТИ", "Не курить"])
def test_a_line_in_letters_that_are_not_known_is_not_told_for_certain(own: RapidOcrReader, line: str) -> None:
    (reading,) = own([crop(line)])
    assert reading.covered < LEAST_COVERED
    assert reading.confidence < 0.5


@pytest.mark.parametrize("size", [(40, 41), (120, 41), (715, 141)])
def test_blocks_bars_and_shades_are_not_letters_that_are_not_read(own: RapidOcrReader, size: tuple[int, int]) -> None:
    width, height = size
    block = np.full((height, width, 3), (200, 30, 20), np.uint8)
    block[:, -2:], block[:2] = 90, 90  # the ground shows at two edges, as where a detector cuts it
    bars = np.repeat(np.linspace(0, 255, height).astype(np.uint8)[:, None, None], width, 1).repeat(3, 2)
    shade = np.repeat(np.linspace(40, 200, width).astype(np.uint8)[None, :, None], height, 0).repeat(3, 2)
    plain = np.random.default_rng(0).integers(100, 108, (height, width, 3)).astype(np.uint8)
    assert all(reading.covered >= LEAST_COVERED for reading in own([block, bars, shade, plain]))


def test_beside_lines_that_are_not_read_one_of_look_alikes_is_doubtful(
    finder: RapidOcrRegions, own: RapidOcrReader
) -> None:
    analysis = read(finder, own, picture(PAGE))
    assert analysis.letters_unread
    assert {block.text: block.confidence > 0.5 for block in analysis.text_blocks} == {
        "MOCKBA": False,
        "Emergency exit 24": True,
        "TEATP": False,
    }
    alone = read(finder, own, picture(["HOT TEA", "Emergency exit 24"]))
    assert not alone.letters_unread
    assert all(block.confidence > 0.9 for block in alone.text_blocks)


def test_that_letters_are_not_read_is_counted_and_told() -> None:
    summary = Summary()
    for unread in (True, False, True):
        summary.add(Analysis(Frame(0, 0.0, np.zeros((2, 2, 3), np.uint8)), letters_unread=unread))
    again = Summary.from_record(summary.to_record())
    assert again.frames_letters_unread == 2
    assert "seen in 2 frames; set text_languages" in " ".join(summary_warnings(again))
    assert "unless its text is mirrored" in " ".join(summary_warnings(again))
    assert list(summary_warnings(Summary(frame_count=3))) == []


# Several readers.


def test_lines_of_two_languages_are_each_read_in_their_own(finder: RapidOcrRegions, tmp_path: Path) -> None:
    programs.skip_without("tesseract", "tesseract-ocr-rus")
    for more in ({}, {"text_engine": "tesseract"}):
        analysis = read(finder, reader_for(tmp_path, "en", "ru", **more), picture(PAGE))
        assert texts(analysis) == PAGE
        assert not analysis.letters_unread


def test_a_line_of_look_alikes_that_stands_alone_is_in_the_language_whose_words_it_has(
    finder: RapidOcrRegions, tmp_path: Path
) -> None:
    programs.skip_without("tesseract", "tesseract-ocr-rus")
    reader = reader_for(tmp_path, "en", "ru")
    assert texts(read(finder, reader, picture(["МОСКВА"]))) == ["МОСКВА"]
    assert texts(read(finder, reader, picture(["COMPACT"]))) == ["COMPACT"]


def test_one_language_alone_is_read_by_one_engine(finder: RapidOcrRegions, tmp_path: Path) -> None:
    programs.skip_without("tesseract", "tesseract-ocr-rus")
    reader = reader_for(tmp_path, "ru")
    assert [model.name.rpartition("-")[2] for model in reader.models()] == ["rus"]
    assert texts(read(finder, reader, picture(["МОСКВА", "РЕКА"]))) == ["МОСКВА", "РЕКА"]


def test_text_that_runs_from_right_to_left_is_given_in_the_order_of_reading(
    finder: RapidOcrRegions, tmp_path: Path
) -> None:
    programs.skip_without("tesseract", "tesseract-ocr-heb")
    analysis = read(finder, reader_for(tmp_path, "en", "he"), picture(["שלום עולם", "Emergency exit 24"]))
    assert texts(analysis) == ["שלום עולם", "Emergency exit 24"]


class Fixed:
    """An engine that reads the same whatever it is given, and counts."""

    def __init__(self, *readings: Reading | None, characters: str = "") -> None:
        self._readings = readings
        self.characters = characters
        self.asked = 0

    def models(self) -> list[Any]:
        return []

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        self.asked += len(crops)
        yield from self._readings[: len(crops)]


def test_another_engine_is_asked_only_about_lines_of_which_the_first_is_not_sure() -> None:
    sure = Reading("Emergency exit 24", 0.99)
    looks, partial = Reading("MOCKBA", 1.0), Reading(", ?", 0.2, 0.3)
    first = Fixed(sure, looks, partial, characters="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz 24,?")
    other = Fixed(Reading("МОСКВА", 0.95), Reading("Привет, как?", 0.95))
    crops = [np.zeros((4, 4, 3), np.uint8)] * 3
    found = list(ManyReaders(first, [other], frozenset({"Cyrl"}))(crops))
    assert other.asked == 2
    assert [reading and reading.text for reading in settle(found)] == ["Emergency exit 24", "MOCKBA", "Привет, как?"]


def test_what_slow_engines_have_read_is_given_at_once() -> None:
    begun: list[str] = []

    class Slow(Fixed):
        def __call__(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
            for reading in self._readings:
                begun.append(reading.text if reading else "")
                yield reading

    first, other = Slow(Reading("one", 0.9), Reading("two", 0.9)), Slow(Reading("odin", 0.1), Reading("dva", 0.1))
    readings = ManyReaders(first, [other], frozenset({"Cyrl"}))([np.zeros((4, 4, 3), np.uint8)] * 2)
    assert next(readings) == Reading("one", 0.9)
    assert begun == ["one", "odin"], "a job that shows nothing for long counts as stalled"


LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzàáãô 0123456789,?:.KαλημρμB"


@pytest.mark.parametrize(
    ("ours", "theirs", "right"),
    [
        (Reading("CAMERA 04", 0.99), Reading("САМЕВА 04", 0.65), "CAMERA 04"),
        (Reading(", ?", 0.2), Reading("Привет, как?", 0.95), "Привет, как?"),
        (Reading("bn Vit Nam", 1.0), Reading("bạn Việt Nam", 0.9), "bạn Việt Nam"),  # letters that the first lacks
        (Reading("Kαλημρα", 0.94), Reading("Καλημέρα", 0.75), "Καλημέρα"),
        (Reading("bn Vit Nam", 1.0), Reading("bạn Việt Nam", 0.3), "bn Vit Nam"),
        (Reading("", 0.0), Reading("СТОП", 0.9), "СТОП"),
        (Reading("W7ID VI7", 0.7), Reading("שלום", 0.9), "שלום"),
        (Reading("12:45", 1.0), Reading("12:45", 0.96), "12:45"),
        (Reading("TEXT", 0.9), None, "TEXT"),
        (None, Reading("ТЕКСТ", 0.9), "ТЕКСТ"),
        (Reading("TEXT", 0.9), Reading("", 0.0), "TEXT"),
    ],
)
def test_the_better_of_two_readings_is_kept(ours: Reading | None, theirs: Reading | None, right: str) -> None:
    best = better(ours, theirs, LATIN)
    assert best is not None
    assert best.text == right
    assert best.twin is None


def test_a_line_that_looks_the_same_in_two_scripts_is_decided_by_the_others() -> None:
    twins = better(Reading("MOCKBA", 1.0), Reading("МОСКВА", 0.95), LATIN)
    cyrillic, latin = Reading("Последние новости", 0.9), Reading("Breaking news", 0.9)
    assert [r.text for r in settle([twins, cyrillic]) if r] == ["МОСКВА", "Последние новости"]
    assert [r.text for r in settle([twins, latin]) if r] == ["MOCKBA", "Breaking news"]
    assert [r.text for r in settle([twins]) if r] == ["MOCKBA"]
    judged = better(Reading("MOCKBA", 1.0), Reading("МОСКВА", 0.95), LATIN, Reading("MOCKBA", 0.9))
    assert [r and (r.text, r.confidence, r.twin) for r in settle([judged, None])] == [("МОСКВА", 0.95, None), None]


def test_letters_that_look_alike_have_one_skeleton() -> None:
    assert skeleton("МОСКВА") == skeleton("MOCKBA") == skeleton("Moc KBA")
    assert skeleton("КАЗАНЬ") == skeleton("KA3AHb")
    assert skeleton("ΑΒΕΤ") == skeleton("ABET")
    assert skeleton("ПАРК") != skeleton("PARK")


def test_letters_that_no_language_is_in_count_for_less() -> None:
    first, other = Fixed(Reading("市 1250 す", 0.72), characters=LATIN), Fixed(Reading("कीमत 1250", 0.63))
    crops = [np.zeros((4, 4, 3), np.uint8)]
    (hindi,) = ManyReaders(first, [other], frozenset({"Deva"}), usual=frozenset({"LATIN"}))(crops)
    assert hindi == Reading("कीमत 1250", 0.63)
    chinese = Reading("北京", 0.99)
    weak = Fixed(Reading("ऋ", 0.3))
    assert list(ManyReaders(Fixed(chinese), [weak], frozenset({"Deva"}), usual=frozenset({"LATIN"}))(crops)) == [
        chinese
    ]


# The order and the spaces.


@pytest.mark.parametrize(
    ("drawn", "read"),
    [
        ("םלוע םולש", "שלום עולם"),
        ("לקש 1250 ריחמה", "המחיר 1250 שקל"),
        ("12:45 העשב", "בשעה 12:45"),
        ("BBC News תושדח", "חדשות BBC News"),
        ("Emergency exit 24", "Emergency exit 24"),
    ],
)
def test_letters_that_run_from_right_to_left_are_put_in_order(drawn: str, read: str) -> None:
    assert logical_order(drawn) == read


def test_words_are_joined_where_a_script_has_no_space() -> None:
    assert joined([("東京", 0, 80), ("駅", 95, 135), ("まで", 150, 230)], 40) == "東京駅まで"
    assert joined([("반", 0, 40), ("갑", 44, 84), ("습니다", 100, 220)], 40) == "반갑 습니다"
    assert joined([("ย", 0, 20), ("ิ", 22, 24), ("น", 36, 46)], 40) == "ยิน"
    assert joined([("Exit", 0, 80), ("24", 84, 120)], 40) == "Exit 24"
    assert joined([("\u200eשלום\u200f", 100, 160), ("\u200e", 90, 95), ("עולם", 20, 80)], 40) == "שלום עולם"
    assert joined([("κόσ\u00b5ε", 0, 90)], 40) == "κόσμε"


def test_signs_without_width_stay_within_words() -> None:
    assert clean("می\u200cروم") == "می\u200cروم"
    assert joined([("வணக்கம்\u200c", 0, 90), ("உலகம்", 110, 190)], 40) == "வணக்கம் உலகம்"


# What is missing.


@pytest.mark.parametrize("engine", ["rapidocr", "tesseract"])
def test_a_language_without_its_data_is_refused_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(recognisers, "installed_packs", lambda: frozenset({"eng", "osd"}))
    with pytest.raises(
        MachineError, match=r"Russian \(ru\), .*install the Debian packages tesseract-ocr-rus"
    ) as refused:
        reader_for(tmp_path, "en", "ru", text_engine=engine)
    assert ("dropframe models pull text:ru" in str(refused.value)) is (engine == "rapidocr")


def test_without_tesseract_both_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> frozenset[str]:
        raise MachineError("not installed")

    monkeypatch.setattr(recognisers, "installed_packs", missing)
    with pytest.raises(MachineError, match="packages tesseract-ocr tesseract-ocr-heb"):
        reader_for(tmp_path, "he")
    assert len(reader_for(tmp_path, "en", "de", "ja").models()) == 1


def test_doctor_says_what_reads_what_and_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognisers, "installed_packs", lambda: frozenset({"eng"}))
    settings = Settings.load(home=tmp_path)
    said = {check.name: check for check in preflight.check_models(settings)}
    assert said["text languages"].sentence == "en by PP-OCRv6_rec_small"
    (refused,) = preflight.check_models(settings.model_copy(update={"text_languages": ["en", "he"]}))
    assert not refused.ok
    assert "tesseract-ocr-heb" in refused.sentence


def test_a_result_of_other_languages_is_not_gone_on_with(tmp_path: Path) -> None:
    english = what_frames_depend_on(Settings.load(home=tmp_path))
    assert english != what_frames_depend_on(Settings.load(home=tmp_path, text_languages=["en", "de"]))


# Recognisers in data/models/text/.


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    """Put a recogniser for Russian into a home: that of the wheel, which takes letters with marks for Russian ones."""
    content = bytearray(rapidocr_models()[1].read_bytes())
    start = content.index(b'!\n"\n#\n$\n%\n')
    russian = LANGUAGES["ru"].letters
    marked = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝÞßĀĂàáâãäåæçèéêëìíîïñòóôõöøùúûüýþÿāă"
    letters = russian.upper() + russian
    assert len(marked) == len(letters)
    for was, now in zip(marked, letters, strict=True):
        at = content.index(f"\n{was}\n".encode(), start)
        content[at + 1 : at + 3] = now.encode()
    path = Settings.load(home=tmp_path).text_models_dir / f"{LANGUAGES['ru'].model}.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_a_recogniser_that_was_placed_reads_its_language(
    placed: Path, tmp_path: Path, finder: RapidOcrRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognisers, "installed_packs", lambda: pytest.fail("Tesseract is not needed"))
    settings = Settings.load(home=tmp_path, text_languages=["en", "ru"])
    assert plan(settings).describe() == f"en by PP-OCRv6_rec_small; ru by {placed.stem}"
    reader = load_reader(settings)
    assert [model.name for model in reader.models()] == ["PP-OCRv6_rec_small", placed.stem]
    assert reader.models()[1].sha256 not in (None, reader.models()[0].sha256)
    assert texts(
        read(finder, load_reader(settings.model_copy(update={"text_languages": ["ru"]})), picture(["ÉÑÀ"]))
    ) == ["ЙРА"]
    assert texts(read(finder, reader, picture(["Emergency exit 24"]))) == ["Emergency exit 24"]


def test_a_recogniser_that_is_none_or_of_other_letters_is_refused(placed: Path, tmp_path: Path) -> None:
    settings = Settings.load(home=tmp_path, text_languages=["ru"])
    placed.write_bytes(rapidocr_models()[1].read_bytes())
    with pytest.raises(ModelError, match="does not have all letters of Russian"):
        load_reader(settings)
    placed.write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError, match="is not a RapidOCR recogniser"):
        load_reader(settings)
