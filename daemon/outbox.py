"""Outbox: publish results and errors under the name that people look for.

A dropped file's result is ``outbox/<same relative path>.json``, the newest for that name; one that came another
way is ``outbox/<job_id>.json``. A failed job leaves ``….error.json`` there. Publishing twice changes nothing.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from daemon.jobs import Job, JobSource, JobStatus
from daemon.storage import atomic_write

RESULT = ".json"
ERROR = ".error.json"
LONGEST_NAME = 255
"""Bytes that a file name may have on the file systems in use."""


class Outbox:
    """Puts results and errors into a folder that may be on another file system, or away for a while.

    Args:
        folder: The outbox.
        jobs: Every job so far, to know which result is the newest for a name.
    """

    def __init__(self, folder: Path, jobs: Iterable[Job] = ()) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._newest: dict[str, int] = {}
        for job in jobs:
            if job.status is JobStatus.COMPLETED:
                self._published(job)

    def path(self, job: Job, ending: str = RESULT) -> Path:
        """Return where a job's result (or with another ending its error) is published.

        Every part of the name is at most 255 bytes: a longer one is cut and told apart by the job's id.
        """
        if job.source is not JobSource.INBOX:
            return self._folder / f"{job.job_id}{ending}"
        *folders, name = job.source_name.split("/")
        if len((name + ending).encode()) > LONGEST_NAME:
            mark = f"~{job.job_id[:8]}"
            room = LONGEST_NAME - len(ending.encode()) - len(mark)
            name = name.encode()[:room].decode(errors="ignore") + mark
        return self._folder.joinpath(*folders, name + ending)

    def publish(self, job: Job, document: BinaryIO) -> Path | None:
        """Publish a result; an error that an earlier job of the same name left is replaced by it.

        Args:
            job: Whose result it is.
            document: The result document, open at its start.

        Returns:
            Where it is, or None if a newer job of the same name has published already.

        Raises:
            OSError: the outbox cannot be written. Nothing of the document is visible then.
        """
        with self._lock:
            if self._newest.get(self._name(job), 0) > job.sequence:
                return None
            path = self.path(job)
            self._check_folder()
            with atomic_write(path) as file:
                shutil.copyfileobj(document, file, 1 << 20)
            self.path(job, ERROR).unlink(missing_ok=True)
            self._published(job)
            return path

    def publish_error(self, job: Job) -> Path | None:
        """Say in the outbox why a job failed; not if a newer job of the same name has a result.

        Raises:
            OSError: the outbox cannot be written.
        """
        with self._lock:
            if self._newest.get(self._name(job), 0) > job.sequence:
                return None
            path = self.path(job, ERROR)
            self._check_folder()
            content = {
                "error_kind": job.error_kind,
                "error_message": job.error_message,
                "job_id": job.job_id,
                "pipeline_id": job.pipeline_id,
                "source_name": job.source_name,
            }
            with atomic_write(path) as file:
                file.write(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
            return path

    def _check_folder(self) -> None:
        # A share that is not mounted must not be taken for an empty one: only folders below it are made.
        if not self._folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder))

    def _name(self, job: Job) -> str:
        return str(self.path(job).relative_to(self._folder))

    def _published(self, job: Job) -> None:
        name = self._name(job)
        self._newest[name] = max(self._newest.get(name, 0), job.sequence)
