"""Regions: where in a frame a line of text stands, found by RapidOCR's detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from rapidocr.utils.process_img import get_rotate_crop_image

from daemon.pipeline.inference import CpuModel, Normalisation
from daemon.pipeline.libraries import without_init
from daemon.pipeline.models import file_sha256
from daemon.pipeline.overlap import spread
from daemon.pipeline.records import Box, Image, ModelInfo, VideoInfo

if TYPE_CHECKING:
    from daemon.pipeline.onnx_model import OnnxModel

with without_init("rapidocr.ch_ppocr_det"):  # which imports networks of all kinds: a tenth of the time of a start
    from rapidocr.ch_ppocr_det.utils import DBPostProcess

ROLE = "text_regions"
PADDLE = Normalisation(mean=127.5, scale=127.5, rgb=False)
"""What RapidOCR's networks want."""
MOST_ENLARGED = 2.0
"""How far smaller pictures are enlarged before RapidOCR's detector sees them, at most."""
LEAST_SIDE = 256
"""Shorter side, in pixels, to which they are enlarged whatever that takes."""
MOST_OF_SIZE = 1.5
"""Taller frames are seen at up to so many times the setting's size: in a frame of 2160 lines small letters are lost at
736, and are found at 1088."""
QUICK = 0.5
"""What a quick look makes of the size of a full one: a third of the time."""
LEAST_HEIGHT = 13.0
"""Height of a region, in pixels of the network's input, from which on it is found in nearly every picture."""
END_ROOM = 0.35
"""What a crop gets behind a line that RapidOCR's detector found, in heights of the line: without it the recogniser
loses the last letter of one line in ten where lines are looked for at 384 pixels (measured: docs/performance.md)."""
TRIM = 0.05
"""What a crop loses above and below, in heights of the line, so that its letters are larger for the recogniser: it
reads 88 % instead of 85 % of lines letter by letter (measured: docs/performance.md). With more it takes capitals for
small letters. A line found in a quick look has looser edges, and loses twice as much."""

Quad = NDArray[np.float32]
"""Corners, shape (4, 2): x and y in pixels of the frame, from the top left, clockwise."""


@dataclass(frozen=True)
class Region:
    """Where a line of text stands."""

    box: Box
    confidence: float
    quad: Quad
    """What the reader gets: the line as it lies, with some room around it."""
    outline: Quad
    """The line as it was found, without that room; ``box`` is the upright box around it."""


def rapidocr_models() -> tuple[Path, Path]:
    """Return the paths of the text detector and the recogniser that come with RapidOCR."""
    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "models"
    return folder / "PP-OCRv6_det_small.onnx", folder / "PP-OCRv6_rec_small.onnx"


class RapidOcrRegions:
    """Finds the lines of text in frames: RapidOCR's detector (DB), under OpenVINO or on a GPU.

    Bf16 halves the time of the dearest network of all, and where a line stands hardly moves (measured:
    docs/performance.md). What is read there is computed in fp32.

    Args:
        short_side: Shorter side of the picture that the network sees of a frame that is not taller, in pixels.
        device: ``cpu`` or ``cuda:N``.
        half: Use bf16 on the CPU, which must have it.

    Raises:
        MachineError: the GPU cannot be used.
    """

    def __init__(self, short_side: int, device: str = "cpu", *, half: bool = False) -> None:
        self._path, _ = rapidocr_models()
        self._short_side = short_side
        self._device = device.split(":")[0]
        self._model: CpuModel | OnnxModel
        if device == "cpu":
            self._model = CpuModel(self._path, PADDLE, half=half)
        else:
            from daemon.pipeline.onnx_model import OnnxModel  # loads torch

            self._model = OnnxModel(self._path, PADDLE, device)
        self._regions = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)

    def input_size(self, height: int, width: int, *, quick: bool = False) -> tuple[int, int]:
        """Return height and width of the network's input for a frame; multiples of 32."""
        least, most = min(height, width), max(height, width)
        short = min(max(self._short_side, least), self._short_side * MOST_OF_SIZE)
        short = min(short, max(LEAST_SIDE, least * MOST_ENLARGED)) * (QUICK if quick else 1)
        scale = min(short / least, 4 * short / most)
        # The shorter side decides the scale, so that rounding it to steps of 32 does not squeeze the letters.
        steps = max(1, round(least * scale / 32)) * 32
        scale = steps / least
        return max(32, round(height * scale / 32) * 32), max(32, round(width * scale / 32) * 32)

    def model(self, info: VideoInfo) -> ModelInfo:
        """Return what this adds to the ``models`` of such a video's result."""
        size = list(self.input_size(info.height, info.width))
        runtime, precision = self._model.runtime, self._model.precision
        return ModelInfo(self._path.stem, ROLE, runtime, self._device, precision, size, file_sha256(self._path))

    def least_quick_height(self, image: Image) -> float:
        """Return how tall a line must be, in pixels of such a frame, to be found in a quick look."""
        height, width = image.shape[:2]
        rows, _ = self.input_size(height, width, quick=True)
        return LEAST_HEIGHT * float(height) / rows

    def __call__(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Region]]:
        """Return the regions of each frame. Frames are of one size; what is found in one depends on it alone.

        Args:
            images: The frames.
            quick: Look at a picture of half the size, in which small text is lost.
        """
        if not images:
            return []
        height, width = images[0].shape[:2]
        rows, columns = self.input_size(height, width, quick=quick)
        maps = self._model(spread(lambda image: cv2.resize(image, (columns, rows)), images))
        trim = TRIM / QUICK if quick else TRIM
        return list(spread(lambda output: self._found(output, height, width, trim), maps))

    def _found(self, output: NDArray[np.float32], height: int, width: int, trim: float) -> list[Region]:
        quads, scores = self._regions(output, (height, width))
        quads = [np.asarray(quad, np.float32) for quad in quads]
        return [
            Region(enclosing(quad), float(score), with_room(quad, trim), quad)
            for quad, score in zip(quads, scores, strict=True)
        ]


def crop(image: Image, region: Region) -> Image:
    """Return the picture of a region, turned upright; one more than 1.5 times as tall as wide is laid on its side."""
    picture: Image = get_rotate_crop_image(image, region.quad)
    return picture


def enclosing(quad: Quad) -> Box:
    """Return the upright box around a region."""
    x1, y1 = quad.min(axis=0).tolist()
    x2, y2 = quad.max(axis=0).tolist()
    return (x1, y1, x2, y2)


def direction(quad: Quad) -> Quad:
    """Return which way the longer side of a region runs, shape (2,), of length 1."""
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    longer = max(along, down, key=lambda side: float(np.linalg.norm(side)))
    length = float(np.linalg.norm(longer))
    return np.asarray(longer / length if length else (1, 0), np.float32)


def spans(quad: Quad, along: Quad) -> Box:
    """Return where corners lie in axes of which the first has a direction: a box if that is from left to right."""
    axes = np.asarray([along, (-along[1], along[0])], np.float32)
    return enclosing(np.asarray(quad @ axes.T, np.float32))


def with_room(quad: Quad, trim: float = TRIM) -> Quad:
    """Return a region made longer at its end and a little lower; one that stands upright stays as it is."""
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    length, height = float(np.linalg.norm(along)), float(np.linalg.norm(down))
    if length < 1 or height > 1.5 * length:
        return quad
    more, less = along / length * height * END_ROOM, down * trim
    return np.asarray([quad[0] + less, quad[1] + more + less, quad[2] + more - less, quad[3] - less], np.float32)
