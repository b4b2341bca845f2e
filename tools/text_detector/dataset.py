"""Training images without end: frames are drawn, kept for a while, and seen several times in different crops.

A worker draws from its own generator, seeded by the run's seed and its number, so a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from . import backgrounds, degrade, overlays, scenes
from .decoys import decoy
from .ink import HEIGHT, WIDTH, Canvas

SEEDS = {"train": 1, "val": 2_000_003, "test": 3_000_017}
"""First seed of each split; backgrounds come from these seeds alone, so splits share none."""

SMALLEST_PX = 3.5
"""Lines lower than this at the network's input have no box: nobody could read them."""

Frame = tuple[np.ndarray, np.ndarray]
"""(720, 1280, 3) uint8 BGR and (n, 4) float32 boxes."""


def background(rng: np.random.Generator) -> np.ndarray:
    """Draw one picture without text, sometimes out of focus."""
    image = backgrounds.MAKERS[rng.choice(len(backgrounds.MAKERS), p=backgrounds.SHARE)](rng)
    if rng.random() < 0.15:
        image = backgrounds.receding(rng, image)
    if rng.random() < 0.3:
        side = int(rng.integers(1, 8)) * 2 + 1
        image = cv2.blur(image, (side, side))
    return image


def draw_frame(rng: np.random.Generator, split: str, picture: np.ndarray) -> Frame:
    """Draw scene text, decoys and overlays over a picture; one frame in seven stays free of text."""
    canvas = Canvas(picture.copy(), rng, split)
    for _ in range(rng.integers(0, 4)):
        decoy(canvas)
    if rng.random() < 0.14:
        return canvas.image, np.zeros((0, 4), np.float32)
    mood = rng.random()
    overlay_count = rng.integers(2, 8) if mood < 0.75 else 0
    sign_count = rng.integers(2, 12) if mood > 0.4 else 0
    for _ in range(sign_count):
        scenes.sign(canvas)
    for _ in range(overlay_count):
        overlays.KINDS[rng.choice(len(overlays.KINDS), p=overlays.SHARE)](canvas)
    return canvas.image, np.array(canvas.boxes, np.float32).reshape(-1, 4)


def view(rng: np.random.Generator, frame: Frame, height: int, width: int, whole: float = 0.35) -> Frame:
    """Cut, spoil and scale a frame as the network will get it: the whole of it letterboxed, or a crop."""
    image, boxes = frame
    largest = min(HEIGHT / height, WIDTH / width)
    if rng.random() < whole:
        scale, x, y = max(HEIGHT / height, WIDTH / width), 0, 0
    else:
        scale = float(np.exp(rng.uniform(np.log(0.8), np.log(largest))))
        spare = np.array([WIDTH - width * scale, HEIGHT - height * scale])
        corner = rng.uniform((0, 0), spare + 1)
        if len(boxes) and rng.random() < 0.75:
            # Crops are drawn around a line, or most of the close ones would show none.
            target = boxes[rng.integers(len(boxes))]
            middle = (target[:2] + target[2:]) / 2
            corner = middle - rng.uniform(0.15, 0.85, 2) * (width * scale, height * scale)
        x, y = np.clip(corner, 0, spare).astype(int).tolist()
    crop = image[y : y + round(height * scale), x : x + round(width * scale)]
    crop = crop[: crop.shape[0] // 2 * 2, : crop.shape[1] // 2 * 2]
    crop = degrade.lens(rng, np.ascontiguousarray(crop))
    new_w, new_h = min(width, round(crop.shape[1] / scale)), min(height, round(crop.shape[0] / scale))
    method = cv2.INTER_LINEAR if rng.random() < 0.6 else cv2.INTER_AREA
    small = degrade.sensor(rng, cv2.resize(crop, (new_w, new_h), interpolation=method))
    out = np.full((height, width, 3), 114, np.uint8)
    left, top = (width - new_w) // 2, (height - new_h) // 2
    out[top : top + new_h, left : left + new_w] = small
    return out, _cut(boxes, x, y, scale, new_w, new_h, left, top)


def _cut(boxes: np.ndarray, x: int, y: int, scale: float, w: int, h: int, left: int, top: int) -> np.ndarray:
    """Move boxes into a view and drop those that are too small or mostly outside."""
    moved = (boxes - (x, y, x, y)) / scale
    inside = np.stack(
        [moved[:, 0].clip(0, w), moved[:, 1].clip(0, h), moved[:, 2].clip(0, w), moved[:, 3].clip(0, h)], 1
    )
    full_height, seen = moved[:, 3] - moved[:, 1], inside[:, 2:] - inside[:, :2]
    keep = (full_height >= SMALLEST_PX) & (seen[:, 1] > 0.55 * full_height)
    keep &= seen[:, 0] > np.minimum(0.6 * full_height, 0.9 * (moved[:, 2] - moved[:, 0]))
    return (inside[keep] + (left, top, left, top)).astype(np.float32)


class Stream(torch.utils.data.IterableDataset):
    """Endless training batches of one shape each: `(images (b, 3, h, w) uint8 RGB, targets (n, 6))`.

    A target is `[image in batch, class 0, x centre, y centre, width, height]`, the last four as shares of the
    image's sides.
    """

    def __init__(self, seed: int, batch: int, shapes: list[tuple[int, int]], views_per_frame: int = 4, pool: int = 48):
        self.seed, self.batch, self.shapes = seed, batch, shapes
        self.views_per_frame, self.pool = views_per_frame, pool

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([SEEDS["train"], self.seed, worker.id if worker else 0])
        cv2.setNumThreads(1)
        cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
        frames: list[Frame] = []
        picture, uses, drawn = background(rng), 0, 0
        while True:
            height, width = self.shapes[rng.integers(len(self.shapes))]
            views = []
            for _ in range(self.batch):
                if len(frames) < self.pool // 4 or drawn % self.views_per_frame == 0:
                    if uses == 3:
                        picture, uses = background(rng), 0
                    uses += 1
                    picture = degrade.recolour(rng, np.ascontiguousarray(picture[:, ::-1]))
                    frame = draw_frame(rng, "train", picture)
                    if len(frames) < self.pool:
                        frames.append(frame)
                    else:
                        frames[rng.integers(self.pool)] = frame
                drawn += 1
                views.append(view(rng, frames[rng.integers(len(frames))], height, width))
            yield collate(views)


def collate(views: list[Frame]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack views of one size into a batch and its targets."""
    images = np.stack([image[..., ::-1].transpose(2, 0, 1) for image, _ in views])
    height, width = images.shape[2:]
    rows = []
    for index, (_, boxes) in enumerate(views):
        centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        head = np.tile(np.float32([[index, 0]]), (len(boxes), 1))
        rows.append(np.hstack([head, centre / (width, height), size / (width, height)]))
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.vstack(rows).astype(np.float32))


def held_out(split: str, count: int, height: int = 384, width: int = 640) -> Iterator[Frame]:
    """Yield `count` validation or test images as the product would see them: whole frames, letterboxed."""
    cv2.setNumThreads(1)
    for index in range(count):
        rng = np.random.default_rng([SEEDS[split], index])
        cv2.setRNGSeed(SEEDS[split] + index)
        yield view(rng, draw_frame(rng, split, background(rng)), height, width, whole=0.7)
