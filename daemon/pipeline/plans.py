"""PartPlan: how a video is cut into parts that are analysed apart, and all that their document says besides frames.

A plan is made once, by whoever has the video open, and handed over as a file: a part reads the video where the plan
says, and whoever joins the parts needs neither the video nor a model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from daemon.errors import TransientError
from daemon.fs.atomic import atomic_write
from daemon.pipeline.frame_index import FrameIndex, Numbers

GROUP_SECONDS = 90.0
"""Length of a part in seconds of video, as long as nothing asks for longer ones."""
USUAL_FPS = 25.0
"""Frames a second that are taken of a video that does not say."""


class PlanDamaged(TransientError):
    """A plan cannot be read; make it again."""


@dataclass(frozen=True)
class PartPlan:
    """How a video is cut, and what its document says besides frames."""

    index: FrameIndex
    parts: tuple[tuple[int, int], ...]
    """First and last (exclusive) of the analysed frames of each part; every part begins with a new segment."""
    fingerprint: str
    """Of the video and all that its frames depend on; parts made under another one are of something else."""
    head: str
    """What the document begins with, up to its first frame."""
    pipeline_id: str
    frame_stride: int
    max_frames: int | None
    source: Mapping[str, Any]
    """``name``, ``sha256`` and ``size_bytes`` of the video."""
    video: Mapping[str, Any]
    """What the document says of the video."""
    account: Mapping[str, Any]
    """What the document's summary says of frames expected, decoded and lost, with the warnings of these."""
    warnings: tuple[str, ...]
    """Of the pipeline."""
    frames_total: int | None
    device: str
    """``cpu`` or ``cuda:N``."""

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self.parts)

    def frames_of(self, number: int) -> int:
        """Return how many frames are analysed in a part."""
        first, stop = self.parts[number]
        return stop - first

    def is_last(self, number: int) -> bool:
        """Tell whether a part is the last one."""
        return number == len(self.parts) - 1

    def save(self, path: Path) -> None:
        """Write the plan to a file.

        Raises:
            OSError: it cannot be written.
        """
        said = {name: value for name, value in vars(self).items() if name != "index"}
        arrays = (self.index.times, self.index.entries)
        with atomic_write(path) as file:
            shapes = [array.shape for array in arrays]
            file.write(json.dumps(said | {"listed": self.index.listed, "shapes": shapes}).encode() + b"\n")
            for array in arrays:
                file.write(np.ascontiguousarray(array, np.int64).data)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan.

        Raises:
            PlanDamaged: it is not one.
            OSError: it cannot be read.
        """
        try:
            # Not numpy's own format: reading that is not safe in several threads at once under Python 3.11.
            with path.open("rb") as file:
                said = json.loads(file.readline())
                times, entries = (_array(file, shape) for shape in said.pop("shapes"))
                if file.read(1):
                    raise ValueError("there is more than was written")
            index = FrameIndex(times, entries, said.pop("listed"))
            said["parts"] = tuple((first, stop) for first, stop in said["parts"])
            return cls(index=index, **{**said, "warnings": tuple(said["warnings"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanDamaged(f"The plan {path.name} cannot be read.") from error


def _array(file: BinaryIO, shape: Sequence[int]) -> Numbers:
    size = 8 * math.prod(shape)
    content = file.read(size)
    if len(content) != size:
        raise ValueError("it is cut off")
    return np.frombuffer(content, np.int64).reshape(shape)


def cut(
    index: FrameIndex, analysed: int, stride: int, segment_frames: int, group_frames: float
) -> list[tuple[int, int]]:
    """Return the parts of a video as ``PartPlan`` has them; a single one if it is short or can't be cut with profit.

    Parts are whole segments. They get longer until no more frames are decoded in vain, from an entry up to the first
    frame of a part, than the video has.

    Args:
        index: Of the video.
        analysed: Frames that are analysed.
        stride: Every so many of the frames.
        segment_frames: Analysed frames of a segment.
        group_frames: Analysed frames that a part should have.
    """
    size = max(1, round(group_frames / segment_frames)) * segment_frames
    while True:
        starts = range(0, analysed, size)
        in_vain = sum(frame - index.first_from(index.entry_for(frame)) for frame in (n * stride for n in starts))
        if len(starts) <= 1 or in_vain <= len(index):
            return [(start, min(start + size, analysed)) for start in starts]
        size *= 2
