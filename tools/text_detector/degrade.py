"""What cameras and encoders do to a picture: motion, blur, noise, exposure, H.264, JPEG."""

from __future__ import annotations

import functools
import io

import av
import cv2
import numpy as np

Rng = np.random.Generator


def h264(image: np.ndarray, crf: int) -> np.ndarray:
    """Encode one frame with libx264 and decode it: (h, w, 3) uint8 BGR, of which h and w are even."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"crf": str(crf), "preset": "ultrafast", "threads": "1"}
        )
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")):
            container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        return next(container.decode(video=0)).to_ndarray(format="bgr24")


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode as JPEG and decode."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def move(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Smear along a line of 3 to 9 pixels, as panning does."""
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    if rng.random() < 0.7:
        kernel[length // 2] = 1
    else:
        np.fill_diagonal(kernel, 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def expose(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Change contrast, brightness, gamma and colour balance through one look-up table; seldom to grey."""
    ramp = np.arange(256, dtype=np.float32) / 255
    curve = ramp ** np.exp(rng.normal(0, 0.3)) * rng.uniform(0.55, 1.15) + rng.uniform(-0.05, 0.2)
    tables = [np.clip(curve * gain * 255, 0, 255).astype(np.uint8) for gain in rng.uniform(0.85, 1.1, 3)]
    image = cv2.LUT(image, np.stack(tables, 1).reshape(1, 256, 3))
    if rng.random() < 0.06:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return image


def lens(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Spoil a picture at its full size, before it is scaled to the network's input."""
    if rng.random() < 0.08:
        image = move(rng, image)
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.12:
        image = jpeg(image, int(rng.integers(20, 80)))
    elif rng.random() < 0.14:
        image = h264(image, int(rng.integers(22, 38)))
    return image


def recolour(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Swap the colour channels, so that a background that is used again is another one."""
    return np.ascontiguousarray(image[..., rng.permutation(3)])


@functools.cache
def _grain() -> np.ndarray:
    """Noise of standard deviation 8, to cut pieces from: drawing it anew for each image is slow."""
    return np.random.default_rng(8).normal(0, 8, (1100, 1400, 3)).astype(np.int16)


def sensor(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Set exposure and add grain at the network's input size, where it costs a quarter."""
    if rng.random() < 0.5:
        image = expose(rng, image)
    if rng.random() < 0.35:
        grain = _grain()
        y, x = (
            rng.integers(0, grain.shape[0] - image.shape[0]),
            rng.integers(0, grain.shape[1] - image.shape[1]),
        )
        part = grain[y : y + image.shape[0], x : x + image.shape[1]]
        part = (part * np.float32(rng.uniform(0.1, 1.2))).astype(np.int16)
        image = cv2.add(image, part, dtype=cv2.CV_8U)
    if rng.random() < 0.1:
        image = jpeg(image, int(rng.integers(35, 90)))
    return image
