"""Pictures without a letter in them: what text stands on, and what must not be taken for text.

Every maker returns a (720, 1280, 3) uint8 BGR image. Shapes are drawn at the size a video frame has, so
that bricks, leaves and wires are as fine as they are in real frames.
"""

from __future__ import annotations

import cv2
import numpy as np

from .ink import HEIGHT, WIDTH

Rng = np.random.Generator


def palette(rng: Rng, count: int = 6) -> np.ndarray:
    """Draw `count` BGR colours that go together, as one scene's colours do: (count, 3) float32."""
    base = rng.uniform(0, 180)
    hue = (base + rng.normal(0, rng.choice([8, 25, 90]), count)) % 180
    saturation = np.clip(rng.normal(rng.choice([15, 60, 130]), 40, count), 0, 255)
    value = np.clip(rng.normal(rng.uniform(60, 180), 55, count), 5, 250)
    hsv = np.stack([hue, saturation, value], 1).astype(np.uint8)[None]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0].astype(np.float32)


def fractal(rng: Rng, height: int, width: int, roughness: float = 0.6, octaves: int = 7) -> np.ndarray:
    """Noise with the spectrum of natural scenes, from -1 to 1: (height, width) float32."""
    total, weight = np.zeros((height, width), np.float32), 1.0
    for octave in range(octaves):
        cells = 2 ** (octave + 1)
        grid = rng.standard_normal((max(2, cells * height // width + 1), cells + 1)).astype(np.float32)
        total += weight * cv2.resize(
            grid, (width, height), interpolation=cv2.INTER_CUBIC if octave < 4 else cv2.INTER_LINEAR
        )
        weight *= roughness
    return np.clip(total / 2.2, -1, 1)


def textured(rng: Rng, image: np.ndarray, strength: float = 40) -> np.ndarray:
    """Shade an image with fractal noise, made at half size because fine grain comes later."""
    noise = fractal(rng, HEIGHT // 2, WIDTH // 2, rng.uniform(0.4, 0.9)) * rng.uniform(0, strength)
    noise = cv2.resize(noise, (WIDTH, HEIGHT))
    return cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


def gradient(rng: Rng) -> np.ndarray:
    """Blend four corner colours."""
    corners = palette(rng, 4).reshape(2, 2, 3)
    return cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).clip(0, 255).astype(np.uint8)


def coloured(rng: Rng, field: np.ndarray) -> np.ndarray:
    """Map a grey image through a palette."""
    stops = palette(rng, int(rng.integers(2, 6)))
    table = cv2.resize(stops[None], (256, 1), interpolation=cv2.INTER_LINEAR).clip(0, 255).astype(np.uint8)
    return cv2.LUT(cv2.merge([field] * 3), table.reshape(1, 256, 3))


def clouds(rng: Rng) -> np.ndarray:
    """Map fractal noise through a palette: sky, smoke, water, marble."""
    field = (fractal(rng, HEIGHT // 2, WIDTH // 2, rng.uniform(0.35, 0.95)) * 127 + 128).astype(np.uint8)
    return cv2.resize(coloured(rng, field), (WIDTH, HEIGHT))


def _shape(rng: Rng, image: np.ndarray, x: int, y: int, size: float, colour: tuple[float, ...]) -> None:
    """Draw one random solid shape around `(x, y)`."""
    kind = rng.integers(6)
    angle = rng.uniform(0, 180)
    if kind <= 1:
        axes = (max(1, int(size)), max(1, int(size * rng.uniform(0.2, 1))))
        cv2.ellipse(image, (x, y), axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    elif kind == 2:
        turn = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        radius = size * rng.uniform(0.5, 1, len(turn))
        points = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1).astype(np.int32)
        cv2.fillPoly(image, [points], colour, cv2.LINE_AA)
    elif kind == 3:
        corners = cv2.boxPoints(((x, y), (size * 2, size * rng.uniform(0.1, 2)), angle if rng.random() < 0.5 else 0))
        cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    elif kind == 4:
        end = (int(x + size * 4 * np.cos(angle)), int(y + size * 4 * np.sin(angle)))
        cv2.line(image, (x, y), end, colour, max(1, int(size * rng.uniform(0.05, 0.3))), cv2.LINE_AA)
    else:
        cv2.circle(image, (x, y), max(2, int(size)), colour, max(1, int(size * rng.uniform(0.05, 0.5))), cv2.LINE_AA)


def dead_leaves(rng: Rng) -> np.ndarray:
    """Cover the frame with shapes of every size, which has the statistics of photographs."""
    image = clouds(rng) if rng.random() < 0.5 else gradient(rng)
    colours = palette(rng, 10)
    count = int(rng.integers(40, 500))
    smallest, largest = np.exp(rng.uniform(np.log(2), np.log(50))), rng.uniform(80, 400)
    power = rng.uniform(0.9, 2.4)
    sizes = smallest * (1 - rng.random(count)) ** (-1 / power)
    for size in np.sort(np.minimum(sizes, largest))[::-1]:
        x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        colour = np.clip(colours[rng.integers(10)] + rng.normal(0, 12, 3), 0, 255)
        _shape(rng, image, x, y, float(size), tuple(colour.tolist()))
    return textured(rng, image)


def facade(rng: Rng) -> np.ndarray:
    """Draw a wall of bricks, tiles or windows with frames, seen from the front or at an angle."""
    colours = palette(rng, 5)
    image = np.full((HEIGHT, WIDTH, 3), colours[0], np.uint8)
    pitch_x, pitch_y = rng.integers(14, 160), rng.integers(10, 140)
    gap = max(1, int(min(pitch_x, pitch_y) * rng.uniform(0.04, 0.5)))
    bricks = rng.random() < 0.4
    for row, y in enumerate(range(-20, HEIGHT, pitch_y)):
        for x in range(-pitch_x + (pitch_x // 2 if bricks and row % 2 else 0), WIDTH, pitch_x):
            colour = np.clip(colours[1 + (rng.integers(4) if rng.random() < 0.2 else 0)] + rng.normal(0, 10, 3), 0, 255)
            right, bottom = x + pitch_x - gap, y + pitch_y - gap
            cv2.rectangle(image, (x, y), (right, bottom), tuple(colour.tolist()), -1)
            if not bricks and pitch_x > 40:
                middle = (x + right) // 2
                cv2.line(image, (middle, y), (middle, bottom), tuple(colours[4].tolist()), max(1, gap // 3))
    if rng.random() < 0.6:
        corners = np.float32([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]])
        moved = corners + rng.uniform(-0.25, 0.25, (4, 2)).astype(np.float32) * (WIDTH, HEIGHT)
        transform = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
        image = cv2.warpPerspective(image, transform, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    return textured(rng, image)


def foliage(rng: Rng) -> np.ndarray:
    """Draw leaves, grass and twigs: much fine contrast in every direction."""
    image = clouds(rng)
    colours = palette(rng, 8)
    colours[:, 1] = np.clip(colours[:, 1] + 40, 0, 255)
    size = rng.uniform(2, 14)
    lean, spread = rng.uniform(0, 180), rng.choice([15, 60, 180])
    for _ in range(int(rng.integers(500, 2200))):
        x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        length = max(1.0, size * rng.lognormal(0, 0.4))
        colour = tuple(np.clip(colours[rng.integers(8)] * rng.uniform(0.5, 1.3), 0, 255).tolist())
        angle = lean + rng.normal(0, spread)
        cv2.ellipse(image, (x, y), (int(length), max(1, int(length * 0.35))), angle, 0, 360, colour, -1, cv2.LINE_AA)
    return image


def pattern(rng: Rng) -> np.ndarray:
    """Draw stripes, dots, checks, meshes or fences: regular as text is, and not text."""
    colours = palette(rng, 3)
    image = gradient(rng)
    colour = tuple(colours[1].tolist())
    pitch = int(rng.integers(5, 60))
    thick = max(1, int(pitch * rng.uniform(0.1, 0.6)))
    kind = rng.integers(5)
    for x in range(-HEIGHT, WIDTH + HEIGHT, pitch):
        if kind == 0:
            cv2.line(image, (x, 0), (x, HEIGHT), colour, thick)
        elif kind == 1:
            cv2.line(image, (x, 0), (x + HEIGHT, HEIGHT), colour, thick, cv2.LINE_AA)
        elif kind == 2:
            cv2.line(image, (x, 0), (x + HEIGHT, HEIGHT), colour, thick, cv2.LINE_AA)
            cv2.line(image, (x, HEIGHT), (x + HEIGHT, 0), colour, thick, cv2.LINE_AA)
        elif 0 <= x < WIDTH:
            for y in range(0, HEIGHT, pitch):
                if kind == 3:
                    cv2.circle(image, (x, y), max(1, thick // 2), colour, -1, cv2.LINE_AA)
                elif (x + y) // pitch % 2:
                    cv2.rectangle(image, (x, y), (x + pitch - 1, y + pitch - 1), colour, -1)
    return textured(rng, image)


def bent(rng: Rng, field: np.ndarray) -> np.ndarray:
    """Push a picture's points aside by slow noise, so that straight things wave."""
    h, w = field.shape[:2]
    reach = rng.uniform(10, 80)
    aside = [cv2.resize(fractal(rng, h // 8, w // 8, 0.5, 4), (w, h)) * reach for _ in range(2)]
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    return cv2.remap(field, x + aside[0], y + aside[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def receding(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Lay a picture down as the ground: rows far away are narrow and fine."""
    inset = rng.uniform(0.1, 0.42) * WIDTH
    far = np.float32([[inset, 0], [WIDTH - inset, 0], [WIDTH, HEIGHT], [0, HEIGHT]])
    to = np.float32([[0, 0], [WIDTH, 0], [WIDTH * rng.uniform(1, 2), HEIGHT], [-WIDTH * rng.uniform(0, 1), HEIGHT]])
    matrix = cv2.getPerspectiveTransform(far, to)
    return cv2.warpPerspective(image, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)


def streaks(rng: Rng) -> np.ndarray:
    """Stretch noise along one direction, fine over coarse: grass, hair, fur, water, bark, brushed metal."""
    side = int(1.2 * np.hypot(WIDTH, HEIGHT)) // 2
    field = np.zeros((side, side), np.float32)
    length, fine = rng.uniform(4, 30), rng.uniform(1, 5)
    for octave in range(4):
        across = max(1, int(fine * 2**octave) // 2)
        along = max(1, int(across * length))
        grid = rng.standard_normal((side // along + 2, side // across + 2)).astype(np.float32)
        field += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * rng.uniform(0.4, 1) ** octave
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 180), 1)
    turn[:, 2] -= (side - WIDTH // 2) / 2, (side - HEIGHT // 2) / 2
    field = cv2.warpAffine(field, turn, (WIDTH // 2, HEIGHT // 2))
    if rng.random() < 0.6:
        field = bent(rng, field)
    field = field * rng.uniform(20, 70) + 128 + 50 * fractal(rng, HEIGHT // 2, WIDTH // 2, 0.5, 4)
    return cv2.resize(coloured(rng, field.clip(0, 255).astype(np.uint8)), (WIDTH, HEIGHT))


def crowd(rng: Rng) -> np.ndarray:
    """Scatter bent strokes and blobs of all sizes: crowds, cloth, rubble, reflections."""
    image = clouds(rng)
    for scale in (160, 70, 30, 12):
        colours = palette(rng, 6)
        for _ in range(int(rng.integers(5, 2600 // scale))):
            start = rng.uniform((0, 0), (WIDTH, HEIGHT))
            heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.7, 5))
            steps = np.stack([np.cos(heading), np.sin(heading)], 1) * scale * 0.5
            points = (start + np.cumsum(steps, 0)).astype(np.int32)
            colour = tuple(np.clip(colours[rng.integers(6)] * rng.uniform(0.6, 1.4), 0, 255).tolist())
            thick = max(1, int(scale * rng.uniform(0.08, 0.7)))
            cv2.polylines(image, [points], False, colour, thick, cv2.LINE_AA)
        if rng.random() < 0.4:
            image = cv2.blur(image, (2 * (scale // 12) + 1, 2 * (scale // 12) + 1))
    return textured(rng, image)


def street(rng: Rng) -> np.ndarray:
    """Join two other backgrounds along a straight or ragged edge, as buildings, trees and sky join."""
    makers = [clouds, dead_leaves, facade, foliage, gradient, streaks, crowd]
    image = makers[rng.integers(len(makers))](rng)
    other = makers[rng.integers(len(makers))](rng)
    edge = rng.random()
    if edge < 0.5:
        shape = fractal(rng, HEIGHT // 2, WIDTH // 2, rng.uniform(0.3, 0.8)) + rng.uniform(-0.2, 0.2)
        mask = cv2.resize((shape * rng.choice([500, 5000])).clip(0, 255).astype(np.uint8), (WIDTH, HEIGHT))
        image[mask > 127] = other[mask > 127]
    elif edge < 0.75:
        cut = int(rng.uniform(0.2, 0.8) * HEIGHT)
        image[cut:] = other[cut:]
    else:
        cut = int(rng.uniform(0.2, 0.8) * WIDTH)
        image[:, cut:] = other[:, cut:]
    return image


def thicket(rng: Rng) -> np.ndarray:
    """Draw wires, branches, spokes and railings over another background."""
    image = [clouds, gradient, dead_leaves][rng.integers(3)](rng)
    for _ in range(int(rng.integers(3, 30))):
        colour = tuple(palette(rng, 1)[0].tolist())
        start = rng.uniform((0, 0), (WIDTH, HEIGHT))
        steps = rng.normal(0, rng.uniform(5, 60), (int(rng.integers(2, 30)), 2)) + rng.normal(0, 20, 2)
        points = (start + np.cumsum(steps, 0)).astype(np.int32)
        cv2.polylines(image, [points], False, colour, int(rng.integers(1, 7)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):
        x, y, radius = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)), int(rng.integers(20, 160))
        colour = tuple(palette(rng, 1)[0].tolist())
        cv2.circle(image, (x, y), radius, colour, int(rng.integers(1, 12)), cv2.LINE_AA)
        for angle in np.linspace(0, np.pi, int(rng.integers(4, 20))):
            dx, dy = int(radius * np.cos(angle)), int(radius * np.sin(angle))
            cv2.line(image, (x - dx, y - dy), (x + dx, y + dy), colour, 1, cv2.LINE_AA)
    return image


MAKERS = [dead_leaves, clouds, gradient, facade, foliage, pattern, streaks, crowd, street, thicket]
SHARE = np.array([0.14, 0.07, 0.07, 0.1, 0.09, 0.05, 0.1, 0.1, 0.2, 0.08])
"""How often each is drawn; they sum to one."""
