"""FrameIndex: where each frame of a video is, from one reading of its coded frames, with nothing decoded.

The index of a frame is the rank of its time among the coded frames that are shown. That is true of most files and not
of all: hidden frames, two fields in two packets, damage. So an index refuses what it can't be sure of, and whoever
decodes by it compares each picture with what it says (``daemon.pipeline.video_ranges``).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from daemon.pipeline.seams import NotExact

MOST_FRAMES = 8_000_000
"""Coded frames of a video that gets an index, at most: 37 hours at 60 a second. An index takes 8 bytes for each."""
LEAST_APART = 12
"""Coded frames from one entry to the next, at least: a video of key frames alone has more than anybody needs."""
STEP_PACKETS = 50
"""Coded frames between two calls of ``step``."""
LEAP_BYTES = 256_000_000
"""How far a container that lists no places is searched at a time: a search cannot be ended in between."""

Numbers = NDArray[np.int64]


class CodedFrame(Protocol):
    """What an index wants to know of a packet."""

    pts: int | None
    dts: int | None
    pos: int | None
    size: int
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool


Packet = TypeVar("Packet", bound=CodedFrame)


@dataclass(frozen=True)
class EntryPoint:
    """A coded frame with which decoding may begin; it serves the frames whose time is not before its own."""

    pts: int
    dts: int | None
    position: int
    """Of its first byte in the file, or what FFmpeg takes for it."""
    size: int

    def is_at(self, packet: CodedFrame) -> bool:
        """Tell whether a packet is this one."""
        if self.dts is not None and packet.dts is not None and packet.dts != self.dts:
            return False
        return (packet.pts, packet.pos or 0, packet.size) == (self.pts, self.position, self.size)

    def is_behind(self, packet: CodedFrame) -> bool:
        """Tell whether a packet comes before this one in the file, as far as that is known."""
        return self.dts is None or packet.dts is None or packet.dts < self.dts


NO_DTS = np.iinfo(np.int64).min


@dataclass(frozen=True)
class FrameIndex:
    """Times of all frames and places where decoding may begin."""

    times: Numbers
    """Of each frame in order of presentation, in ticks of the track; no two are the same."""
    entries: Numbers
    """Shape (n, 4): time, decoding time (``NO_DTS`` where it is not told), position and size of each entry, by time."""
    listed: int
    """Frames to be shown that the container lists once it was read to its end."""

    def __len__(self) -> int:
        return len(self.times)

    def entry_for(self, frame: int) -> EntryPoint | None:
        """Return the last entry that serves a frame; None means to decode from the start of the file."""
        at = int(np.searchsorted(self.entries[:, 0], self.times[frame], side="right")) - 1
        if at < 0:
            return None
        pts, dts, position, size = map(int, self.entries[at])
        return EntryPoint(pts, None if dts == NO_DTS else dts, position, size)

    def on_the_way(self, entry: EntryPoint) -> list[int]:
        """Return times of entries before one, about ``LEAP_BYTES`` from each other in the file."""
        before = self.entries[self.entries[:, 0] < entry.pts]
        is_far = np.diff(before[:, 2] // LEAP_BYTES, prepend=0) > 0
        times: list[int] = before[is_far, 0].tolist()
        return times

    def first_from(self, entry: EntryPoint | None) -> int:
        """Return the first frame that an entry serves."""
        return 0 if entry is None else int(np.searchsorted(self.times, entry.pts))


class IndexBuilder:
    """Takes in coded frames in the order of the file.

    Args:
        is_entry: Whether decoding may begin with a coded frame of that content (``entry_points.entry_rule``).
        most: Coded frames that the file may have.
    """

    def __init__(self, is_entry: Callable[[bytes], bool], most: int = MOST_FRAMES) -> None:
        self._is_entry = is_entry
        self._most = min(most, MOST_FRAMES)
        self._times = array("q")
        self._entries = array("q")
        self._latest = self._last_dts = NO_DTS
        self._read = 0
        self._entry_due = 0

    def add(self, packet: CodedFrame) -> None:
        """Take in the next one.

        Raises:
            NotExact: with such a frame in it no index is sure.
        """
        pts = packet.pts
        if pts is None:
            raise NotExact("a coded frame has no time")
        if packet.is_corrupt or not packet.size:
            raise NotExact("a coded frame is damaged or empty")
        if packet.dts is not None and packet.dts <= self._last_dts:
            raise NotExact("decoding times do not grow")
        if self._read >= self._most:
            raise NotExact("there are too many frames")
        if packet.is_keyframe and self._read >= self._entry_due and pts > self._latest:
            self._note_entry(packet, pts)
        self._read += 1
        self._last_dts = self._last_dts if packet.dts is None else packet.dts
        if not packet.is_discard:
            self._times.append(pts)
            self._latest = max(self._latest, pts)

    def _note_entry(self, packet: Any, pts: int) -> None:
        if self._is_entry(bytes(packet)):
            dts = NO_DTS if packet.dts is None else packet.dts
            self._entries.extend((pts, dts, packet.pos or 0, packet.size))
            self._entry_due = self._read + LEAST_APART

    def finish(self, listed: int) -> FrameIndex:
        """Return the index.

        Args:
            listed: Frames to be shown that the container lists.

        Raises:
            NotExact: two frames have one time, or there is none.
        """
        times = np.array(self._times, np.int64)
        times.sort()
        if not len(times) or (np.diff(times) <= 0).any():
            raise NotExact("frames have no time of their own")
        entries = np.array(self._entries, np.int64).reshape(-1, 4)
        return FrameIndex(times, entries[np.argsort(entries[:, 0], kind="stable")], listed)


def build_index(packets: Iterable[CodedFrame], builder: IndexBuilder, step: Callable[[], None] = lambda: None) -> None:
    """Take in all coded frames.

    Args:
        packets: In the order of the file; what ends them without bytes and decoding time is passed over.
        builder: Takes them.
        step: Called after some of them each; may raise to end it.

    Raises:
        NotExact: as ``IndexBuilder.add``.
    """
    for packet in stepping(packets, step):
        if packet.size or packet.dts is not None:
            builder.add(packet)


def stepping(packets: Iterable[Packet], step: Callable[[], None]) -> Iterator[Packet]:
    """Pass coded frames on, and call ``step`` before the first and after some of them each; it may raise to end it."""
    for number, packet in enumerate(packets):
        if number % STEP_PACKETS == 0:
            step()
        yield packet
