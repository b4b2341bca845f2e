"""Open, probe and decode a video: the only file that imports PyAV (FFmpeg).

The file may be hostile. FFmpeg is held to the MP4 demuxer, to local files and to well-kept decoders; size,
frame rate and length are checked before a frame is decoded; a frame count is reported but never used to
size memory or to end a loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from daemon import mp4
from daemon.errors import BadVideo, TransientError
from daemon.pipeline.overlap import in_threads
from daemon.pipeline.records import Frame, Image, VideoInfo

DECODERS = "h264,hevc,libdav1d,av1,vp9,mpeg4,mpeg2video,mjpeg,prores"
TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
"""What brings a picture upright, by the counterclockwise angle of its display matrix in degrees."""

MACHINE = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE})
"""Errors of reading that say nothing of the video."""
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a header may claim before the video is refused."""

    frame_pixels: int = 36_000_000
    fps: float = 1000.0
    seconds: float = 172_800.0
    frames: int = 20_000_000


@dataclass
class DecodeCount:
    """What happened to a video's frames; filled while it is decoded."""

    expected: int | None = None
    """Frames that the container lists, or that its duration and rate imply."""
    packets: int = 0
    """Coded frames read from the file."""
    decoded: int = 0
    failed: int = 0
    """Coded frames that could not be decoded."""
    reached_end: bool = False
    """Whether decoding went to the end of the file and was not stopped by ``max_frames``."""

    @property
    def missing(self) -> int:
        """Frames that the container lists and the file does not hold."""
        if self.expected is None or not self.reached_end:
            return 0
        return max(0, self.expected - self.packets)


class Video:
    """A video file, opened and checked; iterate ``frames()`` once.

    Args:
        path: The file. Its name must be ours: FFmpeg gives some names a meaning.
        limits: What is refused.

    Raises:
        BadVideo: it is no MP4, holds no video, uses an unknown codec, or is over a limit.
        OSError: it cannot be read, and not for what is in it; ``frames()`` may raise this, too.
        TransientError: the same, but it can be read again now.
    """

    def __init__(self, path: Path, limits: Limits = Limits()) -> None:
        self._path, self._limits = path, limits
        try:
            self._container = av.open(
                f"file:{path}",  # a colon in the name would be taken for a protocol
                format="mov",
                metadata_errors="replace",  # titles are in any encoding, and not used
                options={
                    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2",
                    "protocol_whitelist": "file",
                    "codec_whitelist": DECODERS,
                    "max_pixels": str(limits.frame_pixels),
                },
            )
        except (av.FFmpegError, ValueError) as error:
            _blame_the_disk(path, error)
            reason = _what_is_missing(path)
            said = f". {reason}" if reason else f" ({_words(error)})."
            raise BadVideo(f"The video cannot be opened{said}") from error
        try:
            self.count = DecodeCount()
            self.info = self._probe()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _probe(self) -> VideoInfo:
        tracks = [s for s in self._container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not tracks:
            has_audio = bool(self._container.streams.audio)
            raise BadVideo("The file has sound but no video track." if has_audio else "The file has no video track.")
        stream = self._stream = tracks[0]
        context = stream.codec_context
        if context is None:
            raise BadVideo("The video's codec is not one that Dropframe decodes (H.264, HEVC, AV1, VP9, MPEG-4).")
        if context.width < 1 or context.height < 1:
            raise BadVideo("The video's frames have no size.")
        if context.width * context.height > self._limits.frame_pixels:
            raise BadVideo(
                f"The video's frames are {context.width}x{context.height}, over the limit of "
                f"{self._limits.frame_pixels} pixels (setting max_frame_pixels)."
            )
        fps = float(stream.average_rate) if stream.average_rate else None
        if fps is not None and fps > self._limits.fps:
            raise BadVideo(f"The video claims {fps:.0f} frames/s, over the limit of {self._limits.fps:.0f} (max_fps).")
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        if duration is not None and not 0 <= duration <= self._limits.seconds:
            raise BadVideo(
                f"The video claims to last {duration:.0f} s, over the limit of {self._limits.seconds:.0f} s "
                "(max_video_seconds)."
            )
        frame_count = stream.frames if stream.frames > 0 else None
        implied = round(duration * fps) if duration and fps else None
        self.count.expected = frame_count or implied
        if (self.count.expected or 0) > self._limits.frames:
            raise BadVideo(
                f"The video claims {self.count.expected} frames, over the limit of {self._limits.frames} "
                "(max_video_frames)."
            )
        first = self._first_frame()
        self._turn = TURNS.get(round(first.rotation) % 360)
        width, height = first.width, first.height
        self._size = (width, height)
        if self._turn in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE):
            width, height = height, width
        return VideoInfo(
            codec=stream.codec_context.name,
            width=width,
            height=height,
            fps=None if fps is None else round(fps, 6),
            duration_s=None if duration is None else round(duration, 6),
            frame_count=frame_count,
        )

    def _first_frame(self) -> av.VideoFrame:
        self._stream.codec_context.options = {"max_pixels": str(self._limits.frame_pixels)}
        # One thread: with more, frames near damage are lost, and how many depends on the number of cores.
        self._stream.codec_context.thread_count = 1
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise BadVideo("No frame of the video could be decoded.")
        self._pending: av.VideoFrame | None = first
        return first

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield every frame that can be decoded; a coded frame that fails is counted and passed over."""
        packets = self._container.demux(self._stream)
        due = 0
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, ValueError) as error:  # the file ends in the middle of something
                _blame_the_disk(self._path, error)
                packet = None
            if packet is None:
                self.count.failed = max(self.count.failed, due)  # a decoder drops frames without a word, too
                return
            if packet.size:
                self.count.packets += 1
                due += not packet.is_discard  # what an edit list cuts away comes without a picture
            try:
                for frame in packet.decode():
                    due -= 1
                    yield frame
            except (av.FFmpegError, ValueError):
                self.count.failed += 1

    def frames(
        self, stride: int = 1, max_frames: int | None = None, skip: int = 0, threads: int = 1
    ) -> Iterator[Frame]:
        """Yield every ``stride``-th frame, ``max_frames`` at most, in presentation order.

        Args:
            stride: 1 yields every frame.
            max_frames: None yields all; frames skipped by ``skip`` count.
            skip: How many of the frames that would be yielded are passed over, for resuming.
            threads: How many convert what was decoded to BGR.
        """
        with closing(self):
            yield from in_threads(self._frame, self._wanted(stride, max_frames, skip), threads)

    def _wanted(self, stride: int, max_frames: int | None, skip: int) -> Iterator[tuple[int, float, av.VideoFrame]]:
        interval = 1 / self.info.fps if self.info.fps else 0.0
        timestamp = -interval
        wanted = 0
        index = 0
        while max_frames is None or wanted < max_frames:
            decoded = self._pending if self._pending is not None else next(self._decoded, None)
            self._pending = None
            if decoded is None:
                self.count.reached_end = True
                return
            self.count.decoded += 1
            if index >= self._limits.frames:
                raise BadVideo(f"The video holds more than {self._limits.frames} frames (max_video_frames).")
            timestamp = decoded.time if decoded.time is not None else timestamp + interval
            if index % stride == 0:
                wanted += 1
                if wanted > skip:
                    yield index, float(timestamp), decoded
            index += 1

    def _frame(self, wanted: tuple[int, float, av.VideoFrame]) -> Frame:
        index, timestamp, decoded = wanted
        return Frame(index, round(timestamp, 6), self._upright(decoded))

    def _upright(self, decoded: av.VideoFrame) -> Image:
        # The size is given so that a change in mid-stream is scaled to the size at the start.
        width, height = self._size
        image: Image = decoded.to_ndarray(format="bgr24", width=width, height=height)
        if self._turn is not None:
            image = np.ascontiguousarray(cv2.rotate(image, self._turn))
        return image


def _blame_the_disk(path: Path, error: Exception) -> None:
    """Raise if a video could not be read for a reason that is not the video's.

    Raises:
        OSError: it cannot be read just now.
        TransientError: it could not be read a moment ago.
    """
    if getattr(error, "errno", None) not in MACHINE:
        return
    with path.open("rb") as file:  # asked of the disk itself, for FFmpeg may say so of a damaged video, too
        while file.read(BLOCK_BYTES):
            pass
    raise TransientError(f"The video could not be read ({_words(error)}).") from error


def _what_is_missing(path: Path) -> str | None:
    """Return a sentence if a file's boxes already say why it cannot be opened."""
    try:
        with path.open("rb", buffering=0) as file:
            return mp4.check(file, os.fstat(file.fileno()).st_size).reason or None
    except OSError:
        return None


def _words(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]
