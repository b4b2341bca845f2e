"""Control files: what a download manager keeps beside a file of full size until its download is done."""

from __future__ import annotations

import os
import re

from daemon.containers import ENDINGS
from daemon.fs.moves import NAME_BYTES
from daemon.ingest.names import UNFINISHED_SUFFIXES

CONTROL_SUFFIXES = (".aria2", ".lftp-pget-status", ".st", ".ytdl")
"""Added to the file's own name by aria2, lftp, axel and yt-dlp (with --no-part)."""
SOUND_ENDINGS = (".m4a", ".mka", ".aac", ".mp3", ".opus", ".ogg", ".weba", ".webm", ".ac3", ".eac3", ".flac")
_HALF = re.compile(r"(?P<title>.+)\.f(?P<format>[^.]+)(?P<rest>\.[^.]+(\.[^.]+)*)", re.DOTALL)
"""How yt-dlp names the picture and the sound that it will put together."""


def control_file(name: str, folder: int, is_good: bool = True) -> str | None:
    """Return the name of what says that a file is still needed by a download, None if there is nothing.

    Args:
        name: Of the file.
        folder: Descriptor of its folder.
        is_good: Whether there is a video in it. One that is not may be a browser's placeholder.

    Raises:
        OSError: the folder does not answer.
    """
    for suffix in CONTROL_SUFFIXES if is_good else (*CONTROL_SUFFIXES, *UNFINISHED_SUFFIXES):
        try:
            os.stat(name + suffix, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError:
            if len(os.fsencode(name + suffix)) > NAME_BYTES:  # a name that no file can have
                continue
            raise
        return name + suffix
    half = _HALF.fullmatch(name)
    if half is None and is_good:
        return None
    beside = sorted(os.listdir(folder))
    if half and (other := next((other for other in beside if _needs_half(half, other)), None)):
        return other
    return None if is_good else next((other for other in beside if _is_part_of(name, other)), None)


def _needs_half(half: re.Match[str], other: str) -> bool:
    """Tell whether a file is the other half, its beginning, or what both are put together in."""
    if any(other.lower() == f"{half['title']}.temp{ending}".lower() for ending in (*ENDINGS, ".webm")):
        return True
    match = _HALF.fullmatch(other)
    if match is None or (match["title"], match["format"]) == (half["title"], half["format"]):
        return False
    rest = match["rest"].lower()
    return match["title"] == half["title"] and (rest.endswith(SOUND_ENDINGS) or rest.endswith(UNFINISHED_SUFFIXES))


def _is_part_of(name: str, other: str) -> bool:
    """Tell whether a browser fills the placeholder ``a.mp4`` from this file: ``a.Xy12.mp4.part``, as Firefox does."""
    stem, ending = os.path.splitext(name)
    lower = other.lower()
    return other.startswith(f"{stem}.") and any(
        lower.endswith(f"{ending}{suffix}".lower()) for suffix in UNFINISHED_SUFFIXES
    )
