"""Why a video could not be opened or read: the video's fault, or the machine's."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daemon.errors import TransientError
from daemon.pipeline.video_tracks import structure_of

ENCRYPTED = "The video is encrypted (DRM); Dropframe can analyse only a copy without protection."
MACHINE = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE})
"""Errors of reading that say nothing of the video."""
BLOCK_BYTES = 1 << 20


def blame_the_disk(path: Path, error: Exception, happens_again: Callable[[], bool] | None = None) -> None:
    """Raise if a video could not be read for a reason that is not the video's.

    Args:
        path: The video.
        error: FFmpeg's.
        happens_again: Tells whether the same happens once more. Then it is the video's fault, for FFmpeg reports
            an error of the disk where some kinds of video break off.

    Raises:
        OSError: it cannot be read just now.
        TransientError: it could not be read a moment ago.
    """
    if getattr(error, "errno", None) not in MACHINE:
        return
    with path.open("rb") as file:  # asked of the disk itself, for FFmpeg may say so of a damaged video, too
        while file.read(BLOCK_BYTES):
            pass
    if happens_again is not None and happens_again():
        return
    raise TransientError(f"The video could not be read ({_words(error)}).") from error


def why_it_cannot_be_opened(path: Path, error: Exception) -> str:
    """Return a sentence; a file's boxes often say more than FFmpeg."""
    reason = ""
    with suppress(OSError):
        structure, known = structure_of(path)
        if any(track.encrypted for track in known.values()):
            return ENCRYPTED
        reason = structure.reason
    return f"The video cannot be opened{f'. {reason}' if reason else f' ({_words(error)}).'}"


def _words(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]
