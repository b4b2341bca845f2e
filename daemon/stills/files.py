"""Where stills are kept, how one is asked for, and what became of that.

``data/stills/<job_id>/`` has a file for each picture that was asked for, or a ``.problem`` with the reason why there is
none. The whole folder may be deleted at any time. A request is an empty file ``….still`` in the spool, whose name says
everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from daemon.derive.files import READ
from daemon.errors import StorageError, StoredFileMissing
from daemon.fs.atomic import atomic_write
from daemon.ipc.ticket import video_name
from daemon.jobs import input_key, is_job_id, output_key

VERSION = 1
"""Of the pictures; with another one they are made again."""
FOLDER = "stills"
"""Below the data folder."""
REQUEST = ".still"
"""Ending of a request in the spool."""
PROBLEM = ".problem"
AGAIN_SECONDS, MUCH_LATER_SECONDS = 10.0, 3600.0
"""After so long a picture is tried again that could not be made: for a reason that may pass, or another one. Settings
change, and so does what can be decoded."""
MOST_REQUESTS = 64
"""Stills that wait at a time; more are refused."""
LEAST_WIDTH, MOST_WIDTH = 16, 4096
"""Of a picture that is asked for in another width than its own, in pixels."""
_NAME = re.compile(
    rf"(?P<job>[0-9a-f-]{{36}})_{VERSION}_(n|i(?P<index>[0-9]{{1,16}})|t(?P<seconds>[0-9]{{1,12}}\.[0-9]{{6}}))"
    r"_w(?P<width>[0-9]{1,5})_(?P<boxes>[01])"
)


class NoStill(StorageError):
    """There is no such picture; its text says why. It may be tried again later if it is ``passing``."""

    def __init__(self, sentence: str, passing: bool = False) -> None:
        super().__init__(sentence)
        self.passing = passing


class NotMadeYet(StorageError):
    """A picture has still to be made, or made again."""


@dataclass(frozen=True)
class StillRequest:
    """A picture of a job's video: that of an index, or that shown at a time, or one that stands for the video."""

    job_id: str
    index: int | None = None
    seconds: float | None = None
    width: int = 0
    """Most pixels across; 0 means its own."""
    boxes: bool = False
    """With what was found in it drawn."""

    @property
    def name(self) -> str:
        """The name of its request, which says everything of it."""
        which = "n"
        if self.index is not None:
            which = f"i{self.index}"
        elif self.seconds is not None:
            which = f"t{self.seconds:.6f}"
        return f"{self.job_id}_{VERSION}_{which}_w{self.width}_{int(self.boxes)}"

    @classmethod
    def from_name(cls, name: str) -> StillRequest | None:
        """Return the request of a name, or None if it is not one."""
        found = _NAME.fullmatch(name)
        if found is None or not is_job_id(found["job"]):
            return None
        index = int(found["index"]) if found["index"] else None
        seconds = float(found["seconds"]) if found["seconds"] else None
        return cls(found["job"], index, seconds, int(found["width"]), found["boxes"] == "1")

    def path(self, data_dir: Path) -> Path:
        """Return where the picture is kept."""
        return folder_of(data_dir, self.job_id) / f"{self.name}.jpg"


def folder_of(data_dir: Path, job_id: str) -> Path:
    """Return the folder of a job's pictures."""
    if not is_job_id(job_id):
        raise StorageError(f"{job_id!r} is not a job id.")
    return data_dir / FOLDER / job_id


def video_of(data_dir: Path, spool_dir: Path, job_id: str) -> Path:
    """Return where a job's video is: stored, or in the spool while its ticket waits.

    Raises:
        StoredFileMissing: it has been deleted.
    """
    for path in (data_dir / input_key(job_id), spool_dir / video_name(job_id), data_dir / input_key(job_id)):
        if path.is_file():
            return path
    raise StoredFileMissing("The video has been deleted, so there are no pictures of it.")


def open_still(data_dir: Path, request: StillRequest) -> BinaryIO:
    """Open a picture that is up to date; the caller closes it.

    Raises:
        NoStill: there is none, or none now.
        NotMadeYet: it is missing, or shows what an older result says.
        OSError: it cannot be read.
    """
    newest = 0  # the video stays as it is
    if request.boxes:
        with contextlib.suppress(FileNotFoundError):
            newest = os.stat(data_dir / output_key(request.job_id)).st_mtime_ns
    path = request.path(data_dir)
    if (file := _open_if_newer(path, newest)) is not None:
        return file
    problem = _open_if_newer(path.with_name(request.name + PROBLEM), newest)
    if problem is not None:
        with problem:
            said, age = _read(problem), time.time() - os.fstat(problem.fileno()).st_mtime
        if age < (AGAIN_SECONDS if said.passing else MUCH_LATER_SECONDS):
            raise said
    raise NotMadeYet("The picture has still to be made.")


def _open_if_newer(path: Path, newest_ns: int) -> BinaryIO | None:
    try:
        file = os.fdopen(os.open(path, READ), "rb")
    except FileNotFoundError:
        return None
    if os.fstat(file.fileno()).st_mtime_ns >= newest_ns:
        return file
    file.close()
    return None


def _read(problem: BinaryIO) -> NoStill:
    try:
        said: dict[str, Any] = json.loads(problem.read(10_000))
        return NoStill(str(said["problem"]), bool(said["passing"]))
    except (ValueError, KeyError, TypeError):
        return NoStill("The picture could not be made.", True)


def write_problem(data_dir: Path, request: StillRequest, problem: NoStill) -> None:
    """Note why there is no such picture."""
    path = request.path(data_dir)
    with atomic_write(path.with_name(request.name + PROBLEM)) as file:
        file.write(json.dumps({"problem": str(problem), "passing": problem.passing}).encode())
    path.unlink(missing_ok=True)


def ask_for(spool_dir: Path, request: StillRequest) -> None:
    """Ask the daemon for a picture.

    Raises:
        NoStill: too many wait.
        OSError: the spool cannot be written.
    """
    if sum(name.endswith(REQUEST) for name in os.listdir(spool_dir)) >= MOST_REQUESTS:
        raise NoStill(f"{MOST_REQUESTS} pictures are waiting to be made; try again in a moment.", passing=True)
    (spool_dir / f"{request.name}{REQUEST}").touch(mode=0o640)


def requests(spool_dir: Path) -> Iterator[tuple[Path, StillRequest | None]]:
    """Yield the requests, the oldest first, each with its file; None for a file that does not say what it wants."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(spool_dir) as entries:
        for entry in entries:
            if entry.name.endswith(REQUEST):
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    for _, name in sorted(found):
        yield spool_dir / name, StillRequest.from_name(name.removesuffix(REQUEST))


def forget(data_dir: Path, job_id: str) -> None:
    """Remove the pictures of a job.

    Raises:
        OSError: not all can be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder_of(data_dir, job_id))
