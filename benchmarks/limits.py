"""How far from the machine's limits: memory, each network and each stage alone, all together against their sum, and
what the time of text is spent on.

``python -m benchmarks.limits [--rounds 3] [--frames 120]``. Times are of the processor, which other programs on the
machine hardly change. All together can't take less than the sum of the stages divided by the cores.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import daemon.pipeline  # noqa: F401 - the environment of our own stages
from benchmarks.clips import clips, weights
from daemon.pipeline.inference import CpuModel, Normalisation, cpu_capabilities, in_half
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import export, find_weights
from daemon.pipeline.read import TextStage
from daemon.pipeline.readings import Reading, TextReader
from daemon.pipeline.recognisers import load_reader
from daemon.pipeline.records import Analysis, Image, Stage
from daemon.pipeline.regions import PADDLE, RapidOcrRegions, Region, rapidocr_models
from daemon.pipeline.service import VideoFilePipelineService
from daemon.pipeline.stages import batch_frames
from daemon.pipeline.video import Video
from daemon.settings import Settings

COPIED = 256 << 20
"""Bytes copied at once to measure memory: more than caches hold."""
PICTURES = 8
CORES = len(os.sched_getaffinity(0))
console = Console(width=120)


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the processor, over all threads, and of the clock that some work takes."""
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - busy, time.perf_counter() - wall


def middle(times: Sequence[tuple[float, float]], units: int) -> tuple[float, float]:
    """Return the medians in milliseconds a unit."""
    busy, wall = (statistics.median(each) * 1000 / units for each in zip(*times, strict=True))
    return busy, wall


def about() -> str:
    """Return what the machine is."""
    name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{name[1] if name else 'processor'}, {CORES} cores, {' '.join(sorted(cpu_capabilities()))}"


def memory(rounds: int) -> str:
    """Return the memory bandwidth of one core and of all, reading and writing."""
    parts = [(np.ones(COPIED, np.uint8), np.empty(COPIED, np.uint8)) for _ in range(CORES)]
    with ThreadPoolExecutor(CORES) as pool:

        def copied(cores: int) -> float:
            begun = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts[:cores]))
            return 2 * COPIED * cores / (time.perf_counter() - begun) / 1e9

        copied(CORES)
        one, every = (statistics.median(copied(cores) for _ in range(rounds)) for cores in (1, CORES))
    return f"memory: {one:.1f} GB/s by one core, {every:.1f} GB/s by all"


def networks(settings: Settings, rounds: int) -> Table:
    """Return the table of each network alone in the precisions that it may have."""
    found = find_weights(settings)
    assert found is not None
    detector, recogniser = rapidocr_models()
    yolo, pixels = export(found, settings).xml, Normalisation(mean=0, scale=255, rgb=True)
    halves = [False, True] if in_half("auto", "cpu") else [False]
    asked = [(yolo, pixels, (384, 640), False, half) for half in halves]
    asked += [(detector, PADDLE, size, False, half) for size in ((736, 1312), (352, 640)) for half in halves]
    asked += [(recogniser, PADDLE, (48, 320), True, False)]
    table = Table(title=f"each network alone, milliseconds a picture, {PICTURES} pictures at once")
    for column in ("network", "input", "precision", "of the processor", "of the clock"):
        table.add_column(column)
    for path, normalisation, size, any_width, half in asked:
        model = CpuModel(path, normalisation, any_width=any_width, half=half)
        pictures = [np.random.default_rng(n).integers(0, 255, (*size, 3), np.uint8) for n in range(PICTURES)]
        list(model(pictures[:1]))  # compiled
        busy, wall = middle(
            [spent(lambda model=model, some=pictures: list(model(some))) for _ in range(rounds)], PICTURES
        )
        name = path.stem if path != yolo else found.name
        table.add_row(name, f"{size[1]}x{size[0]}", model.precision, f"{busy:.1f}", f"{wall:.1f}")
    return table


def run_stage(stage: Stage, frames: Sequence[Analysis], size: int) -> None:
    """Run a stage alone on some frames, as if they were a segment."""
    stage.new_segment()
    for start in range(0, len(frames), size):
        stage(frames[start : start + size])


def together(settings: Settings, rounds: int, most: int, folder: Path) -> Table:
    """Return the table of each stage alone, and of all together against the sum of the stages."""
    loaded, service = LoadedModels(settings), VideoFilePipelineService(settings)
    assert loaded.objects is not None
    stages = {"yolo": [loaded.objects], "yolo_ocr": [loaded.objects, loaded.text]}
    table = Table(title="milliseconds a frame of the processor: each stage alone; then all together and the limit")
    for column in ("clip", "pipeline", "decode", "objects", "text", "together", "clock", "limit", "clock / limit"):
        table.add_column(column)
    for clip in clips():
        frames = [Analysis(frame) for frame in itertools.islice(Video(clip).frames(), most)]
        size = batch_frames(Video(clip).info, 1, settings.text_look_seconds)
        for stage in (loaded.objects, loaded.text):
            run_stage(stage, frames[:size], size)  # compiled for this size
        for pipeline_id, some in stages.items():
            works: dict[str, Callable[[], object]] = {
                "decode": lambda clip=clip: sum(1 for _ in Video(clip).frames(max_frames=most)),
                **{stage.name: partial(run_stage, stage, frames, size) for stage in some},
                "all": lambda clip=clip, name=pipeline_id: service.run_on_file(
                    clip, name, 1, most, output_path=folder / "all.json"
                ),
            }
            works["all"]()
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
            for _ in range(rounds):
                for name, work in works.items():
                    times[name].append(spent(work))
            ms = {name: middle(each, len(frames)) for name, each in times.items()}
            busy, clock = ms.pop("all")
            limit = sum(each for each, _ in ms.values()) / CORES
            parts = (f"{ms[name][0]:.1f}" if name in ms else "" for name in ("decode", "objects", "text"))
            row = (*parts, f"{busy:.1f}", f"{clock:.1f}", f"{limit:.1f}", f"{clock / limit:.2f}")
            table.add_row(clip.name, pipeline_id, *row)
    return table


class CountedFinder(RapidOcrRegions):
    """Finds regions, and counts frames and milliseconds of the processor by how closely it looks."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spent = {False: [0, 0.0], True: [0, 0.0]}
        """By ``quick``."""

    def __call__(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Region]]:
        """See RapidOcrRegions."""
        begun = time.process_time()
        found = super().__call__(images, quick=quick)
        self.spent[quick][0] += len(images)
        self.spent[quick][1] += (time.process_time() - begun) * 1000
        return found


class CountedReader:
    """Reads, and counts lines and milliseconds of the processor."""

    def __init__(self, reader: TextReader) -> None:
        self.models = reader.models
        self._reader = reader
        self.spent = [0, 0.0]

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        """See TextReader."""
        begun = time.process_time()
        found = list(self._reader(crops))
        self.spent[0] += len(crops)
        self.spent[1] += (time.process_time() - begun) * 1000
        return iter(found)


def text_parts(settings: Settings, most: int) -> Table:
    """Return the table of what the time of text is spent on."""
    table = Table(title="text, milliseconds a frame of the processor")
    for column in ("clip", "looks at full size", "looks at half of it", "reading", "all else", "together"):
        table.add_column(column)
    half, read = in_half(settings.precision, "cpu"), load_reader(settings)
    for clip in clips():
        finder, reader = CountedFinder(settings.text_detect_size, half=half), CountedReader(read)
        stage = TextStage(finder, reader, settings.text_confidence, look_seconds=settings.text_look_seconds)
        frames = [Analysis(frame) for frame in itertools.islice(Video(clip).frames(), most)]
        size = batch_frames(Video(clip).info, 1, settings.text_look_seconds)
        run_stage(stage, frames[:size], size)  # compiled for this size
        parts = (finder.spent[False], finder.spent[True], reader.spent)
        for part in parts:
            part[:] = [0, 0.0]
        together = spent(partial(run_stage, stage, frames, size))[0] * 1000
        cells = [f"{ms / len(frames):.1f} ({count})" for count, ms in parts]
        rest = together - sum(ms for _, ms in parts)
        table.add_row(clip.name, *cells, f"{rest / len(frames):.1f}", f"{together / len(frames):.1f}")
    return table


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=120)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.load(home=home, weights=weights(), device="cpu")
        console.print(about())
        console.print(memory(asked.rounds))
        console.print(networks(settings, asked.rounds))
        console.print(together(settings, asked.rounds, asked.frames, Path(home)))
        console.print(text_parts(settings, asked.frames))


if __name__ == "__main__":
    main()
