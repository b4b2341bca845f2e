"""What is wrong with what is to be submitted; one bad file keeps none of the others from it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.cli.common import err, escape, say
from daemon.containers import last_bytes_problem
from daemon.errors import BadOptions, BadVideo, DropframeError, SettingsError
from daemon.fs.identity import shown
from daemon.jobs import Options

NOT_FILES = {
    stat.S_IFDIR: "It is a folder; name the videos in it.",
    stat.S_IFIFO: "It is a pipe, not a file.",
    stat.S_IFSOCK: "It is a socket, not a file.",
    stat.S_IFBLK: "It is a device, not a file.",
    stat.S_IFCHR: "It is a device, not a file.",
}


def options_for(pipeline_id: str, values: Mapping[str, Any]) -> Options:
    """Return the options of a submission.

    Raises:
        BadOptions: there is no such pipeline, or an option is wrong; it says so of each.
    """
    from daemon.pipeline.pipelines import get_pipeline

    wrong = list(Options.errors_in(values).values())
    try:
        get_pipeline(pipeline_id)
    except BadOptions as error:
        wrong.insert(0, str(error))
    if wrong:
        raise BadOptions(" ".join(wrong))
    return Options.from_mapping(values)


def sort_out(files: Sequence[Path], containers: str) -> tuple[list[Path], bool]:
    """Look at the kind and at the first bytes of each file; name those that cannot be submitted.

    Args:
        files: Which.
        containers: The setting.

    Returns:
        The files to submit, and whether there are others.

    Raises:
        DropframeError: there is but one file, and it cannot be submitted.
    """
    problems = [(file, problem_with(file, containers)) for file in files]
    bad = [problem for _, problem in problems if problem is not None]
    if bad and len(files) == 1:
        raise bad[0]
    for problem in bad:
        say(err, escape(str(problem)))
    return [file for file, problem in problems if problem is None], bool(bad)


def problem_with(file: Path, containers: str) -> DropframeError | None:
    """Return why a file cannot be submitted, or None."""
    name = shown(file.name or str(file))
    try:
        kind = stat.S_IFMT(os.stat(file).st_mode)
        if kind != stat.S_IFREG:
            return SettingsError(f"{name} was not submitted. {NOT_FILES.get(kind, 'It is not a file.')}")
        # Whatever it has become meanwhile, a pipe too, is not waited for.
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as opened:
            problem = last_bytes_problem(opened, os.fstat(opened.fileno()).st_size, containers)
    except FileNotFoundError:
        return SettingsError(f"{name} was not submitted. There is no such file.")
    except OSError as error:
        return BadVideo(f"{name} was not submitted. It cannot be read: {error.strerror}.")
    return BadVideo(f"{name} was not submitted. {problem}") if problem else None
