"""Parts of a document: the lines of some frames and what is counted of them; joined, they are the document of one run.

A part is a file: the lines as they stand in the document, and a last line of JSON with the summary of its frames and
its seams. A seam is a frame that two parts have decoded: the first of one is also decoded by the part before. Only
where both saw the same are they joined.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any, BinaryIO

from daemon.errors import TransientError
from daemon.fs.atomic import atomic_write
from daemon.pipeline.account import summary_warnings
from daemon.pipeline.plans import PartPlan
from daemon.pipeline.records import Analysis, Frame
from daemon.pipeline.results import TAIL_BYTES, Summary, dumps, frame_line, tail_of
from daemon.pipeline.seams import NotExact, Seam

COPY_BYTES = 1 << 20
LINE_BYTES = 1 << 14
"""What the last line of most parts has room in."""


class PartDamaged(TransientError):
    """A part is missing, not whole, or one of something else; make it again."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"Part {number} of the result {why}.")
        self.number = number


class SeamRecorder:
    """Remembers the first frame of a part, and the one behind it.

    Args:
        count: Frames of the part.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.first: Seam | None = None
        self.behind: Seam | None = None

    def passed(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames of the part, and use up all others.

        Raises:
            NotExact: there are fewer.
        """
        number = -1
        for number, frame in enumerate(frames):
            if number == 0:
                self.first = Seam.of(frame)
            if number < self._count:
                yield frame
            else:
                self.behind = Seam.of(frame)
        if number + 1 < self._count:
            raise NotExact(f"there are {number + 1} frames in a part of {self._count}")


class PartWriter:
    """Writes the lines of a part; made by ``part_file``."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.summary = Summary()

    def write(self, batch: Iterable[Analysis]) -> None:
        """Add frames."""
        for analysis in batch:
            self._file.write(frame_line(analysis, is_first=self.summary.frame_count == 0))
            self.summary.add(analysis)

    def finish(self, plan: PartPlan, number: int, seams: SeamRecorder) -> None:
        """Write what is counted."""
        said = {
            "bytes": self._file.tell(),
            "fingerprint": plan.fingerprint,
            "part": list(plan.parts[number]),
            "summary": self.summary.to_record(),
            "first": None if seams.first is None else vars(seams.first),
            "behind": None if seams.behind is None else vars(seams.behind),
        }
        self._file.write(f"\n{dumps(said)}\n".encode())


@contextmanager
def part_file(path: Path) -> Iterator[PartWriter]:
    """Write a part; it appears whole, when the block is left without an error.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(path) as file:
        yield PartWriter(file)


@dataclass(frozen=True)
class PartFacts:
    """The last line of a part."""

    size: int
    """Bytes of its frames."""
    summary: Summary
    first: Seam | None
    behind: Seam | None


def part_facts(plan: PartPlan, number: int, path: Path) -> PartFacts:
    """Read what is counted of a part.

    Raises:
        PartDamaged: it is not this part of the plan, or not whole.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            line = _last_line(file, end)
        said: dict[str, Any] = loads(line)
        if said["bytes"] + len(line) + 2 != end:
            raise PartDamaged(number, "is not whole")
        facts = PartFacts(
            said["bytes"],
            Summary.from_record(said["summary"]),
            Seam.from_record(said["first"]),
            Seam.from_record(said["behind"]),
        )
        if (said["fingerprint"], tuple(said["part"])) != (plan.fingerprint, plan.parts[number]):
            raise PartDamaged(number, "is one of something else")
    except FileNotFoundError as error:
        raise PartDamaged(number, "is missing") from error
    except (ValueError, LookupError, TypeError) as error:
        raise PartDamaged(number, "is damaged") from error
    return facts


def _last_line(file: BinaryIO, end: int) -> bytes:
    """Return the last line of a file without reading much more of it: the daemon asks for that of every part."""
    size = LINE_BYTES
    while True:
        file.seek(max(0, end - size))
        tail = file.read().removesuffix(b"\n")
        begins = tail.rfind(b"\n") + 1
        if begins or size >= min(end, TAIL_BYTES):
            return tail[begins:]
        size *= 8


def join(plan: PartPlan, parts: Sequence[Path], output_path: Path) -> dict[str, Any]:
    """Make a document of its parts, the same to the byte as that of one run.

    Args:
        plan: Of the video.
        parts: Its parts, in order.
        output_path: Where the document appears, whole.

    Returns:
        The document's summary.

    Raises:
        NotExact: a part does not go on where the one before ended; run the video in one piece.
        PartDamaged: a part is to be made again.
        ModelError: the weights saw nothing right in any frame.
        OSError: a file cannot be read or written.
    """
    facts = [part_facts(plan, number, path) for number, path in enumerate(parts)]
    _check_seams(plan, facts)
    whole = Summary()
    for each in facts:
        whole.merge(each.summary)
    warnings = [*plan.warnings, *summary_warnings(whole), *plan.account["warnings"]]
    summary = {**whole.to_record(), **plan.account, "warnings": warnings}
    with atomic_write(output_path) as document:
        document.write(plan.head.encode())
        for number, (path, each) in enumerate(zip(parts, facts, strict=True)):
            document.write(b"," if number else b"")
            _copy(path, each.size, document)
        document.write(tail_of(plan.source, summary, plan.video))
    return summary


def _check_seams(plan: PartPlan, facts: Sequence[PartFacts]) -> None:
    if len(facts) != len(plan):
        raise PartDamaged(len(facts), "is missing")
    for number, (first, stop) in enumerate(plan.parts):
        if facts[number].summary.frame_count != stop - first:
            raise PartDamaged(number, "has another number of frames")
        if not plan.is_last(number) and (
            facts[number].behind is None or facts[number].behind != facts[number + 1].first
        ):
            raise NotExact(f"part {number + 1} does not begin with the frame behind part {number}")


def _copy(path: Path, size: int, document: BinaryIO) -> None:
    with path.open("rb") as file:
        left = size
        while left:
            block = file.read(min(COPY_BYTES, left))
            if not block:
                raise OSError(f"{path.name} has become shorter")
            document.write(block)
            left -= len(block)
