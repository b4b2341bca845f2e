"""RapidOCR under OpenVINO, as the measure of our detector: its own detector, and its recogniser for any crop."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from rapidocr import EngineType, RapidOCR
from rapidocr.ch_ppocr_rec.typings import TextRecInput

Array = np.ndarray


def compile_f32(model: ov.Model) -> Any:
    """Compile for two cores in full precision, one request at a time, and return the request."""
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2}
    return ov.Core().compile_model(model, "CPU", hints).create_infer_request()


class Reference:
    """RapidOCR under OpenVINO in full precision, its detector at its default size."""

    def __init__(self) -> None:
        self.engine: Any = RapidOCR(
            params={
                "Det.engine_type": EngineType.OPENVINO, "Rec.engine_type": EngineType.OPENVINO,
                "Global.use_cls": False, "Global.log_level": "error",
            }
        )  # fmt: skip
        blank = np.full((64, 320, 3), 255, np.uint8)
        self.engine(blank, use_rec=False)  # RapidOCR loads its models on first use
        self.engine(blank, use_det=False, use_rec=True)
        for part in (self.engine.text_det, self.engine.text_rec):
            part.session.session = compile_f32(part.session.model)

    def find(self, image: Array) -> Array:
        """Find regions: (n, 4, 2) corners."""
        boxes = self.engine.text_det(image).boxes
        return np.zeros((0, 4, 2), np.float32) if boxes is None else np.asarray(boxes, np.float32)

    def fix_size(self, image: Array) -> None:
        """Compile the detector for one size of picture, which is faster; for timing."""
        shape = self.engine.text_det.get_preprocess()(image).shape
        model = self.engine.text_det.session.model
        model.reshape(shape)
        self.engine.text_det.session.session = compile_f32(model)

    def read(self, crops: list[Array]) -> list[tuple[str, float]]:
        """Read crops of one line each: text and confidence."""
        results = []
        for crop in crops:
            if min(crop.shape[:2]) < 2:
                results.append(("", 0.0))
                continue
            out = self.engine.text_rec(TextRecInput(img=[crop]))
            results.append((out.txts[0], float(out.scores[0])) if out.txts else ("", 0.0))
        return results


def upright(quads: Array) -> Array:
    """Boxes around corners (n, 4, 2): (n, 4)."""
    return np.hstack([quads.min(1), quads.max(1)]) if len(quads) else np.zeros((0, 4), np.float32)


def cut(image: Array, box: Array, margin: float = 0.25) -> Array:
    """Cut a box out of an image, larger by a share of its height on each side: the recogniser reads better so."""
    pad = margin * (box[3] - box[1])
    x1, y1 = np.maximum(box[:2] - pad, 0).astype(int)
    x2, y2 = np.ceil(box[2:4] + pad).astype(int)
    return image[y1:y2, x1:x2]
