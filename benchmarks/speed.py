"""Frames a second: Dropframe against the plain way, each stage alone against all together, text found.

``python -m benchmarks.speed [--rounds 3] [--frames 10]``
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import daemon.pipeline  # noqa: F401 - the environment of our own stages
from benchmarks.clips import clips, known, weights
from daemon.boxes import iou
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.inference import in_half
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.records import Analysis
from daemon.pipeline.regions import RapidOcrRegions
from daemon.pipeline.run_requests import RunRequest
from daemon.pipeline.service import VideoFilePipelineService
from daemon.pipeline.video import Video
from daemon.settings import Settings

BATCH = 8
console = Console(width=120)


def plain(clip: Path, frames: int, objects_only: bool) -> dict[str, Any]:
    """Run the plain way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.plain", str(clip), str(weights()), "--frames", str(frames)]
    done = subprocess.run(command + ["--objects-only"] * objects_only, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def ours(pipeline: PipelineProcess, clip: Path, pipeline_id: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Run Dropframe's pipeline process on a whole clip; return frames a second and the document."""
    document = folder / f"{clip.stem}-{pipeline_id}.json"
    report = pipeline.run(RunRequest(clip, pipeline_id, 1, None, document, clip.name))
    return report.frames_processed / report.wall_seconds, json.loads(document.read_text())


def compare(settings: Settings, folder: Path, rounds: int, frames: int) -> None:
    """Print the tables of speed and of what was found."""
    pipeline = PipelineProcess(settings)
    pipeline.start()
    table = Table(title=f"frames/s, medians of {rounds} rounds, the two ways in turn")
    for column in ("clip", "pipeline", "plain", "dropframe", "ratio", "same boxes", "known text found"):
        table.add_column(column)
    for clip in clips():
        for pipeline_id in ("yolo_ocr", "yolo"):
            ours(pipeline, clip, pipeline_id, folder)  # warm: compiled for this size
            slow, fast = [], []
            for _ in range(rounds):
                reference = plain(clip, frames, pipeline_id == "yolo")
                slow.append(reference["frames_per_second"])
                speed, document = ours(pipeline, clip, pipeline_id, folder)
                fast.append(speed)
            table.add_row(
                clip.name,
                pipeline_id,
                f"{statistics.median(slow):.2f}",
                f"{statistics.median(fast):.2f}",
                f"{statistics.median(f / s for f, s in zip(fast, slow, strict=True)):.1f}",
                f"{matched(reference, document):.1%}",
                text_found(clip.name, document) if pipeline_id == "yolo_ocr" else "",
            )
    pipeline.close()
    console.print(table)


def matched(reference: dict[str, Any], document: dict[str, Any]) -> float:
    """Return the share of the plain way's boxes that have one of ours with IoU 0.9 and the same class.

    The plain way of ``yolo_ocr`` sees JPEG-coded frames, so only that of ``yolo`` is expected to be all.
    """
    hits = total = 0
    for index, frame in reference["frames"].items():
        left = list(document["results"][int(index)]["result"]["detections"])
        for box in frame["boxes"]:
            total += 1
            found = next((d for d in left if d["class_id"] == box[5] and iou(d["bbox"], box) >= 0.9), None)
            if found is not None:
                left.remove(found)
                hits += 1
    return hits / total if total else 1.0


def text_found(name: str, document: dict[str, Any]) -> str:
    """Return the share of frames on which each known line is found, by its letters and digits."""
    shares = []
    for line in known().get(name, {}).get("text", []):
        frames = document["results"][line["first_frame"] : line["last_frame"] + 1]
        shares.append(sum(letters(line["line"]) in letters(f["result"]["text"]) for f in frames) / len(frames))
    return " ".join(f"{share:.0%}" for share in shares)


def letters(text: str) -> str:
    """Return a text's letters and digits, in upper case."""
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def stages_alone(settings: Settings, folder: Path, rounds: int) -> None:
    """Print the time a frame of each stage alone and of the whole pipeline.

    Side by side, the stages that run a network share the cores, so each is alone on its share: all of them for
    ``yolo``, half of them for ``yolo_ocr``. That takes a process of its own, as thread pools keep their cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    half = cores[: max(1, len(cores) // 2)]
    together = VideoFilePipelineService(settings)
    table = Table(title="milliseconds a frame: each stage alone on its share of the cores, then all side by side")
    for column in ("clip", "pipeline", "decode", "objects", "text", "all together", "against the slowest"):
        table.add_column(column)
    for clip in clips():
        for pipeline_id, share in (("yolo_ocr", half), ("yolo", cores)):
            times: dict[str, list[float]] = {}
            alone = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), os.sched_setaffinity, (0, share))
            with alone:
                for _ in range(rounds):
                    for name, seconds in alone.submit(seconds_alone, settings, clip, pipeline_id).result().items():
                        times.setdefault(name, []).append(seconds)
                    report = together.run_on_file(clip, pipeline_id, 1, 120, output_path=folder / "alone.json")
                    times.setdefault("all", []).append(report.wall_seconds / report.frames_processed)
            ms = {name: statistics.median(values) * 1000 for name, values in times.items()}
            wall = ms.pop("all")
            table.add_row(
                clip.name,
                pipeline_id,
                *(f"{ms[name]:.1f}" if name in ms else "" for name in ("decode", "objects", "text")),
                f"{wall:.1f}",
                f"{wall / max(ms.values()):.2f}",
            )
    console.print(table)


def seconds_alone(settings: Settings, clip: Path, pipeline_id: str) -> dict[str, float]:
    """Return the seconds a frame that each stage of a pipeline takes when nothing else runs."""
    begun = time.perf_counter()
    frames = [Analysis(frame) for frame in Video(clip).frames(max_frames=120)]
    times = {"decode": (time.perf_counter() - begun) / len(frames)}
    loaded = LoadedModels(settings)
    assert loaded.objects is not None
    for stage in (loaded.objects, loaded.text)[: 2 if pipeline_id == "yolo_ocr" else 1]:
        stage(frames[:BATCH])  # compiled for this size
        stage.new_segment()
        begun = time.perf_counter()
        for start in range(0, len(frames), BATCH):
            stage(frames[start : start + BATCH])
        times[stage.name] = (time.perf_counter() - begun) / len(frames)
    return times


def half_precision(settings: Settings, rounds: int) -> None:
    """Print what RapidOCR's detector finds, and how fast, in fp32 and in what the pipeline uses here."""
    table = Table(title="RapidOCR's detector on 48 frames, in turn")
    for column in ("clip", "precision", "milliseconds a frame", "lines found"):
        table.add_column(column)
    finders = [RapidOcrRegions(settings.text_detect_size, half=in_half(name, "cpu")) for name in ("fp32", "auto")]
    for clip in clips():
        video = Video(clip)
        info = video.info
        frames = [frame.image for frame in video.frames(max_frames=48)]
        times: dict[str, list[float]] = {}
        found: dict[str, int] = {}
        for _ in range(rounds):
            for finder in finders:
                finder(frames[:BATCH])  # compiled for this size
                begun = time.perf_counter()
                regions = [finder(frames[start : start + BATCH]) for start in range(0, len(frames), BATCH)]
                precision = finder.model(info).precision
                times.setdefault(precision, []).append((time.perf_counter() - begun) / len(frames))
                found[precision] = sum(len(each) for batch in regions for each in batch)
        for precision, seconds in times.items():
            table.add_row(clip.name, precision, f"{statistics.median(seconds) * 1000:.1f}", str(found[precision]))
    console.print(table)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=10, help="frames of a clip that the plain way analyses")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.load(home=home, weights=weights())
        compare(settings, Path(home), asked.rounds, asked.frames)
        stages_alone(settings, Path(home), asked.rounds)
        half_precision(settings, asked.rounds)


if __name__ == "__main__":
    main()
