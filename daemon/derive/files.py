"""Derived files: where they are, what they are of, and whether they still hold.

``data/derived/<job_id>/`` has ``texts.json``, ``tracks.json`` and ``density.json``, or ``problem.json`` if nothing can
be derived. Each begins with what it was made from, so that a reader sees for itself whether it is up to date. The whole
folder may be deleted at any time: it is made again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from daemon.errors import StorageError, StoredFileMissing
from daemon.fs.atomic import atomic_write
from daemon.jobs import is_job_id, output_key

VERSION = 4
"""Of the rules by which everything is derived; with another one, all is made again."""
FOLDER = "derived"
PROBLEM = "problem.json"
HEAD_BYTES = 4096
"""A file says within so many bytes what it was made from."""
REQUEST_SUFFIX = ".derive"
"""Of a file in the spool that asks for a job's result to be derived from before others."""
AGAIN = "submit the video again, or put a copy of the result in its place"
"""What helps when a result is damaged: a completed job does not run again."""
END_BYTES = 64
"""A whole document closes within so many bytes of its end."""
FORGET_TRIES = 3
READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)  # which Windows does not have


def check_whole(descriptor: int) -> None:
    """Look whether an open file can be a whole result document; a glance at both ends, not a proof.

    Args:
        descriptor: The open file; where it is read next does not change.

    Raises:
        StorageError: it is not a file, not a result document, or cut.
        OSError: it cannot be read.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"The stored result is not a file; {AGAIN}.")
    end = os.pread(descriptor, END_BYTES, max(0, status.st_size - END_BYTES))
    if os.pread(descriptor, 1, 0) != b"{" or not end.rstrip().endswith(b"\n}"):
        raise StorageError(f"The stored result is damaged; {AGAIN}.")


class DerivedKind(StrEnum):
    """What is derived; also the name of its file, its address and its command."""

    TEXTS = "texts"
    """What stayed on the screen, from when to when."""
    TRACKS = "tracks"
    """Which detections are of the same object."""
    DENSITY = "density"
    """How many objects and lines of text are in each part of the video."""

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self}.json"


class NothingDerived(StorageError):
    """Nothing can be derived from a result; its text says why."""


class NotDerivedYet(StorageError):
    """It has still to be made, or made again."""


@dataclass(frozen=True)
class Fingerprint:
    """Which document something was derived from, and by which rules."""

    sha256: str
    size_bytes: int
    version: int = VERSION

    def head(self, schema: str) -> bytes:
        """Return the first lines of a derived file."""
        document = {"sha256": self.sha256, "size_bytes": self.size_bytes}
        made = {"document": document, "schema": f"dropframe.{schema}/1", "version": self.version}
        return f'{{\n"derived_from": {json.dumps(made)},\n'.encode()


def folder_of(data_dir: Path, job_id: str) -> Path:
    """Return the folder of what is derived from a job's result."""
    if not is_job_id(job_id):
        raise StorageError(f"{job_id!r} is not a job id.")
    return data_dir / FOLDER / job_id


def document_of(data_dir: Path, job_id: str) -> Path:
    """Return a job's result document."""
    return data_dir / output_key(job_id)


def open_derived(data_dir: Path, job_id: str, kind: DerivedKind) -> BinaryIO:
    """Open a derived file that is up to date; the caller closes it.

    Raises:
        NothingDerived: the document does not allow it.
        NotDerivedYet: it is missing, or of another document or version.
        StoredFileMissing: the document is not there.
        OSError: something cannot be read.
    """
    try:
        document = os.stat(document_of(data_dir, job_id), follow_symlinks=False)
    except FileNotFoundError as error:
        raise StoredFileMissing(f"The result of job {job_id} has been deleted.") from error
    folder = folder_of(data_dir, job_id)
    file = _open_if_current(folder / kind.file_name, document)
    if file is not None:
        return file
    problem = _open_if_current(folder / PROBLEM, document)
    if problem is not None:
        with problem:
            raise NothingDerived(_sentence(problem))
    raise NotDerivedYet(f"Job {job_id} has no {kind} yet.")


def is_current(data_dir: Path, job_id: str) -> bool:
    """Tell whether everything that can be derived from a job's result is there, or why it cannot be."""
    try:
        for kind in DerivedKind:
            open_derived(data_dir, job_id, kind).close()
    except NothingDerived:
        return True
    except (NotDerivedYet, OSError):
        return False
    return True


def request_derivation(spool_dir: Path, job_id: str) -> None:
    """Ask the daemon to derive from a job's result before others.

    Raises:
        OSError: the spool cannot be written.
    """
    (spool_dir / f"{job_id}{REQUEST_SUFFIX}").touch(mode=0o640)


def write_problem(folder: Path, size_bytes: int, sentence: str) -> None:
    """Note that nothing can be derived, and why; what was derived before is removed."""
    with atomic_write(folder / PROBLEM) as file:
        file.write(Fingerprint("", size_bytes).head("problem") + f'"problem": {json.dumps(sentence)}\n}}\n'.encode())
    for kind in DerivedKind:
        (folder / kind.file_name).unlink(missing_ok=True)


def forget(data_dir: Path, job_id: str) -> None:
    """Remove what was derived from a job's result.

    Raises:
        OSError: not all of it can be removed, or somebody is adding to it just now.
    """
    folder = folder_of(data_dir, job_id)
    for _ in range(FORGET_TRIES):
        with contextlib.suppress(FileNotFoundError):  # of the folder, or of a file in it that was renamed meanwhile
            shutil.rmtree(folder)
        if not os.path.lexists(folder):
            return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder))


def derived_ids(data_dir: Path) -> Iterator[str]:
    """Yield the jobs of which something was derived."""
    with contextlib.suppress(FileNotFoundError):
        yield from (name for name in os.listdir(data_dir / FOLDER) if is_job_id(name))


def result_ids(videos_dir: Path) -> set[str]:
    """Return the jobs that have a stored result."""
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(videos_dir)
        return {name[:36] for name in names if is_job_id(name[:36]) and name == Path(output_key(name[:36])).name}
    return set()


def _open_if_current(path: Path, document: os.stat_result) -> BinaryIO | None:
    try:
        file = os.fdopen(os.open(path, READ), "rb")
    except FileNotFoundError:
        return None
    try:
        made = _made_from(os.pread(file.fileno(), HEAD_BYTES, 0))
        same = made.get("version") == VERSION and made["document"]["size_bytes"] == document.st_size
        if same and os.fstat(file.fileno()).st_mtime_ns >= document.st_mtime_ns:
            return file
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        pass  # not one of ours, or damaged: it is made again
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _made_from(head: bytes) -> dict[str, Any]:
    line = head.split(b"\n", 2)[1]
    made: dict[str, Any] = json.loads(b"{" + line.rstrip(b",") + b"}")["derived_from"]
    return made


def _sentence(problem: BinaryIO) -> str:
    try:
        return str(json.loads(problem.read(HEAD_BYTES * 4))["problem"])
    except (ValueError, KeyError, TypeError):
        return "Nothing can be derived from this result."
