"""Reading: what an engine says of the picture of one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.pipeline.records import Image, ModelInfo

LEAST_COVERED = 0.65
"""A line at less of whose ink letters were seen is in letters that the engine does not have (measured:
docs/text-languages.md)."""


@dataclass(frozen=True)
class Reading:
    """What an engine read in one crop."""

    text: str
    confidence: float
    covered: float = 1.0
    """Share of the line's ink at which letters were seen; 1 from an engine that does not tell."""
    twin: Reading | None = None
    """The line in another script, if the picture can't tell: ``MOCKBA`` has a twin in Cyrillic letters."""
    leans_to_twin: bool = False
    """Whether the twin looks more like words of its language."""


class TextReader(Protocol):
    """An OCR engine."""

    def models(self) -> list[ModelInfo]:
        """Return what this adds to a result's ``models``."""

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        """Read pictures of one line each, and give each reading as soon as it is there.

        A reading depends on its crop alone, not on the others. None stands for a crop that was given up.
        """
