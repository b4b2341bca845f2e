"""Dropframe on a GPU: frames a second end to end, what each stage is busy with, and whether it finds what a CPU finds.

``python -m benchmarks.gpu [--rounds 3] [--loops 16] [--slots 1 2 4 8] [--device cuda:0]``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import torch
from rich.console import Console
from rich.table import Table

import daemon.pipeline  # noqa: F401 - the environment of our own stages
from benchmarks.agreement import agreement, on_cpu_in_fp32
from benchmarks.clips import SHARED, weights
from benchmarks.pool import run_all, warm
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.executor import Executor
from daemon.pipeline.pool import PipelinePool
from daemon.pipeline.run_requests import RunRequest
from daemon.pipeline.service import VideoFilePipelineService
from daemon.pipeline.video import Video
from daemon.settings import Settings

PIPELINES = ("yolo", "yolo_ocr")
console = Console(width=120)

PEER = """
import sys, time
from ultralytics import YOLO
clip, weights, device = sys.argv[1:]
model = YOLO(weights)
def run():
    begun = time.perf_counter()
    options = dict(device=device, half=True, stream=True, batch=8, verbose=False, imgsz=640)
    return sum(1 for _ in model.predict(clip, **options)) / (time.perf_counter() - begun)
run()
print(run())
"""
"""Ultralytics' own predict over a clip, warm, in half precision and batches of 8; prints frames a second."""


def looped(clip: Path, times: int, folder: Path) -> Path:
    """Write a clip that repeats another's coded frames, with no coding anew."""
    path = folder / f"{clip.stem}-x{times}.mp4"
    with av.open(str(path), "w", format="mp4") as output:
        track, shift = None, 0
        for _ in range(times):
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                track = track or output.add_stream_from_template(stream)
                end = shift
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.dts, packet.pts, packet.stream = packet.dts + shift, packet.pts + shift, track
                    end = max(end, packet.pts + (packet.duration or 0))
                    output.mux(packet)
                shift = end
    return path


def decode_alone(clip: Path, threads: int) -> float:
    """Return the frames a second of our decoder when nothing else runs."""
    begun = time.perf_counter()
    count = sum(1 for _ in Video(clip).frames(threads=threads))
    return count / (time.perf_counter() - begun)


def peer(clip: Path, device: str) -> float:
    """Return the frames a second of ``ultralytics predict``, in a process of its own."""
    command = [sys.executable, "-c", PEER, str(clip), str(weights()), device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else float("nan")


def run(process: PipelineProcess, clip: Path, pipeline_id: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Run one clip; return the report and the document."""
    output = folder / "document.json"
    report = process.run(RunRequest(clip, pipeline_id, 1, None, output, clip.name))
    document: dict[str, Any] = json.loads(output.read_text())
    output.unlink()
    return report, document


def speeds(process: PipelineProcess, clips: list[Path], rounds: int, folder: Path) -> Table:
    """Return the table of frames a second and of milliseconds a frame that each stage is busy."""
    table = Table(title=f"frames/s end to end, medians of {rounds} rounds; milliseconds a frame that a stage is busy")
    for column in ("clip", "frames", "pipeline", "frames/s", "first run", "decode", "objects", "text", "write"):
        table.add_column(column)
    for clip in clips:
        for pipeline_id in PIPELINES:
            first, _ = run(process, clip, pipeline_id, folder)
            reports = [run(process, clip, pipeline_id, folder)[0] for _ in range(rounds)]
            frames = first.frames_processed
            busy = {
                name: statistics.median(report.stage_seconds[name] for report in reports) / frames * 1000
                for name in first.stage_seconds
            }
            table.add_row(
                clip.name,
                str(frames),
                pipeline_id,
                f"{statistics.median(frames / report.wall_seconds for report in reports):.0f}",
                f"{frames / first.wall_seconds:.0f}",
                *(f"{busy[name]:.2f}" if name in busy else "" for name in ("decode", "objects", "text", "write")),
            )
    return table


def slots_on_one_card(long: Path, short: Path, counts: Sequence[int], rounds: int, settings: Settings) -> Table:
    """Return the table of frames a second of several slots on one card: a video that they share, and short jobs."""
    table = Table(
        title=f"slots on one card, frames/s: {long.name} shared among them; jobs of {short.name} side by side"
    )
    for column in ("slots", *(f"{name}, {what}" for name in PIPELINES for what in ("one", "jobs")), "MiB on the card"):
        table.add_column(column)
    table.add_column("documents")
    folder, digests = settings.home, set[tuple[str, int, str]]()
    for count in counts:
        row, before = [str(count)], used_mib(settings.device)
        pool = PipelinePool(settings, count) if count > 1 else PipelineProcess(settings)
        with warm(pool, count if count > 1 else 0) as executor:
            for pipeline_id in PIPELINES:
                for clip, jobs in ((long, 1), (short, 2 * max(counts))):
                    requests = [
                        RunRequest(clip, pipeline_id, 1, None, folder / f"{number}.json", clip.name)
                        for number in range(jobs)
                    ]
                    run_all(executor, requests)
                    seconds = statistics.median(timed(executor, requests) for _ in range(rounds))
                    documents = [request.output_path.read_bytes() for request in requests]
                    frames = sum(document.count(b'"frame_index"') for document in documents)
                    row.append(f"{frames / seconds:.0f}")
                    digests.add((pipeline_id, jobs, hashlib.sha256(b"".join(documents)).hexdigest()))
            row.append(str(used_mib(settings.device) - before))
        table.add_row(*row, "the same" if len(digests) == 2 * len(PIPELINES) else "DIFFERENT")
    return table


def timed(executor: Executor, requests: Sequence[RunRequest]) -> float:
    """Run jobs and return the seconds that they took."""
    begun = time.perf_counter()
    run_all(executor, requests)
    return time.perf_counter() - begun


def used_mib(device: str) -> int:
    """Return what is taken of a card's memory, by whomever."""
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) >> 20


def against_cpu(
    processes: dict[str, PipelineProcess], reference: VideoFilePipelineService, clips: list[Path], folder: Path
) -> Table:
    """Return the table of what both devices find, the CPU in fp32, and of the CPU's speed as it is used."""
    table = Table(title="the same on GPU and CPU (fp32): boxes at an overlap of 0.9, lines of text letter by letter")
    for column in ("clip", "boxes", "lines", "CPU yolo frames/s", "CPU yolo_ocr frames/s"):
        table.add_column(column)
    for clip in clips:
        reference.run_on_file(clip, "yolo_ocr", output_path=folder / "reference.json")
        expected = json.loads((folder / "reference.json").read_text())
        boxes, lines = agreement(expected, run(processes["gpu"], clip, "yolo_ocr", folder)[1])
        reports = [run(processes["cpu"], clip, pipeline_id, folder)[0] for pipeline_id in PIPELINES]
        speed = [f"{report.frames_processed / report.wall_seconds:.1f}" for report in reports]
        table.add_row(clip.name, f"{boxes:.2%}", f"{lines:.2%}", *speed)
    return table


def others(clips: list[Path], device: str) -> Table:
    """Return the table of decoding alone and of ``ultralytics predict``."""
    table = Table(title="frames/s of parts and peers")
    for column in ("clip", "decode alone", "with 4 converters", "ultralytics predict"):
        table.add_column(column)
    for clip in clips:
        table.add_row(clip.name, *(f"{decode_alone(clip, n):.0f}" for n in (1, 4)), f"{peer(clip, device):.0f}")
    return table


def about(device: str) -> Iterator[str]:
    """Yield the card and the versions."""
    yield f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, {platform.platform()}"
    for package in ("torch", "ultralytics-opencv-headless", "onnxruntime-gpu", "av", "opencv-python-headless"):
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"no {package}"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", type=int, default=16, help="how often a clip is repeated for the longer runs")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4, 8], help="how many share the card")
    parser.add_argument("--device", default="cuda:0")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("There is no GPU that torch can use; this benchmark needs one.")
    console.print("; ".join(about(asked.device)))
    short = sorted((SHARED / "media").glob("*.mp4"))
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        long = [looped(clip, asked.loops, folder) for clip in short]
        devices = {"gpu": asked.device, "cpu": "cpu"}
        processes = {
            n: PipelineProcess(Settings.load(home=home, weights=weights(), device=d)) for n, d in devices.items()
        }
        try:
            console.print(speeds(processes["gpu"], short + long, asked.rounds, folder))
            reference = on_cpu_in_fp32(Settings.load(home=home, weights=weights()))
            console.print(against_cpu(processes, reference, short, folder))
        finally:
            for process in processes.values():
                process.close()
        settings = Settings.load(home=home, weights=weights(), device=asked.device)
        console.print(slots_on_one_card(long[-1], short[-1], asked.slots, asked.rounds, settings))
        console.print(others(long, asked.device))


if __name__ == "__main__":
    main()
