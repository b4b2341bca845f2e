"""Dropframe beside other programs on the same clips, in turn: frames a second and ratios.

``python -m benchmarks.peers [--rounds 2] [--frames 60]``. A peer that is not installed is left out. ``yolo predict`` is
Ultralytics' own loop, with its own suppression of doubles where torchvision cannot be used. RapidOCR reads each whole
frame with its defaults. mosaix packs small copies of several frames into one picture, and finds less.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.clips import clips, weights
from daemon.pipeline.client import PipelineProcess, RunRequest
from daemon.settings import Settings

START = """
import itertools, os, sys, time
os.environ.update(YOLO_VERBOSE="false", YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", ULTRALYTICS_SAFE_LOAD="1")
clip, weights, frames = sys.argv[1], sys.argv[2], int(sys.argv[3])
import cv2
try:
    import torchvision
except (ImportError, RuntimeError):  # not installed, or of another torch
    from types import ModuleType, SimpleNamespace
    from ultralytics.utils.nms import TorchNMS
    sys.modules["torchvision"] = ModuleType("torchvision")
    sys.modules["torchvision"].ops = SimpleNamespace(nms=TorchNMS.nms)
def read():
    video = cv2.VideoCapture(clip)
    while (got := video.read())[0]:
        yield got[1]
"""
END = """
run(2)
begun = time.perf_counter()
done = run(frames)
print(done / (time.perf_counter() - begun))
"""
PEERS = {
    ("yolo", "yolo predict"): """
from ultralytics import YOLO
model = YOLO(weights)
def run(most):
    found = model.predict(clip, device="cpu", stream=True, verbose=False, imgsz=640)
    return sum(1 for _ in itertools.islice(found, most))
""",
    ("yolo", "torch in a loop"): """
from benchmarks.plain import PlainDetector
detect = PlainDetector(weights)
def run(most):
    return sum(1 for image in itertools.islice(read(), most) if detect(image) is not None)
""",
    ("yolo", "mosaix"): """
import mosaix
def run(most):
    return len(mosaix.VideoPipeline.from_model(weights).run(clip).frames) if most > 2 else 0
""",
    ("ocr_only", "RapidOCR"): """
from rapidocr import EngineType, RapidOCR
kinds = ("Det", "Cls", "Rec")
try:
    import onnxruntime
    engine = {}
except ImportError:
    engine = {f"{kind}.engine_type": EngineType.OPENVINO for kind in kinds}
reader = RapidOCR(params={**engine, "Global.log_level": "error"})
def run(most):
    return sum(1 for image in itertools.islice(read(), most) if reader(image) is not None)
""",
}
"""By pipeline and name: what defines ``run``, which returns how many frames it did, at most so many."""


def peer(source: str, clip: Path, frames: int) -> float | None:
    """Return the frames a second of a peer in a process of its own; None if it cannot run."""
    command = [sys.executable, "-c", START + source + END, str(clip), str(weights()), str(frames)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1:], file=sys.stderr)
        return None
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=60)
    asked = parser.parse_args()
    table = Table(title=f"frames/s, medians of {asked.rounds} rounds, in turn")
    for column in ("clip", "pipeline", "peer", "peer's", "dropframe", "ratio"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as home:
        process = PipelineProcess(Settings.load(home=home, weights=weights(), device="cpu"))
        output = Path(home) / "document.json"
        for clip in clips():
            for (pipeline_id, name), source in PEERS.items():
                request = RunRequest(clip, pipeline_id, 1, asked.frames, output, clip.name)
                process.run(request)  # compiled for this size
                pairs: list[tuple[float, float]] = []
                for _ in range(asked.rounds):
                    theirs = peer(source, clip, asked.frames)
                    report = process.run(request)
                    if theirs is not None:
                        pairs.append((theirs, report.frames_processed / report.wall_seconds))
                if pairs:
                    theirs, ours = (statistics.median(each) for each in zip(*pairs, strict=True))
                    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
                    table.add_row(clip.name, pipeline_id, name, f"{theirs:.1f}", f"{ours:.1f}", f"{ratio:.1f}")
        process.close()
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
