"""What happened to a video's frames, and the sentences that the result says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from daemon.errors import BadVideo

FIELD_PAIRS = 0.9
"""Share of the frames of two fields that came as two coded frames, from which on all are taken to have done so."""


@dataclass
class DecodeCount:
    """What happened to a video's frames; filled while it is decoded."""

    expected: int | None = None
    """Frames to be shown that the container lists; None where nobody knows."""
    read: int = 0
    """Coded frames read from the file, those included that are not to be shown."""
    packets: int = 0
    """Coded frames read from the file that are to be shown."""
    decoded: int = 0
    failed: int = 0
    """Coded frames that could not be decoded."""
    damaged: int = 0
    """Decoded frames that the decoder does not vouch for."""
    interlaced: int = 0
    """Decoded frames of two fields."""
    reached_end: bool = False
    """Whether decoding went to the end of the file and was not stopped by ``max_frames``."""
    cut: str = ""
    """A sentence if the boxes of a file of fragments say that it was cut, in a place where no frame is listed."""
    left_out: list[tuple[int, int]] = field(default_factory=list)
    """Width and height of the picture tracks that are not analysed."""
    resized: tuple[int, tuple[int, int], tuple[int, int]] | None = None
    """The first frame of another size than the first one has, its size, and the one that it is fitted into."""

    @property
    def missing(self) -> int:
        """Frames that the container lists and the file does not hold."""
        if self.expected is None or not self.reached_end:
            return 0
        return max(0, self.expected - self.packets)

    def add_decoded(self) -> None:
        """Count a frame that is shown; a container that lists fewer knows nothing."""
        self.decoded += 1
        if self.expected is not None and self.decoded > self.expected:
            self.expected = None

    def add_lost(self, due: int) -> None:
        """Count what a decoder dropped without a word, at the end of the file.

        Args:
            due: Coded frames from which no picture has come. If there are as many as frames of two fields, each
                of these was coded as two.
        """
        pairs = min(due, self.interlaced) if due >= FIELD_PAIRS * self.interlaced > 0 else 0
        self.packets -= pairs
        if self.expected is not None:
            self.expected -= pairs
        self.failed = max(self.failed, due - pairs)

    def end(self) -> None:
        """Note that the end of the file was reached.

        Raises:
            BadVideo: most of it could not be decoded, so the rest would pass for the whole.
        """
        self.reached_end = True
        if self.failed > self.decoded:
            raise BadVideo(
                f"Most of the video cannot be decoded: {self.failed} of its {self.failed + self.decoded} coded frames "
                "are damaged or were never written. Copy or export it again."
            )

    def warnings(self) -> Iterator[str]:
        """Yield sentences about what a reader of the result should know; complete once all frames have come."""
        if self.left_out:
            sizes = ", ".join(f"{width}x{height}" for width, height in self.left_out)
            yield f"The file has other picture tracks, which were left out ({sizes})."
        if self.resized is not None:
            index, size, fitted = self.resized
            yield (
                f"The size changes at frame {index}, to {size[0]}x{size[1]}; pictures of another size are fitted "
                f"into {fitted[0]}x{fitted[1]} whole, with black beside them."
            )
        if self.missing:
            yield (
                f"The video is cut short: its container lists {self.expected} frames, the file holds {self.packets}."
            )
        elif self.cut and self.reached_end:
            yield f"The video is cut short: {self.cut[0].lower()}{self.cut[1:]}"
        if self.failed:
            yield f"The video is damaged: {self.failed} of its coded frames could not be decoded."
