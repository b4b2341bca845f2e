"""Which names in the inbox belong to the system or to another program, and which are ours to take.

The lists are of what is known; the rules beside them are for what is not. They are told in docs/drop-folder.md.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from daemon.containers import ENDINGS

OPTIONS_SUFFIX = ".options.json"
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


_WORKING_FOLDER = re.compile(rf".*({'|'.join(map(re.escape, ENDINGS))})\.(sb-|[!~#$@%]).*", re.DOTALL)
"""Behind a video's ending what macOS or a sign puts there; a folder may have a dot and such letters in its name."""


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


def is_working_name(name: str) -> bool:
    """Tell whether another program may come back to a file: a video's ending with more behind it, or a sign for that.

    Args:
        name: Of a file that is not named as a video.
    """
    lower = name.lower()
    return any(ending in lower for ending in ENDINGS) or _WORKING_NAME.fullmatch(name) is not None


def is_working_folder(name: str) -> bool:
    """Tell whether a folder is what a program makes of a video while it writes it, such as ``a.mp4.sb-1a2b``."""
    return _WORKING_FOLDER.fullmatch(name.lower()) is not None


def is_ignored(name: str, globs: Sequence[str] = ()) -> bool:
    """Tell whether a file is passed over without a word.

    Args:
        name: The last part of its path.
        globs: More patterns, as in the setting ``ignore``; upper and lower case are the same.
    """
    return is_litter(name) or (is_stream(name) and not is_ours(name)) or matches(name, globs)


def is_ignored_folder(name: str, globs: Sequence[str] = ()) -> bool:
    """Tell whether a folder is not looked into.

    Args:
        name: One part of a path.
        globs: As ``is_ignored``.
    """
    foreign = is_litter(name) or is_system_folder(name) or is_working_folder(name)
    return foreign or matches(name, globs)


def matches(name: str, globs: Sequence[str]) -> bool:
    """Tell whether a name fits one of some patterns, whatever the case of its letters."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in globs)


def is_video_name(name: str) -> bool:
    """Tell whether a name says that the file is a video; what kind of video, its first bytes say."""
    return name.lower().endswith(ENDINGS)


def is_options_name(name: str) -> bool:
    """Tell whether a name is that of an options file: ``a.mp4.options.json`` or ``a.options.json``, in any case."""
    return name.lower().endswith(OPTIONS_SUFFIX) and len(name) > len(OPTIONS_SUFFIX)


def is_ours(name: str) -> bool:
    """Tell whether a file of this name is for Dropframe; any other belongs to whoever put it there."""
    return is_video_name(name) or is_options_name(name)
