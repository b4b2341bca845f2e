"""A video's options file (``options_pairing`` says which that is): one JSON object with the fields of Options."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from daemon.errors import BadOptions, SourceChanged
from daemon.failpoints import failpoint
from daemon.fs.folders import Folders
from daemon.fs.identity import identity_of, open_regular
from daemon.fs.moves import move_file, remove_file
from daemon.ingest.names import OPTIONS_SUFFIX
from daemon.jobs import Options
from daemon.unknown_names import NAME_LENGTH

MAX_OPTIONS_BYTES = 65_536

ADVICE = "Correct the options file, or remove it, and drop both again."
ADVICE_WHERE_FILES_STAY = "Correct the options file, or remove it."


def read_options(inbox: Path, path: str, advice: str = ADVICE) -> Options:
    """Read an options file.

    Args:
        inbox: The inbox folder.
        path: The options file's path below it.
        advice: What to do if it is wrong, a sentence.

    Raises:
        BadOptions: it is too large, is not a JSON object, or has a wrong option.
        OSError: it cannot be read.
    """
    folder, _, name = path.rpartition("/")
    with Folders(inbox) as folders, open(open_regular(name, folders.get(folder)), "rb") as file:
        return parse_options(file.read(MAX_OPTIONS_BYTES + 1), advice)


def parse_options(text: bytes, advice: str = ADVICE) -> Options:
    """Return the options that an options file holds.

    Args:
        text: Its content; a byte more than MAX_OPTIONS_BYTES is enough of a larger one.
        advice: What to do if it is wrong, a sentence.

    Raises:
        BadOptions: as ``read_options``.
    """
    if len(text) > MAX_OPTIONS_BYTES:
        raise BadOptions(f"Its options file has more than {MAX_OPTIONS_BYTES} bytes. {advice}")
    if not text.strip():
        raise BadOptions(f"Its options file is not JSON (it is empty). {advice}")
    try:
        values: Any = json.loads(text, parse_int=_whole, object_pairs_hook=_once)
    except RecursionError as error:
        raise BadOptions(
            f"Its options file is not JSON that can be read (it is nested too deeply). {advice}"
        ) from error
    except BadOptions as error:
        raise BadOptions(f"{error} {advice}") from error
    except ValueError as error:
        raise BadOptions(f"Its options file is not JSON ({error}). {advice}") from error
    if not isinstance(values, dict):
        raise BadOptions(f'Its options file must hold an object such as {{"frame_stride": 5}}. {advice}')
    try:
        return Options.from_mapping(values)
    except BadOptions as error:
        raise BadOptions(f"{error} {advice}") from error


def _whole(digits: str) -> int:
    """Return a whole number, of a very long one only so much that it is too large."""
    return int(digits[:20])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object none of whose names stands there twice."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise BadOptions(f"Option {name[:NAME_LENGTH]} is given more than once.")
        values[name] = value
    return values


def fetch_options(name: str, source: int, job_id: str, videos: int) -> None:
    """Move a video's options file into the storage; do nothing if there is none or another one by now.

    Args:
        name: The options file's.
        source: Descriptor of its folder.
        job_id: Of its job.
        videos: Descriptor of the folder of stored videos.

    Raises:
        OSError: it cannot be moved.
    """
    target = job_id + OPTIONS_SUFFIX
    try:
        seen = identity_of(os.stat(name, dir_fd=source, follow_symlinks=False))
    except OSError:  # none, or none possible, its name being too long
        return
    try:
        move_file(name, source, target, videos, seen)
    except FileExistsError:  # copied before a crash that came before its removal
        kept = identity_of(os.stat(target, dir_fd=videos, follow_symlinks=False))
        if (kept.size, kept.mtime_ns) == (seen.size, seen.mtime_ns):
            remove_file(name, source, seen)
    except SourceChanged:
        return
    failpoint("intake.options")


def return_options(path: str, sources: Folders, job_id: str, videos: int) -> None:
    """Move a video's stored options file back beside it; do nothing if none is stored, or newer ones are there.

    Args:
        path: Where to.
        sources: The folders of the inbox.
        job_id: Of its job.
        videos: Descriptor of the folder of stored videos.

    Raises:
        FileNotFoundError: that folder is not there.
        OSError: it cannot be moved.
    """
    folder, _, name = path.rpartition("/")
    stored = job_id + OPTIONS_SUFFIX
    try:
        seen = identity_of(os.stat(stored, dir_fd=videos, follow_symlinks=False))
    except FileNotFoundError:
        return
    with contextlib.suppress(FileExistsError, SourceChanged):
        move_file(stored, videos, name, sources.get(folder), seen)
