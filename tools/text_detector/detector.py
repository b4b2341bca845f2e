"""Weights as the product runs them, and arithmetic with boxes."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from daemon.pipeline.models import Weights, file_sha256
from daemon.pipeline.records import Detection
from daemon.pipeline.regions import YOLO_CONFIDENCE, YOLO_IOU, YOLO_SIDE, one_box_a_line
from daemon.pipeline.yolo import Yolo
from daemon.settings import Settings


class TextDetector:
    """Finds lines of text in BGR images with the product's own steps around the network, on the CPU.

    Args:
        weights: The `.pt` file.
        side: Longer side of the network's input in pixels; the shorter one follows the image, in steps of 32.
        confidence: Least confidence of a box.
    """

    def __init__(self, weights: Path, side: int = YOLO_SIDE, confidence: float = YOLO_CONFIDENCE) -> None:
        home = tempfile.mkdtemp(prefix="text-detector-")  # for the export
        weakref.finalize(self, shutil.rmtree, home)
        self._yolo = Yolo.load(
            Weights(weights, weights.stem, file_sha256(weights)),
            Settings.load(home=Path(home)),
            "cpu",
            side=side,
            confidence=confidence,
            iou=YOLO_IOU,
        )

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Return each image's boxes, highest confidence first, pieces of a line not yet joined."""
        return [seen.detections for seen in self._yolo(images)]


def lines(detections: Sequence[Detection], confidence: float = YOLO_CONFIDENCE) -> np.ndarray:
    """Join boxes of at least a confidence to lines: (n, 5) x1, y1, x2, y2 and confidence, best first."""
    regions = one_box_a_line([each for each in detections if each.confidence >= confidence])
    regions.sort(key=lambda region: -region.confidence)
    return np.array([[*region.box, region.confidence] for region in regions], np.float32).reshape(-1, 5)


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas that boxes (n, 4) share with boxes (m, 4): (n, m)."""
    corner = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return corner.clip(0).prod(2)


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas of boxes (n, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m)."""
    shared = intersection(a, b)
    return shared / (area(a)[:, None] + area(b)[None] - shared + 1e-9)
