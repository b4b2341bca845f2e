"""One picture of a video, as the pipeline sees it: found by seeking, then by an index of the video, then by counting.

A picture after a seek equals the one that a run from the start gives if a key frame stands before it and nothing in
between is damaged or out of order: what is behind a key frame needs nothing of what is before it, and the filter that
takes fields apart looks at the neighbours alone. Where that is not so, an index (``frame_index``) says where to begin.
Where there is none, and for a picture not far in, all pictures are decoded from the start.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av

from daemon.errors import PermanentError
from daemon.pipeline.frame_index import FrameIndex
from daemon.pipeline.records import Image
from daemon.pipeline.seams import NotExact
from daemon.pipeline.video_fields import progressive
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_ranges import SAME_SECONDS, WORTH_SECONDS, RangedVideo

BACK_SECONDS = (1.0, 5.0, 20.0)
"""How far before a picture its key frame is looked for, one after the other."""
NEAR_SECONDS = 2.0
"""A picture so near to the start is not sought."""
THUMBNAIL_PART, THUMBNAIL_SECONDS = 0.1, 10.0
"""Where the picture is that stands for a video: after so much of it, but not later than that."""


class NoSuchFrame(PermanentError):
    """The video has no picture there."""


@dataclass(frozen=True)
class WantedFrame:
    """Which picture: the one of an index, or the one shown at a time, or one that stands for the video."""

    index: int | None = None
    seconds: float | None = None
    anchor: tuple[int, float] | None = None
    """Index and time of a picture that is this one, or not far before it, where that is known."""


@dataclass(frozen=True)
class FoundFrame:
    """A picture."""

    image: Image
    index: int | None
    """None where it is not known."""
    time_s: float


@dataclass(frozen=True)
class _Shown:
    """A decoded picture, not yet converted."""

    time_s: float
    is_key: bool
    is_damaged: bool
    image: Callable[[], Image]
    index: int | None = None


class _SoughtVideo(RangedVideo):
    """A video in which one can go back and forth."""

    def seek(self, seconds: float) -> bool:
        """Go to a key frame before a time; tell whether that is possible."""
        base = self._stream.time_base
        try:
            self._container.seek(int((seconds + self._start) / base), stream=self._stream, backward=True)
        except (av.FFmpegError, ValueError, OverflowError, TypeError):
            return False
        self._shown = progressive(self._decode())  # type: ignore[assignment]  # it began as a chain
        return True

    def shown(self) -> Iterator[_Shown]:
        """Yield what comes; a picture without a time comes a frame after the one before."""
        interval = 1 / self.info.fps if self.info.fps else 0.0
        before = -interval
        for decoded, time in self._shown:
            before = time - self._start if time is not None else before + interval
            render = partial(self._renderer.render, decoded)
            damaged = bool(decoded.is_corrupt or self.count.failed)
            yield _Shown(round(float(before), 6), bool(decoded.key_frame), damaged, render)


def find_frame(path: Path, limits: Limits, wanted: WantedFrame) -> FoundFrame:
    """Return a picture of a video.

    Args:
        path: The video.
        limits: What is refused.
        wanted: Which picture; with a time and an anchor, it is counted from there.

    Raises:
        NoSuchFrame: the video has none there.
        BadVideo, OSError, TransientError: as ``Video``.
    """
    if wanted.index is None and wanted.seconds is None:
        wanted = replace(wanted, seconds=_thumbnail_time(path, limits))
    start = wanted.anchor[1] if wanted.anchor else wanted.seconds
    if start is not None and start > NEAR_SECONDS:
        for back in BACK_SECONDS:
            with closing(_SoughtVideo(path, limits)) as video:
                if not video.seek(start - back):
                    break
                if found := _choose(video.shown(), wanted, video.info.duration_s, clean=False):
                    return FoundFrame(found.image(), found.index, found.time_s)
            if back > start:
                break
        if start > WORTH_SECONDS and (found_by_index := _by_index(path, limits, wanted)):
            return found_by_index
    with closing(_SoughtVideo(path, limits)) as video:
        numbered = (replace(each, index=index) for index, each in enumerate(video.shown()))
        found = _choose(numbered, wanted, video.info.duration_s, clean=True)
        if found is None:
            raise NoSuchFrame("The video has no frame there.")
        return FoundFrame(found.image(), found.index, found.time_s)


def _by_index(path: Path, limits: Limits, wanted: WantedFrame) -> FoundFrame | None:
    """Return a picture by an index of the video; None if it has none, or is not where a run from the start saw it."""
    with closing(RangedVideo(path, limits)) as video:
        try:
            index = video.make_index()
            place = _place(video, index, wanted)
            if place is None:
                return None
            video.go_to(index, place)
            found = next(video.frames())
        except NotExact:
            return None
    return FoundFrame(found.image, found.index if wanted.anchor else None, found.timestamp_s)


def _place(video: RangedVideo, index: FrameIndex, wanted: WantedFrame) -> int | None:
    if wanted.anchor is not None:
        known, time_s = wanted.anchor
        if known >= len(index) or abs(video.time_of(index, known) - time_s) > SAME_SECONDS:
            return None
    if wanted.index is not None:
        return wanted.index if wanted.index < len(index) else None
    return None if wanted.seconds is None else video.place_of(index, wanted.seconds)


def _thumbnail_time(path: Path, limits: Limits) -> float:
    with closing(RangedVideo(path, limits)) as video:
        return min((video.info.duration_s or 0.0) * THUMBNAIL_PART, THUMBNAIL_SECONDS)


def _choose(frames: Iterable[_Shown], wanted: WantedFrame, duration_s: float | None, clean: bool) -> _Shown | None:
    """Return the wanted one of the pictures, None if it is not among them or may not be as it should.

    Raises:
        NoSuchFrame: they end before it.
    """
    until = math.inf if wanted.seconds is None else wanted.seconds
    chosen: _Shown | None = None
    is_clean, counted = False, clean
    gap = 0.0
    for each in frames if counted else _indexed(frames, wanted.anchor):
        if each.time_s > until + SAME_SECONDS and chosen is not None:
            break
        if wanted.index is not None and wanted.anchor and each.index is None and each.time_s > wanted.anchor[1]:
            return None  # the anchor did not come
        gap = each.time_s - chosen.time_s if chosen else gap
        if not counted and ((clean and each.is_damaged) or (chosen is not None and gap <= 0)):
            return None
        chosen, is_clean = each, clean
        if wanted.index is not None and each.index == wanted.index:
            break
        clean |= each.is_key and not each.is_damaged
    else:
        _check_end(chosen, wanted, duration_s, gap)
    if chosen is None or not is_clean or (chosen.index is None and wanted.anchor is not None):
        return None
    return chosen


def _indexed(frames: Iterable[_Shown], anchor: tuple[int, float] | None) -> Iterator[_Shown]:
    """Count from the anchor on; what comes before it has no index, nor has anything if it does not come."""
    numbers: Iterator[int] | None = None
    for each in frames:
        if numbers is None and anchor is not None and abs(each.time_s - anchor[1]) <= SAME_SECONDS:
            numbers = itertools.count(anchor[0])
        yield each if numbers is None else replace(each, index=next(numbers))


def _check_end(last: _Shown | None, wanted: WantedFrame, duration_s: float | None, gap: float) -> None:
    if last is None:
        return
    if wanted.index is not None and last.index is not None:
        raise NoSuchFrame(f"The video has {last.index + 1} frames, from 0 to {last.index}.")
    end = max(duration_s or 0.0, last.time_s + gap)
    if wanted.seconds is not None and wanted.seconds > end + SAME_SECONDS:
        raise NoSuchFrame(f"The video ends at {end:.3f} s.")
