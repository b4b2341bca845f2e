"""A video's options file, such as ``a.mp4.options.json``: one JSON object with the fields of Options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from daemon.errors import BadOptions, Rejected
from daemon.fs.folders import Folders
from daemon.fs.identity import open_regular
from daemon.jobs import Options

MAX_OPTIONS_BYTES = 65_536

ADVICE = "Mend the options file, or leave it away, and drop both again."


def read_options(inbox: Path, path: str) -> Options:
    """Read an options file.

    Args:
        inbox: The inbox folder.
        path: The options file's path below it.

    Raises:
        Rejected: it is too large, no JSON object, or has a wrong option.
        OSError: it cannot be read.
    """
    folder, _, name = path.rpartition("/")
    with Folders(inbox) as folders, open(open_regular(name, folders.get(folder)), "rb") as file:
        text = file.read(MAX_OPTIONS_BYTES + 1)
    if len(text) > MAX_OPTIONS_BYTES:
        raise Rejected(f"Its options file has more than {MAX_OPTIONS_BYTES} bytes. {ADVICE}")
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"Its options file is no JSON ({error}). {ADVICE}") from error
    if not isinstance(values, dict):
        raise Rejected(f'Its options file must hold an object such as {{"frame_stride": 5}}. {ADVICE}')
    try:
        return Options.from_mapping(values)
    except BadOptions as error:
        raise Rejected(f"{error} {ADVICE}") from error
