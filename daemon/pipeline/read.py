"""Text: read the regions that hold a line.

Looking for regions is the dearest step of the pipeline on a CPU, reading the next, so both are done only where
the picture changed. What is remembered is forgotten at the edge of a segment.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from daemon.pipeline.changes import Patch, cut, differs, differs_within, thumbnail, union
from daemon.pipeline.overlap import spread
from daemon.pipeline.readings import LEAST_COVERED, Reading, TextReader
from daemon.pipeline.records import Analysis, Box, Detection, Image, ModelInfo, TextBlock, VideoInfo
from daemon.pipeline.regions import Region, RegionFinder, crop, enclosing
from daemon.pipeline.scripts import settle

_SPECKS = frozenset(".,:;'`\"^~°*|¦_-·•‧・„\u00b4\u2013\u2014\u2018\u2019\u201a\u201c\u201d")
"""Marks that dust, edges and compression are read as. A line of nothing else says nothing."""
JOINERS = "\u200c\u200d"
"""Signs without width that belong to the spelling of Persian, Hindi and others."""
_EASTERN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")

EDGE_SHIFT = 0.35
"""How far a region's edges may move, in heights of its line, and still be the same line: regions found anew
jitter by a pixel or two, while a character more moves an edge by half a height."""


@dataclass
class Line:
    """A region, what it looked like when it was read, and what was read."""

    region: Region
    seen: Patch
    """What it looked like, with the room around it into which its edges may move."""
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
        """Thumbnail of the last frame in which regions were looked for."""
        self._lines: list[Line] = []
        """Lines of the last frame."""

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        """See Stage. All regions are found in one call of the network, all new lines are read in another."""
        images = [each.frame.image for each in batch]
        thumbnails = spread(thumbnail, images)
        changed = [self._changed(now) for now in thumbnails]
        found = iter(self._finder([image for image, new in zip(images, changed, strict=True) if new]))
        self.steps += 1
        places: list[tuple[Image, Region]] = []
        unread: list[Line] = []
        lines_by_frame: list[list[Line]] = []
        for image, now, new in zip(images, thumbnails, changed, strict=True):
            if new:
                lines = []
                for region in next(found):
                    line = self._known(region, image, now)
                    if line is None:
                        line = Line(region, cut(now, image, with_margin(read_box(region))))
                        unread.append(line)
                        places.append((image, region))
                    lines.append(line)
                self._lines = lines
            lines_by_frame.append(self._lines)
        crops = spread(lambda place: crop(*place), places)
        for line, reading in zip(unread, self._reader(crops), strict=True):
            line.reading = cleaned(reading)
            self.steps += 1
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

    def _changed(self, now: NDArray[Any]) -> bool:
        if self._looked is not None and not differs(self._looked, now):
            return False
        self._looked = now
        return True

    def _known(self, region: Region, image: Image, now: NDArray[Any]) -> Line | None:
        for line in self._lines:
            box = line.region.box
            shift = EDGE_SHIFT * (box[3] - box[1])
            if all(abs(a - b) <= shift for a, b in zip(region.box, box, strict=True)):
                both = union(read_box(line.region), read_box(region))  # a sign may have come at either end
                if not differs_within(line.seen, now, image, both):
                    return line
        return None

    def _detections(self, each: Analysis, lines: Sequence[Line]) -> tuple[Detection, ...]:
        if not self._detecting:
            return each.detections
        regions = sorted((line.region for line in lines), key=lambda region: -region.confidence)
        return tuple(Detection(region.box, "text", 0, region.confidence) for region in regions)

    def _blocks(self, lines: Sequence[Line]) -> tuple[TextBlock, ...]:
        good = [
            TextBlock(line.region.box, reading.text, reading.confidence)
            for line, reading in zip(lines, settle([line.reading for line in lines]), strict=True)
            if reading and reading.text and reading.confidence >= self._least_confidence
        ]
        return tuple(in_reading_order(good))


def unread_boxes(lines: Sequence[Line]) -> tuple[Box, ...]:
    """Return where there are lines that the engine gave up."""
    return tuple(sorted(line.region.box for line in lines if line.reading is None))


def read_box(region: Region) -> Box:
    """Return the upright box around all that is read of a region: its letters and the room at its ends."""
    return union(region.box, enclosing(region.quad))


def with_margin(box: Box) -> Box:
    """Return a box with the room into which a line's edges may move."""
    room = 2 * EDGE_SHIFT * (box[3] - box[1])
    return box[0] - room, box[1] - room, box[2] + room, box[3] + room


def cleaned(reading: Reading | None) -> Reading | None:
    """Return a reading with clean text."""
    return reading and replace(reading, text=clean(reading.text), twin=cleaned(reading.twin))


def clean(text: str) -> str:
    """Return text on one line, with single spaces and no control characters.

    The recogniser writes full-width signs now and then; in a line without Chinese, Japanese or Korean letters they are
    replaced by the plain ones. Of a line that is nothing but specks nothing is left.
    """
    if not _EASTERN.search(text):
        text = "".join(
            unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" or c == "\u3000" else c for c in text
        )
    text = re.sub(r"\s+", " ", "".join(c if c.isprintable() or c in JOINERS else " " for c in text)).strip()
    return "" if _SPECKS.issuperset(text.replace(" ", "")) else text


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
