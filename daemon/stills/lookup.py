"""What a result document says of one frame, found by halving: a document may have a gigabyte."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.derive.document import FRAME, RESULTS
from daemon.derive.files import READ

Record = Mapping[str, Any]


def analysed_frame(document: Path, *, index: int | None = None, seconds: float | None = None) -> Record | None:
    """Return the last analysed frame that is not after an index, or else a time; of none, the first one.

    None if there is no document, or it says nothing of that kind.
    """
    name, most = ("frame_index", index) if index is not None else ("timestamp_s", seconds)
    try:
        descriptor = os.open(document, READ)
        try:
            with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
                return _last_before(data, name, most)
        finally:
            os.close(descriptor)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _last_before(data: mmap.mmap, name: str, most: float | None) -> Record | None:
    low = data.find(b"\n" + FRAME, data.find(RESULTS)) + 1
    high = data.rfind(b"\n" + FRAME) + 1  # a line break stands between frames, and in no text
    if low == 0 or most is None:
        return None
    while low < high:
        middle = data.rfind(b"\n", low, (low + high) // 2 + 1) + 1
        if middle <= low:  # the middle is in the first line
            middle = data.find(b"\n", low) + 1
        if _record(data, middle)[name] <= most:
            low = middle
        else:
            high = data.rfind(b"\n", 0, middle - 1) + 1
    return _record(data, low)


def _record(data: mmap.mmap, start: int) -> Record:
    end = data.find(b"\n", start)
    record: Record = json.loads(data[start : end if end >= 0 else len(data)].rstrip(b",\n"))
    return record
