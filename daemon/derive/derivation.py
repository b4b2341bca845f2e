"""derive: one pass over a finished result document makes texts, tracks and density.

A function of the document's bytes and ``VERSION`` alone: the same bytes come out wherever and whenever it runs, so it
may be killed and begun again, and what it made may be deleted.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from daemon.derive.bytetrack import ByteTracker
from daemon.derive.density import Density
from daemon.derive.document import FinishedDocument
from daemon.derive.files import PROBLEM, DerivedKind, Fingerprint
from daemon.derive.segments import Segment
from daemon.derive.texts import ScreenTexts
from daemon.derive.tracks import TrackBook
from daemon.errors import ResourceUnavailable
from daemon.failpoints import failpoint
from daemon.fs.atomic import atomic_write

Progress = Callable[[int], None]
"""Is told how many frames have been read."""


def derive(document_path: Path, folder: Path, progress: Progress = lambda frames: None) -> int:
    """Make everything that is derived from a document; each file appears whole or not at all.

    Args:
        document_path: A finished result document.
        folder: Where the files go; made if missing.
        progress: Is told after each frame how many there were.

    Returns:
        How many frames there were.

    Raises:
        DamagedDocument: it is not a whole result document, or its frames have no times.
        ResourceUnavailable: it was exchanged meanwhile.
        OSError: it cannot be read, or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document, density, screen = FinishedDocument(document_path), Density(), ScreenTexts()
    # Both files have no name, so that nothing is left of them when this process is killed.
    with tempfile.TemporaryFile(dir=folder) as scratch, tempfile.TemporaryFile(dir=folder) as unsorted:
        book, texts = TrackBook(scratch, ByteTracker().update), _SortedTexts(unsorted)
        count = 0
        for count, frame in enumerate(document.frames(), 1):
            texts.add(screen.add(frame))
            book.add(frame)
            density.add(frame)
            progress(count)
        only_step_s = document.frame_seconds()
        texts.add(screen.finish(only_step_s))
        if not document.is_still_there():
            raise ResourceUnavailable("The result document was exchanged while it was read.")
        made_from = Fingerprint(document.sha256, document.size_bytes)
        members: dict[DerivedKind, Iterable[tuple[str, Iterable[str]]]] = {
            DerivedKind.TEXTS: [("texts", texts.lines())],
            DerivedKind.TRACKS: [
                ("tracks", map(_dumps, book.tracks(only_step_s))),
                ("frames", map(_dumps, book.frames())),
            ],
        }
        for kind, lists in members.items():
            with atomic_write(folder / kind.file_name) as file:
                _write_lists(file, made_from.head(kind), lists)
            failpoint(f"derive.{kind}")
    with atomic_write(folder / DerivedKind.DENSITY.file_name) as file:
        counted = f'"density": {_dumps(density.to_record())}\n}}\n'
        file.write(made_from.head(DerivedKind.DENSITY) + counted.encode("utf-8", "backslashreplace"))
    (folder / PROBLEM).unlink(missing_ok=True)
    return count


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _write_lists(file: BinaryIO, head: bytes, lists: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Write lists with an entry a line; of half a character, which JSON can hold and UTF-8 cannot, the escape."""
    file.write(head)
    separator = ""
    for name, lines in lists:
        file.write(f'{separator}"{name}": ['.encode())
        between = "\n"
        for line in lines:
            file.write((between + line).encode("utf-8", "backslashreplace"))
            between = ",\n"
        file.write(b"\n]")
        separator = ",\n"
    file.write(b"\n}\n")


class _SortedTexts:
    """Texts in order of their beginning; they come in order of their end, and wait in a file.

    Args:
        file: An open file for them; memory holds 32 bytes of each.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._first, self._starts = array("q"), array("q", [0])
        self._top, self._left = array("d"), array("d")

    def add(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            line = _dumps(segment.to_record()).encode("utf-8", "backslashreplace")
            self._file.write(line)
            self._starts.append(self._starts[-1] + len(line))
            self._first.append(segment.first.position)
            self._left.append(segment.box[0])
            self._top.append(segment.box[1])

    def lines(self) -> Iterator[str]:
        """Yield them by first frame, then from the top of the picture down and from left to right."""
        for at in sorted(range(len(self._first)), key=lambda n: (self._first[n], self._top[n], self._left[n], n)):
            start, end = self._starts[at], self._starts[at + 1]
            self._file.seek(start)
            yield self._file.read(end - start).decode()
