"""OCR engines, which read the picture of one line: RapidOCR's recogniser and Tesseract."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytesseract
from numpy.typing import NDArray

from daemon.errors import MachineError, TransientError
from daemon.pipeline.inference import CpuModel, character_list
from daemon.pipeline.libraries import without_init
from daemon.pipeline.models import file_sha256
from daemon.pipeline.overlap import spread
from daemon.pipeline.readings import LEAST_COVERED, Reading
from daemon.pipeline.records import Image, ModelInfo
from daemon.pipeline.regions import PADDLE, rapidocr_models
from daemon.pipeline.scripts import joined, logical_order

if TYPE_CHECKING:
    from daemon.pipeline.onnx_model import OnnxModel

with without_init("rapidocr.ch_ppocr_rec"):
    from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

log = logging.getLogger(__name__)

WHOLE = 0.8
"""Share of a line's ink from which on it counts as read as a whole; a blurred line can have a little less than all."""

LEAST_STROKES, LEAST_CONTRAST = 3.0, 16
"""Edges that a row of a line of letters crosses at least, on average, and the grey levels between letters and ground.
A bar, a block or a smooth area has fewer."""

WIDTH_STEP = 32
"""Pixels to a multiple of which lines are padded, so that few widths are seen."""
USUAL_WIDTHS = range(96, 641, WIDTH_STEP)
"""Widths of most lines, the least first, for which a GPU prepares itself when it is loaded."""
CROPS_AT_ONCE = 32
"""Crops that an engine takes at most before it gives their readings, so that much text is seen to be worked on."""

NO_TESSERACT = (
    "Tesseract is to read text, but its program is not installed; install the package tesseract-ocr, or set "
    "text_engine to rapidocr and text_languages to languages that RapidOCR reads."
)
LEAST_SECONDS = 5.0
"""What Tesseract gets at least to start and to read one crop before that is given up."""


class RapidOcrReader:
    """Reads with one of RapidOCR's recognisers (PP-OCR), under OpenVINO or on a GPU.

    Args:
        device: ``cpu`` or ``cuda:N``.
        path: The recogniser; that of RapidOCR's wheel if not given.

    Raises:
        MachineError: the GPU cannot be used.
    """

    height = 48
    least_width = USUAL_WIDTHS.start
    most_width = 3200

    def __init__(self, device: str = "cpu", path: Path | None = None) -> None:
        self._path = path or rapidocr_models()[1]
        self._device = device.split(":")[0]
        self._model: CpuModel | OnnxModel
        if device == "cpu":
            self._model = CpuModel(self._path, PADDLE, any_width=True)
        else:
            from daemon.pipeline.onnx_model import OnnxModel  # loads torch

            self._model = OnnxModel(self._path, PADDLE, device)
            self._model.prepare((self.height, width) for width in USUAL_WIDTHS)
        self._decode = CTCLabelDecode(character=character_list(self._path))
        self.characters = frozenset(self._decode.character)
        """What it can read."""

    def models(self) -> list[ModelInfo]:
        """See TextReader.models."""
        runtime, sha256 = self._model.runtime, file_sha256(self._path)
        return [ModelInfo(self._path.stem, "text", runtime, self._device, "fp32", None, sha256)]

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading]:
        """See TextReader."""
        for some in parts(crops):
            fitted = list(spread(self._fitted, some))
            for crop, picture, (classes, scores) in zip(some, fitted, self._model.best(fitted), strict=True):
                text, confidence = self._decode.decode(classes, scores, remove_duplicate=True)[0][0]
                seen = ~np.isin(classes[0], self._not_letters)
                covered = ink_covered(picture[:, : self._width(crop)], seen, picture.shape[1])
                confidence *= covered if covered < WHOLE else 1
                if covered < LEAST_COVERED and not has_strokes(picture[:, : self._width(crop)]):
                    covered = 1.0  # letters that are not read are not the reason
                yield Reading(logical_order(text), confidence, covered)

    @property
    def _not_letters(self) -> tuple[int, int]:
        """The classes that stand for nothing and for a space."""
        return 0, len(self._decode.character) - 1

    def _width(self, crop: Image) -> int:
        rows, columns = crop.shape[:2]
        return int(min(max(1, round(columns * self.height / rows)), self.most_width))

    def _fitted(self, crop: Image) -> Image:
        """Scale to the network's height and pad to a width of a few steps."""
        wide = self._width(crop)
        padded = np.full((self.height, max(self.least_width, -(-wide // WIDTH_STEP) * WIDTH_STEP), 3), 127, np.uint8)
        padded[:, :wide] = cv2.resize(crop, (wide, self.height))
        return padded


class TesseractReader:
    """Reads with the Tesseract binary: one process for up to 32 crops.

    Tesseract can fail to return, on noise. Then the crops are read one by one, and that which holds it up is given up.

    Args:
        stall_seconds: The setting. A crop alone may take a sixth of it (5 s at least) and 32 half of it, so that
            something is read or given up before the job counts as stalled.
        packs: Its trained data, by name; the first is tried first.

    Raises:
        MachineError: the binary is not installed.
    """

    def __init__(self, stall_seconds: float = 60.0, packs: Sequence[str] = ("eng",)) -> None:
        self._packs = "+".join(packs)
        self._longest_seconds = stall_seconds / 2
        self._longest_alone_seconds = min(max(stall_seconds / 6, LEAST_SECONDS), stall_seconds / 5)
        try:
            self.version = str(pytesseract.get_tesseract_version())
        except pytesseract.TesseractNotFoundError as error:
            raise MachineError(NO_TESSERACT) from error

    def models(self) -> list[ModelInfo]:
        """See TextReader.models."""
        name = f"tesseract-{self.version}-{self._packs}"
        return [ModelInfo(name, "text", "tesseract", "cpu", "fp32", None, None)]

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        """See TextReader.

        Raises:
            TransientError: Tesseract failed, or does not return whatever it is given.
        """
        for some in parts(crops):
            try:
                readings = self._read(some, self._longest_seconds)
            except TimeoutError:
                for crop in some:
                    yield self._read_alone(crop)
            else:
                yield from readings

    def _read_alone(self, crop: Image) -> Reading | None:
        try:
            return self._read([crop], self._longest_alone_seconds)[0]
        except TimeoutError:
            log.warning("Tesseract does not return from a picture of %d x %d pixels.", crop.shape[1], crop.shape[0])
        try:  # is it the picture, or would it be so with any?
            self._read([np.full((40, 40, 3), 255, np.uint8)], self._longest_alone_seconds)
        except TimeoutError as error:
            raise TransientError("Tesseract does not return, not even from an empty picture.") from error
        return None

    def _read(self, crops: Sequence[Image], seconds: float) -> list[Reading]:
        """Read with one process.

        Raises:
            TimeoutError: it did not return in time, and was ended.
            TransientError: it failed.
        """
        with tempfile.TemporaryDirectory(prefix="dropframe-ocr-") as folder:
            paths = [Path(folder) / f"{number}.png" for number in range(len(crops))]
            for path, crop in zip(paths, crops, strict=True):
                cv2.imwrite(str(path), self._framed(crop), [cv2.IMWRITE_PNG_COMPRESSION, 1])
            listing = Path(folder) / "crops.txt"
            listing.write_text("\n".join(map(str, paths)))
            try:
                words = pytesseract.image_to_data(
                    str(listing),
                    lang=self._packs,
                    config="--psm 7",  # each crop is one line
                    output_type=pytesseract.Output.DICT,
                    timeout=seconds,
                )
            except pytesseract.TesseractError as error:
                raise TransientError(f"Tesseract could not read a batch of text ({error}).") from error
            except RuntimeError as error:  # how pytesseract says that the time is over
                raise TimeoutError from error
        return [self._reading(words, page) for page in range(1, len(crops) + 1)]

    @staticmethod
    def _framed(crop: Image) -> Image:
        # Tesseract wants letters of about 30 px and some room around them.
        scale = max(1.0, 40 / crop.shape[0])
        larger = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        framed: Image = cv2.copyMakeBorder(larger, 8, 8, 8, 8, cv2.BORDER_REPLICATE)
        return framed

    @staticmethod
    def _reading(words: dict[str, list[str]], page: int) -> Reading:
        columns = ("text", "conf", "page_num", "left", "width", "height")
        rows = zip(*(words[column] for column in columns), strict=True)
        found = [
            (word.strip(), float(confidence), int(left), int(width), int(height))
            for word, confidence, at, left, width, height in rows
            if int(at) == page and word.strip()
        ]
        if not found:
            return Reading("", 0.0)
        text = joined([(word, left, left + width) for word, _, left, width, _ in found], max(row[4] for row in found))
        return Reading(text, sum(row[1] for row in found) / len(found) / 100)


def installed_packs() -> frozenset[str]:
    """Return the names of the trained data that Tesseract finds.

    Raises:
        MachineError: the binary is not installed, or does not run.
    """
    try:
        return frozenset(pytesseract.get_languages())
    except pytesseract.TesseractNotFoundError as error:
        raise MachineError(NO_TESSERACT) from error
    except (pytesseract.TesseractError, OSError) as error:
        raise MachineError(f"Tesseract does not say which languages it has ({error}); install it again.") from error


def ink_covered(line: Image, seen: NDArray[np.bool_], width: int) -> float:
    """Return at which share of a line's ink a recogniser saw letters.

    Args:
        line: Shape (height, width of the line, 3).
        seen: Whether it saw one at each of its places, which lie evenly over ``width`` pixels.
        width: Of what the recogniser got, in pixels: the line and what was added behind it.
    """
    grey = cv2.cvtColor(line, cv2.COLOR_BGR2GRAY)
    height = len(grey)
    inner = grey[height // 12 : height - height // 12].astype(np.int16)
    contrast = inner.max(0) - inner.min(0)
    ink = contrast > 0.4 * np.percentile(contrast, 95)
    near = np.zeros(len(ink), bool)
    for place in np.flatnonzero(seen):
        middle, reach = (place + 0.5) * width / len(seen), 0.625 * height
        near[max(0, int(middle - reach)) : int(middle + reach)] = True
    return float((ink & near).sum() / max(1, ink.sum()))


def has_strokes(line: Image) -> bool:
    """Tell whether a picture of one line could show letters at all, and not just a bar or a block.

    Args:
        line: Shape (height, width, 3).
    """
    grey = cv2.cvtColor(line, cv2.COLOR_BGR2GRAY)
    dark, bright = np.percentile(grey, (5, 95))
    if bright - dark < LEAST_CONTRAST:
        return False
    edges = np.diff((grey > (dark + bright) / 2).astype(np.int8), axis=1) != 0
    return float(edges.sum(axis=1).mean()) >= LEAST_STROKES


def parts(crops: Sequence[Image]) -> Iterator[Sequence[Image]]:
    """Cut crops into what an engine takes at once."""
    return (crops[start : start + CROPS_AT_ONCE] for start in range(0, len(crops), CROPS_AT_ONCE))
