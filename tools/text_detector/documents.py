"""Text in quantity: credits, menus, documents, screens and tables. Every function adds one to a canvas."""

from __future__ import annotations

import cv2
import numpy as np

from . import fonts, words
from .ink import HEIGHT, WIDTH, Canvas, block, contrasting, panel, put_block, put_line, text_size, typeset


def roll(canvas: Canvas) -> None:
    """Draw a column of lines, centred or flush, as credits, menus and lists have."""
    rng = canvas.rng
    size = text_size(rng, 11, 44)
    texts = [
        words.phrase(rng, canvas.split, 1, 4) if rng.random() < 0.6 else words.name(rng, canvas.split)
        for _ in range(rng.integers(2, 10))
    ]
    masks, tops, w, h = block(canvas, [size] * len(texts), texts, fonts.pick(rng, canvas.split), rng.uniform(1.15, 2))
    place = canvas.place(w + 10, h + 10) if masks else None
    if place:
        if rng.random() < 0.4:
            panel(canvas, place[0], place[1], w + 10, h + 10)
        area = canvas.image[place[1] : place[1] + h, place[0] : place[0] + w]
        look = "outline" if area.std() > 45 else ["plain", "plain", "outline", "shadow"][rng.integers(4)]
        put_block(
            canvas,
            masks,
            tops,
            place[0] + 5,
            place[1] + 5,
            w,
            contrasting(rng, area),
            ["left", "centre", "right"][rng.integers(3)],
            look,
        )


def page(canvas: Canvas) -> None:
    """Draw a document or a screen: paragraphs in columns, a heading, on a light or dark ground."""
    rng = canvas.rng
    full = rng.random() < 0.5
    w, h = (WIDTH, HEIGHT) if full else (int(rng.integers(300, 900)), int(rng.integers(200, 600)))
    place = (0, 0) if full and canvas.reserve(0, 0, w, h) else canvas.place(w, h)
    if place is None:
        return
    light = rng.random() < 0.7
    ground = rng.integers(215, 256, 3) if light else rng.integers(0, 60, 3)
    x0, y0 = place
    canvas.image[y0 : y0 + h, x0 : x0 + w] = ground
    face = fonts.pick(rng, canvas.split)
    size = text_size(rng, 11, 30)
    columns = int(rng.integers(1, 4)) if w > 500 else 1
    gap = 3 * size
    column_w = (w - gap * (columns + 1)) // columns
    spacing = rng.uniform(1.15, 1.7)
    for column in range(columns):
        x, y = x0 + gap + column * (column_w + gap), y0 + int(rng.integers(size, 4 * size))
        while y < y0 + h - 2 * size:
            if rng.random() < 0.12:
                y += int(size * rng.uniform(1, 3))
                continue
            heading = rng.random() < 0.08
            count = 2 if heading else int(rng.integers(3, 16))
            text = " ".join(words.word(rng, canvas.split) for _ in range(count)).capitalize()
            line = typeset(rng, canvas.split, int(size * 1.7) if heading else size, text, face)
            if line.shape[0] and y + line.shape[0] < y0 + h and line.shape[1] <= column_w:
                ink = np.float32(rng.integers(0, 90, 3) if light else rng.integers(160, 256, 3))
                put_line(canvas, line, x, y, ink)
            y += int(size * spacing * (1.7 if heading else 1))


def table(canvas: Canvas) -> None:
    """Draw rows and columns of short entries that stand far apart: each entry is a line of its own."""
    rng = canvas.rng
    size = text_size(rng, 11, 34)
    rows, columns = int(rng.integers(2, 9)), int(rng.integers(2, 5))
    pitch_x, pitch_y = int(size * rng.uniform(9, 14)), int(size * rng.uniform(1.4, 2.4))
    place = canvas.place(pitch_x * columns, pitch_y * rows)
    if place is None:
        return
    area = panel(canvas, place[0], place[1], pitch_x * columns, pitch_y * rows)
    face, colour = fonts.pick(rng, canvas.split), contrasting(rng, area)
    for row in range(rows):
        for column in range(columns):
            text = words.number(rng) if rng.random() < 0.5 else words.cased(rng, words.word(rng, canvas.split))
            mask = typeset(rng, canvas.split, size, text, face)
            if 0 < mask.shape[0] < pitch_y and mask.shape[1] < pitch_x - 2.5 * size:
                put_line(
                    canvas,
                    mask,
                    place[0] + column * pitch_x + size // 2,
                    place[1] + row * pitch_y + (pitch_y - mask.shape[0]) // 2,
                    colour,
                )
        if rng.random() < 0.3:
            y = place[1] + row * pitch_y
            cv2.line(canvas.image, (place[0], y), (place[0] + pitch_x * columns, y), tuple(colour.tolist()), 1)
