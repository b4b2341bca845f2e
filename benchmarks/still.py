"""A camera before which nothing moves: frames a second, and how many frames equal the one before them.

``python -m benchmarks.still [--rounds 3] [--frames 750]``: the first frame of street.mp4 over and over, coded in
three ways.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.clips import SHARED, weights
from daemon.pipeline.changes import are_equal
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.run_requests import RunRequest
from daemon.pipeline.video import Video
from daemon.settings import Settings

PIPELINE = "yolo_ocr"
WAYS = {
    "a fixed quantiser": ["-qp", "24"],
    "x264's usual rate control": [],
    "noise of a camera": ["-vf", "noise=alls=3:allf=t"],
}
"""By name: what FFmpeg is told."""
console = Console(width=120)


def still(target: Path, frames: int, options: list[str]) -> Path:
    """Write the first frame of street.mp4 so many times."""
    picture = target.with_suffix(".png")
    read = ["ffmpeg", "-loglevel", "error", "-y"]
    subprocess.run([*read, "-i", str(SHARED / "media" / "street.mp4"), "-frames:v", "1", str(picture)], check=True)
    command = [*read, "-loop", "1", "-framerate", "25", "-i", str(picture), "-frames:v", str(frames)]
    command += [*options, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-an", str(target)]
    subprocess.run(command, check=True)
    return target


def equal(clip: Path) -> int:
    """Return how many frames equal the one before them."""
    return sum(are_equal(before.image, now.image) for before, now in pairwise(Video(clip).frames()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=750)
    asked = parser.parse_args()
    table = Table(title=f"{PIPELINE}, 1280x720, nothing moves; medians of {asked.rounds} rounds")
    for column in ("coded with", "equal frames", "frames/s"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as home:
        process = PipelineProcess(Settings.load(home=home, weights=weights()))
        process.start()
        for way, options in WAYS.items():
            clip = still(Path(home) / f"{way.replace(' ', '-')}.mp4", asked.frames, options)
            request = RunRequest(clip, PIPELINE, 1, None, Path(home) / "document.json", clip.name)
            reports = [process.run(request) for _ in range(asked.rounds + 1)][1:]  # the first compiles networks
            speed = statistics.median(report.frames_processed / report.wall_seconds for report in reports)
            table.add_row(way, f"{equal(clip)} of {asked.frames}", f"{speed:.0f}")
        process.close()
    console.print(table)


if __name__ == "__main__":
    main()
