"""Measure weights on the held-out synthetic set: `python -m tools.text_detector.evaluate WEIGHTS`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from daemon.pipeline.regions import YOLO_CONFIDENCE

from .dataset import held_out
from .detector import TextDetector, lines, overlap

BANDS = [(3.5, 6), (6, 9), (9, 14), (14, 24), (24, 48), (48, 400)]
"""Heights of lines at the network's input, in pixels; a 1280x720 frame's heights are twice as much."""


def matches(found: np.ndarray, truth: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair detections, best first, with lines: each detection's line or -1, and all overlaps."""
    pairs = np.full(len(found), -1)
    shared = overlap(found[:, :4], truth) if len(found) and len(truth) else np.zeros((len(found), len(truth)))
    free = np.ones(len(truth), bool)
    for index in range(len(found)):
        if not free.any():
            break
        best = int(np.where(free, shared[index], -1).argmax())
        if shared[index, best] >= threshold:
            pairs[index], free[best] = best, False
    return pairs, shared


def average_precision(confidence: np.ndarray, correct: np.ndarray, total: int) -> float:
    """Area under the precision and recall curve, with precision made monotone, at every point."""
    if total == 0:
        return float("nan")
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(correct[order])
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * envelope))


def measure(detector: TextDetector, split: str, count: int, confidence: float) -> dict[str, object]:
    """Run the held-out set: mAP50, mAP50-95, precision and recall at a confidence, and both by height.

    Args:
        detector: One that gives boxes of almost no confidence too, for the whole curve.
        split: ``val`` or ``test``.
        count: Images.
        confidence: Of use.
    """
    scores, ious, heights, truth_heights, recalled = [], [], [], [], []
    false_at = kept_at = textless = false_textless = 0
    for picture, truth in held_out(split, count):
        (detections,) = detector([picture])
        found = np.array([[*each.box, each.confidence] for each in detections], np.float32).reshape(-1, 5)
        pairs, shared = matches(found, truth, 0.5)
        scores.append(found[:, 4])
        heights.append(
            np.where(
                pairs >= 0,
                np.take(truth[:, 3] - truth[:, 1], pairs) if len(truth) else 0,
                found[:, 3] - found[:, 1],
            )
        )
        ious.append(np.array([shared[i, p] if p >= 0 else 0.0 for i, p in enumerate(pairs)]))
        truth_heights.append(truth[:, 3] - truth[:, 1])
        used = lines(detections, confidence)
        used_pairs, _ = matches(used, truth, 0.5)
        recalled.append(np.isin(np.arange(len(truth)), used_pairs))
        false_at += int((used_pairs < 0).sum())
        kept_at += len(used)
        textless += len(truth) == 0
        false_textless += len(used) if len(truth) == 0 else 0
    score, iou, height = (np.concatenate(x) for x in (scores, ious, heights))
    line_heights, hit = np.concatenate(truth_heights), np.concatenate(recalled)
    bands = []
    for low, high in BANDS:
        mine, theirs = (height >= low) & (height < high), (line_heights >= low) & (line_heights < high)
        bands.append(
            (
                low,
                high,
                int(theirs.sum()),
                average_precision(score[mine], iou[mine] >= 0.5, int(theirs.sum())),
                hit[theirs].mean(),
            )
        )
    return {
        "lines": len(line_heights),
        "map50": average_precision(score, iou >= 0.5, len(line_heights)),
        "map50_95": float(
            np.mean([average_precision(score, iou >= t, len(line_heights)) for t in np.arange(0.5, 1, 0.05)])
        ),
        "recall": hit.mean(),
        "precision": 1 - false_at / max(1, kept_at),
        "false_a_textless": false_textless / max(1, textless),
        "bands": bands,
    }


def main() -> None:
    """Print the table that the model card shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--confidence", type=float, default=YOLO_CONFIDENCE)
    options = parser.parse_args()
    result = measure(TextDetector(options.weights, confidence=0.01), options.split, options.images, options.confidence)
    print(f"{options.split}: {options.images} images, {result['lines']} lines")
    print(f"mAP50 {result['map50']:.3f}  mAP50-95 {result['map50_95']:.3f}")
    print(f"at confidence {options.confidence}: recall {result['recall']:.3f}, "
          f"precision {result['precision']:.3f}, "
          f"{result['false_a_textless']:.2f} false boxes an image without text")  # fmt: skip
    print("height at the input (px) | lines | AP50 | recall")
    for low, high, count, ap, recall in result["bands"]:
        print(f"{low:g} to {high:g} | {count} | {ap:.3f} | {recall:.3f}")


if __name__ == "__main__":
    main()
