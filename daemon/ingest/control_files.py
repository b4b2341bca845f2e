"""Control files: what a download manager keeps beside a file of full size until its download is done."""

from __future__ import annotations

import os

from daemon.fs.moves import NAME_BYTES

CONTROL_SUFFIXES = (".aria2", ".lftp-pget-status", ".st", ".ytdl")
"""Added to the file's own name by aria2, lftp, axel and yt-dlp (with --no-part)."""


def control_file(name: str, folder: int) -> str | None:
    """Return the name of the control file beside a file, None if there is none.

    Args:
        name: Of the file.
        folder: Descriptor of its folder.

    Raises:
        OSError: the folder does not answer.
    """
    for suffix in CONTROL_SUFFIXES:
        try:
            os.stat(name + suffix, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError:
            if len(os.fsencode(name + suffix)) > NAME_BYTES:  # a name that no file can have
                continue
            raise
        return name + suffix
    return None
