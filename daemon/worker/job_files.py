"""JobFiles: the video of a job and its result document, finished or not, in the data folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from daemon.fs.atomic import fsync_folder, sweep
from daemon.fs.storage import StorageService
from daemon.jobs import Job, output_key
from daemon.pipeline.results import recorded_facts
from daemon.pipeline.run_requests import PARTS

log = logging.getLogger(__name__)

PARTIAL_ENDINGS = (".part", ".checkpoint")
"""What the pipeline keeps beside a result document that is not finished."""


class JobFiles:
    """Finds videos and results, opens results and removes them.

    Args:
        storage: Keeps them.
    """

    def __init__(self, storage: StorageService) -> None:
        self._storage = storage

    def video(self, job: Job) -> Path:
        """Return where a job's video is."""
        return self._storage.path(job.input_path)

    def result(self, job: Job) -> Path:
        """Return where a job's result is, once it is finished."""
        return self._storage.path(output_key(job.job_id))

    def open_result(self, job: Job) -> BinaryIO:
        """Open a finished result.

        Raises:
            StorageError: there is none, or it cannot be read.
        """
        return self._storage.load_file(output_key(job.job_id))

    def facts(self, job: Job) -> dict[str, Any] | None:
        """Return what a finished result tells the record (``recorded_facts``).

        Returns:
            None if there is no result. A damaged one is removed.

        Raises:
            OSError: it cannot be read or removed.
        """
        document = self.result(job)
        if not document.exists():
            return None
        try:
            return recorded_facts(document)
        except (ValueError, LookupError, TypeError):
            log.warning("The result of job %s is damaged and is made anew", job.job_id)
            document.unlink()
            return None

    def discard_result(self, job: Job) -> None:
        """Remove the result, whole or partial, of a job that will not have one, or another one."""
        document = self.result(job)
        _remove(document)
        self.discard_partial(job)
        with suppress(OSError):  # or a power cut could bring it back, and it would be taken for that of the next run
            fsync_folder(document.parent)

    def discard_partial(self, job: Job) -> None:
        """Remove what a result that is not finished consists of, and leave a whole one."""
        document = self.result(job)
        for ending in PARTIAL_ENDINGS:
            _remove(Path(f"{document}{ending}"))
        shutil.rmtree(f"{document}{PARTS}", ignore_errors=True)


def sweep_parts(folder: Path, kept: Collection[str]) -> None:
    """Remove the parts of results that nobody goes on with; what cannot be removed stays.

    Args:
        folder: Of the results.
        kept: Ids of the jobs whose parts stay, but for what was being written when its writer was killed.
    """
    names = {f"{Path(output_key(job_id)).name}{PARTS}" for job_id in kept}
    with suppress(OSError):  # there is no such folder yet
        for path in folder.glob(f"*{PARTS}"):
            if path.name in names:
                sweep(path, 0)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # in the way of nothing: a retry removes it again
        log.warning("%s cannot be removed: %s", path.name, error.strerror)
