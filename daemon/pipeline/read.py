"""Text: read the regions that hold a line.

Looking for regions is the dearest step of the pipeline on a CPU, reading the next, so both are done only where
the picture changed. What is remembered is forgotten at the edge of a segment.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytesseract
from numpy.typing import NDArray
from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode
from rapidocr.utils.process_img import get_rotate_crop_image

from daemon.errors import MachineError, TransientError
from daemon.pipeline.gpu import OnnxModel, onnx_device
from daemon.pipeline.inference import CpuModel, character_list
from daemon.pipeline.models import file_sha256
from daemon.pipeline.overlap import spread
from daemon.pipeline.records import Analysis, Box, Detection, Image, ModelInfo, TextBlock, VideoInfo
from daemon.pipeline.regions import PADDLE, Quad, Region, RegionFinder, rapidocr_models
from daemon.settings import Settings

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 360
"""Shorter side, in pixels, of the grey picture in which changes are looked for."""
LEAST_THUMBNAIL = 1 / 3
"""Smallest scale of that picture, so that a letter of a large frame still covers some of its pixels."""
CHANGE_THRESHOLD = 24
"""Difference of a thumbnail's pixels (0 to 255) above which the picture counts as changed. Coding noise on still
text stays below it; the smallest change that matters, a digit, is far above (measured: docs/performance.md)."""
EDGE_SHIFT = 0.35
"""How far a region's edges may move, in heights of its line, and still be the same line: regions found anew
jitter by a pixel or two, while a character more moves an edge by half a height."""
CROPS_AT_ONCE = 32
"""Crops that an engine takes at most before it gives their readings, so that much text is seen to be worked on."""

LEAST_SECONDS = 5.0
"""What Tesseract gets at least to start and to read one crop before that is given up."""


@dataclass(frozen=True)
class Reading:
    """What an engine read in one crop."""

    text: str
    confidence: float


class TextReader(Protocol):
    """An OCR engine."""

    def models(self) -> list[ModelInfo]:
        """Return what this adds to a result's ``models``."""

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        """Read pictures of one line each, and give each reading as soon as it is there.

        A reading depends on its crop alone, not on the others. None stands for a crop that was given up.
        """


class RapidOcrReader:
    """Reads with RapidOCR's recogniser (PP-OCR), under OpenVINO or on a GPU.

    Args:
        device: ``cpu`` or ``cuda:N``.

    Raises:
        MachineError: the GPU cannot be used.
    """

    height = 48
    least_width = 96
    most_width = 3200

    def __init__(self, device: str = "cpu") -> None:
        _, self._path = rapidocr_models()
        self._device = device.split(":")[0]
        on_cpu = device == "cpu"
        self._model = CpuModel(self._path, PADDLE, any_width=True) if on_cpu else OnnxModel(self._path, PADDLE, device)
        self._decode = CTCLabelDecode(character=character_list(self._path))

    def models(self) -> list[ModelInfo]:
        """See TextReader.models."""
        runtime, sha256 = self._model.runtime, file_sha256(self._path)
        return [ModelInfo(self._path.stem, "text", runtime, self._device, "fp32", None, sha256)]

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading]:
        """See TextReader."""
        for some in parts(crops):
            for classes, scores in self._model.best(spread(self._fitted, some)):
                yield Reading(*self._decode.decode(classes, scores, remove_duplicate=True)[0][0])

    def _fitted(self, crop: Image) -> Image:
        """Scale to the network's height and pad to a width of a few steps, so that few shapes are seen."""
        rows, columns = crop.shape[:2]
        wide = min(max(1, round(columns * self.height / rows)), self.most_width)
        padded = np.full((self.height, max(self.least_width, -(-wide // 32) * 32), 3), 127, np.uint8)
        padded[:, :wide] = cv2.resize(crop, (wide, self.height))
        return padded


class TesseractReader:
    """Reads with the Tesseract binary: one process for up to 32 crops.

    Tesseract can fail to return, on noise. Then the crops are read one by one, and that which holds it up is given up.

    Args:
        stall_seconds: The setting. A crop alone may take a sixth of it (5 s at least) and 32 half of it, so that
            something is read or given up before the job counts as stalled.

    Raises:
        MachineError: the binary is not installed.
    """

    def __init__(self, stall_seconds: float = 60.0) -> None:
        self._longest_seconds = stall_seconds / 2
        self._longest_alone_seconds = min(max(stall_seconds / 6, LEAST_SECONDS), stall_seconds / 5)
        try:
            self._version = str(pytesseract.get_tesseract_version())
        except pytesseract.TesseractNotFoundError as error:
            raise MachineError(
                "The text engine tesseract is set, but its program is not installed; install the package "
                "tesseract-ocr, or set text_engine to rapidocr."
            ) from error

    def models(self) -> list[ModelInfo]:
        """See TextReader.models."""
        return [ModelInfo(f"tesseract-{self._version}", "text", "tesseract", "cpu", "fp32", None, None)]

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
        found = [
            (word.strip(), float(confidence))
            for word, confidence, at in zip(words["text"], words["conf"], words["page_num"], strict=True)
            if int(at) == page and word.strip()
        ]
        if not found:
            return Reading("", 0.0)
        return Reading(" ".join(word for word, _ in found), sum(c for _, c in found) / len(found) / 100)


def load_reader(settings: Settings, device: str = "cpu") -> TextReader:
    """Load the engine that the settings name.

    Args:
        settings: Which one.
        device: ``cpu`` or ``cuda:N``; Tesseract has no use for a GPU.

    Raises:
        MachineError: it is not installed, or the GPU cannot be used.
    """
    if settings.text_engine == "tesseract":
        return TesseractReader(settings.stall_seconds)
    return RapidOcrReader(onnx_device(settings.device, device))


def parts(crops: Sequence[Image]) -> Iterator[Sequence[Image]]:
    """Cut crops into what an engine takes at once."""
    return (crops[start : start + CROPS_AT_ONCE] for start in range(0, len(crops), CROPS_AT_ONCE))


@dataclass
class Line:
    """A region, what it looked like when it was read, and what was read."""

    region: Region
    patch: NDArray[Any]
    """The region in the thumbnail."""
    reading: Reading | None = field(default=Reading("", 0.0))
    """None if the engine gave it up."""


class TextStage:
    """Finds and reads the lines of text in whole frames.

    Args:
        finder: Finds regions.
        reader: Reads crops.
        least_confidence: Lines read with less are left out.
        detecting: Give the regions as detections too, of the class ``text``, whatever was read in them.
    """

    name = "text"
    needs: frozenset[str] = frozenset()

    def __init__(
        self, finder: RegionFinder, reader: TextReader, least_confidence: float, *, detecting: bool = False
    ) -> None:
        self.gives = frozenset({"text_blocks", "detections"} if detecting else {"text_blocks"})
        self._finder = finder
        self._reader = reader
        self._least_confidence = least_confidence
        self._detecting = detecting
        self.steps = 0
        self.new_segment()

    def models(self, info: VideoInfo) -> list[ModelInfo]:
        """See Stage.models."""
        return [self._finder.model(info), *self._reader.models()]

    def new_segment(self) -> None:
        """See Stage.new_segment."""
        self._looked: NDArray[Any] | None = None
        """Glance at the last frame in which regions were looked for."""
        self._lines: list[Line] = []
        """Lines of the last frame."""

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        """See Stage. All regions are found in one call of the network, all new lines are read in another."""
        images = [each.frame.image for each in batch]
        thumbnails = spread(thumbnail, images)
        changed = [self._changed(now) for now in thumbnails]
        found = iter(self._finder([image for image, new in zip(images, changed, strict=True) if new]))
        self.steps += 1
        places: list[tuple[Image, Quad]] = []
        unread: list[Line] = []
        lines_by_frame: list[list[Line]] = []
        for image, now, new in zip(images, thumbnails, changed, strict=True):
            if new:
                lines = []
                for region in next(found):
                    line = self._known(region, image, now)
                    if line is None:
                        line = Line(region, patch(now, region.box, image).copy())
                        unread.append(line)
                        places.append((image, region.quad))
                    lines.append(line)
                self._lines = lines
            lines_by_frame.append(self._lines)
        crops = spread(lambda place: get_rotate_crop_image(*place), places)
        for line, reading in zip(unread, self._reader(crops), strict=True):
            line.reading = Reading(clean(reading.text), reading.confidence) if reading else None
            self.steps += 1
        return [
            Analysis(each.frame, self._detections(each, lines), self._blocks(lines), unread_boxes(lines))
            for each, lines in zip(batch, lines_by_frame, strict=True)
        ]

    def _changed(self, now: NDArray[Any]) -> bool:
        if self._looked is not None and not differs(self._looked, now):
            return False
        self._looked = now
        return True

    def _known(self, region: Region, image: Image, now: NDArray[Any]) -> Line | None:
        for line in self._lines:
            box = line.region.box
            shift = EDGE_SHIFT * (box[3] - box[1])
            if all(abs(a - b) <= shift for a, b in zip(region.box, box, strict=True)) and not differs(
                line.patch, patch(now, box, image)
            ):
                return line
        return None

    def _detections(self, each: Analysis, lines: Sequence[Line]) -> tuple[Detection, ...]:
        if not self._detecting:
            return each.detections
        regions = sorted((line.region for line in lines), key=lambda region: -region.confidence)
        return tuple(Detection(region.box, "text", 0, region.confidence) for region in regions)

    def _blocks(self, lines: Sequence[Line]) -> tuple[TextBlock, ...]:
        good = [
            TextBlock(line.region.box, line.reading.text, line.reading.confidence)
            for line in lines
            if line.reading and line.reading.text and line.reading.confidence >= self._least_confidence
        ]
        return tuple(in_reading_order(good))


def unread_boxes(lines: Sequence[Line]) -> tuple[Box, ...]:
    """Return where there are lines that the engine gave up."""
    return tuple(sorted(line.region.box for line in lines if line.reading is None))


def thumbnail(image: Image) -> NDArray[Any]:
    """Return a small grey copy of a frame, for telling what changed."""
    height, width = image.shape[:2]
    scale = min(1.0, max(LEAST_THUMBNAIL, THUMBNAIL_SIDE / min(height, width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: NDArray[Any] = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return small


def patch(now: NDArray[Any], box: Box, image: Image) -> NDArray[Any]:
    """Return the part of a thumbnail that a box of its frame covers; at least one pixel."""
    down, across = now.shape[0] / image.shape[0], now.shape[1] / image.shape[1]
    x1, y1 = min(int(box[0] * across), now.shape[1] - 1), min(int(box[1] * down), now.shape[0] - 1)
    return now[y1 : max(y1 + 1, round(box[3] * down)), x1 : max(x1 + 1, round(box[2] * across))]


def differs(before: NDArray[Any], now: NDArray[Any]) -> bool:
    """Tell whether any pixel of two grey pictures of one size differs by more than noise."""
    return int(cv2.absdiff(before, now).max()) > CHANGE_THRESHOLD


def clean(text: str) -> str:
    """Return text on one line, with single spaces and no control characters."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()


def in_reading_order(blocks: Sequence[TextBlock]) -> list[TextBlock]:
    """Sort lines of text from top to bottom; those at one height, from left to right."""
    ordered: list[TextBlock] = []
    row: list[TextBlock] = []
    for block in sorted(blocks, key=lambda b: (b.box[1] + b.box[3], b.box)):
        if row and (block.box[1] + block.box[3]) / 2 > row[0].box[3]:
            ordered += sorted(row, key=lambda b: b.box)
            row = []
        row.append(block)
    return ordered + sorted(row, key=lambda b: b.box)
