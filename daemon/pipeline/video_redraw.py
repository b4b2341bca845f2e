"""Write a video anew with something drawn on its pictures: H.264, its times kept, its sound copied.

The pictures are what the pipeline sees: upright, with square pixels, of one size, in the colours of a common screen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
import cv2
from av.container import InputContainer, OutputContainer

from daemon.errors import PermanentError
from daemon.fs.space import FULL, TRANSIENT_DISK_ERRORS
from daemon.pipeline.records import Image
from daemon.pipeline.seams import NotExact
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_picture import BT709, HD_LINES
from daemon.pipeline.video_ranges import WORTH_SECONDS, RangedVideo
from daemon.pipeline.video_tracks import Stream

ENCODER = "libx264"
OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0", "threads": "1"}
"""No B-frames, so that a picture is shown when it is decoded: times need no shift at the beginning."""
MOST_PIXELS = 36_864 * 256
"""Of a picture: what H.264 holds on level 5.2, the highest that players are made for. Larger ones are made smaller."""
KEY_SECONDS, MOST_BETWEEN_KEYS = 2.0, 250
"""From one key frame to the next, so that a player can go anywhere soon."""
FINEST = 10_000_000
"""Ticks a second that MP4 can hold for the longest video; others get the ones of MPEG."""
MPEG_TICKS = Fraction(1, 90_000)
BT601, LIMITED = 6, 1
"""Numbers of a colour matrix and of a range (FFmpeg's)."""
COPIED_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
"""Sound that MP4 can hold as it is; other sound is left out."""

Draw = Callable[[int, Image, float], None]
"""Draws into a picture; gets its index in the video, the picture, and its pixels for each of the video's.

Indices grow, but may begin anew once."""


class NotRedrawn(PermanentError):
    """The video cannot be written anew here; its text says why."""


@dataclass(frozen=True)
class Stretch:
    """The part of a video that is wanted, in seconds."""

    from_s: float = 0.0
    to_s: float | None = None


def redraw(path: Path, limits: Limits, file: BinaryIO, draw: Draw, stretch: Stretch) -> None:
    """Write a video with something drawn on each of its pictures; the index comes first, as players want it.

    Args:
        path: The video.
        limits: What is refused.
        file: Gets the MP4: an empty, open file of a disk.
        draw: Draws.
        stretch: Of the video; what is written begins at 0.

    Raises:
        BadVideo, TransientError: as ``Video``.
        NotRedrawn: there is no encoder, or nothing is shown in that stretch.
        OSError: something cannot be read, or the file cannot be written.
    """
    try:
        try:
            _redraw(path, limits, file, draw, stretch, by_index=stretch.from_s > WORTH_SECONDS)
        except NotExact:
            _redraw(path, limits, file, draw, stretch, by_index=False)
    except av.FFmpegError as error:
        if error.errno in FULL | TRANSIENT_DISK_ERRORS:
            raise OSError(error.errno, error.strerror) from error
        raise NotRedrawn(f"The video cannot be written anew: {error}.") from error


def _redraw(path: Path, limits: Limits, file: BinaryIO, draw: Draw, stretch: Stretch, by_index: bool) -> None:
    with closing(_Source(path, limits)) as source:
        if by_index:
            source.go_to_stretch(stretch)
        frames = source.wanted(stretch)
        first = next(frames, None)
        if first is None:
            raise NotRedrawn("The video shows nothing in that stretch of time.")
        source.begin_s = first[1]
        with closing(_Target(file, source)) as target:
            for index, time_s, decoded in chain([first], frames):
                image = target.fitted(source.picture(decoded))
                draw(index, image, image.shape[1] / source.info.width)
                target.add(time_s - source.begin_s, image)
            target.end()


class _Source(RangedVideo):
    """A video whose decoded frames come with their times."""

    begin_s = 0.0
    """When the first wanted frame is shown."""

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick in what is written."""
        base = self._stream.time_base
        return base if base and base.numerator == 1 and base.denominator <= FINEST else MPEG_TICKS

    def go_to_stretch(self, stretch: Stretch) -> None:
        """Have ``wanted`` decode little more than the stretch; it may raise NotExact then, as this does."""
        index = self.make_index()
        if (first := self.place_of(index, stretch.from_s)) is not None:
            self.go_to(index, first)

    def wanted(self, stretch: Stretch) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Yield index, time and frame of what is shown in a stretch of time."""
        for index, time_s, decoded in self._wanted(1, None, 0):
            if stretch.to_s is not None and time_s >= stretch.to_s:
                return
            if time_s >= stretch.from_s:
                yield index, time_s, decoded

    def picture(self, decoded: av.VideoFrame) -> Image:
        """Return a frame as an upright BGR picture."""
        return self._renderer.render(decoded)

    def sound(self) -> tuple[InputContainer, Stream] | None:
        """Open the file once more, for its first track of sound that can be copied; None if it has none."""
        container = self._source.open()
        for stream in container.streams.audio:
            known, context = self._tracks.get(stream.id), stream.codec_context
            if context and context.codec.canonical_name in COPIED_SOUND and not (known and known.encrypted):
                return container, stream
        container.close()
        return None

    @property
    def shift_s(self) -> float:
        """What is taken off the file's times."""
        return self._start + self.begin_s


class _Target:
    """The MP4 that is written.

    Args:
        file: Gets it.
        source: The video.

    Raises:
        NotRedrawn: there is no encoder for it.
    """

    def __init__(self, file: BinaryIO, source: _Source) -> None:
        width, height = source.info.width, source.info.height
        scale = min(1.0, math.sqrt(MOST_PIXELS / (width * height)))
        self._size = (max(1, int(width * scale)), max(1, int(height * scale)))
        self._matrix = BT709 if self._size[1] >= HD_LINES else BT601
        self._source = source
        self._base = source.time_base
        self._last: int | None = None
        self._step = max(1, round(1 / (source.info.fps or 25.0) / self._base))
        self._waiting: av.Packet | None = None
        self._sound: _Sound | None = None
        try:
            self._open(file, with_sound=True)
        except (av.FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) in FULL | TRANSIENT_DISK_ERRORS:
                raise
            self.close()
            self._open(file, with_sound=False)

    def _open(self, file: BinaryIO, with_sound: bool) -> None:
        # Opened by its path, as a name of its own is not needed, and the index can be moved to the front.
        self._container = av.open(
            f"/proc/self/fd/{file.fileno()}", "w", format="mp4", options={"movflags": "faststart"}
        )
        try:
            self._stream = self._container.add_stream(ENCODER)
        except (av.FFmpegError, ValueError) as error:
            raise NotRedrawn(f"There is no encoder for H.264 ({ENCODER}) in this FFmpeg; install PyAV anew.") from error
        context = self._stream.codec_context
        context.width, context.height = (side + side % 2 for side in self._size)
        context.pix_fmt = "yuv420p"
        fps = self._source.info.fps or 25.0
        context.framerate = Fraction(fps).limit_denominator(1001)
        context.time_base = self._stream.time_base = self._base
        context.colorspace, context.color_range = self._matrix, LIMITED
        key = min(MOST_BETWEEN_KEYS, max(1, round(KEY_SECONDS * fps)))
        self._stream.options = {**OPTIONS, "g": str(key)}
        found = self._source.sound() if with_sound else None
        self._sound = _Sound(*found, self._container, self._source.shift_s) if found else None
        try:
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            if with_sound or getattr(error, "errno", None) in FULL | TRANSIENT_DISK_ERRORS:
                raise
            raise NotRedrawn(f"Pictures of {self._size[0]}x{self._size[1]} cannot be written as H.264.") from error

    def fitted(self, image: Image) -> Image:
        """Return a picture in the size that is written, but for a last row or column."""
        if image.shape[1::-1] == self._size:
            return image
        return cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)

    def add(self, time_s: float, image: Image) -> None:
        """Write a picture, and the sound up to it."""
        if self._sound is not None:
            self._sound.copy(time_s)
        width, height = self._size
        if width % 2 or height % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=self._matrix, dst_color_range=LIMITED)
        frame.time_base = self._base
        frame.pts = max(round(time_s / self._base), 0 if self._last is None else self._last + 1)
        self._last = frame.pts
        self._write(self._stream.encode(frame))

    def _write(self, packets: list[av.Packet]) -> None:
        """Write each packet once the next one tells how long its picture is shown."""
        for packet in packets:
            if (before := self._waiting) is not None:
                assert packet.pts is not None
                assert before.pts is not None
                self._step = before.duration = packet.pts - before.pts
                self._container.mux(before)
            self._waiting = packet

    def end(self) -> None:
        """Write what is left: the last picture is shown as long as the one before it."""
        self._write(self._stream.encode(None))
        if self._waiting is not None:
            self._waiting.duration = self._step
            self._container.mux(self._waiting)
        if self._sound is not None and self._last is not None:
            self._sound.copy(float((self._last + self._step) * self._base))
        self._container.close()

    def close(self) -> None:
        """Close what is open; a file that was not ended is not one."""
        if self._sound is not None:
            self._sound.close()
        with suppress(av.FFmpegError):
            self._container.close()


class _Sound:
    """A track of sound that is copied as far as the pictures have come.

    Args:
        container: Holds the track, and is closed with this.
        stream: The track.
        output: Gets it.
        shift_s: What is taken off its times.
    """

    def __init__(self, container: InputContainer, stream: Stream, output: OutputContainer, shift_s: float) -> None:
        self._container = container
        self._output = output
        self._target = output.add_stream_from_template(stream)
        self._shift = round(shift_s / stream.time_base)
        self._packets = self._read(stream)
        self._next: av.Packet | None = next(self._packets, None)

    def _read(self, stream: Stream) -> Iterator[av.Packet]:
        """Yield the packets that can be written, until the file ends or cannot be read on."""
        last = None
        with suppress(av.FFmpegError, ValueError, IndexError):
            for packet in self._container.demux(stream):
                if packet.dts is None or not packet.size or (last is not None and packet.dts <= last):
                    continue
                last = packet.dts
                packet.dts -= self._shift
                packet.pts = packet.dts if packet.pts is None else packet.pts - self._shift
                yield packet

    def copy(self, until_s: float) -> None:
        """Write what is heard before a time; what was heard before the beginning is left out."""
        while (packet := self._next) is not None and (heard := float(packet.pts * packet.time_base)) < until_s:
            if heard >= 0 or self._shift == 0:
                packet.stream = self._target
                try:
                    self._output.mux(packet)
                except (av.FFmpegError, ValueError) as error:
                    if getattr(error, "errno", None) in FULL | TRANSIENT_DISK_ERRORS:
                        raise
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
