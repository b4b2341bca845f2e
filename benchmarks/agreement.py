"""How far two documents of one video agree: boxes at an overlap of 0.9, and lines of text letter by letter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from daemon.boxes import iou
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings

OVERLAP = 0.9


def on_cpu_in_fp32(settings: Settings) -> VideoFilePipelineService:
    """Return a service on the CPU whose every network computes in fp32.

    Left alone, text is looked for in bf16 where the processor has it, and that alone changes 4 % of the lines of
    street.mp4: lines that are hardly legible.
    """
    return VideoFilePipelineService(settings.model_copy(update={"device": "cpu", "precision": "fp32"}))


def agreement(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Return the share of boxes, of both documents, that the other has too, and that of the lines of text."""
    boxes: list[bool] = []
    same = total = 0
    for left, right in zip(one["results"], other["results"], strict=True):
        sides = left["result"]["detections"], right["result"]["detections"]
        boxes += [has(those, each) for these, those in (sides, sides[::-1]) for each in these]
        texts = [Counter(block["text"] for block in side["result"]["text_blocks"]) for side in (left, right)]
        same += 2 * (texts[0] & texts[1]).total()
        total += texts[0].total() + texts[1].total()
    return sum(boxes) / len(boxes) if boxes else 1.0, same / total if total else 1.0


def has(boxes: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> bool:
    """Tell whether a box of the same class is there at the same place."""
    return any(b["class_id"] == wanted["class_id"] and iou(b["bbox"], wanted["bbox"]) >= OVERLAP for b in boxes)
