"""Segment: one text at one place of the screen, and everything that was read of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from daemon.derive.document import Box, FoundText, Moment

MOST_KEYS = 64
"""Different readings of one text that are counted; of more, the rarest are forgotten."""
MOST_FORMS = 16
"""Different forms (case, spaces, punctuation) of one reading that are counted."""


@dataclass
class KeyReads:
    """One key that was read at a place, and how often."""

    first: Moment
    before: int
    """Reads of the segment before the first of this key."""
    previous: Moment | None
    """The read before that, if there was one."""
    reads: int = 0
    forms: dict[str, float] = field(default_factory=dict)
    """Summed confidence by text."""

    def add(self, forms: Iterable[tuple[str, float]], reads: int) -> None:
        """Count some reads."""
        self.reads += reads
        for text, confidence in forms:
            self.forms[text] = self.forms.get(text, 0.0) + confidence
        if len(self.forms) > MOST_FORMS:
            del self.forms[min(self.forms, key=lambda text: self.forms[text])]


class Segment:
    """A stretch of reads that count as one text.

    Args:
        key: Of the first read.
        found: The first read.
        moment: When.
        steady: Whether the text before it had been read alike for a while.
    """

    def __init__(self, key: str, found: FoundText, moment: Moment, steady: bool = False) -> None:
        self.first = self.last = moment
        self.end_s = moment.time_s
        """When the frame after the last read is shown, once that frame has been looked at."""
        self.reads = 0
        self.confidence = 0.0
        """Summed over the reads."""
        self.best_confidence = 0.0
        """Of one read."""
        self.seen_s = 0.0
        """Summed over the reads: confidence by the time until the next frame."""
        self.box = found.box
        """Around the boxes of all reads, in pixels."""
        self.keys: dict[str, KeyReads] = {}
        self.majority = key
        """The key read most often, the earlier one of two."""
        self.steady = steady
        self.decided = False
        """Whether it is known to be a text of its own, and not the one before it misread."""
        self.add(key, found, moment)

    def add(self, key: str, found: FoundText, moment: Moment) -> None:
        """Count one read."""
        if key not in self.keys:
            self.keys[key] = KeyReads(moment, self.reads, self.last if self.reads else None)
        self.keys[key].add([(found.text, found.confidence)], 1)
        self.reads += 1
        self.confidence += found.confidence
        self.best_confidence = max(self.best_confidence, found.confidence)
        self.box = around(self.box, found.box)
        self.last = moment
        self._choose(key)

    def _choose(self, key: str) -> None:
        if key != self.majority and self.keys[key].reads > self.keys[self.majority].reads:
            self.majority = key
        if len(self.keys) > MOST_KEYS:
            rarest = min((k for k in self.keys if k not in (key, self.majority)), key=lambda k: self.keys[k].reads)
            del self.keys[rarest]

    def absorb(self, other: Segment) -> None:
        """Take over what was read in another segment, before or after this one."""
        early, late = (self, other) if self.first.position <= other.first.position else (other, self)
        first, last, end_s = early.first, late.last, late.end_s
        steady, decided = early.steady, early.decided
        for key, reading in other.keys.items():
            mine = self.keys.setdefault(key, KeyReads(reading.first, 0, None))
            mine.add(reading.forms.items(), reading.reads)
        for key in other.keys:
            if key in self.keys:
                self._choose(key)
        self.first, self.last, self.end_s, self.steady, self.decided = first, last, end_s, steady, decided
        self.reads += other.reads
        self.confidence += other.confidence
        self.best_confidence = max(self.best_confidence, other.best_confidence)
        self.seen_s += other.seen_s
        self.box = around(self.box, other.box)

    def share(self, key: str) -> float:
        """Return which part of the reads is of a key."""
        return self.keys[key].reads / self.reads if key in self.keys else 0.0

    def seconds(self, until_s: float | None = None) -> float:
        """Return for how long it was there, or is until a time."""
        return (self.end_s if until_s is None else until_s) - self.first.time_s

    @property
    def mean_confidence(self) -> float:
        """Of its reads, from 0 to 1."""
        return self.confidence / self.reads

    @property
    def text(self) -> str:
        """Of the forms of the key read most often, the one with the most summed confidence, the earlier one of two."""
        forms = self.keys[self.majority].forms
        return max(forms, key=lambda text: forms[text])

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "bbox": [round(edge, 1) for edge in self.box],
            "confidence": round(self.mean_confidence, 4),
            "end_s": self.end_s,
            "first_frame": self.first.frame_index,
            "last_frame": self.last.frame_index,
            "reads": self.reads,
            "start_s": self.first.time_s,
            "text": self.text,
        }


def around(one: Box, other: Box) -> Box:
    """Return the box around two."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
