"""TextPlace: a place on the screen where a line of text stands, and how its reads become texts.

OCR reads a text differently from frame to frame, and a text that changes differs from the one before in as little as
one digit. So what differs from the text so far is kept apart until what follows says what it was:

* The text so far again: it was a misreading, and belongs to it.
* Anything else, or nothing: with other digits it was the next text, from its first frame on. With other letters alone
  it was that if the switch was clean: both were read alike for half a second, and the old one never came back.
* A single read between or beside longer texts was a misreading.
"""

from __future__ import annotations

import math
from collections import deque

from daemon.derive.document import Box, FoundText, Moment
from daemon.derive.segments import Segment
from daemon.derive.text_keys import Relation, relation, similarity

ESTABLISHED_SECONDS = 0.5
"""A text that stands for so long is there; a switch between two such texts is clean."""
RETURN_SECONDS = 2.0
"""A text that comes back within so long was never away: what stood there instead, with other digits, was misread."""
FLICKER_SECONDS = 0.2
"""What is read once and for less than this was hardly seen."""
FLICKER_READS, UNSURE_READS = 1, 3
"""Reads of a flicker; and if it is not like the text beside it, or was read with less confidence."""
UNSURE = 0.1
"""How much less confidence that is."""
SHARE, KNOWN_SHARE = 0.7, 0.05
"""Part of the reads that a steady text has, and part that makes a key a known misreading."""
LEAST_SEEN_SECONDS = 0.1
"""A text whose reads together stand for less, weighed by confidence, did not stay, and is not listed."""
SURE, SURE_READS = 0.9, 2
"""Unless it was read with that confidence, and its place so many times."""
LEAST_MEAN = 0.65
"""A text that was read with less on the whole is noise, or too small to be read. That it was read alike for a while
says little, as a reading is kept while the picture stays."""
ALIKE = 0.6
"""Least similarity of two readings of one text in one place."""


class TextPlace:
    """Where a line of text stands, or moves.

    Args:
        key: Of the first read.
        found: The first read.
        moment: When.
    """

    def __init__(self, key: str, found: FoundText, moment: Moment) -> None:
        self.segments = [Segment(key, found, moment)]
        self.box = found.box
        """Of the last read, in pixels."""
        self.shift = (0.0, 0.0)
        """How it moves, in pixels per second."""
        self._recent: deque[tuple[float, str]] = deque([(moment.time_s, key)])
        self._confidence = found.confidence
        self._sure_reads = int(found.confidence >= SURE)

    @property
    def last(self) -> Moment:
        """When it was read last."""
        return self.segments[-1].last

    def expected(self, now_s: float) -> Box:
        """Return where its text should be by now, going by how it moved."""
        seconds = now_s - self.last.time_s
        x, y = self.shift[0] * seconds, self.shift[1] * seconds
        return self.box[0] + x, self.box[1] + y, self.box[2] + x, self.box[3] + y

    @property
    def is_moving(self) -> bool:
        """Whether it goes on by more than its own height in a second."""
        return math.hypot(*self.shift) > self.box[3] - self.box[1]

    def similarity(self, key: str) -> float:
        """Return how like its texts a key is, from 0 to 1."""
        return max(similarity(segment.majority, key) for segment in self.segments[-2:])

    def add(self, key: str, found: FoundText, moment: Moment) -> list[Segment]:
        """Take a read; return the texts that are finished by it."""
        self._move(found.box, moment)
        self._confidence = found.confidence
        self._sure_reads += found.confidence >= SURE
        segments = self.segments
        what = relation(segments[-1].majority, key, ALIKE)
        if what is Relation.SAME or (what is Relation.VARIANT and not self._begins_something(key)):
            segments[-1].add(key, found, moment)
        else:
            segments.append(Segment(key, found, moment, self._is_steady(moment.time_s)))
        self._recent.append((moment.time_s, key))
        while self._recent[0][0] < moment.time_s - ESTABLISHED_SECONDS:
            self._recent.popleft()
        self._settle(moment.time_s)
        return self._finished(moment.time_s)

    def seen(self, time_s: float, weight_s: float) -> None:
        """Note when the frame after the last read is shown, and for how long the read counts."""
        self.segments[-1].seen_s += self._confidence * weight_s
        self.segments[-1].end_s = time_s

    def close(self) -> list[Segment]:
        """Return the texts that are left when nothing more comes."""
        self._settle(self.segments[-1].end_s, closing=True)
        return self._those_that_stayed(self.segments)

    def _those_that_stayed(self, segments: list[Segment]) -> list[Segment]:
        return [text for text in segments if self._stayed(text)]

    def _stayed(self, text: Segment) -> bool:
        if text.seen_s < LEAST_SEEN_SECONDS:
            return self._sure_reads >= SURE_READS and text.mean_confidence >= SURE
        if len(text.majority) == 1:  # corners and texture are taken for one letter, and no other speaks against it
            return text.best_confidence >= SURE
        return text.mean_confidence >= LEAST_MEAN

    def _move(self, box: Box, moment: Moment) -> None:
        seconds = moment.time_s - self.last.time_s
        if seconds > 0:
            x = ((box[0] + box[2]) - (self.box[0] + self.box[2])) / 2 / seconds
            y = ((box[1] + box[3]) - (self.box[1] + self.box[3])) / 2 / seconds
            self.shift = (self.shift[0] + x) / 2, (self.shift[1] + y) / 2
        self.box = box

    def _begins_something(self, key: str) -> bool:
        """Tell whether a variant of the last segment may be another text, and is kept apart for now."""
        segments = self.segments
        returns = any(relation(s.majority, key, ALIKE) is Relation.SAME for s in segments[:-1])
        if len(segments) > 1 and not segments[-1].decided and not returns and self._is_variant(len(segments) - 1):
            return False  # the last one is being waited for itself
        known = segments[-1].keys.get(key)
        return returns or known is None or known.reads < max(2.0, KNOWN_SHARE * segments[-1].reads)

    def _is_variant(self, number: int) -> bool:
        one, other = self.segments[number - 1].majority, self.segments[number].majority
        return relation(one, other, ALIKE) <= Relation.VARIANT

    def _is_steady(self, now_s: float) -> bool:
        majority = self.segments[-1].majority
        alike = sum(key == majority for _, key in self._recent)
        long = now_s - self.segments[-1].first.time_s >= ESTABLISHED_SECONDS - 1e-6
        return long and alike >= SHARE * len(self._recent)

    def _settle(self, now_s: float, closing: bool = False) -> None:
        while self._merge_return(now_s, closing) or self._merge_flicker(now_s, closing) or self._judge(now_s, closing):
            pass

    def _merge_return(self, now_s: float, closing: bool) -> bool:
        """Give what stood between two reads of one text to it."""
        last = self.segments[-1]
        for number in range(len(self.segments) - 2, -1, -1):
            text = self.segments[number]
            if relation(text.majority, last.majority, ALIKE) is not Relation.SAME:
                continue
            between = self.segments[number + 1 : -1]
            if not all(self._is_misreading(text, other) for other in between):
                return False
            established = any(other.seconds() >= ESTABLISHED_SECONDS for other in between)
            if established and last.reads <= FLICKER_READS and not closing:
                return False  # it may be the one that is misread
            return self._merge(number, len(self.segments) - 1)
        return False

    def _is_misreading(self, text: Segment, other: Segment) -> bool:
        what = relation(text.majority, other.majority, ALIKE)
        if what is Relation.STRANGER:
            short = other.reads <= UNSURE_READS and other.seconds() < FLICKER_SECONDS
            return short or (other.reads <= FLICKER_READS and _is_unsure(other, text) and self._is_back(text))
        return what <= Relation.VARIANT or self._is_back(text)

    def _is_back(self, text: Segment) -> bool:
        return self.segments[-1].first.time_s - text.end_s <= RETURN_SECONDS

    def _merge_flicker(self, now_s: float, closing: bool) -> bool:
        """Give what was hardly seen to the text beside it."""
        for number, segment in enumerate(self.segments):
            is_last = number == len(self.segments) - 1
            if segment.seconds() >= FLICKER_SECONDS or (is_last and not closing):
                continue
            beside = [n for n in (number + 1, number - 1) if self._takes_flicker(n, segment, now_s)]
            if not beside or (number > 0 and not is_last and number + 1 not in beside and not closing):
                continue  # what follows may still become a text
            best = max(beside, key=lambda n: similarity(self.segments[n].majority, segment.majority))
            return self._merge(min(number, best), max(number, best))
        return False

    def _takes_flicker(self, number: int, flicker: Segment, now_s: float) -> bool:
        if not 0 <= number < len(self.segments):
            return False
        text = self.segments[number]
        strange = relation(text.majority, flicker.majority, ALIKE) is Relation.STRANGER
        if flicker.reads > (UNSURE_READS if strange or _is_unsure(flicker, text) else FLICKER_READS):
            return False
        until = now_s if number == len(self.segments) - 1 else None
        return text.seconds(until) >= ESTABLISHED_SECONDS - 1e-6

    def _judge(self, now_s: float, closing: bool) -> bool:
        """Decide of variants that were waited for whether they are the text before, or one of their own."""
        for number in range(1, len(self.segments)):
            text = self.segments[number]
            is_last = number == len(self.segments) - 1
            waiting = is_last and not closing and text.seconds(now_s) < RETURN_SECONDS
            if text.decided or waiting or not self._is_variant(number):
                continue
            if not self._is_clean_switch(number, now_s if is_last else None):
                return self._merge(number - 1, number)
            text.decided = True
            self._give_back(number)
        return False

    def _is_clean_switch(self, number: int, until_s: float | None) -> bool:
        before, text = self.segments[number - 1], self.segments[number]
        return (
            text.steady
            and text.seconds(until_s) >= ESTABLISHED_SECONDS - 1e-6
            and text.keys[text.majority].reads >= 2
            and text.share(text.majority) >= SHARE
            and before.share(text.majority) < KNOWN_SHARE
            and relation(before.majority, text.majority, ALIKE) is not Relation.SAME
        )

    def _give_back(self, number: int) -> None:
        """Give reads that came before the first of a text's majority key to the text before it."""
        before, text = self.segments[number - 1], self.segments[number]
        begin = text.keys[text.majority]
        if begin.before and begin.previous is not None:
            before.reads, text.reads = before.reads + begin.before, text.reads - begin.before
            share = text.confidence * begin.before / (text.reads + begin.before)
            before.confidence, text.confidence = before.confidence + share, text.confidence - share
            before.last, before.end_s, text.first = begin.previous, begin.first.time_s, begin.first

    def _merge(self, first: int, last: int) -> bool:
        whole = self.segments[first]
        for other in self.segments[first + 1 : last + 1]:
            whole.absorb(other)
        self.segments[first : last + 1] = [whole]
        return True

    def _finished(self, now_s: float) -> list[Segment]:
        """Take away the texts that nothing can change any more; one before the present text stays, as it may return."""
        done = 0
        while done < len(self.segments) - 1:
            text, following = self.segments[done : done + 2]
            may_return = done == len(self.segments) - 2 and self._is_variant(done + 1)
            waited = now_s - text.end_s > RETURN_SECONDS
            if may_return or not waited or following.seconds() < FLICKER_SECONDS:
                break
            done += 1
        finished, self.segments = self.segments[:done], self.segments[done:]
        return self._those_that_stayed(finished)


def _is_unsure(misread: Segment, text: Segment) -> bool:
    """Tell whether something was read with clearly less confidence than a text."""
    return misread.mean_confidence < text.mean_confidence - UNSURE
