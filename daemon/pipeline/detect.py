"""The stage that finds objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from daemon.pipeline.changes import are_equal
from daemon.pipeline.models import Weights
from daemon.pipeline.records import Analysis, Image, ModelInfo, VideoInfo
from daemon.pipeline.yolo import Seen, Yolo
from daemon.settings import Settings


class ObjectStage:
    """Finds objects in whole frames."""

    name = "objects"
    needs: frozenset[str] = frozenset()
    gives = frozenset({"detections"})

    def __init__(self, yolo: Yolo) -> None:
        self._yolo = yolo
        self._last: tuple[Image, Seen] | None = None
        """The last frame of the batch before, and what was seen in it."""

    @classmethod
    def load(cls, weights: Weights, settings: Settings, device: str) -> ObjectStage:
        """Load weights for a device; raises what ``Yolo.load`` does."""
        return cls(Yolo.load(weights, settings, device))

    def models(self, info: VideoInfo) -> list[ModelInfo]:
        """See Stage.models."""
        return [self._yolo.model(info)]

    def new_segment(self) -> None:
        """See Stage.new_segment."""
        self._last = None

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        """See Stage. A frame that equals the one before it, as in a recording of a screen, is not looked at."""
        found = self._seen([each.frame.image for each in batch])
        return [
            replace(each, detections=tuple(seen.detections), objects_unseen=not seen.finite)
            for each, seen in zip(batch, found, strict=True)
        ]

    def _seen(self, images: Sequence[Image]) -> list[Seen]:
        """Return what is in each frame; there is one at least."""
        image = self._last[0] if self._last else None
        is_new = [not are_equal(before, now) for before, now in pairwise([image, *images])]
        fresh = iter(self._yolo([now for now, new in zip(images, is_new, strict=True) if new]))
        found = [self._last[1]] if self._last else []
        for new in is_new:
            found.append(next(fresh) if new else found[-1])
        self._last = images[-1], found[-1]
        return found[-len(images) :]
