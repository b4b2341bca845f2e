"""Pictures of high dynamic range (PQ, HLG) as a common screen shows them: BT.709 colours, white at 203 cd/m2.

What is up to the white of paper and captions (203 cd/m2, ITU-R BT.2408) keeps its look, what is brighter is white.
Transfers as in ITU-R BT.2100, the screen's as in BT.1886; numbers of transfers and primaries as in ITU-T H.273.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.pipeline.records import Image

PQ, HLG = 16, 18
TRANSFERS = frozenset({PQ, HLG})
WHITE = 203.0
"""Luminance that becomes white, cd/m2."""
HLG_PEAK = 1000.0
"""Peak luminance of the screen that HLG is shown on, cd/m2."""
HEADROOM = 4.0
"""How far above white linear light is kept until primaries are converted, where it may come below it again."""
BAND_ROWS = 64
"""Rows done at once: few enough to stay in a processor's cache."""
LEVELS = np.arange(65_536) / 65_535

BT2020_TO_709 = ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730))
P3_TO_709 = ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274))
TO_709 = {1: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 11: P3_TO_709, 12: P3_TO_709}
"""Matrices on linear RGB, by the number of the primaries; all others are taken for BT.2020."""


class ToneMap:
    """Maps pictures of one transfer and one set of primaries.

    Args:
        transfer: ``PQ`` or ``HLG``.
        primaries: Their number.
    """

    def __init__(self, transfer: int, primaries: int) -> None:
        matrix = np.array(TO_709.get(primaries, BT2020_TO_709))
        light = (_hlg_light if transfer == HLG else _pq_light)(LEVELS) / WHITE
        self._light = np.clip(light / HEADROOM * 65_535 + 0.5, 0, 65_535).astype(np.uint16)
        self._matrix = np.ascontiguousarray(matrix[::-1, ::-1] * HEADROOM, np.float32)  # BGR
        self._screen = (LEVELS ** (1 / 2.4) * 255 + 0.5).astype(np.uint8)

    def __call__(self, deep: NDArray[Any]) -> Image:
        """Return a picture of 8 bits.

        Args:
            deep: Picture of shape (height, width, 3), uint16, BGR, in the transfer.
        """
        image = np.empty(deep.shape, np.uint8)
        for top in range(0, len(deep), BAND_ROWS):
            rows = slice(top, top + BAND_ROWS)
            light = self._light.take(deep[rows], mode="clip")
            mixed: Any = cv2.transform(light, self._matrix)  # what is out of range is clipped
            self._screen.take(mixed, out=image[rows], mode="clip")
        return image


def _pq_light(signal: NDArray[Any]) -> NDArray[Any]:
    """Return the luminance of a PQ signal, cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16_384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    light: NDArray[Any] = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light


def _hlg_light(signal: NDArray[Any]) -> NDArray[Any]:
    """Return the luminance of an HLG signal on a common HDR screen, cd/m2.

    The system gamma goes by each colour for itself, as in zimg (FFmpeg's zscale), and not by their luminance.
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    light: NDArray[Any] = HLG_PEAK * scene**1.2
    return light
