"""ByteTracker: Ultralytics' ByteTrack over finished detections; the only file that knows its class.

ByteTrack (Zhang et al., 2022) predicts where each object goes and matches the detections of a frame to that, sure ones
first. Its class is not a stable interface, so a golden test holds what comes out of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from ultralytics.trackers.byte_tracker import BYTETracker

from daemon.derive.document import FoundObject

BUFFER_SECONDS = 1.2
"""How long an object may be away, and is still the same one."""


class _Detections:
    """Detections as the tracker asks for them: columns that a mask can be applied to."""

    def __init__(self, xywh: NDArray[np.float32], conf: NDArray[np.float32], cls: NDArray[np.float32]) -> None:
        self.xywh, self.conf, self.cls = xywh, conf, cls

    @classmethod
    def of(cls, found: Sequence[FoundObject]) -> Self:
        corners = np.array([each.box for each in found], np.float32).reshape(-1, 4)
        size = corners[:, 2:] - corners[:, :2]
        conf = np.array([each.confidence for each in found], np.float32)
        return cls(np.hstack([corners[:, :2] + size / 2, size]), conf, np.zeros(len(found), np.float32))

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, mask: Any) -> _Detections:
        return _Detections(self.xywh[mask], self.conf[mask], self.cls[mask])


class ByteTracker:
    """Says which detections are of the same object. Deterministic: the same frames give the same numbers."""

    def __init__(self) -> None:
        # Those that Ultralytics gives; the buffer is set frame by frame.
        arguments = {"track_high_thresh": 0.25, "track_low_thresh": 0.1, "new_track_thresh": 0.25}
        self._tracker = BYTETracker(SimpleNamespace(**arguments, match_thresh=0.8, fuse_score=True, track_buffer=1))
        self._times: deque[float] = deque()

    def update(self, found: Sequence[FoundObject], time_s: float) -> list[int | None]:
        """Take the next frame.

        Args:
            found: Its detections.
            time_s: When it is shown, in seconds.

        Returns:
            For each detection the number of its object, None where it has none. Numbers grow with the first frame; an
            object that is seen for the first time has one already.
        """
        while self._times and self._times[0] < time_s - BUFFER_SECONDS - 1e-6:
            self._times.popleft()
        self._tracker.max_frames_lost = max(1, len(self._times))
        self._times.append(time_s)
        self._tracker.update(_Detections.of(found))
        numbers: list[int | None] = [None] * len(found)
        for track in self._tracker.tracked_stracks:
            if track.frame_id == self._tracker.frame_id:
                numbers[int(track.idx)] = int(track.track_id)
        return numbers
