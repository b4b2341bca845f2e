"""Regions: where in a frame a line of text stands, found by RapidOCR's detector or by the YOLO in the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from rapidocr.ch_ppocr_det.utils import DBPostProcess
from rapidocr.utils.process_img import get_rotate_crop_image

from daemon.pipeline.gpu import OnnxModel, onnx_device
from daemon.pipeline.inference import CpuModel, Normalisation
from daemon.pipeline.models import bundled_weights, file_sha256, finds_own_regions
from daemon.pipeline.overlap import spread
from daemon.pipeline.records import Box, Detection, Image, ModelInfo, VideoInfo
from daemon.pipeline.yolo import Yolo
from daemon.settings import Settings

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
loses the last letter of one line in ten (measured: docs/performance.md)."""

YOLO_SIDE = 640
"""Longer side of the YOLO's input in pixels: the size of its training; larger ones find no more scene text and
split large lines (measured: docs/text-detector.md)."""
YOLO_CONFIDENCE = 0.3
YOLO_IOU = 0.5
"""Boxes that overlap more than this are one line; text lines next to each other hardly overlap at all."""
YOLO_ROOM = 0.25
"""What a crop gets on each side of a box of the YOLO's, in heights of the line."""

Quad = NDArray[np.float32]
"""Corners, shape (4, 2): x and y in pixels of the frame, from the top left, clockwise."""


@dataclass(frozen=True)
class Region:
    """Where a line of text stands."""

    box: Box
    confidence: float
    quad: Quad
    """What the reader gets: the line as it lies, with some room around it."""


class RegionFinder(Protocol):
    """Finds the lines of text in frames."""

    def model(self, info: VideoInfo) -> ModelInfo:
        """Return what this adds to the ``models`` of such a video's result."""

    def least_quick_height(self, image: Image) -> float:
        """Return how tall a line must be, in pixels of such a frame, to be found in a quick look."""

    def __call__(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Region]]:
        """Return the regions of each frame. Frames are of one size; what is found in one depends on it alone.

        Args:
            images: The frames.
            quick: Look at a smaller picture, in which small text is lost, where that saves time.
        """


def rapidocr_models() -> tuple[Path, Path]:
    """Return the paths of the text detector and the recogniser that come with RapidOCR."""
    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "models"
    return folder / "PP-OCRv6_det_small.onnx", folder / "PP-OCRv6_rec_small.onnx"


class RapidOcrRegions:
    """A RegionFinder: RapidOCR's detector (DB), under OpenVINO or on a GPU.

    In bf16 where the processor has it: that halves the time of the dearest network of all, and where a line stands
    hardly moves (measured: docs/performance.md). What is read there is computed in fp32.

    Args:
        short_side: Shorter side of the picture that the network sees of a frame that is not taller, in pixels.
        device: ``cpu`` or ``cuda:N``.
        half: Use bf16 where there is bf16.

    Raises:
        MachineError: the GPU cannot be used.
    """

    def __init__(self, short_side: int, device: str = "cpu", *, half: bool = True) -> None:
        self._path, _ = rapidocr_models()
        self._short_side = short_side
        self._device = device.split(":")[0]
        on_cpu = device == "cpu"
        self._model = CpuModel(self._path, PADDLE, half=half) if on_cpu else OnnxModel(self._path, PADDLE, device)
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
        """See RegionFinder."""
        size = list(self.input_size(info.height, info.width))
        runtime, precision = self._model.runtime, self._model.precision
        return ModelInfo(self._path.stem, ROLE, runtime, self._device, precision, size, file_sha256(self._path))

    def least_quick_height(self, image: Image) -> float:
        """See RegionFinder."""
        height, width = image.shape[:2]
        rows, _ = self.input_size(height, width, quick=True)
        return LEAST_HEIGHT * float(height) / rows

    def __call__(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Region]]:
        """See RegionFinder."""
        if not images:
            return []
        height, width = images[0].shape[:2]
        rows, columns = self.input_size(height, width, quick=quick)
        maps = self._model(spread(lambda image: cv2.resize(image, (columns, rows)), images))
        return spread(lambda output: self._found(output, height, width), maps)

    def _found(self, output: NDArray[np.float32], height: int, width: int) -> list[Region]:
        quads, scores = self._regions(output, (height, width))
        quads = [np.asarray(quad, np.float32) for quad in quads]
        return [Region(enclosing(q), float(score), with_room(q)) for q, score in zip(quads, scores, strict=True)]


class YoloRegions:
    """A RegionFinder: the YOLO that comes with Dropframe (docs/text-detector.md)."""

    def __init__(self, yolo: Yolo) -> None:
        self._yolo = yolo

    @classmethod
    def load(cls, settings: Settings, device: str) -> YoloRegions:
        """Load the weights in the box for a device.

        Raises:
            ModelError: they cannot be used.
        """
        return cls(
            Yolo.load(
                bundled_weights(),
                settings,
                device,
                side=YOLO_SIDE,
                confidence=YOLO_CONFIDENCE,
                iou=YOLO_IOU,
            )
        )

    def model(self, info: VideoInfo) -> ModelInfo:
        """See RegionFinder."""
        return self._yolo.model(ROLE, info)

    def least_quick_height(self, image: Image) -> float:
        """See RegionFinder. No line is: it looks at one size."""
        return float("inf")

    def __call__(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Region]]:
        """See RegionFinder. A quick look finds nothing."""
        if quick:
            return [[] for _ in images]
        return [one_box_a_line(seen.detections) for seen in self._yolo(images)]


def load_finder(settings: Settings, device: str) -> RegionFinder:
    """Load the finder that the settings name.

    Args:
        settings: Which one.
        device: ``cpu`` or ``cuda:N``.

    Raises:
        ModelError: its weights cannot be used.
        MachineError: the GPU cannot be used.
    """
    if finds_own_regions(settings):
        return YoloRegions.load(settings, device)
    return RapidOcrRegions(settings.text_detect_size, onnx_device(settings.device, device))


def one_box_a_line(detections: Sequence[Detection]) -> list[Region]:
    """Join boxes that hold pieces of one line: they overlap, stand at one height and are about as tall.

    A line as wide as the frame is sometimes found in two or three pieces, each with its own box.

    Args:
        detections: Highest confidence first.
    """
    boxes = np.array([[*each.box, each.confidence] for each in detections], np.float64).reshape(-1, 5)
    at = 0
    while at < len(boxes):
        box, rest = boxes[at], np.delete(np.arange(len(boxes)), at)
        other = boxes[rest]
        heights = box[3] - box[1], other[:, 3] - other[:, 1]
        low, tall = np.minimum(*heights), np.maximum(*heights)
        level = np.minimum(box[3], other[:, 3]) - np.maximum(box[1], other[:, 1])
        beside = np.minimum(box[2], other[:, 2]) - np.maximum(box[0], other[:, 0])
        same = rest[(level > 0.6 * tall) & (low > 0.6 * tall) & (beside > 0)]
        if len(same) == 0:
            at += 1
            continue
        group = boxes[[at, *same]]
        boxes[at] = [*group[:, :2].min(0), *group[:, 2:4].max(0), group[:, 4].max()]
        boxes = np.delete(boxes, same, axis=0)
        at = 0
    return [_upright(*row) for row in boxes.tolist()]


def _upright(x1: float, y1: float, x2: float, y2: float, confidence: float) -> Region:
    room = YOLO_ROOM * (y2 - y1)
    left, top, right, bottom = x1 - room, y1 - room, x2 + room, y2 + room
    quad = np.asarray([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)
    return Region((x1, y1, x2, y2), confidence, quad)


def crop(image: Image, region: Region) -> Image:
    """Return the picture of a region, turned upright; one more than 1.5 times as tall as wide is laid on its side."""
    picture: Image = get_rotate_crop_image(image, region.quad)
    return picture


def enclosing(quad: Quad) -> Box:
    """Return the upright box around a region."""
    x1, y1 = quad.min(axis=0).tolist()
    x2, y2 = quad.max(axis=0).tolist()
    return (x1, y1, x2, y2)


def with_room(quad: Quad) -> Quad:
    """Return a region made longer at its end; one that stands upright stays as it is."""
    along = quad[1] - quad[0]
    length, height = float(np.linalg.norm(along)), float(np.linalg.norm(quad[3] - quad[0]))
    if length < 1 or height > 1.5 * length:
        return quad
    more = along / length * height * END_ROOM
    return np.asarray([quad[0], quad[1] + more, quad[2] + more, quad[3]], np.float32)
