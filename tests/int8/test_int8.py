"""The calibration itself, with NNCF, which is not among what tests are installed with: `make calibrate`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.pipeline.demo_clip import make_demo
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames with a stop sign, a clock and a ball."""
    return make_demo(tmp_path_factory.mktemp("demo") / "demo.mp4")


@pytest.fixture(scope="module")
def made(warm_home: Path, demo: Path) -> dict[str, Any]:
    """What the command says of its calibration."""
    command = ["models", "quantize", "yolov8n-coco", "--json", "--home", str(warm_home), "--from", str(demo)]
    done = subprocess.run([sys.executable, "-m", "daemon", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_most_boxes_stay_and_the_network_is_smaller(made: dict[str, Any], warm_home: Path) -> None:
    of = {each["precision"]: each for each in made["agreement"]}
    assert of["int8"]["boxes"] >= 24
    assert of["int8"]["near"] >= 0.9
    assert of["int8"]["same"] >= 0.8
    assert "nncf" in made["versions"]
    [network] = (warm_home / "data" / "models" / "exported").glob("*/model.bin")
    assert Path(made["path"]).stat().st_size < network.stat().st_size / 2


def test_a_job_in_int8_says_so_sees_the_sign_on_most_frames_and_is_the_same_again(
    made: dict[str, Any], warm_home: Path, demo: Path, tmp_path: Path
) -> None:
    service = VideoFilePipelineService(Settings.load(home=warm_home, device="cpu", precision="int8"))
    for name in ("result.json", "again.json"):
        service.run_on_file(demo, "yolo", output_path=tmp_path / name)
    content = (tmp_path / "result.json").read_bytes()
    assert content == (tmp_path / "again.json").read_bytes()
    document = json.loads(content)
    assert [(model["role"], model["precision"]) for model in document["models"]] == [("objects", "int8")]
    assert document["models"][0]["sha256"] == made["sha256"]
    signs = ["stop sign" in [box["class"] for box in frame["result"]["detections"]] for frame in document["results"]]
    assert len(signs) == 50
    assert sum(signs) >= 45


def test_nncf_reports_nothing_to_its_maker() -> None:
    code = (
        "import daemon.pipeline.quantize; from nncf.telemetry.wrapper import telemetry; print(type(telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] != "NNCFTelemetry"
