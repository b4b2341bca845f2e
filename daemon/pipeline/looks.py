"""Looks: in which frames of a batch lines are looked for, and what stands in the frames between.

Looking is dear, so it is done at full size on a few frames of a batch only (``full_looks``). The frames between are
explained from those around them: a place that looks as it did in one of the two holds the lines that it held there, and
a line that is found in both is between them on its way. Only a frame that leaves a line in doubt is looked at, too: at
half the size, if that line is tall enough to be seen so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from daemon.pipeline import moved
from daemon.pipeline.changes import Thumbnail, differs, differs_at, thumbnails_of, union
from daemon.pipeline.lines import Line, Writing, around, goes_on, height_of, line_of, read_box, same_place, touch
from daemon.pipeline.records import Box, Image
from daemon.pipeline.regions import RapidOcrRegions, Region

RECENT_LOOKS = 3
"""Looks whose lines are remembered."""
CLOCK_SLACK = 0.001
"""Seconds by which the times of frames may be rounded."""

T = TypeVar("T")
Read = Callable[[Collection[Writing]], None]
Place = tuple[list[Line], list[Line]]
"""Lines that stand in one place before and after."""


@dataclass(frozen=True)
class Look:
    """A frame of which the lines are known."""

    time: float
    thumbnail: Thumbnail
    lines: list[Line]


@dataclass(frozen=True)
class Between:
    """A frame between two looks with places that look like neither."""

    at: int
    share: float
    """Of the time between the two looks that has gone by."""
    kept: list[Line]
    """Lines that are known to be there."""
    old: list[Line]
    """Lines of the other places, before."""
    new: list[Line]
    """Lines of the other places, after."""


class LineFinder:
    """Finds the lines of a video's frames, batch by batch.

    Args:
        finder: Finds regions.
        least_confidence: Lines read with less are not worth a look.
        read: Reads what is new.
        look_seconds: Longest time between two looks at full size while anything changes: what is shown for that long
            is seen.
    """

    def __init__(self, finder: RapidOcrRegions, least_confidence: float, read: Read, look_seconds: float) -> None:
        self._finder = finder
        self._least_confidence = least_confidence
        self._read = read
        self._look_seconds = look_seconds
        self.new_segment()

    def new_segment(self) -> None:
        """Forget everything."""
        self._last: Look | None = None
        """The last frame of the batch before."""
        self._looked: Thumbnail | None = None
        """The last frame in which regions were looked for at full size."""
        self._recent: deque[list[Line]] = deque(maxlen=RECENT_LOOKS)
        """Lines of the last looks, the latest last."""

    def __call__(self, images: Sequence[Image], times: Sequence[float]) -> list[list[Line]]:
        """Return the lines of each frame of a batch, all of them read.

        Args:
            images: Of one size.
            times: Of the frames, seconds.
        """
        thumbnails = thumbnails_of(images)
        looks = self._look(images, thumbnails, times)
        lines: list[list[Line]] = [[] for _ in images]
        doubtful: list[Between] = []
        before, start = self._last, 0
        for at, look in looks.items():
            if before is not None and at > start:
                places = places_of(before.lines, look.lines)
                for number in range(start, at):
                    share = min(
                        1.0, max(0.0, (times[number] - before.time) / max(look.time - before.time, CLOCK_SLACK))
                    )
                    found = explained(number, share, images[number], thumbnails[number], before, look, places)
                    lines[number] = found.kept
                    doubtful += [found] if found.old or found.new else []
            lines[at], before, start = look.lines, look, at + 1
        self._last = before
        self._settle(images, thumbnails, doubtful, lines)
        self._read(unread(lines))
        return lines

    def _look(
        self, images: Sequence[Image], thumbnails: Sequence[Thumbnail], times: Sequence[float]
    ) -> dict[int, Look]:
        places = full_looks(times, self._last.time if self._last else None, self._look_seconds)
        changed = [at for at in places if self._changed(thumbnails[at])]
        found = dict(zip(changed, self._look_closely([images[at] for at in changed]), strict=True))
        looks: dict[int, Look] = {}
        lines = self._last.lines if self._last else []
        for at in places:
            if at in found:
                known = [*lines, *self._known_lately()]
                lines = [line_of(region, images[at], thumbnails[at], known) for region in found[at]]
                self._recent.append(lines)
            looks[at] = Look(times[at], thumbnails[at], lines)
        return looks

    def _known_lately(self) -> list[Line]:
        """Return the lines of the last looks, the latest first: one may be missed by a look, and found by the next."""
        return [line for lines in reversed(self._recent) for line in lines]

    def _look_closely(self, images: Sequence[Image]) -> list[list[Region]]:
        """Look at full size, and at half for what the network misses there: a line alone on plain ground."""
        return [
            together(full, quick, lambda region: region)
            for full, quick in zip(self._finder(images), self._finder(images, quick=True), strict=True)
        ]

    def _changed(self, now: Thumbnail) -> bool:
        if self._looked is not None and not differs(self._looked, now):
            return False
        self._looked = now
        return True

    def _settle(
        self,
        images: Sequence[Image],
        thumbnails: Sequence[Thumbnail],
        doubtful: Sequence[Between],
        lines: list[list[Line]],
    ) -> None:
        """Fill in the lines of frames that have places that look like neither look."""
        if any(moved.may_be_one(old, new) for each in doubtful for old in each.old for new in each.new):
            self._read(unread([*lines, *(each.new for each in doubtful)]))
            doubtful = [self._with_moved(each) for each in doubtful]
            for each in doubtful:
                lines[each.at] = each.kept
        least = self._finder.least_quick_height(images[0])
        closely = [each for each in doubtful if any(height_of(line) < least for line in [*each.old, *each.new])]
        quickly = [each for each in doubtful if each not in closely and (each.old or each.new)]
        for some, quick in ((closely, False), (quickly, True)):
            found = self._finder([images[each.at] for each in some], quick=quick)
            for each, regions in zip(some, found, strict=True):
                known = [*each.old, *each.new, *(lines[each.at - 1] if each.at else []), *self._known_lately()]
                seen = [line_of(region, images[each.at], thumbnails[each.at], known) for region in regions]
                lines[each.at] = together(each.kept, seen, lambda line: line.region)

    def _with_moved(self, each: Between) -> Between:
        """Keep the lines that moved; in doubt are only others that say something."""
        pairs = moved.pairs(each.old, each.new)
        paired = {id(line) for pair in pairs for line in pair}
        old, new = (
            [line for line in some if id(line) not in paired and self._is_worth(line)] for some in (each.old, each.new)
        )
        return Between(each.at, each.share, each.kept + [moved.between(pair, each.share) for pair in pairs], old, new)

    def _is_worth(self, line: Line) -> bool:
        reading = line.reading
        return reading is None or (reading.text != "" and reading.confidence >= self._least_confidence)


def together(known: Sequence[T], found: Sequence[T], region_of: Callable[[T], Region]) -> list[T]:
    """Return what is known and what was found elsewhere; what was found takes the place of its parts."""
    kept, more = list(known), []
    for each in found:
        parts = [other for other in kept if same_place(region_of(each), region_of(other))]
        if not parts or goes_on(region_of(each), [region_of(other) for other in parts]):
            kept = [other for other in kept if not any(other is part for part in parts)]
            more.append(each)
    return kept + more


def unread(lines: Iterable[Sequence[Line]]) -> list[Writing]:
    """Return what is to be read, each once."""
    writings = (line.writing for some in lines for line in some)
    return list({id(each): each for each in writings if each.image is not None}.values())


def full_looks(times: Sequence[float], last: float | None, look_seconds: float) -> list[int]:
    """Return which frames of a batch are looked at at full size, if they changed: the last one always.

    Args:
        times: Of the batch's frames, seconds.
        last: Time of the last one looked at; None at the start of a segment, the first frame of which is looked at.
        look_seconds: Longest time between two of them; 0 stands for every frame, whatever their times.
    """
    if look_seconds == 0:
        return list(range(len(times)))
    places = []
    for at, now in enumerate(times):
        if at + 1 == len(times) or last is None or not 0 <= times[at + 1] - last <= look_seconds + CLOCK_SLACK:
            places.append(at)
            last = now
    return places


def explained(
    at: int, share: float, image: Image, now: Thumbnail, before: Look, after: Look, places: Sequence[Place]
) -> Between:
    """Tell which lines of the looks before and after a frame it shows, and which may be other ones now."""
    if not differs(now, after.thumbnail):
        return Between(at, share, after.lines, [], [])
    found = Between(at, share, [], [], [])
    for old, new in places:
        box = around([*old, *new])
        if not differs_at(before.thumbnail, now, image, box):
            found.kept.extend(old)
        elif not differs_at(after.thumbnail, now, image, box):
            found.kept.extend(new)
        else:
            found.old.extend(old)
            found.new.extend(new)
    return found


def places_of(before: Sequence[Line], after: Sequence[Line]) -> list[Place]:
    """Put lines before and after that stand in one place together."""
    places: list[tuple[Box, list[Line], list[Line]]] = []
    for which, line in [(0, line) for line in before] + [(1, line) for line in after]:
        box = read_box(line.region)
        own: Place = ([], [])
        own[which].append(line)
        apart = []
        for place in places:
            if touch(box, place[0]):
                box = union(box, place[0])
                own = (place[1] + own[0], place[2] + own[1])
            else:
                apart.append(place)
        places = [*apart, (box, *own)]
    return [(old, new) for _, old, new in places]
