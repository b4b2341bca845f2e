"""Memory of the pipeline process on a long video: its resident size after 1,000 frames and at the end.

``python -m benchmarks.memory [--frames 20000]``. The detector's input is set small (320) so that it ends soon.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.clips import weights
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.records import Progress
from daemon.pipeline.run_requests import RunRequest
from daemon.settings import Settings

WIDTH, HEIGHT = 320, 240
EARLY = 1000


def make(path: Path, frames: int) -> None:
    """Make a clip of a moving square and a counter that changes each second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
            left = number * 3 % WIDTH
            cv2.rectangle(image, (left, 100), (left + 40, 140), (0, 180, 240), -1)
            cv2.putText(image, f"CLOCK {number // 25:05d}", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())


def main() -> None:
    """Print both sizes and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    asked = parser.parse_args()
    sizes: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as home:
        clip = Path(home) / "long.mp4"
        make(clip, asked.frames)
        pipeline = PipelineProcess(Settings.load(home=home, weights=weights(), image_size=320))
        pipeline.start()

        def look(progress: Progress) -> None:
            sizes[progress.frames_processed] = pipeline.resident_bytes()

        begun = time.monotonic()
        report = pipeline.run(RunRequest(clip, "yolo_ocr", 1, None, Path(home) / "long.json", clip.name), look)
        pipeline.close()
        document = (Path(home) / "long.json").stat().st_size
    early = next(size for frames, size in sorted(sizes.items()) if frames >= EARLY)
    late = sizes[max(sizes)]
    print(f"{report.frames_processed} frames in {time.monotonic() - begun:.0f} s, document {document / 1e6:.0f} MB")
    print(
        f"resident after {EARLY} frames {early / 1e6:.0f} MB, at the end {late / 1e6:.0f} MB: {late / early:.3f} times"
    )


if __name__ == "__main__":
    main()
