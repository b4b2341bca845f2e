"""fetch_range: of an object that is a video, bring what a part of it needs into a sparse file of the object's size.

FFmpeg reads local files only, and of a long video a part needs little: the boxes that say where the frames are, what a
demuxer looks at to open a file, and the coded frames from the entry before the part to behind its end. All else reads
as zeros. An index may point anywhere, and zeros can pass for the rest of a picture; so whoever decodes the part is told
what is there, and refuses (``NotExact``) a coded frame that is not. Then the whole object is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from daemon.errors import Interrupted
from daemon.ipc.spool import FILE_MODE
from daemon.mp4 import begins_as_mp4
from daemon.mp4_index import Span
from daemon.objects.bucket import Bucket, RemoteObject
from daemon.objects.fetch import write_at
from daemon.pipeline.plans import PartPlan

HEAD_BYTES = 1 << 20
"""Of the start of the file, at least."""
ENTRIES_BEHIND = 2
"""Places to begin at behind a part, up to which its last pictures and what decoders read ahead may be."""
AHEAD_BYTES = 1 << 20
"""Besides these, for sound that lies between."""
MOST_BOXES = 64
"""Boxes of a file; one with more is fetched whole."""
MOST_SHARE = 0.5
"""Of an object; if a part needs more, all is fetched, once for all parts: a hostile index can be nearly all of it."""
HEADER_BYTES = 16
CUT_ANEW = frozenset({"mpeg1video"})
"""Codecs whose frames FFmpeg puts together itself, whatever an MP4 lists, so that nobody knows where they are."""


def fetch_range(
    bucket: Bucket,
    wanted: RemoteObject,
    plan: PartPlan,
    number: int,
    target: Path,
    stopping: Callable[[], bool] = lambda: False,
    require_room: Callable[[int], None] = lambda size: None,
) -> list[Span] | None:
    """Fetch what a part needs.

    Args:
        bucket: Where the object is.
        wanted: The object; its bytes are never mixed with those of another one.
        plan: Of the video that the object is.
        number: Of the part.
        target: Where the file is made, as long as the object is; it must not be there.
        stopping: Asked at every block; True ends it.
        require_room: Called with the bytes that are about to be fetched; may raise to end it.

    Returns:
        What is there then, in order, nothing twice; None if all of the object is to be fetched, as it is not an MP4
        with one index, or the part needs more than half of it. ``target`` is of no use then.

    Raises:
        ObjectChanged, ObjectMissing: it is not there any more.
        ObjectRefused, ObjectStoreError: it cannot be fetched just now.
        Interrupted: ``stopping`` said so.
        OSError: the file cannot be written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(target, flags, FILE_MODE), "r+b", 0) as file:
        file.truncate(wanted.size)
        sparse = _Sparse(bucket, wanted, file.fileno(), stopping)
        sparse.fetch(Span(0, min(HEAD_BYTES, wanted.size)))
        boxes = None if plan.video["codec"] in CUT_ANEW else _boxes(sparse, wanted.size)
        if boxes is None:
            return None
        spans = _merged([*sparse.there, *boxes, span_of(plan, number, wanted.size)])
        needed = sum(span.end - span.start for span in spans)
        if needed > MOST_SHARE * wanted.size:
            return None
        require_room(needed)
        for span in spans:
            sparse.fetch(span)
        return spans


def span_of(plan: PartPlan, number: int, size: int) -> Span:
    """Return where the coded frames of a part are, and of the frame behind it.

    Args:
        plan: Of the video.
        number: Of the part.
        size: Bytes of the video.
    """
    index, (first, stop) = plan.index, plan.parts[number]
    begin = index.entry_for(first * plan.frame_stride)
    start, since = (0, int(index.times[0])) if begin is None else (begin.position, begin.pts)
    last = len(index) - 1 if plan.is_last(number) else min(stop * plan.frame_stride, len(index) - 1)
    entries = index.entries[index.entries[:, 0] >= since]
    later = entries[entries[:, 0] > index.times[last]]
    if len(later) < ENTRIES_BEHIND:
        return Span(start, size)
    places = entries[entries[:, 0] <= later[ENTRIES_BEHIND - 1, 0], 2]
    return Span(max(0, min(start, int(places.min()))), min(size, int(places.max()) + AHEAD_BYTES))


class _Sparse:
    """A file into which spans of an object are fetched, none of them twice."""

    def __init__(self, bucket: Bucket, wanted: RemoteObject, file: int, stopping: Callable[[], bool]) -> None:
        self._bucket, self._wanted, self._file = bucket, wanted, file
        self._stopping = stopping
        self.there: list[Span] = []

    def fetch(self, span: Span) -> None:
        """Fetch what is missing of a span."""
        for start, end in list(self._missing(span)):
            self._fetch(start, end)
        self.there = _merged([*self.there, span])

    def read(self, span: Span) -> bytes:
        """Return the bytes of a span."""
        self.fetch(span)
        return os.pread(self._file, span.end - span.start, span.start)

    def _missing(self, span: Span) -> Iterator[tuple[int, int]]:
        at = span.start
        for there in self.there:
            if there.end <= at or there.start >= span.end:
                continue
            if there.start > at:
                yield at, there.start
            at = max(at, there.end)
        if at < span.end:
            yield at, span.end

    def _fetch(self, start: int, end: int) -> None:
        at = start
        for block in self._bucket.read(self._wanted, start, end):
            if self._stopping():
                raise Interrupted("Fetching was ended.")
            at += write_at(self._file, block, at)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same bytes in order, in as few spans as there can be."""
    merged: list[Span] = []
    for span in sorted((span for span in spans if span.start < span.end), key=lambda each: each.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def _boxes(sparse: _Sparse, size: int) -> list[Span] | None:
    """Return where all boxes but those of pictures are; None if it is not an MP4 whose index is one box."""
    if not begins_as_mp4(sparse.read(Span(0, min(size, HEADER_BYTES)))):
        return None
    found: list[Span] = []
    position, has_index = 0, False
    for _ in range(MOST_BOXES):
        if position >= size:
            return found if has_index else None
        header = sparse.read(Span(position, min(size, position + HEADER_BYTES)))
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16])
        if kind == b"moof" or length < 8 or position + length > size:
            return None
        if kind != b"mdat":
            found.append(Span(position, position + length))
        has_index = has_index or kind == b"moov"
        position += length
    return None
