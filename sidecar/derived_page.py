"""A page of what was derived: some entries of the list in a file that has one a line, found without loading it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass

from daemon.derive.files import HEAD_BYTES, DerivedKind
from daemon.errors import StorageError
from sidecar.document import ByteRange

PAGED = frozenset({DerivedKind.TEXTS, DerivedKind.TRACKS})
"""Kinds whose file has a list of the same name."""
MOST_ENTRIES, USUAL_ENTRIES = 10_000, 1000
"""On a page; where a cursor comes without a limit."""
SCAN_BYTES = 256 << 10
_MARK_LETTERS = 16


class BadCursor(StorageError):
    """A cursor is not one of this list."""


@dataclass(frozen=True)
class WantedPage:
    """Which entries a client wants."""

    cursor: str
    """The next_cursor of the page before; empty for the first page."""
    limit: int


class DerivedList:
    """The list in a file that is open, which is the caller's to close.

    Args:
        descriptor: The open file.
        kind: Which; of ``PAGED``.

    Raises:
        StorageError: it is not such a file.
    """

    def __init__(self, descriptor: int, kind: DerivedKind) -> None:
        self._descriptor = descriptor
        self._kind = kind
        head = os.pread(descriptor, HEAD_BYTES, 0)
        opening = f'"{kind}": ['.encode()
        at = head.find(b"\n" + opening)
        if at < 0:
            raise StorageError(f"The stored {kind} are damaged.")
        self._about = ByteRange(2, at + 1)  # what it was derived from, without the brace of the file
        self._start = at + 1 + len(opening) + 1
        # The same result gives the same bytes, so a cursor holds though the file was made anew.
        self._mark = hashlib.sha256(head[:at]).hexdigest()[:_MARK_LETTERS]

    def page(self, wanted: WantedPage) -> list[bytes | ByteRange]:
        """Return the members of an answer, from those of the file on, up to the brace that ends it.

        Raises:
            BadCursor: the cursor is not of this list.
        """
        start = self._place(wanted.cursor) if wanted.cursor else self._start
        stop = self._skip(start, wanted.limit)
        following = None if self._ends(stop) else self._cursor(stop)
        entries: list[bytes | ByteRange] = []
        if stop > start:
            entries = [ByteRange(start, stop - (2 if following else 1)), b"\n"]  # without the comma, and the break
        none = '"frames": [],\n' if self._kind is DerivedKind.TRACKS else ""
        after = f'],\n{none}"next_cursor": {json.dumps(following)}\n}}\n'
        return [self._about, f'"{self._kind}": [\n'.encode(), *entries, after.encode()]

    def _cursor(self, place: int) -> str:
        return base64.urlsafe_b64encode(f"{place} {self._mark}".encode()).decode().rstrip("=")

    def _place(self, cursor: str) -> int:
        wrong = "cursor must be the next_cursor of an earlier answer."
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
            place, mark = text.split(" ")
            start = int(place)
        except ValueError as error:
            raise BadCursor(wrong) from error
        if mark != self._mark:
            raise BadCursor("cursor is of a result that is there no more; begin again without it.")
        end = os.fstat(self._descriptor).st_size
        if not self._start < start < end or os.pread(self._descriptor, 2, start - 1)[:2] != b"\n{":
            raise BadCursor(wrong)
        return start

    def _ends(self, place: int) -> bool:
        return os.pread(self._descriptor, 1, place) != b"{"

    def _skip(self, place: int, lines: int) -> int:
        """Return where the line begins that many entries further on, or where the list ends."""
        while len(data := os.pread(self._descriptor, SCAN_BYTES, place - 1)) > 1:
            end = data.find(b"\n]")  # between entries; in a text a line break is escaped
            entries = data[1:] if end < 0 else data[1 : end + 1]
            if (breaks := entries.count(b"\n")) >= lines:
                at = -1
                for _ in range(lines):
                    at = entries.find(b"\n", at + 1)
                return place + at + 1
            if end >= 0:
                return place + end
            lines -= breaks
            place += len(entries)
        raise StorageError(f"The stored {self._kind} are damaged.")
