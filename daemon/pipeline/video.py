"""Open, probe and decode a video: the only file that imports PyAV (FFmpeg).

The file may be hostile. FFmpeg is held to one demuxer, that of the container which the first bytes tell, to local
files and to well-kept decoders; size, frame rate and length are checked before a frame is decoded; a frame count is
reported but never used to size memory or to end a loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from daemon.containers import ISO, Container
from daemon.errors import BadVideo, TransientError
from daemon.mp4 import Completeness
from daemon.pipeline.overlap import in_threads
from daemon.pipeline.records import Frame, VideoInfo
from daemon.pipeline.video_account import DecodeCount
from daemon.pipeline.video_encrypted import is_encrypted
from daemon.pipeline.video_errors import ENCRYPTED, blame_the_disk, why_it_cannot_be_opened
from daemon.pipeline.video_fields import progressive
from daemon.pipeline.video_hdr import HLG, PQ
from daemon.pipeline.video_limits import Limits, check_codec, decoders_for
from daemon.pipeline.video_picture import Orientation, Renderer, RepeatingRenderer, believed_aspect
from daemon.pipeline.video_tracks import (
    Stream,
    container_at,
    count_pictures,
    film_of,
    films_of,
    listed_frames,
    pictures_listed,
    stored_size,
    structure_of,
)

PICTURE_A_SAMPLE = frozenset({"h264", "hevc"})
"""Codecs that have a picture in every coded frame. In the others one may say that the picture before stays."""
BT601_UNLESS_TOLD = frozenset({"vp9", "av1"})
"""Codecs whose pictures browsers take for BT.601 if nothing is told of their colours, in HD, too."""
MAX_STREAMS = 256
"""Most tracks of a file; a recording of a whole television channel has a hundred."""
USUAL = Limits()
HDR = {PQ: "pq", HLG: "hlg"}


@dataclass(frozen=True)
class _Source:
    """A file that is opened by FFmpeg as what its first bytes tell."""

    path: Path
    limits: Limits
    kind: Container
    ignores_edits: bool = False
    """Whether what its edit list says is passed over."""

    def open(self, is_again: bool = False) -> InputContainer:
        """Open it.

        Args:
            is_again: It is opened to see whether it fails again.

        Raises:
            BadVideo, OSError, TransientError: as ``Video``.
        """
        try:
            container: InputContainer = av.open(
                f"file:{self.path}",  # a colon in the name would be taken for a protocol
                format=self.kind.demuxer,
                metadata_errors="replace",  # titles are in any encoding, and not used
                options={
                    "format_whitelist": self.kind.whitelist,
                    "protocol_whitelist": "file",
                    "codec_whitelist": decoders_for(self.kind),
                    "max_pixels": str(self.limits.frame_pixels),
                    "max_streams": str(MAX_STREAMS),
                    **({"ignore_editlist": "1"} if self.ignores_edits else {}),
                },
            )
        except (av.FFmpegError, ValueError) as error:
            blame_the_disk(self.path, error, None if is_again else self._fails_again)
            raise BadVideo(why_it_cannot_be_opened(self.path, error)) from error
        return container

    def _fails_again(self) -> bool:
        try:
            self.open(is_again=True).close()
        except (BadVideo, TransientError):
            return True
        return False


class Video:
    """A video file, opened and checked; iterate ``frames()`` once.

    Args:
        path: The file. Its name must be ours: FFmpeg gives some names a meaning.
        limits: What is refused.

    Raises:
        BadVideo: it is not a video that is taken, holds no pictures, uses an unknown codec, is encrypted, or is over a
            limit; from ``frames()``, too, if most of it cannot be decoded.
        OSError: it cannot be read, and not for what is in it; ``frames()`` may raise this, too.
        TransientError: the same, but it can be read again now.
    """

    def __init__(self, path: Path, limits: Limits = USUAL) -> None:
        self._path, self._limits = path, limits
        self.count = DecodeCount()
        self._start = 0.0
        """Time in seconds at which players begin; taken from the times of frames."""
        self._kind = container_at(path, limits.containers)
        self._source = _Source(path, limits, self._kind)
        self._container = self._source.open()
        try:
            self._structure, self._tracks = structure_of(path)
            self._choose()
            if self._kind is ISO and self.count.expected == 0 and len(self._stream.index_entries):
                self._container.close()
                self._source = replace(self._source, ignores_edits=True)  # they would hide every frame
                self._container = self._source.open()
                self._choose()
            self.info = self._probe()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def _is_fragmented(self) -> bool:
        return b"moof" in self._structure.boxes

    def _choose(self) -> None:
        """Find the film among the tracks and count its frames."""
        streams = self._container.streams
        films = films_of(streams.video, has_sound=bool(streams.audio))
        self._stream, left_out = film_of(films, self._tracks, self._pictures(films))
        stream, count, track = self._stream, self.count, self._tracks.get(self._stream.id)
        count.left_out = [stored_size(other, self._tracks) for other in left_out]
        if track.encrypted if track else is_encrypted(self._path, self._kind, stream.id):
            raise BadVideo(ENCRYPTED)
        context = stream.codec_context
        check_codec(context.codec.canonical_name if context else track.entry if track else None, self._kind)
        self._limits.check_frames(stream.frames)
        self._limits.check_held(len(stream.index_entries))
        if self._kind is not ISO:
            self._expect()
            return
        count.expected = listed_frames(stream)
        if self._is_fragmented:
            count.cut = self._structure.reason
            # Where there is a table of segments (sidx), FFmpeg reads each when it comes to it.
            count.expected = None if b"sidx" in self._structure.boxes else count.expected
        elif stream.frames:
            count.expected = min(stream.frames, count.expected)

    def _pictures(self, films: Sequence[Stream]) -> dict[int, int]:
        if len(films) == 1 or (self._kind is ISO and not self._is_fragmented):
            return pictures_listed(films)
        pictures = {film.index: 0 for film in films}
        with self._source.open() as file, suppress(av.FFmpegError, ValueError, IndexError):  # shows again in decoding
            count_pictures(file.demux([file.streams[index] for index in pictures]), pictures)
        return pictures

    def _expect(self) -> None:
        """Count the frames where an index or a header lists them, which of these containers is AVI's alone."""
        stream, count = self._stream, self.count
        is_cut = self._structure.completeness is Completeness.INCOMPLETE
        if self._kind.demuxer == "avi":
            count.expected = (0 if is_cut else listed_frames(stream)) or stream.frames or None
        if is_cut and count.expected is None and not self._structure.is_endless:
            count.cut = self._structure.reason
        start = self._container.start_time
        self._start = max(0.0, start / av.time_base) if start else 0.0

    def _probe(self) -> VideoInfo:
        stream, limits = self._stream, self._limits
        context = stream.codec_context
        limits.check_size(context.width, context.height)
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        if duration is None and self._kind is not ISO and self._container.duration:
            duration = self._container.duration / av.time_base
        fps = self._rate(duration)
        if duration is not None:
            limits.check_duration(duration)
        first = self._first_frame()
        orientation = _orientation(first)
        aspect = believed_aspect(stream.sample_aspect_ratio)
        self._stored = (first.width, first.height)
        self._orientation = orientation
        is_hd_bt709 = context.codec.canonical_name not in BT601_UNLESS_TOLD
        self._renderer = Renderer(self._stored, aspect, orientation, limits.frame_pixels, is_hd_bt709)
        self._repeating = RepeatingRenderer(self._renderer)
        width, height = self._renderer.size
        return VideoInfo(
            codec=context.codec.canonical_name,
            width=width,
            height=height,
            fps=None if fps is None else round(fps, 6),
            duration_s=None if duration is None else round(duration, 6),
            frame_count=self.count.expected,
            sample_aspect_ratio=f"{aspect.numerator}:{aspect.denominator}",
            rotation=orientation.rotation,
            mirrored=orientation.mirrored,
            interlaced=self.count.interlaced > 0,
            hdr=HDR.get(first.color_trc),
        )

    def _rate(self, duration: float | None) -> float | None:
        """Return the average frames a second; a single frame, or a track of ticks, has none."""
        rate = self._stream.average_rate
        if rate and self._kind is not ISO:  # Matroska's may be a tick of the clock; the other is measured
            rate = min(rate, self._stream.base_rate or rate)
        of_ticks = duration is not None and duration * self._limits.fps < 2
        if not rate or self.count.expected == 1 or (rate > self._limits.fps and of_ticks):
            return None
        self._limits.check_fps(float(rate))
        return float(rate)

    def _first_frame(self) -> av.VideoFrame:
        self._hold_to_limits()
        shown = progressive(self._decode())
        first = next(shown, None)
        if first is None:
            raise BadVideo("No frame of the video could be decoded.")
        self._shown = chain([first], shown)
        self._next_frame = 0
        return first[0]

    def _hold_to_limits(self) -> None:
        context = self._stream.codec_context
        context.options = {"max_pixels": str(self._limits.frame_pixels), "codec_whitelist": decoders_for(self._kind)}
        # One thread: with more, frames near damage are lost, and how many depends on the number of cores.
        context.thread_count = 1

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield every frame that can be decoded; a coded frame that fails is counted and passed over."""
        packets = self._container.demux(self._stream)
        due = 0
        while (packet := self._next(packets)) is not None:
            if not packet.size and packet.dts is not None:
                continue  # an empty sample: the picture before stays
            shown = not packet.is_discard  # what an edit list cuts away comes without a picture
            if packet.size:
                self.count.read += 1
                self.count.packets += shown
                due += shown
            try:
                for frame in packet.decode():
                    due -= 1
                    self.count.interlaced += frame.interlaced_frame
                    yield frame
            except (av.FFmpegError, ValueError):
                self.count.failed += shown
        self._settle(due)

    def _next(self, packets: Iterator[av.Packet]) -> av.Packet | None:
        try:
            return next(packets, None)
        except (av.FFmpegError, ValueError) as error:  # the file ends in the middle of something
            blame_the_disk(self._path, error, self._ends_there_again)
            if self._kind is not ISO:
                self.count.cut = self.count.cut or "It cannot be read to its end."
            return None
        except IndexError:  # a track began late: PyAV has no object for it, and all that is ours has come
            return None

    def _ends_there_again(self) -> bool:
        """Tell whether the same is read of the film as the first time, and then the same failure."""
        read = 0
        with self._source.open(is_again=True) as container:
            try:
                for packet in container.demux(container.streams[self._stream.index]):
                    read += bool(packet.size)
            except (av.FFmpegError, ValueError):
                return read == self.count.read
        return False

    def _settle(self, due: int) -> None:
        """Set the counts right at the end of the file, with so many coded frames without a picture."""
        if self._is_fragmented:
            self.count.expected = listed_frames(self._stream)
        if self._stream.codec_context.codec.canonical_name in PICTURE_A_SAMPLE:
            self.count.add_lost(due)

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
        index = self._next_frame
        wanted = -(-index // stride)
        while max_frames is None or wanted < max_frames:
            decoded, time = next(self._shown, (None, None))
            if decoded is None:
                self.count.end()
                return
            self._note(decoded, index)
            timestamp = time - self._start if time is not None else timestamp + interval
            if index % stride == 0:
                wanted += 1
                if wanted > skip:
                    yield index, float(timestamp), decoded
            index += 1

    def _frame(self, wanted: tuple[int, float, av.VideoFrame]) -> Frame:
        index, timestamp, decoded = wanted
        return Frame(index, round(timestamp, 6), self._repeating.render(decoded))

    def _note(self, decoded: av.VideoFrame, index: int) -> None:
        """Count a frame, and remember what is special about it."""
        count = self.count
        count.add_decoded()
        count.damaged += decoded.is_corrupt
        self._limits.check_held(count.decoded)
        size = decoded.width, decoded.height
        if size != self._stored and count.resized is None:
            count.resized = index, self._orientation.size(size), self._renderer.size
        if count.interlaced and not self.info.interlaced:
            self.info = replace(self.info, interlaced=True)


def _orientation(frame: av.VideoFrame) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.from_matrix(np.frombuffer(matrix, np.int32).tolist())
