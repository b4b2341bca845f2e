"""The plain way, for comparison: one frame after the other, nothing shared between them.

cv2 reads a frame, JPEG-encodes and decodes it (as services that pass frames on do), torch runs the detector, and
``pytesseract`` reads the full frame twice, for the text and for the boxes. Run as a program of its own, so that
nothing of Dropframe's environment reaches it: ``python -m benchmarks.plain CLIP WEIGHTS --frames 12``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

os.environ.update(YOLO_VERBOSE="false", YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", ULTRALYTICS_SAFE_LOAD="1")

import cv2
import numpy as np
import pytesseract
import torch
from ultralytics.data.augment import LetterBox
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes


class PlainDetector:
    """Ultralytics' predict as a loop of its own functions: letterbox, torch, non-maximum suppression."""

    def __init__(self, weights: str) -> None:
        self._model, _ = load_checkpoint(weights, device="cpu", fuse=True)
        self._letterbox = LetterBox((640, 640), auto=True, stride=int(max(self._model.stride)))

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> list[list[float]]:
        """Return boxes as ``[x1, y1, x2, y2, confidence, class_id]`` in pixels of the frame."""
        picture = self._letterbox(image=image)
        tensor = torch.from_numpy(picture[..., ::-1].transpose(2, 0, 1).copy())[None].float() / 255
        (boxes,) = non_max_suppression(self._model(tensor), 0.25, 0.7)
        boxes[:, :4] = scale_boxes(picture.shape[:2], boxes[:, :4], image.shape[:2])
        return boxes.tolist()


def run(clip: str, weights: str, frames: int, read_text: bool) -> dict[str, Any]:
    """Analyse ``frames`` frames spread over a clip; decoding the ones between is not counted."""
    detect = PlainDetector(weights)
    video = cv2.VideoCapture(clip)
    every = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)) // frames)
    detect(np.zeros((720, 1280, 3), np.uint8))
    found: dict[int, dict[str, Any]] = {}
    seconds = 0.0
    index = 0
    while len(found) < frames:
        begun = time.perf_counter()
        ok, image = video.read()
        if not ok:
            break
        if index % every == 0:
            text = ""
            if read_text:
                _, jpeg = cv2.imencode(".jpg", image)
                image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
            boxes = detect(image)
            if read_text:
                text = pytesseract.image_to_string(image)
                pytesseract.image_to_data(image)
            found[index] = {"boxes": boxes, "text": text}
            seconds += time.perf_counter() - begun
        index += 1
    return {"frames_per_second": len(found) / seconds, "frames": found}


def main() -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clip")
    parser.add_argument("weights")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--objects-only", action="store_true")
    asked = parser.parse_args()
    print(json.dumps(run(asked.clip, asked.weights, asked.frames, not asked.objects_only)))


if __name__ == "__main__":
    main()
