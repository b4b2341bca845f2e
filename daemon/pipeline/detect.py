"""The stage that finds objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from daemon.pipeline.changes import is_same_picture
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
        """The last frame that was looked at, and what was seen in it."""

    @property
    def calibration(self) -> str:
        """See Stage."""
        return self._yolo.calibration

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
        """See Stage. A frame that shows the picture that was looked at last, as of a screen, is not looked at."""
        found = self._seen([each.frame.image for each in batch])
        return [
            replace(each, detections=tuple(seen.detections), objects_unseen=not seen.finite)
            for each, seen in zip(batch, found, strict=True)
        ]

    def _seen(self, images: Sequence[Image]) -> list[Seen]:
        """Return what is in each frame; there is one at least."""
        pictures = [self._last[0]] if self._last else []
        known = [self._last[1]] if self._last else []
        places: list[int] = []
        for now in images:
            # Compared with what was looked at and not with the frame before, so that a slow change is seen in time.
            if not pictures or not is_same_picture(pictures[-1], now):
                pictures.append(now)
            places.append(len(pictures) - 1)
        seen = [*known, *self._yolo(pictures[len(known) :])]
        self._last = pictures[-1], seen[-1]
        return [seen[place] for place in places]
