"""The stage that finds objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from daemon.pipeline.models import Weights
from daemon.pipeline.records import Analysis, ModelInfo, VideoInfo
from daemon.pipeline.yolo import Yolo
from daemon.settings import Settings


class ObjectStage:
    """Finds objects in whole frames."""

    name = "objects"
    needs: frozenset[str] = frozenset()
    gives = frozenset({"detections"})

    def __init__(self, yolo: Yolo) -> None:
        self._yolo = yolo

    @classmethod
    def load(cls, weights: Weights, settings: Settings, device: str) -> ObjectStage:
        """Load weights for a device; raises what ``Yolo.load`` does."""
        return cls(Yolo.load(weights, settings, device))

    def models(self, info: VideoInfo) -> list[ModelInfo]:
        """See Stage.models."""
        return [self._yolo.model(info)]

    def new_segment(self) -> None:
        """See Stage.new_segment; nothing is remembered here."""

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        """See Stage."""
        found = self._yolo([each.frame.image for each in batch])
        return [
            replace(each, detections=tuple(seen.detections), objects_unseen=not seen.finite)
            for each, seen in zip(batch, found, strict=True)
        ]
