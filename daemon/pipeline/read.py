"""Text: read the regions that hold a line.

Looking for regions is the dearest step of the pipeline on a CPU, reading the next, so both are done only where
the picture changed (``looks.py``). What is remembered is forgotten at the edge of a segment.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import cv2

from daemon.pipeline.lines import Line, Writing, way_of
from daemon.pipeline.looks import LineFinder
from daemon.pipeline.order import EASTERN, in_turned_order
from daemon.pipeline.overlap import spread
from daemon.pipeline.readings import LEAST_COVERED, Reading, TextReader
from daemon.pipeline.records import Analysis, Box, Detection, Image, ModelInfo, TextBlock, VideoInfo
from daemon.pipeline.regions import RapidOcrRegions, crop
from daemon.pipeline.scripts import settle
from daemon.settings import Settings

JOINERS = "\u200c\u200d"
"""Signs without width that belong to the spelling of Persian, Hindi and others."""
SPECKS = ".,:;\u00b7\u2022\u2219\u2026\u3001\u3002\u30fb'\"\u201a\u201e\u2032\u2033_|/\\~\u2212\u00a6\u00b0"
SPECK_CATEGORIES = frozenset({"Pd", "Pi", "Pf", "Sk", "Zs"})
"""Marks that dust, edges and rules are read as, and the Unicode categories of dashes, quotes, accents and spaces. A
line of nothing else says nothing; a digit, a letter or a sign such as ``?``, ``!``, ``%`` or ``$`` does."""

USUAL_LOOK_SECONDS: float = Settings.model_fields["text_look_seconds"].default
TURN_BELOW = 0.9
"""A line that is read with less is read upside down as well. Lines that stand as they should are nearly all read with
more, and hardly a line upside down is (measured: docs/performance.md)."""


class TextStage:
    """Finds and reads the lines of text in whole frames.

    Args:
        finder: Finds regions.
        reader: Reads crops.
        least_confidence: Lines read with less are left out.
        detecting: Give the regions as detections too, of the class ``text``, whatever was read in them.
        look_seconds: Longest time between two looks for lines while anything changes.
    """

    name = "text"
    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        finder: RapidOcrRegions,
        reader: TextReader,
        least_confidence: float,
        *,
        detecting: bool = False,
        look_seconds: float = USUAL_LOOK_SECONDS,
    ) -> None:
        self.gives = frozenset({"text_blocks", "detections"} if detecting else {"text_blocks"})
        self._finder = finder
        self._lines = LineFinder(finder, least_confidence, self._read, look_seconds)
        self._reader = reader
        self._least_confidence = least_confidence
        self._detecting = detecting
        self.steps = 0

    def models(self, info: VideoInfo) -> list[ModelInfo]:
        """See Stage.models."""
        return [self._finder.model(info), *self._reader.models()]

    def new_segment(self) -> None:
        """See Stage.new_segment."""
        self._lines.new_segment()

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        """See Stage."""
        images, times = [each.frame.image for each in batch], [each.frame.timestamp_s for each in batch]
        self.steps += 1
        lines_by_frame = self._lines(images, times)
        return [
            replace(
                each,
                detections=self._detections(each, lines),
                text_blocks=self._blocks(lines),
                text_unread=unread_boxes(lines),
                letters_unread=any(line.reading and line.reading.covered < LEAST_COVERED for line in lines),
            )
            for each, lines in zip(batch, lines_by_frame, strict=True)
        ]

    def _read(self, writings: Collection[Writing]) -> None:
        places = [(each.image, each.region) for each in writings if each.image is not None]
        crops = list(spread(lambda place: crop(*place), places))
        doubtful: list[tuple[Writing, Reading, Image]] = []
        for writing, picture, reading in zip(writings, crops, self._read_each(crops), strict=True):
            writing.image, writing.reading = None, reading
            if reading and reading.confidence < TURN_BELOW:
                doubtful.append((writing, reading, cv2.rotate(picture, cv2.ROTATE_180)))
        turned = self._read_each([picture for _, _, picture in doubtful])
        for (writing, upright, _), reading in zip(doubtful, turned, strict=True):
            if reading and reading.confidence >= max(TURN_BELOW, upright.confidence):
                writing.reading, writing.on_head = reading, True
        for writing in writings:
            writing.keep_surer()

    def _read_each(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        for reading in self._reader(crops):
            yield cleaned(reading)
            self.steps += 1

    def _detections(self, each: Analysis, lines: Sequence[Line]) -> tuple[Detection, ...]:
        if not self._detecting:
            return each.detections
        regions = sorted((line.region for line in lines), key=lambda region: -region.confidence)
        return tuple(Detection(region.box, "text", 0, region.confidence) for region in regions)

    def _blocks(self, lines: Sequence[Line]) -> tuple[TextBlock, ...]:
        good = [
            (TextBlock(line.region.box, reading.text, reading.confidence), line.region.outline, way_of(line))
            for line, reading in zip(lines, settle([line.reading for line in lines]), strict=True)
            if reading and reading.text and reading.confidence >= self._least_confidence
        ]
        return tuple(in_turned_order(good))


def unread_boxes(lines: Sequence[Line]) -> tuple[Box, ...]:
    """Return where there are lines that the engine gave up."""
    return tuple(sorted(line.region.box for line in lines if line.reading is None))


def cleaned(reading: Reading | None) -> Reading | None:
    """Return a reading with clean text."""
    return reading and replace(reading, text=clean(reading.text), twin=cleaned(reading.twin))


def clean(text: str) -> str:
    """Return text on one line, with single spaces and no control characters.

    The recogniser writes full-width signs now and then; in a line without Chinese, Japanese or Korean letters they are
    replaced by the plain ones. Nothing is left of a line of specks.
    """
    if not EASTERN.search(text):
        text = "".join(
            unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" or c == "\u3000" else c for c in text
        )
    text = re.sub(r"\s+", " ", "".join(c if c.isprintable() or c in JOINERS else " " for c in text)).strip()
    return text if any(c not in SPECKS and unicodedata.category(c) not in SPECK_CATEGORIES for c in text) else ""
