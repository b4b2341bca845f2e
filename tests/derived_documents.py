"""Result documents made by program, with texts and objects whose times are known, and noise as OCR makes it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Place = tuple[float, float, float, float]

MISREAD = {"0": "O8", "1": "7I", "3": "8", "5": "6S", "6": "5G", "8": "3B", "9": "4", "O": "0Q", "I": "1l", "S": "5"}
MISREAD |= {"E": "F", "A": "4R", "R": "K", "N": "M", "T": "I", "e": "c", "i": "l", "l": "i", "a": "o", "m": "n"}


@dataclass(frozen=True)
class Shown:
    """A line of text that is on the screen from one analysed frame to another, both included."""

    text: str
    first: int
    last: int
    place: Place = (40, 600, 440, 640)
    moving: tuple[float, float] = (0.0, 0.0)
    """Pixels that it moves right and down from frame to frame."""
    fade: int = 0
    """Frames at each end over which it is hard to read."""
    reads: bool = True
    """Whether it is one of the spans that are to be found."""


@dataclass
class Clip:
    """What is shown in a made-up video."""

    name: str
    frames: int
    shown: list[Shown]
    step_s: float = 0.04
    noise: float = 0.06
    """Part of the reads that are wrong."""
    missed: float = 0.02
    """Part of the reads that are missing."""
    seed: int = 1
    stride: int = 1
    times: Callable[[int], float] | None = None
    objects: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def time_of(self, position: int) -> float:
        return self.times(position) if self.times else round(position * self.step_s, 6)


def misread(text: str, chance: random.Random) -> str:
    places = [n for n, letter in enumerate(text) if letter in MISREAD]
    if not places or chance.random() < 0.25:
        n = chance.randrange(len(text))
        return text[:n] + text[n + 1 :]
    n = chance.choice(places)
    return text[:n] + chance.choice(MISREAD[text[n]]) + text[n + 1 :]


def read(line: Shown, position: int, clip: Clip, chance: random.Random) -> dict[str, Any] | None:
    away = position - line.first
    into = min(away, line.last - position)
    hard = into < line.fade
    if chance.random() < clip.missed:
        return None
    text, confidence = line.text, chance.uniform(0.93, 1.0)
    if hard:
        for _ in range(line.fade - into):
            text = misread(text, chance)
        confidence = chance.uniform(0.55, 0.8)
    elif chance.random() < clip.noise:
        text, confidence = misread(text, chance), chance.uniform(0.6, 0.95)
    edges = [edge + line.moving[n % 2] * away + chance.uniform(-2, 2) for n, edge in enumerate(line.place)]
    return {"bbox": [round(edge, 1) for edge in edges], "confidence": round(confidence, 4), "text": text}


def frames_of(clip: Clip) -> Iterable[dict[str, Any]]:
    chance = random.Random(clip.seed)
    for position in range(clip.frames):
        shown = [line for line in clip.shown if line.first <= position <= line.last]
        blocks = [block for line in shown if (block := read(line, position, clip, chance)) and block["text"]]
        yield frame(position * clip.stride, clip.time_of(position), blocks, clip.objects.get(position, []))


def frame(index: int, time_s: float, blocks: list[dict[str, Any]], objects: list[dict[str, Any]]) -> dict[str, Any]:
    text = "\n".join(block["text"] for block in blocks)
    result = {"detections": objects, "text": text, "text_blocks": blocks}
    return {"frame_index": index, "result": result, "timestamp_s": time_s}


def write_document(
    path: Path,
    frames: Iterable[dict[str, Any]],
    *,
    stride: int = 1,
    fps: float | None = 25.0,
    video: Mapping[str, Any] | None = None,
) -> Path:
    """Write frames as the pipeline does; ``video`` says more of the video than its frame rate."""

    def dumps(value: Any) -> str:
        return json.dumps(value, sort_keys=True, ensure_ascii=False)

    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"frame_stride": stride, "max_frames": None}
    count, expected = 0, None
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f'{{\n"models": [],\n"options": {dumps(options)},\n"pipeline_id": "yolo_ocr",\n"results": [')
        for record in frames:
            file.write((",\n" if count else "\n") + dumps(record))
            count += 1
        source = {"name": "clip.mp4", "sha256": "0" * 64, "size_bytes": 1000}
        summary = {"classes": {}, "detection_count": 0, "frame_count": count, "frames_expected": expected, "texts": []}
        told = {"codec": "h264", "fps": fps, "height": 720, "width": 1280, **(video or {})}
        file.write(
            f'\n],\n"schema": "dropframe.results/1",\n"source": {dumps(source)},\n"summary": {dumps(summary)},\n'
            f'"video": {dumps(told)}\n}}\n'
        )
    return path
