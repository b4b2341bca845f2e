"""Which of a file's tracks is the film."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from daemon.container_checks import HEAD_BYTES
from daemon.containers import ALL, Container, check, container_of, first_bytes_problem
from daemon.errors import BadVideo
from daemon.mp4 import Structure
from daemon.mp4_index import Track, tracks

ENABLED, COVER, THUMBNAILS = 0x1, 0x400, 0x800
"""Flags of FFmpeg's ``AV_DISPOSITION``."""
LOOKED_AT = 2000
"""Coded frames that are read to tell a film from a still, where no index does."""

Stream = Any
"""A video stream of PyAV."""


def container_at(path: Path, containers: str) -> Container:
    """Return what a file is by its first bytes.

    Args:
        path: The file.
        containers: The setting.

    Raises:
        BadVideo: it is not a video that is taken.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise BadVideo("The video cannot be opened (there is no such file).") from error
    problem, container = first_bytes_problem(head, containers), container_of(head)
    if problem or container is None:
        raise BadVideo(f"The video cannot be opened. {problem}")
    return container


def structure_of(path: Path) -> tuple[Structure, dict[int, Track]]:
    """Return what the parts of a file say of it, and the tracks of an MP4 by their ids.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        structure = check(file, os.fstat(file.fileno()).st_size, ALL)
        found = tracks(file, structure.moov) if structure.moov else []
    return structure, {track.track_id: track for track in found}


def films_of(streams: Sequence[Stream], has_sound: bool) -> list[Stream]:
    """Return the streams of pictures that are not covers.

    Raises:
        BadVideo: there is none.
    """
    films = [stream for stream in streams if not stream.disposition & (COVER | THUMBNAILS)]
    if not films:
        raise BadVideo("The file has sound but no video track." if has_sound else "The file has no video track.")
    return films


def film_of(
    films: Sequence[Stream], known: Mapping[int, Track], pictures: Mapping[int, int]
) -> tuple[Stream, list[Stream]]:
    """Return the stream that a player shows, and the others.

    What moves comes before a still, then what is enabled, then what is largest.

    Args:
        films: Of ``films_of``.
        known: The tracks of an MP4.
        pictures: How many each has, by its index; more than one is as good as many.
    """

    def rank(stream: Stream) -> tuple[int, bool, int]:
        moves = min(pictures[stream.index], 2)
        return moves, bool(stream.disposition & ENABLED), math.prod(stored_size(stream, known))

    film = max(films, key=rank)
    return film, [stream for stream in films if stream is not film]


def pictures_listed(films: Sequence[Stream]) -> dict[int, int]:
    """Return how many pictures an index lists of each stream, by the stream's index."""
    return {stream.index: stream.frames or len(stream.index_entries) for stream in films}


def count_pictures(packets: Iterable[Any], pictures: dict[int, int]) -> None:
    """Count the pictures of each stream until every one has shown that it moves, or one can be taken for a still.

    Args:
        packets: Of PyAV, of the streams counted.
        pictures: By the stream's index; counted on.
    """
    for packet in islice(packets, LOOKED_AT):
        pictures[packet.stream.index] += bool(packet.size)
        if min(pictures.values()) > 1:
            return


def stored_size(stream: Stream, known: Mapping[int, Track]) -> tuple[int, int]:
    """Return width and height of a stream's stored pictures in pixels, 0 where they are not told."""
    context = stream.codec_context
    if context is not None and context.width:
        return context.width, context.height
    track = known.get(stream.id)
    return (track.width, track.height) if track else (0, 0)


def listed_frames(stream: Stream) -> int:
    """Count the coded frames to be shown: FFmpeg's index leaves out or marks what an edit list cuts away."""
    return sum(1 for entry in stream.index_entries if entry.size and not entry.is_discard)
