"""OCR engines, which read the picture of one line: RapidOCR's recogniser and Tesseract."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pytesseract
from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

from daemon.errors import MachineError, TransientError
from daemon.pipeline.gpu import OnnxModel, onnx_device
from daemon.pipeline.inference import CpuModel, character_list
from daemon.pipeline.models import file_sha256
from daemon.pipeline.overlap import spread
from daemon.pipeline.records import Image, ModelInfo
from daemon.pipeline.regions import PADDLE, rapidocr_models
from daemon.settings import Settings

log = logging.getLogger(__name__)

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
