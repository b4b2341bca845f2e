"""What checkpoints cost: the time that saving takes, as a share of a run.

``python -m benchmarks.checkpoints [--segments 250 50]``: each clip of ``../shared/media`` is run with the default
segment and a short one, and the time spent in ``ResultsSerializer.checkpoint`` is taken.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.clips import clips, weights
from daemon.pipeline.results import ResultsSerializer
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings


@contextmanager
def timed_checkpoints() -> Iterator[list[float]]:
    """Give the seconds of every checkpoint made in the block."""
    took: list[float] = []
    checkpoint = ResultsSerializer.checkpoint

    def timed(serializer: ResultsSerializer) -> None:
        begun = time.perf_counter()
        checkpoint(serializer)
        took.append(time.perf_counter() - begun)

    ResultsSerializer.checkpoint = timed  # type: ignore[method-assign]
    try:
        yield took
    finally:
        ResultsSerializer.checkpoint = checkpoint  # type: ignore[method-assign]


def main() -> None:
    """Print a table: clip, segment, frames/s, checkpoints, their time and share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, nargs="+", default=[250, 50], help="frames in a segment")
    asked = parser.parse_args()
    print(f"{'clip':<16}{'segment':>8}{'frames/s':>10}{'saved':>7}{'each, ms':>10}{'share, %':>10}")
    with tempfile.TemporaryDirectory() as home:
        for segment in asked.segments:
            settings = Settings.load(home=home, weights=weights(), segment_frames=segment)
            service = VideoFilePipelineService(settings)
            for clip in clips():
                with timed_checkpoints() as took:
                    report = service.run_on_file(clip, "yolo_ocr", output_path=Path(home) / "out.json")
                each = sum(took) / max(1, len(took))
                share = each / (report.wall_seconds * segment / report.frames_processed)
                rate = report.frames_processed / report.wall_seconds
                print(f"{clip.name:<16}{segment:>8}{rate:>10.1f}{len(took):>7}{each * 1e3:>10.1f}{share:>10.2%}")


if __name__ == "__main__":
    main()
