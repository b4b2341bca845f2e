"""RangedVideo: a video whose frames can be had from any of them on, exactly those of a run from the start.

An index says where decoding may begin. It is never simply believed: what is read after a seek has to be the coded frame
that was meant, and each picture has to be whole and to have the very time that the index has for it. Where anything is
otherwise ``NotExact`` is raised, and whoever asked decodes the video from its start, in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain

import av
import numpy as np

from daemon.pipeline.entry_points import entry_rule
from daemon.pipeline.frame_index import EntryPoint, FrameIndex, IndexBuilder, build_index, stepping
from daemon.pipeline.seams import NotExact
from daemon.pipeline.video import Video
from daemon.pipeline.video_errors import blame_the_disk
from daemon.pipeline.video_tracks import Stream, listed_frames

SAME_SECONDS = 2e-6
"""Times that differ by no more are the same: they are rounded to a millionth."""
WORTH_SECONDS = 60.0
"""For a frame up to there no index is made: all before it is decoded about as soon as a large file is read."""
SEARCHED = frozenset({"matroska", "flv"})
"""Demuxers that may know of no places in the file but those that they have come past, and then read up to one."""
Shown = Iterator[tuple[av.VideoFrame, float | None]]


def _no_step() -> None:
    pass


class RangedVideo(Video):
    """A video that can be begun with any frame; otherwise as ``Video``."""

    spans: Sequence[tuple[int, int]] | None = None
    """Bytes of the file that are there; all if not given. A coded frame with others is not decoded."""

    @property
    def is_as_indexed(self) -> bool:
        """Whether nothing has come so far that an index does not know of."""
        count = self.count
        return not (count.failed or count.damaged or count.interlaced or count.resized)

    def make_index(self, step: Callable[[], None] = _no_step) -> FrameIndex:
        """Return the index, by reading the whole file once and decoding nothing.

        Args:
            step: Called again and again; may raise to end it.

        Raises:
            NotExact: there is none for this video.
            BadVideo, OSError, TransientError: as ``Video``.
        """
        context = self._stream.codec_context
        rule = entry_rule(context.codec.canonical_name, bytes(context.extradata or b""))
        if rule is None:
            raise NotExact(f"{context.codec.canonical_name} is not known to have places to begin at")
        builder = IndexBuilder(rule, self._limits.frames)
        with closing(self._source.open()) as container:
            stream = container.streams[self._stream.index]
            try:
                build_index(container.demux(stream), builder, step)
            except (av.FFmpegError, ValueError, IndexError) as error:
                raise NotExact("the file cannot be read to its end") from error
            return builder.finish(listed_frames(stream))

    def time_of(self, index: FrameIndex, frame: int) -> float:
        """Return the ``timestamp_s`` of a frame."""
        return round(float(int(index.times[frame]) * self._stream.time_base) - self._start, 6)

    def place_of(self, index: FrameIndex, seconds: float) -> int | None:
        """Return the frame that is shown at a time; None if it is the last, or there is none."""
        ticks = int((seconds + self._start + SAME_SECONDS) // self._stream.time_base)
        frame = int(np.searchsorted(index.times, ticks, side="right")) - 1
        return frame if 0 <= frame < len(index) - 1 else None

    def go_to(self, index: FrameIndex, frame: int, step: Callable[[], None] = _no_step) -> None:
        """Have ``frames`` begin with a frame, and count those before it as decoded. Call it before ``frames``.

        ``frames`` then raises NotExact where the video is not as the index says.

        Args:
            index: Of this video.
            frame: Its place in order of presentation; there is such a frame.
            step: Called again and again while ``frames`` looks for the place to begin; may raise to end it.

        Raises:
            BadVideo, OSError, TransientError: as ``Video``.
        """
        self._shown = self._planned(index, frame, step)  # type: ignore[assignment]  # it began as a chain
        self._next_frame = self.count.decoded = frame

    def count_as_run(self, index: FrameIndex, stride: int, max_frames: int | None) -> None:
        """Have ``count`` say what it says after a run in one piece, if the video is as the index says.

        Args:
            index: Of this video.
            stride: As in ``frames``.
            max_frames: As in ``frames``.
        """
        stopped_after = None if max_frames is None else (max_frames - 1) * stride + 1
        to_end = stopped_after is None or stopped_after > len(index)
        self.count.decoded = len(index) - 1 if to_end or stopped_after is None else stopped_after - 1
        self.count.add_decoded()
        if to_end:
            self._settle_by(index)
            self.count.end()

    def _settle_by(self, index: FrameIndex) -> None:
        self.count.packets = len(index)
        if self._is_fragmented:
            self.count.expected = index.listed

    def _planned(self, index: FrameIndex, first: int, step: Callable[[], None]) -> Shown:
        entry = index.entry_for(first)
        due = index.first_from(entry)
        for decoded in self._decoded(self._packets_from(index, entry, step)):
            if entry is not None and decoded.pts is not None and decoded.pts < entry.pts:
                continue  # a picture that leads the entry leans on what was before it
            self._check(decoded, index, due, entry)
            if due >= first:
                yield decoded, decoded.time
            due += 1
        if due != len(index):
            raise NotExact(f"there are {due} frames instead of {len(index)}")
        self._settle_by(index)

    def _check(self, decoded: av.VideoFrame, index: FrameIndex, due: int, entry: EntryPoint | None) -> None:
        if due >= len(index) or decoded.pts != index.times[due]:
            raise NotExact(f"frame {due} is not where the index has it")
        if entry is not None and decoded.pts == entry.pts and not decoded.key_frame:
            raise NotExact(f"frame {due} does not stand alone")
        if decoded.is_corrupt or decoded.interlaced_frame or (decoded.width, decoded.height) != self._stored:
            raise NotExact(f"frame {due} is damaged, of two fields or of another size")

    def _decoded(self, packets: Iterator[av.Packet]) -> Iterator[av.VideoFrame]:
        try:
            for packet in packets:
                if packet.size and not self._is_there(packet):
                    yield from self._end_of_packets().decode()  # what is still to come of those before may be enough
                    raise NotExact("a coded frame is not in the part of the file that is there")
                self.count.read += bool(packet.size)
                yield from packet.decode()
        except (av.FFmpegError, ValueError, IndexError) as error:
            blame_the_disk(self._path, error)  # the ranges stay: the index has read all of it just now
            raise NotExact("a coded frame cannot be read or decoded") from error

    def _end_of_packets(self) -> av.Packet:
        """Return what a demuxer gives at the end of a file: with it a decoder gives out all that it still holds."""
        end = av.Packet()
        end.stream, end.time_base = self._stream, self._stream.time_base
        return end

    def _is_there(self, packet: av.Packet) -> bool:
        if self.spans is None:
            return True
        begin = -1 if packet.pos is None else packet.pos
        return any(start <= begin and begin + packet.size <= end for start, end in self.spans)

    def _packets_from(
        self, index: FrameIndex, entry: EntryPoint | None, step: Callable[[], None]
    ) -> Iterator[av.Packet]:
        """Yield packets from an entry on, or all; the decoder is as fresh as it is at the start of a video."""
        if entry is None:
            return iter(self._opened_again().demux(self._stream))
        on_the_way = index.on_the_way(entry) if self._kind.demuxer in SEARCHED else []
        for target in (entry.pts, entry.dts):
            packets = self._sought(target, on_the_way, step)
            if found := self._find(stepping(packets, step), entry):
                return chain([found], packets)
        packets = self._opened_again().demux(self._stream)
        if found := self._find(stepping(packets, step), entry):
            return chain([found], packets)
        raise NotExact("the place to begin with is not found again")

    def _sought(self, ticks: int | None, on_the_way: Sequence[int], step: Callable[[], None]) -> Iterator[av.Packet]:
        container = self._opened_again()
        if ticks is None:
            return iter(())
        try:
            for place in on_the_way:
                step()
                known = self._stream.index_entries
                if not len(known) or known[-1].timestamp < place:
                    container.seek(place, stream=self._stream, backward=True)
            container.seek(ticks, stream=self._stream, backward=True)
        except (av.FFmpegError, ValueError, OverflowError):
            return iter(())
        return iter(container.demux(self._stream))

    def _opened_again(self) -> av.container.InputContainer:
        place = self._stream.index
        self._container.close()
        self._container = self._source.open()
        self._stream: Stream = self._container.streams[place]
        self._hold_to_limits()
        return self._container

    def _find(self, packets: Iterator[av.Packet], entry: EntryPoint) -> av.Packet | None:
        """Read up to an entry; None if what comes is behind it, or the end."""
        try:
            for packet in packets:
                if entry.is_at(packet):
                    return packet
                if not entry.is_behind(packet):
                    return None
        except (av.FFmpegError, ValueError, IndexError) as error:
            blame_the_disk(self._path, error)
        return None
