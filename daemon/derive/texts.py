"""ScreenTexts: which lines of a frame go on with which lines of the frames before it."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from daemon.boxes import inside, iou
from daemon.derive.document import AnalysedFrame, Box, FoundText, Moment
from daemon.derive.place import ALIKE, TextPlace
from daemon.derive.segments import Segment
from daemon.derive.text_keys import key_of

GAP_SECONDS, GAP_FRAMES = 0.5, 2
"""How long a text may be away and is still the same: whichever is longer, in analysed frames."""
GAP_MOVING_SECONDS = 0.8
"""The same for a text that moves, which is found less surely."""
LEAST_OVERLAP = 0.5
"""Of two boxes (IoU), or of the heights of two lines."""
INSIDE = 0.8
"""Share of the smaller of two boxes in the other from which on they are one place: a line alone, or with its ground."""
ALIKE_ASIDE = 0.8
"""Least similarity of a line that has moved along its row."""
ALIKE_MOVED = {2: 1.0, 4: 0.9, 6: 0.8}
"""Least similarity of a line that has moved off its row, by its letters: the more, the less it is by chance."""
MOVED_HEIGHTS = 3.0
"""How far it may have moved, in heights of a line."""
MOST_LINES = 1000
"""Lines that are followed at a time; what a frame has beyond is left out."""


@dataclass(frozen=True)
class _Pair:
    """A line that may go on at a place; the order of the fields is the order in which pairs are taken."""

    rule: int
    unlike: float
    """The less, the better."""
    place: int
    line: int


class ScreenTexts:
    """Follows the lines of text through the frames; its memory is what is on the screen."""

    def __init__(self) -> None:
        self._places: list[TextPlace] = []
        self._previous: Moment | None = None
        self._step_s = 0.0

    def add(self, frame: AnalysedFrame) -> Iterator[Segment]:
        """Take the next frame; yield the texts that are known to have ended."""
        now = frame.moment
        if self._previous is not None:
            self._step_s = max(0.0, now.time_s - self._previous.time_s)
            self._note_end(now.time_s, self._step_s)
        yield from self._close_those_gone(now)
        lines = frame.texts[:MOST_LINES]
        keys = [key_of(found.text) for found in lines]
        taken = self._match(lines, keys, now)
        for number, found in enumerate(lines):
            if number in taken:
                yield from taken[number].add(keys[number], found, now)
            else:
                self._places.append(TextPlace(keys[number], found, now))
        self._previous = now

    def finish(self, only_step_s: float = 1.0) -> Iterator[Segment]:
        """Yield what is left at the end of the video; the last frame lasts as long as the one before it.

        Args:
            only_step_s: How long a frame lasts if there is only one.
        """
        if self._previous is not None:
            end_s = round(self._previous.time_s + (self._step_s or only_step_s), 6)
            self._note_end(end_s, self._step_s or 1.0)  # nothing is too short in a single picture
        for place in self._places:
            yield from place.close()
        self._places = []

    def _note_end(self, time_s: float, weight_s: float) -> None:
        assert self._previous is not None
        for place in self._places:
            if place.last.position == self._previous.position:
                place.seen(time_s, weight_s)

    def _close_those_gone(self, now: Moment) -> Iterator[Segment]:
        there = []
        crowd = len(self._places) - MOST_LINES
        for place in self._places:
            missed = now.position - place.last.position - 1
            away_s = now.time_s - place.segments[-1].end_s
            gap_s = GAP_MOVING_SECONDS if place.is_moving else GAP_SECONDS
            if (missed > GAP_FRAMES and away_s > gap_s + 1e-6) or (missed > 0 and crowd > 0):
                crowd -= 1
                yield from place.close()
            else:
                there.append(place)
        self._places = there

    def _match(self, found: list[FoundText], keys: list[str], now: Moment) -> dict[int, TextPlace]:
        """Return the places at which lines go on, by number of the line; best pairs first."""
        taken: dict[int, TextPlace] = {}
        used: set[int] = set()
        for pairs in (self._unchanged(found, keys), self._changed(found, keys, now, taken, used)):
            for pair in sorted(pairs, key=lambda pair: (pair.rule, pair.unlike, pair.place, pair.line)):
                if pair.place not in used and pair.line not in taken:
                    used.add(pair.place)
                    taken[pair.line] = self._places[pair.place]
        return taken

    def _unchanged(self, found: list[FoundText], keys: list[str]) -> Iterator[_Pair]:
        """Yield the lines that are where they were and read alike; most are, so all others cost little."""
        by_key: dict[str, list[int]] = {}
        for number, place in enumerate(self._places):
            by_key.setdefault(place.segments[-1].majority, []).append(number)
        for line, key in enumerate(keys):
            for number in by_key.get(key, ()):
                overlap = iou(self._places[number].box, found[line].box)
                if overlap >= LEAST_OVERLAP:
                    yield _Pair(0, -overlap, number, line)

    def _changed(
        self, found: list[FoundText], keys: list[str], now: Moment, taken: Container[int], used: Container[int]
    ) -> Iterator[_Pair]:
        """Yield what may go on of the lines and places that are left."""
        lines = [line for line in range(len(found)) if line not in taken]
        for number, place in enumerate(self._places):
            for line in lines if number not in used else ():
                if pair := _pair(number, place, line, found[line], keys[line], now):
                    yield pair


def _pair(number: int, place: TextPlace, line: int, found: FoundText, key: str, now: Moment) -> _Pair | None:
    height = max(place.box[3] - place.box[1], found.box[3] - found.box[1], 1.0)
    if abs((place.box[1] + place.box[3]) - (found.box[1] + found.box[3])) / 2 > MOVED_HEIGHTS * height:
        return None  # most pairs are far from each other
    expected = place.expected(now.time_s)
    overlap = max(iou(place.box, found.box), iou(expected, found.box))
    same_row = max(row_overlap(place.box, found.box), row_overlap(expected, found.box))
    if overlap < LEAST_OVERLAP and same_row < LEAST_OVERLAP and len(key) < min(ALIKE_MOVED):
        return None
    alike = place.similarity(key)
    one_place = overlap >= LEAST_OVERLAP or max(inside(place.box, found.box), inside(expected, found.box)) >= INSIDE
    if (one_place and alike >= ALIKE) or (same_row >= LEAST_OVERLAP and alike >= ALIKE_ASIDE):
        return _Pair(0, -alike - overlap, number, line)
    if alike >= min((least for letters, least in ALIKE_MOVED.items() if letters <= len(key)), default=2.0):
        return _Pair(1, -alike + _distance(expected, found.box) / height, number, line)
    return _Pair(2, -overlap, number, line) if overlap >= LEAST_OVERLAP else None


def _distance(one: Box, other: Box) -> float:
    """Return how far the centre of a row is from that of another, in pixels."""
    return abs((one[1] + one[3]) - (other[1] + other[3])) / 2


def row_overlap(one: Box, other: Box) -> float:
    """Return how much of the lower of two heights is in both rows, from 0 to 1."""
    common = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, common / max(1e-6, min(one[3] - one[1], other[3] - other[1])))
