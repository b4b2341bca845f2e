"""The published JSON Schema fits what is really written, and the example of the page names no unknown key."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from daemon.jobs import Options
from daemon.pipeline.records import Analysis, Detection, Frame, ModelInfo, TextBlock, VideoInfo
from daemon.pipeline.results import ResultsSerializer

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "results.schema.json").read_text())
MODEL = ModelInfo("yolov8n", "objects", "openvino", "cpu", "fp32", [384, 640], "0" * 64)
INFO = VideoInfo("h264", 1280, 720, 25.0, 10.0, 250)
FRAME = Frame(0, 0.0, np.zeros((2, 2, 3), np.uint8))
FULL = Analysis(
    FRAME, (Detection((1.04, 2, 3, 4), "bus", 5, 0.86821),), (TextBlock((1, 2, 3, 4), "HOME 2 - 1 AWAY", 0.9991),)
)
ACCOUNT = {"frames_decoded": 1, "frames_expected": 1, "frames_failed": 0, "frames_missing": 0, "warnings": ["Cut."]}


@pytest.mark.parametrize("analysis", [FULL, Analysis(FRAME), replace(FULL, text_unread=((1, 2, 3, 4),))])
@pytest.mark.parametrize(
    "info",
    [
        INFO,
        replace(INFO, fps=None, duration_s=None, frame_count=None),
        replace(INFO, sample_aspect_ratio="64:45", rotation=90, mirrored=True, interlaced=True, hdr="hlg"),
    ],
)
@pytest.mark.parametrize(
    "model", [MODEL, replace(MODEL, precision="int8"), replace(MODEL, imgsz=None, sha256=None, runtime="tesseract")]
)
def test_a_document_fits_the_published_schema(
    tmp_path: Path, analysis: Analysis, info: VideoInfo, model: ModelInfo
) -> None:
    path = tmp_path / "result.json"
    serializer = ResultsSerializer(path, [model], Options(), "yolo_ocr", "")
    serializer.write(analysis)
    serializer.finish({"name": "a.mp4", "sha256": "0" * 64, "size_bytes": 1}, ACCOUNT, info)
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)


def test_the_schema_refuses_what_is_not_a_document() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "dropframe.results/1"}, SCHEMA)
