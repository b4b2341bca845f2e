"""A frame being drawn, and the one place where letters are put into it and boxes are kept.

All sizes are in pixels of a 1280x720 video frame; boxes are `[x1, y1, x2, y2]`.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from . import fonts, words

HEIGHT, WIDTH = 720, 1280

MARGIN = 0.08
"""Share of a line's height that its box leaves free on each side, so that a crop does not cut the ink."""


class Canvas:
    """A frame under construction: its pixels, the box of every line in it, and the areas already in use."""

    def __init__(self, image: np.ndarray, rng: np.random.Generator, split: str) -> None:
        self.image = image
        """(720, 1280, 3) uint8, BGR."""
        self.rng = rng
        self.split = split
        self.boxes: list[tuple[float, float, float, float]] = []
        self.taken: list[tuple[float, float, float, float]] = []

    def free(self, x: float, y: float, w: float, h: float, gap: float = 6) -> bool:
        """Say whether a rectangle touches nothing that was placed before."""
        return all(x > t[2] + gap or x + w < t[0] - gap or y > t[3] + gap or y + h < t[1] - gap for t in self.taken)

    def place(self, w: int, h: int, tries: int = 12) -> tuple[int, int] | None:
        """Find and reserve a free place for a `w` x `h` rectangle; None when there seems to be none."""
        if w >= WIDTH or h >= HEIGHT:
            return None
        for _ in range(tries):
            x, y = int(self.rng.integers(0, WIDTH - w)), int(self.rng.integers(0, HEIGHT - h))
            if self.free(x, y, w, h):
                self.taken.append((x, y, x + w, y + h))
                return x, y
        return None

    def reserve(self, x: float, y: float, w: float, h: float) -> bool:
        """Reserve a rectangle if it is free."""
        if not self.free(x, y, w, h):
            return False
        self.taken.append((x, y, x + w, y + h))
        return True

    def add_box(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Keep a line's ink extent as a box, with its margin."""
        pad = max(1.0, MARGIN * (y2 - y1))
        self.boxes.append((x1 - pad, y1 - pad, x2 + pad, y2 + pad))


def typeset(rng: np.random.Generator, split: str, size: int, text: str, face: fonts.Face | None = None) -> np.ndarray:
    """Render one line: its alpha mask, uint8, cut to the ink; (0, 0) when the face has no such letters."""
    face = face or fonts.pick(rng, split)
    font = fonts.load(face, max(size, 5))
    if rng.random() < 0.06 and len(text) < 24:
        text = "\u2009".join(text) if rng.random() < 0.5 else " ".join(text)
        if "\u2009" in text and "Noto" not in face.family:
            text = text.replace("\u2009", "")
    left, top, right, bottom = font.getbbox(text)
    if right - left < 2 or bottom - top < 2 or right - left > 4000:
        return np.zeros((0, 0), np.uint8)
    page = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(page).text((2 - left, 2 - top), text, font=font, fill=255)
    mask = np.asarray(page)
    ys, xs = np.flatnonzero(mask.max(1) > 40), np.flatnonzero(mask.max(0) > 40)
    if len(ys) < 3 or len(xs) < 2:
        return np.zeros((0, 0), np.uint8)
    return mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]


def as_lamps(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Redraw a line's mask as the lamps of a destination display: round dots on a grid."""
    h, w = mask.shape
    rows = int(rng.integers(7, 15))
    pitch = h // rows
    if pitch < 2:
        return mask
    columns = max(1, w // pitch)
    lit = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA)
    lamp = np.zeros((pitch, pitch), np.uint8)
    cv2.circle(lamp, (pitch // 2, pitch // 2), max(1, int(pitch * 0.42)), 255, -1)
    lit = np.where(lit > 90, 255, 0).astype(np.uint8)
    return np.kron(lit // 255, lamp)


def line_text(rng: np.random.Generator, split: str, low: int = 1, high: int = 5) -> tuple[str, fonts.Face]:
    """Draw a line's words and a face that has its letters; one line in twelve is not in Latin letters."""
    if rng.random() < 0.08:
        scripts = fonts.scripts(split)
        script = scripts[rng.integers(len(scripts))]
        return words.foreign(rng, script), fonts.pick(rng, split, script)
    return words.phrase(rng, split, low, high), fonts.pick(rng, split)


def contrasting(rng: np.random.Generator, background: np.ndarray, least: float = 70) -> np.ndarray:
    """Draw a BGR colour whose brightness differs from a background's mean by at least `least` of 255."""
    mean = float(background.reshape(-1, 3).mean(0) @ (0.114, 0.587, 0.299))
    for _ in range(8):
        if rng.random() < 0.5:
            colour = np.full(3, rng.choice([255, 245, 235, 0, 16, 30]), np.float32)
        else:
            colour = rng.integers(0, 256, 3).astype(np.float32)
        if abs(float(colour @ (0.114, 0.587, 0.299)) - mean) >= least:
            return colour
    return np.full(3, 255 if mean < 128 else 0, np.float32)


def blend(image: np.ndarray, alpha: np.ndarray, colour: np.ndarray, x: int, y: int, opacity: float = 1.0) -> None:
    """Paint a colour through a uint8 mask at `(x, y)`, in place; what lies outside the frame is left out."""
    h, w = alpha.shape
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, image.shape[1]), min(y + h, image.shape[0])
    if x1 >= x2 or y1 >= y2:
        return
    part = alpha[y1 - y : y2 - y, x1 - x : x2 - x, None].astype(np.float32) * (opacity / 255)
    area = image[y1:y2, x1:x2]
    area[:] = area + (colour - area) * part


def put_line(
    canvas: Canvas,
    mask: np.ndarray,
    x: int,
    y: int,
    colour: np.ndarray,
    *,
    look: str = "plain",
    opacity: float = 1.0,
) -> None:
    """Draw a typeset line at `(x, y)` with a look (plain, outline, shadow, glow, box) and keep its box."""
    h, w = mask.shape
    if h == 0:
        return
    image = canvas.image
    dark = np.full(3, 0 if colour.mean() > 110 else 255, np.float32)
    if look == "outline":
        width = max(1, round(h * canvas.rng.uniform(0.04, 0.12)))
        padded = cv2.copyMakeBorder(mask, width, width, width, width, cv2.BORDER_CONSTANT)
        shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
        blend(image, cv2.dilate(padded, shape), dark, x - width, y - width, opacity)
    elif look == "shadow":
        shift = max(1, round(h * canvas.rng.uniform(0.04, 0.12)))
        blend(image, cv2.blur(mask, (3, 3)), dark, x + shift, y + shift, 0.8 * opacity)
    elif look == "glow":
        width = max(2, h // 4)
        padded = cv2.copyMakeBorder(mask, width, width, width, width, cv2.BORDER_CONSTANT)
        blend(image, np.minimum(cv2.blur(padded, (width, width)), 127) * 2, dark, x - width, y - width, opacity)
    elif look == "box":
        pad = max(2, round(h * canvas.rng.uniform(0.15, 0.5)))
        plate = np.full((h + 2 * pad, w + 2 * pad), 255, np.uint8)
        blend(image, plate, dark, x - pad, y - pad, canvas.rng.uniform(0.5, 1.0))
    blend(image, mask, colour, x, y, opacity)
    canvas.add_box(x, y, x + w, y + h)


def text_size(rng: np.random.Generator, low: float = 9, high: float = 90) -> int:
    """Draw a font size in pixels of a 1280x720 frame, small ones more often."""
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


def panel(canvas: Canvas, x: int, y: int, w: int, h: int) -> np.ndarray:
    """Draw a bar or box, solid, see-through or graded, and return the area of the image it covers."""
    rng = canvas.rng
    area = canvas.image[max(0, y) : y + h, max(0, x) : x + w]
    colour = rng.integers(0, 256, 3).astype(np.float32) if rng.random() < 0.6 else np.full(3, rng.choice([0, 20, 245]))
    fill = np.broadcast_to(colour.astype(np.float32), area.shape)
    if rng.random() < 0.25:
        slope = np.linspace(rng.uniform(0.4, 1), 1, area.shape[1], dtype=np.float32)[None, :, None]
        fill = fill * slope
    opacity = 1.0 if rng.random() < 0.65 else rng.uniform(0.4, 0.95)
    area[:] = (area * (1 - opacity) + fill * opacity).astype(np.uint8)
    if rng.random() < 0.2:
        edge = tuple(rng.integers(0, 256, 3).tolist())
        cv2.rectangle(canvas.image, (x, y), (x + w, y + h), edge, int(rng.integers(1, 5)))
    return area


def block(
    canvas: Canvas, sizes: list[int], texts: list[str], face: fonts.Face, spacing: float
) -> tuple[list[np.ndarray], list[int], int, int]:
    """Typeset lines for one column: `(masks, tops, width, height)`, empty lines left out."""
    masks, tops, top = [], [], 0
    for size, text in zip(sizes, texts, strict=True):
        mask = typeset(canvas.rng, canvas.split, size, text, face)
        if mask.shape[0]:
            masks.append(mask)
            tops.append(top)
            top += max(int(size * spacing), mask.shape[0] + 2)
    height = tops[-1] + masks[-1].shape[0] if masks else 0
    return masks, tops, max((m.shape[1] for m in masks), default=0), height


def put_block(
    canvas: Canvas,
    masks: list[np.ndarray],
    tops: list[int],
    x: int,
    y: int,
    width: int,
    colour: np.ndarray,
    align: str,
    look: str = "plain",
) -> None:
    """Draw a typeset column at `(x, y)`, aligned left, centre or right within `width`."""
    for mask, top in zip(masks, tops, strict=True):
        spare = width - mask.shape[1]
        put_line(
            canvas,
            mask,
            x + {"left": 0, "centre": spare // 2, "right": spare}[align],
            y + top,
            colour,
            look=look,
        )
