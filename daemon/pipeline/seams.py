"""Seams: a frame that two runs have seen, so that the second is known to go on where the first one ended."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from daemon.pipeline.records import Frame


class NotExact(Exception):
    """Frames of this video cannot be found but by decoding all that comes before them; the text says why."""


@dataclass(frozen=True)
class Seam:
    """A frame, known again by its place, its time and its picture."""

    index: int
    timestamp_s: float
    crc: int
    """CRC-32 of the picture."""

    @classmethod
    def of(cls, frame: Frame) -> Self:
        """Return what a frame is known by."""
        return cls(frame.index, frame.timestamp_s, zlib.crc32(frame.image.data))

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Self | None:
        """Return the seam of a JSON form (``vars``), None if there is none."""
        return None if record is None else cls(int(record["index"]), float(record["timestamp_s"]), int(record["crc"]))


def after_seam(frames: Iterator[Frame], seam: Seam) -> Iterator[Frame]:
    """Yield the frames behind a seam.

    Args:
        frames: Those from the seam on.
        seam: What the first of them has to be.

    Raises:
        NotExact: it is another frame.
    """
    first = next(frames, None)
    if first is None or Seam.of(first) != seam:
        raise NotExact(f"frame {seam.index} is not the one that was seen before")
    yield from frames
