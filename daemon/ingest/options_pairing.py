"""pair: which options file goes with which video of a folder, by their names.

``a.mp4.options.json`` is for ``a.mp4``; ``a.options.json`` is for the one video named ``a`` with any ending. The
first goes before the second, and a name written exactly alike before one that differs in capitals. What could be for
several videos is for none of them until people rename it.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from daemon.ingest.names import OPTIONS_SUFFIX, is_options_name, is_video_name


@dataclass
class Pairing:
    """The options files of one folder, and whose they are. All are names without their folder."""

    options_of: dict[str, str] = field(default_factory=dict)
    """By video."""
    rivals_of: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """By video: an options file that is as much for the other videos named here."""
    second_to: dict[str, str] = field(default_factory=dict)
    """By options file: the one that goes before it for the same video."""
    awaiting: set[str] = field(default_factory=set)
    """The options files that no video is there for."""


def pair(names: Iterable[str]) -> Pairing:
    """Return which options file goes with which video.

    Args:
        names: All that is in the folder.
    """
    pairing = Pairing()
    listed = list(names)
    options = sorted(name for name in listed if is_options_name(name))
    if not options:
        return pairing
    videos = sorted(name for name in listed if is_video_name(name) and not is_options_name(name))
    left = _give(pairing, options, videos, lambda video: video)
    pairing.awaiting |= set(_give(pairing, left, videos, lambda video: os.path.splitext(video)[0]))
    return pairing


def _give(pairing: Pairing, options: list[str], videos: list[str], key: Callable[[str], str]) -> list[str]:
    """Give options files to the videos whose key they are named after; return those that are named after none."""
    without = [video for video in videos if video not in pairing.options_of]
    exact, alike = _index(without, key), _index(without, lambda video: fold(key(video)))
    taken = {fold(key(video)): name for video, name in pairing.options_of.items()}
    left = []
    for name in sorted(options, key=lambda name: _named(name) not in exact):  # those written exactly alike first
        found = exact.get(_named(name)) or alike.get(fold(_named(name)), [])
        free = [video for video in found if video not in pairing.options_of]
        if len(free) == 1:
            pairing.options_of[free[0]] = name
        elif free:
            for video in free:
                pairing.rivals_of.setdefault(video, (name, tuple(other for other in free if other != video)))
        elif found or fold(_named(name)) in taken:
            pairing.second_to[name] = pairing.options_of[found[0]] if found else taken[fold(_named(name))]
        else:
            left.append(name)
    return left


def _index(videos: Iterable[str], key: Callable[[str], str]) -> Mapping[str, list[str]]:
    index: dict[str, list[str]] = defaultdict(list)
    for video in videos:
        index[key(video)].append(video)
    return dict(index)


def _named(options: str) -> str:
    return options[: -len(OPTIONS_SUFFIX)]


def fold(name: str) -> str:
    """Return what two names have in common that differ in capitals or in how accents are written."""
    return unicodedata.normalize("NFC", name).casefold()
