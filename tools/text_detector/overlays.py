"""What broadcasters, cameras and computers draw over a picture: every function adds one kind to a canvas."""

from __future__ import annotations

import numpy as np

from . import fonts, words
from .documents import page, roll, table
from .ink import (
    HEIGHT,
    WIDTH,
    Canvas,
    block,
    contrasting,
    line_text,
    panel,
    put_block,
    put_line,
    text_size,
    typeset,
)

LOOKS = ["plain", "plain", "outline", "shadow", "glow", "box"]


def ticker(canvas: Canvas) -> None:
    """Draw a bar across the frame with running text, often with a label or a clock at an end."""
    rng = canvas.rng
    size = text_size(rng, 14, 46)
    height = int(size * rng.uniform(1.3, 2.4))
    y = int(HEIGHT - height - rng.choice([0, 0, 8, 30, 60])) if rng.random() < 0.85 else int(rng.choice([0, 20]))
    if not canvas.reserve(0, y, WIDTH, height):
        return
    area = panel(canvas, 0, y, WIDTH, height)
    colour, face = contrasting(rng, area), fonts.pick(rng, canvas.split)
    left, right = int(rng.integers(0, 60)), WIDTH
    if rng.random() < 0.5:
        label = typeset(
            rng,
            canvas.split,
            int(size * rng.uniform(0.8, 1.05)),
            words.phrase(rng, canvas.split, 1, 2).upper(),
        )
        if 0 < label.shape[1] < 400 and label.shape[0] < height:
            box = panel(canvas, 0, y, label.shape[1] + 2 * size, height)
            put_line(canvas, label, size, y + (height - label.shape[0]) // 2, contrasting(rng, box))
            left = label.shape[1] + 2 * size + int(size * rng.uniform(1.2, 3))
    if rng.random() < 0.3:
        clock = typeset(rng, canvas.split, size, f"{rng.integers(24):02d}:{rng.integers(60):02d}")
        if 0 < clock.shape[0] < height:
            box = panel(canvas, WIDTH - clock.shape[1] - 2 * size, y, clock.shape[1] + 2 * size, height)
            put_line(
                canvas,
                clock,
                WIDTH - clock.shape[1] - size,
                y + (height - clock.shape[0]) // 2,
                contrasting(rng, box),
            )
            right = WIDTH - clock.shape[1] - 2 * size - int(size * 2.5)
    x = left if rng.random() < 0.6 else left + int(rng.integers(0, 300))
    while x < right - 3 * size:
        text = words.phrase(rng, canvas.split, 3, 12)
        mask = typeset(rng, canvas.split, size, text.upper() if rng.random() < 0.5 else text, face)
        if mask.shape[0] == 0 or mask.shape[0] >= height:
            return
        mask = mask[:, : right - x]
        put_line(canvas, mask, x, y + (height - mask.shape[0]) // 2, colour)
        x += mask.shape[1] + int(size * rng.uniform(2.5, 6))
        if rng.random() < 0.4:
            return


def lower_third(canvas: Canvas) -> None:
    """Draw a name and what the person is, one to three lines on a panel in the lower part."""
    rng = canvas.rng
    size = text_size(rng, 18, 52)
    texts = [words.name(rng, canvas.split) if rng.random() < 0.5 else words.phrase(rng, canvas.split, 2, 6)]
    sizes = [size]
    for _ in range(rng.integers(0, 3)):
        texts.append(words.phrase(rng, canvas.split, 2, 7))
        sizes.append(max(10, int(size * rng.uniform(0.5, 0.9))))
    masks, tops, w, h = block(canvas, sizes, texts, fonts.pick(rng, canvas.split), rng.uniform(1.2, 1.7))
    pad = int(size * rng.uniform(0.3, 0.9))
    full = rng.random() < 0.3
    x = int(rng.integers(20, 160)) if rng.random() < 0.7 else int(rng.integers(20, 700))
    y = int(HEIGHT - h - 2 * pad - rng.integers(10, 160))
    if not masks or x + w + pad > WIDTH or not canvas.reserve(x - pad, y - pad, w + 2 * pad, h + 2 * pad):
        return
    area = panel(canvas, 0 if full else x - pad, y - pad, WIDTH if full else w + 2 * pad, h + 2 * pad)
    put_block(canvas, masks, tops, x, y, w, contrasting(rng, area), "left")


def scoreboard(canvas: Canvas) -> None:
    """Draw a strip of cells: team, score, team, clock; or one line that holds them all."""
    rng = canvas.rng
    size = text_size(rng, 14, 50)
    teams = [words.cased(rng, words.word(rng, canvas.split)).upper() for _ in range(2)]
    if rng.random() < 0.6:
        teams = [team[:3] for team in teams]
    score = [str(rng.integers(0, 10 if rng.random() < 0.6 else 120)) for _ in range(2)]
    minute = f"{rng.integers(0, 91):02d}:{rng.integers(60):02d}"
    joined = f"{teams[0]} {score[0]} {'-:/'[rng.integers(3)]} {score[1]} {teams[1]}"
    cells = [
        [joined],
        [joined, minute],
        [teams[0], score[0], score[1], teams[1], minute],
        [f"{teams[0]} {score[0]}", f"{teams[1]} {score[1]}"],
    ]
    face = fonts.pick(rng, canvas.split)
    masks = [m for m in (typeset(rng, canvas.split, size, t, face) for t in cells[rng.integers(4)]) if m.shape[0]]
    if not masks:
        return
    pad = int(size * rng.uniform(1.2, 1.8))
    height = int(size * rng.uniform(1.3, 2.2))
    total = sum(m.shape[1] + 2 * pad for m in masks)
    x, y = int(rng.integers(10, 120)), int(rng.integers(10, 90))
    x = x if rng.random() < 0.6 else (WIDTH - total) // 2
    if x < 0 or x + total > WIDTH or max(m.shape[0] for m in masks) > height or not canvas.reserve(x, y, total, height):
        return
    shared = rng.random() < 0.4
    area = panel(canvas, x, y, total, height) if shared else None
    colour = contrasting(rng, area) if shared else None
    for mask in masks:
        cell = area if shared else panel(canvas, x, y, mask.shape[1] + 2 * pad, height)
        ink = colour if shared else contrasting(rng, cell)
        put_line(canvas, mask, x + pad, y + (height - mask.shape[0]) // 2, ink)
        x += mask.shape[1] + 2 * pad


def subtitle(canvas: Canvas) -> None:
    """Draw one or two centred lines of speech near the bottom or top."""
    rng = canvas.rng
    size = text_size(rng, 18, 54)
    texts = [words.phrase(rng, canvas.split, 2, 8).capitalize() for _ in range(rng.integers(1, 3))]
    masks, tops, w, h = block(canvas, [size] * len(texts), texts, fonts.pick(rng, canvas.split), rng.uniform(1.1, 1.5))
    y = HEIGHT - h - int(rng.integers(15, 110)) if rng.random() < 0.85 else int(rng.integers(10, 80))
    x = (WIDTH - w) // 2
    if not masks or x < 4 or not canvas.reserve(x, y, w, h):
        return
    look = ["outline", "outline", "shadow", "glow", "box"][rng.integers(5)]
    colour = np.float32([255, 255, 255]) if rng.random() < 0.7 else np.float32([40, 230, 250])
    put_block(canvas, masks, tops, x, y, w, colour, "centre", look)


def camera_clock(canvas: Canvas) -> None:
    """Draw a camera's name and time in a corner."""
    rng = canvas.rng
    mask = typeset(rng, canvas.split, text_size(rng, 11, 44), words.stamp(rng))
    h, w = mask.shape
    if not h or w > WIDTH - 60:
        return
    x = int(rng.integers(4, 60)) if rng.random() < 0.5 else WIDTH - w - int(rng.integers(4, 60))
    y = int(rng.integers(4, 50)) if rng.random() < 0.6 else HEIGHT - h - int(rng.integers(4, 50))
    if not canvas.reserve(x, y, w, h):
        return
    look = ["plain", "outline", "shadow", "box"][rng.integers(4)]
    put_line(canvas, mask, x, y, contrasting(rng, canvas.image[y : y + h, x : x + w]), look=look)


def watermark(canvas: Canvas) -> None:
    """Draw a pale word or two, see-through, mostly in a corner."""
    rng = canvas.rng
    text = words.phrase(rng, canvas.split, 1, 2)
    mask = typeset(rng, canvas.split, text_size(rng, 14, 80), text)
    place = canvas.place(mask.shape[1], mask.shape[0]) if mask.shape[0] else None
    if place:
        area = canvas.image[place[1] : place[1] + mask.shape[0], place[0] : place[0] + mask.shape[1]]
        put_line(canvas, mask, *place, contrasting(rng, area, 110), opacity=rng.uniform(0.4, 0.8))


def caption(canvas: Canvas) -> None:
    """Draw one free line anywhere, in any size and look."""
    rng = canvas.rng
    text, face = line_text(rng, canvas.split, 1, 6)
    if rng.random() < 0.4:
        text, face = words.number(rng), fonts.pick(rng, canvas.split)
    mask = typeset(rng, canvas.split, text_size(rng, 8, 130), text, face)
    place = canvas.place(mask.shape[1], mask.shape[0]) if mask.shape[0] else None
    if place:
        area = canvas.image[place[1] : place[1] + mask.shape[0], place[0] : place[0] + mask.shape[1]]
        look = LOOKS[rng.integers(len(LOOKS))]
        if look == "plain" and area.std() > 45:
            look = "outline"
        put_line(canvas, mask, *place, contrasting(rng, area, 60), look=look)


KINDS = [ticker, lower_third, scoreboard, subtitle, camera_clock, watermark, caption, roll, page, table]
SHARE = np.array([0.11, 0.09, 0.09, 0.1, 0.13, 0.06, 0.26, 0.06, 0.05, 0.05])
