"""Text that is part of the scene: signs, plates, shop fronts, posters and packages, seen at an angle."""

from __future__ import annotations

import cv2
import numpy as np

from . import fonts, words
from .backgrounds import fractal
from .decoys import emblem
from .ink import Canvas, as_lamps, contrasting, line_text, text_size, typeset


def _perspective(rng: np.random.Generator, w: int, h: int, steep: float) -> tuple[np.ndarray, int, int]:
    """Make a transform that turns and tilts a `w` x `h` patch: `(3x3 matrix, new width, new height)`."""
    angle = np.deg2rad(rng.normal(0, 3 + 9 * steep))
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    middle = corners.mean(0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (corners - middle) @ turn.T * (rng.uniform(1 - 0.4 * steep, 1), 1)
    moved = moved + rng.normal(0, 0.05 + 0.06 * steep, (4, 2)) * (min(w, 3 * h) * 0.7, h * 0.7)
    moved = (moved - moved.min(0)).astype(np.float32)
    size = np.ceil(moved.max(0)).astype(int) + 1
    return cv2.getPerspectiveTransform(corners, moved), int(size[0]), int(size[1])


def _ground(rng: np.random.Generator, w: int, h: int) -> np.ndarray:
    """Fill a sign's face: one colour, worn or graded: (h, w, 3) uint8."""
    colour = rng.integers(0, 256, 3) if rng.random() < 0.7 else np.full(3, rng.choice([15, 240]))
    face = np.empty((h, w, 3), np.float32)
    face[:] = colour
    if rng.random() < 0.5:
        face += (fractal(rng, h, w, 0.7, 5) * rng.uniform(5, 35))[..., None]
    if rng.random() < 0.4:
        face *= np.linspace(rng.uniform(0.5, 1), rng.uniform(0.7, 1), h, dtype=np.float32)[:, None, None]
    return face.clip(0, 255).astype(np.uint8)


def _lines(canvas: Canvas, size: int) -> list[np.ndarray]:
    """Typeset one to five lines as one sign has them, at times squeezed, at times as a display's lamps."""
    rng = canvas.rng
    count = 1 if rng.random() < 0.4 else int(rng.integers(2, 6))
    text, face = line_text(rng, canvas.split, 1, 3)
    lamps, squeeze = rng.random() < 0.1, rng.uniform(0.55, 1.5) if rng.random() < 0.3 else 1.0
    lines = []
    for index in range(count):
        if index:
            text = words.number(rng) if rng.random() < 0.2 else words.phrase(rng, canvas.split, 1, 4)
            if index == 1 or rng.random() < 0.4:
                # The first line may be in another script, whose face has no letters for the others.
                face = fonts.pick(rng, canvas.split)
        mask = typeset(rng, canvas.split, max(8, int(size * rng.uniform(0.5, 1.1))) if index else size, text, face)
        if mask.shape[0] and squeeze != 1:
            mask = cv2.resize(mask, (max(4, int(mask.shape[1] * squeeze)), mask.shape[0]), interpolation=cv2.INTER_AREA)
        if lamps and mask.shape[0]:
            mask = as_lamps(rng, mask)
        if mask.shape[0] and mask.shape[1] < 1100 and mask.any():
            lines.append(mask)
    return lines


def _lettering(rng: np.random.Generator, size: int, lines: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Set lines below one another, perhaps between emblems: the ink's mask, and each line's corners (4, 2)."""
    tight = rng.random() < 0.5
    gap = int(size * (rng.uniform(-0.06, 0.3) if tight else rng.uniform(0.25, 0.9))) + 1
    pad = int(size * rng.uniform(0.2, 1)) + 2
    column = max(m.shape[1] for m in lines)
    height = sum(m.shape[0] for m in lines) + gap * (len(lines) - 1) + 2 * pad
    emblems = [int(min(height - 2 * pad, 3 * size) * rng.uniform(0.6, 1.2)) * (rng.random() < 0.2) for _ in range(2)]
    left, right = ((wide + int(size * rng.uniform(0.2, 0.8)) + 1) if wide > 3 else 0 for wide in emblems)
    ink = np.zeros((height, column + left + right + 2 * pad), np.uint8)
    if left:
        emblem(rng, ink[pad : height - pad, pad : pad + emblems[0]])
    if right:
        emblem(rng, ink[pad : height - pad, ink.shape[1] - pad - emblems[1] : ink.shape[1] - pad])
    corners, y, align = [], pad, rng.choice([0.0, 0.5, 0.5, 0.5, 1.0])
    for mask in lines:
        h, w = mask.shape
        x = pad + left + int((column - w) * align)
        np.maximum(ink[y : y + h, x : x + w], mask, out=ink[y : y + h, x : x + w])
        corners.append(np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32))
        y += h + gap
    return ink, corners


def sign(canvas: Canvas) -> None:
    """Put up a sign, plate, display or poster, or letters straight on a wall, in perspective."""
    rng = canvas.rng
    size = text_size(rng, 9, 110)
    lines = _lines(canvas, size)
    if not lines:
        return
    ink, corners = _lettering(rng, size, lines)
    h, w = ink.shape
    bare = rng.random() < 0.3
    matrix, width, height = _perspective(rng, w, h, rng.random())
    place = canvas.place(width, height)
    if place is None:
        return
    area = canvas.image[place[1] : place[1] + height, place[0] : place[0] + width]
    patch = _ground(rng, w, h)
    if not bare and rng.random() < 0.4:
        edge = max(1, size // 6)
        colour = tuple(rng.integers(0, 256, 3).tolist())
        cv2.rectangle(patch, (edge // 2, edge // 2), (w - edge, h - edge), colour, edge)
    colour = contrasting(rng, area if bare else patch, rng.choice([35, 60, 60, 90]))
    for line in corners:
        moved = cv2.perspectiveTransform(line[None], matrix)[0]
        low, high = np.add(moved.min(0), place), np.add(moved.max(0), place)
        canvas.add_box(*low, *high)
    letters = cv2.warpPerspective(ink, matrix, (width, height))[..., None] / np.float32(255)
    if bare and rng.random() < 0.4:
        shift = max(1, size // 12)
        area[shift:, shift:] = area[shift:, shift:] * (1 - 0.6 * letters[:-shift, :-shift])
    if not bare:
        shape = cv2.warpPerspective(np.full((h, w), 255, np.uint8), matrix, (width, height))[..., None] / np.float32(
            255
        )
        face_on = cv2.warpPerspective(patch, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        area[:] = area * (1 - shape) + face_on * shape
    area[:] = area * (1 - letters) + colour * letters
