"""The video itself, with boxes, labels and lines of text drawn on every frame: MP4 of H.264, the sound copied."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from daemon.derive.document import AnalysedFrame
from daemon.errors import BadVideo
from daemon.export.source import ExportSource, NothingExported
from daemon.export.tables import blocks
from daemon.failpoints import failpoint

if TYPE_CHECKING:
    from daemon.pipeline.records import Image


def annotated(source: ExportSource) -> Iterator[bytes]:
    """Yield the video; a frame that was not analysed shows what was found in the last one before it that was.

    Raises:
        NothingExported: the video is not kept any more.
        BadVideo, NotRedrawn, TransientError: it cannot be decoded, or written anew.
    """
    from daemon.pipeline.drawing import draw
    from daemon.pipeline.video_redraw import Stretch, redraw

    found = _Found(source)

    def draw_found(index: int, image: Image, scale: float) -> None:
        if (frame := found.at(index)) is not None:
            draw(image, source.filtered_result(frame), scale)

    stretch = Stretch(source.request.from_s, source.request.to_s)
    with tempfile.TemporaryFile(dir=source.scratch) as file:
        try:
            redraw(source.video, source.limits, file, draw_found, stretch)
        except (BadVideo, FileNotFoundError) as error:
            if not source.video.exists():
                raise NothingExported("The video has been deleted, so there is nothing to draw on.") from error
            raise
        failpoint("export.drawn")
        yield from blocks(file)


class _Found:
    """What was found, gone through beside the frames of the video.

    Args:
        source: The result.
    """

    def __init__(self, source: ExportSource) -> None:
        self._source = source
        self._stride = source.stride
        self._begin()

    def _begin(self) -> None:
        self._frames = self._source.all_frames()
        self._shown: AnalysedFrame | None = None
        self._next = next(self._frames, None)

    def at(self, index: int) -> AnalysedFrame | None:
        """Return the analysed frame that says what is to be seen on a frame; None if none does."""
        if self._shown is not None and index < self._shown.moment.frame_index:
            self._begin()
        while self._next is not None and self._next.moment.frame_index <= index:
            self._shown, self._next = self._next, next(self._frames, None)
        if self._shown is None or index - self._shown.moment.frame_index >= self._stride:
            return None
        return self._shown
