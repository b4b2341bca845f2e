"""What deriving costs: processor time and memory for a long document, made up here.

``python -m benchmarks.derive [--frames 200000]``: four objects that move, a clock, subtitles. Short and long, so that
it is seen whether memory grows with the video.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.one_export import peak_mebibytes
from daemon.derive.derivation import derive
from tests.derived_documents import frame, write_document

CLASSES = ("person", "car", "bus", "dog")
SUBTITLES = ("Where have you been?", "In the garden.", "All night long?")


def frames(count: int) -> Iterator[dict[str, Any]]:
    """Yield the frames of a video at 25 frames/s."""
    chance = random.Random(5)
    for n in range(count):
        objects = []
        for row, name in enumerate(CLASSES):
            x, y = (2 * n + 300 * row) % 1200 + chance.uniform(-1, 1), 100 + 150 * row + chance.uniform(-1, 1)
            box = [round(edge, 1) for edge in (x, y, x + 80, y + 120)]
            confidence = round(chance.uniform(0.5, 0.95), 4)
            objects.append({"bbox": box, "class": name, "class_id": row, "confidence": confidence})
        second = n // 25
        clock = f"CAM 03 2026-11-21 {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        texts = [
            {"bbox": [27.0, 20.0, 505.0, 60.0], "confidence": 0.99, "text": clock},
            {"bbox": [300.0, 600.0, 980.0, 650.0], "confidence": 0.97, "text": SUBTITLES[n // 100 % 3]},
        ]
        yield frame(n, round(n / 25, 6), texts, objects)


def measure(document: Path, folder: Path) -> None:
    """Derive once in this process, and print what it cost."""
    begun = time.process_time()
    count = derive(document, folder)
    seconds, peak = time.process_time() - begun, peak_mebibytes()
    print(f"{count:8} frames: {seconds:6.1f} s of processor time, {count / seconds:6.0f} frames/s, {peak:4.0f} MiB")


def main() -> None:
    """Print a line for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.paths:
        measure(*arguments.paths)
        return
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "r.json"
        for count in (arguments.frames // 10, arguments.frames):
            write_document(document, frames(count))
            command = [sys.executable, "-m", "benchmarks.derive", str(document), folder]
            subprocess.run(command, check=True)  # each in a process of its own, for the memory's sake


if __name__ == "__main__":
    main()
