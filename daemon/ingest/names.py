"""Which names in the inbox belong to the system or to another program; which of the others are videos, see stability.

The lists are of what is known; the rules beside them are for what is not. They are told in docs/drop-folder.md.
"""

from __future__ import annotations

import re

UNFINISHED_SUFFIXES = (".part", ".partial", ".tmp", ".crdownload", ".filepart", ".download")
LITTER = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "autorun.inf",
        "icon\r",
        "icon\uf00d",
    }
)
"""Files that systems leave in folders, in lower case; Icon's carriage return is U+F00D on some shares."""
SYSTEM_FOLDERS = re.compile(
    r"[.~@#$].*"  # @eaDir, #recycle, $RECYCLE.BIN, .zfs, ~snapshot: no maker of a NAS names its own otherwise today
    r"|lost\+found|found\.[0-9]{3}|system volume information|temporary items"
    r"|recycler|recycled|recycle[ .]bin|trashbox|_nas_recycle_.*|network (trash folder|recycle bin.*)",
    re.DOTALL,
)
"""Folders for what was deleted, for snapshots and for the data of a system, in lower case."""
_STREAM = re.compile(r"[^:\uf022\uf03a]+[:\uf022\uf03a].+", re.DOTALL)
"""An alternate data stream as a file; Linux shows the colon as it is, or as U+F03A or U+F022."""
_WORKING_NAME = re.compile(r".*(~|\.[!~#$@_%][^.]*)", re.DOTALL)
"""Ends as only programs end names: ``~``, or an ending with a sign such as ``.!qB`` and ``.~4ef5``."""


def is_litter(name: str) -> bool:
    """Tell whether nobody wants to hear of a file or folder: hidden, a lock, a system's own, or marked unfinished."""
    lower = name.lower()
    return name.startswith((".", "~")) or lower.endswith(UNFINISHED_SUFFIXES) or lower in LITTER


def is_stream(name: str) -> bool:
    """Tell whether a name is written as that of an alternate data stream, such as ``a.mp4:Zone.Identifier``."""
    return _STREAM.fullmatch(name) is not None


def is_system_folder(name: str) -> bool:
    """Tell whether a folder is a recycle bin, a snapshot or a system's own, which is not looked into."""
    return SYSTEM_FOLDERS.fullmatch(name.lower()) is not None


def is_working_name(name: str, video_suffixes: tuple[str, ...]) -> bool:
    """Tell whether another program may come back to a file: a video's ending with more behind it, or a sign for that.

    Args:
        name: Of a file that is not named as a video.
        video_suffixes: The endings of videos, in lower case.
    """
    lower = name.lower()
    return any(suffix in lower for suffix in video_suffixes) or _WORKING_NAME.fullmatch(name) is not None


def is_working_folder(name: str, video_suffixes: tuple[str, ...]) -> bool:
    """Tell whether a folder is what a program makes of a video while it writes it, such as ``a.mp4.sb-1a2b``."""
    return any(f"{suffix}." in name.lower() for suffix in video_suffixes)
