"""The trained network under OpenVINO and the steps around it: letterbox, no doubles, one box a line."""

from __future__ import annotations

import os

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false", ULTRALYTICS_SAFE_LOAD="1")

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import torch
from ultralytics.nn.tasks import load_checkpoint

CONFIDENCE = 0.3
IOU = 0.5
"""Boxes that overlap more than this are one line; text lines next to each other hardly overlap at all."""


def convert(weights: Path, height: int, width: int) -> ov.Model:
    """Turn weights into an OpenVINO model for pictures of one size; the output is (1, 5, candidates)."""
    model, _ = load_checkpoint(str(weights), fuse=True)
    model.eval().float()
    model.model[-1].export, model.model[-1].format = True, "openvino"
    blank = torch.zeros(1, 3, height, width)
    model(blank)
    converted = ov.convert_model(torch.jit.trace(model, blank, strict=False), example_input=blank)
    converted.reshape([1, 3, height, width])
    return converted


def compile_f32(model: ov.Model, threads: int) -> Any:
    """Compile for the CPU in full precision, one request at a time, and return the request."""
    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    return ov.Core().compile_model(model, "CPU", hints).create_infer_request()


def letterbox(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, int, int]:
    """Scale an image to fit and centre it on grey: `(picture, scale, left, top)`."""
    scale = min(width / image.shape[1], height / image.shape[0])
    w, h = round(image.shape[1] * scale), round(image.shape[0] * scale)
    left, top = (width - w) // 2, (height - h) // 2
    picture = np.full((height, width, 3), 114, np.uint8)
    picture[top : top + h, left : left + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return picture, scale, left, top


def decode(output: np.ndarray, confidence: float, iou: float) -> np.ndarray:
    """Turn one picture's output (5, candidates) into boxes (n, 5): x1, y1, x2, y2, confidence, best first."""
    found = output[:, output[4] >= confidence].T
    if not len(found):
        return np.zeros((0, 5), np.float32)
    corners = np.hstack([found[:, :2] - found[:, 2:4] / 2, found[:, :2] + found[:, 2:4] / 2, found[:, 4:]])
    corners = corners[np.argsort(-corners[:, 4], kind="stable")][:1000]
    kept: list[np.ndarray] = []
    while len(corners):
        best, corners = corners[0], corners[1:]
        kept.append(best)
        corners = corners[overlap(best[None, :4], corners[:, :4])[0] <= iou]
    return np.array(kept, np.float32)


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


def one_box_a_line(boxes: np.ndarray) -> np.ndarray:
    """Join boxes that hold pieces of one line: they overlap, stand at one height and are about as tall.

    A line as wide as the frame is sometimes found in two or three pieces, each with its own box.
    """
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")].copy()
    at = 0
    while at < len(boxes):
        box, rest = boxes[at], np.delete(np.arange(len(boxes)), at)
        other = boxes[rest]
        low = np.minimum(box[3] - box[1], other[:, 3] - other[:, 1])
        tall = np.maximum(box[3] - box[1], other[:, 3] - other[:, 1])
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
    return boxes


class TextDetector:
    """Finds lines of text in BGR images.

    Args:
        weights: The `.pt` file.
        side: Longer side of the network's input in pixels; the shorter one follows the image, in steps of 32.
        threads: Processor cores to use.
    """

    def __init__(self, weights: Path, side: int = 640, threads: int = 2) -> None:
        self.side = side
        self._weights, self._threads = weights, threads
        self._requests: dict[tuple[int, int], Any] = {}

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Say how large the network's input is for an image: (height, width)."""
        scale = self.side / max(height, width)
        return max(32, math.ceil(round(height * scale) / 32) * 32), max(32, math.ceil(round(width * scale) / 32) * 32)

    def raw(self, picture: np.ndarray) -> np.ndarray:
        """Run one picture of the network's input size: (5, candidates)."""
        size = picture.shape[0], picture.shape[1]
        if size not in self._requests:
            self._requests[size] = compile_f32(convert(self._weights, *size), self._threads)
        request = self._requests[size]
        request.infer({0: cv2.dnn.blobFromImage(picture, 1 / 255, swapRB=True)})
        output: np.ndarray = request.get_output_tensor(0).data[0]
        return output

    def __call__(self, image: np.ndarray, confidence: float = CONFIDENCE, iou: float = IOU) -> np.ndarray:
        """Find lines: (n, 5) x1, y1, x2, y2 in pixels of the image, and confidence."""
        picture, scale, left, top = letterbox(image, *self.input_size(*image.shape[:2]))
        boxes = one_box_a_line(decode(self.raw(picture), confidence, iou))
        boxes[:, :4] = (boxes[:, :4] - (left, top, left, top)) / scale
        boxes[:, :4] = boxes[:, :4].clip(0, (image.shape[1], image.shape[0]) * 2)
        return boxes
