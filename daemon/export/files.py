"""Exports that were made: where they are, and who asks for more.

``data/exports/<job_id>/<key><ending>`` is an export; the key says of which result, in which format and with which
filters, so what is there is up to date. ``<key>.problem.json`` says why there is none. The whole folder may be deleted
at any time: an export is made again when it is asked for. A file ``<job_id>.<key>.export`` in the spool asks for one
and stays until it is there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from daemon.derive.files import READ, document_of
from daemon.errors import StorageError, StoredFileMissing
from daemon.export_formats import FORMATS, BadExport, ExportRequest
from daemon.fs.atomic import atomic_write
from daemon.jobs import EXPORT_PENDING, JOB_ID, Job, is_job_id

FOLDER = "exports"
PROBLEM = ".problem.json"
MOST_REQUESTS = 100
"""That wait at a time; who asks for more is told to come again."""
FORGET_TRIES = 3
PROBLEM_SECONDS = 30.0
"""For so long it is said why an export could not be made, before it is tried again."""
_REQUEST = re.compile(rf"({JOB_ID})\.([0-9a-f]{{32}})\.export")
REQUEST_BYTES = 1 << 16


class NotExported(StorageError):
    """An export cannot be made; its text says why.

    Args:
        message: Why.
        final: Whether it would end the same way each time.
    """

    def __init__(self, message: str, final: bool) -> None:
        super().__init__(message)
        self.final = final


class NotExportedYet(StorageError):
    """It has still to be made."""


@dataclass(frozen=True)
class ExportPlace:
    """Where an export of a job's result is, or will be."""

    job_id: str
    request: ExportRequest
    key: str
    folder: Path

    @classmethod
    def of(cls, data_dir: Path, job_id: str, request: ExportRequest) -> ExportPlace:
        """Return where an export of the result as it is now belongs.

        Raises:
            StoredFileMissing: there is no result.
            OSError: it cannot be looked at.
        """
        try:
            document = os.stat(document_of(data_dir, job_id), follow_symlinks=False)
        except FileNotFoundError as error:
            raise StoredFileMissing(f"The result of job {job_id} has been deleted.") from error
        return cls(job_id, request, request.key(document.st_size, document.st_mtime_ns), folder_of(data_dir, job_id))

    @property
    def path(self) -> Path:
        """The export."""
        return self.folder / f"{self.key}{self.request.kind.ending}"

    @property
    def problem_path(self) -> Path:
        """Why there is none."""
        return self.folder / f"{self.key}{PROBLEM}"

    @property
    def request_name(self) -> str:
        """What asks for it in the spool."""
        return f"{self.job_id}.{self.key}.export"

    def open(self) -> BinaryIO:
        """Open it; the caller closes it.

        Raises:
            NotExported: it could not be made.
            NotExportedYet: it has still to be made.
            OSError: it cannot be read.
        """
        with contextlib.suppress(FileNotFoundError):
            return os.fdopen(os.open(self.path, READ), "rb")
        if problem := self.problem():
            raise problem
        raise NotExportedYet(f"The export {self.request.format} of job {self.job_id} has still to be made.")

    def problem(self) -> NotExported | None:
        """Return why it could not be made; None if that is not known, or long ago."""
        try:
            with os.fdopen(os.open(self.problem_path, READ), "rb") as file:
                said = json.loads(file.read(REQUEST_BYTES))
                age = time.time() - os.fstat(file.fileno()).st_mtime
            problem = NotExported(str(said["problem"]), bool(said["final"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return problem if problem.final or age < PROBLEM_SECONDS else None

    def write_problem(self, problem: NotExported) -> None:
        """Note why it could not be made, for those who ask.

        Raises:
            OSError: the folder cannot be written.
        """
        with atomic_write(self.problem_path) as file:
            file.write(json.dumps({"problem": str(problem), "final": problem.final}).encode())


def folder_of(data_dir: Path, job_id: str) -> Path:
    """Return the folder of the exports of a job's result."""
    if not is_job_id(job_id):
        raise StorageError(f"{job_id!r} is not a job id.")
    return data_dir / FOLDER / job_id


def ask_for(spool_dir: Path, place: ExportPlace) -> bool:
    """Ask the daemon for an export.

    Returns:
        False if too many are waited for.

    Raises:
        OSError: the spool cannot be written.
    """
    path = spool_dir / place.request_name
    if path.exists():
        return True
    if len(asked_for(spool_dir)) >= MOST_REQUESTS:
        return False
    with atomic_write(path) as file:
        file.write(place.request.to_json().encode())
    return True


def asked_for(spool_dir: Path) -> list[str]:
    """Return the names of the files that ask for exports."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(name for name in os.listdir(spool_dir) if _REQUEST.fullmatch(name))
    return []


def read_request(path: Path) -> tuple[str, ExportRequest]:
    """Return for which job a file in the spool asks for which export.

    Raises:
        BadExport: it is not a request.
        OSError: it cannot be read.
    """
    found = _REQUEST.fullmatch(path.name)
    if found is None:
        raise BadExport({"format": "That is not a request for an export."})
    with os.fdopen(os.open(path, READ | os.O_NONBLOCK), "rb") as file:
        return found[1], ExportRequest.from_json(file.read(REQUEST_BYTES))


def forget(data_dir: Path, job_id: str) -> None:
    """Remove the exports of a job's result.

    Raises:
        OSError: not all of them can be removed, or somebody is adding to them just now.
    """
    folder = folder_of(data_dir, job_id)
    for _ in range(FORGET_TRIES):
        with contextlib.suppress(FileNotFoundError):  # of the folder, or of a file in it that was renamed meanwhile
            shutil.rmtree(folder)
        if not os.path.lexists(folder):
            return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder))


def owed_exports(job: Job) -> list[str]:
    """Return the formats in which a job's result has still to be put into the outbox."""
    return [name for name, state in job.exports.items() if state.startswith(EXPORT_PENDING) and name in FORMATS]


def exported_ids(data_dir: Path) -> Iterator[str]:
    """Yield the jobs that have exports."""
    with contextlib.suppress(FileNotFoundError):
        yield from (name for name in os.listdir(data_dir / FOLDER) if is_job_id(name))


def sweep_old(
    data_dir: Path,
    keep_seconds: float,
    keep_bytes: int,
    owed: Callable[[str], Collection[str]] = lambda job_id: (),
) -> int:
    """Remove exports that were made longer ago, or are together larger; the oldest first.

    Args:
        data_dir: The data folder.
        keep_seconds: 0 means no limit.
        keep_bytes: 0 means no limit.
        owed: Returns the formats of a job that are to be copied from here; they stay, and count as any other.

    Returns:
        How many were removed.
    """
    found: list[tuple[float, int, Path]] = []
    kept: set[Path] = set()
    for job_id in exported_ids(data_dir):
        with contextlib.suppress(OSError, StoredFileMissing):
            wanted = (ExportRequest.of({"format": name}) for name in owed(job_id))
            kept.update(ExportPlace.of(data_dir, job_id, request).path for request in wanted)
            for entry in os.scandir(folder_of(data_dir, job_id)):
                if entry.name.startswith("."):
                    continue  # it is being written; what kills leave is removed by its age
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime, status.st_size, Path(entry.path)))
    total, removed, oldest = sum(size for _, size, _ in found), 0, time.time() - keep_seconds
    for modified, size, path in sorted(found):
        if not (keep_seconds and modified < oldest) and not (keep_bytes and total > keep_bytes):
            break
        if path in kept:
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            removed, total = removed + 1, total - size
    return removed
