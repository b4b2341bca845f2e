"""Things that look a little like text and are not: barcodes, keypads, dashes, icons, meters."""

from __future__ import annotations

import cv2
import numpy as np

from .ink import Canvas


def decoy(canvas: Canvas) -> None:
    """Draw one text-free object at a free place."""
    rng = canvas.rng
    w, h = int(rng.integers(30, 400)), int(rng.integers(12, 140))
    place = canvas.place(w, h)
    if place is None:
        return
    x, y = place
    image = canvas.image[y : y + h, x : x + w]
    colour = tuple(rng.integers(0, 256, 3).tolist())
    if rng.random() < 0.5:
        image[:] = rng.integers(0, 256, 3)
    kind = rng.integers(6)
    if kind == 0:
        bars = np.repeat(rng.integers(0, 2, w), rng.integers(1, 5))[:w].astype(bool)
        image[:, bars] = colour
    elif kind == 1:
        step = int(rng.integers(8, 40))
        for left in range(0, w, step):
            for top in range(0, h, step):
                cv2.rectangle(image, (left, top), (left + int(step * 0.7), top + int(step * 0.7)), colour, -1)
    elif kind == 2:
        step, thick = int(rng.integers(6, 40)), int(rng.integers(1, 6))
        for left in range(0, w, step):
            cv2.line(image, (left, h // 2), (left + step // 2, h // 2), colour, thick)
    elif kind == 3:
        for _ in range(int(rng.integers(1, 4))):
            centre, radius = (int(rng.integers(w)), int(rng.integers(h))), int(rng.integers(5, 60))
            count = int(rng.integers(3, 9))
            angle = np.linspace(0, 2 * np.pi, 2 * count, endpoint=False)
            reach = np.where(np.arange(2 * count) % 2, radius * rng.uniform(0.4, 1), radius)
            points = np.stack([centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle)], 1)
            cv2.fillPoly(image, [points.astype(np.int32)], colour, cv2.LINE_AA)
    elif kind == 4:
        cv2.rectangle(image, (2, 2), (w - 3, h - 3), colour, 2)
        cv2.rectangle(image, (5, 5), (5 + int((w - 11) * rng.random()), h - 6), colour, -1)
    else:
        for _ in range(int(rng.integers(1, 4))):
            centre = (int(rng.integers(w)), int(rng.integers(h)))
            axes = (int(rng.integers(4, w)), int(rng.integers(4, h)))
            turn, end, thick = rng.uniform(0, 180), rng.uniform(60, 360), int(rng.integers(1, 8))
            cv2.ellipse(image, centre, axes, turn, 0, end, colour, thick, cv2.LINE_AA)


def emblem(rng: np.random.Generator, mask: np.ndarray) -> None:
    """Draw a mark such as a logo has into a uint8 mask, in place: rings, stars, leaves, arrows."""
    h, w = mask.shape
    if h < 4 or w < 4:
        return
    for _ in range(int(rng.integers(1, 4))):
        centre = (int(rng.integers(w // 4, w - w // 4)), int(rng.integers(h // 4, h - h // 4)))
        radius = min(h, w) * rng.uniform(0.2, 0.5)
        thick = -1 if rng.random() < 0.5 else max(1, int(radius / 5))
        value = 255 if rng.random() < 0.8 else 0
        if rng.random() < 0.5:
            axes = (int(radius), max(1, int(radius * rng.uniform(0.3, 1))))
            cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, rng.uniform(150, 360), value, thick, cv2.LINE_AA)
        else:
            turn = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 10))))
            reach = radius * rng.uniform(0.3, 1, len(turn))
            points = np.stack([centre[0] + reach * np.cos(turn), centre[1] + reach * np.sin(turn)], 1)
            cv2.fillPoly(mask, [points.astype(np.int32)], value, cv2.LINE_AA)
