"""Stored videos that no record knows become jobs again, after the job store was restored from damage."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator

from daemon.fs.identity import identity_of
from daemon.fs.storage import StorageService
from daemon.ingest.claims import Claims
from daemon.jobs import Claim, Job, JobSource, input_key, is_job_id
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)


def reconcile(store: JobStore, storage: StorageService, claims: Claims, pipeline_id: str) -> list[Job]:
    """Make jobs of stored videos that no record knows.

    Args:
        store: Keeps the jobs.
        storage: Keeps the videos.
        claims: Records and queues the new jobs.
        pipeline_id: Which pipeline they run.

    Returns:
        The new jobs. Where a video came from is lost: its name and pipeline too.

    Raises:
        StoreError: the job store cannot be written.
    """
    jobs = claims.record(list(_unrecorded(store, storage, pipeline_id)))
    for job in jobs:
        log.warning("Job %s was lost with the damage; it is run again as %s.", job.job_id, job.source_name)
        claims.enqueue(job)
    return jobs


def _unrecorded(store: JobStore, storage: StorageService, pipeline_id: str) -> Iterator[Job]:
    for path in sorted(storage.path(input_key("x")).parent.glob("*.mp4")):
        job_id = path.stem
        status = os.stat(path, follow_symlinks=False)
        if is_job_id(job_id) and stat.S_ISREG(status.st_mode) and store.find(job_id) is None:
            yield Job(
                job_id,
                pipeline_id=pipeline_id,
                input_path=input_key(job_id),
                source=JobSource.CLI,
                source_name=path.name,
                size_bytes=status.st_size,
                claim=Claim(path.name, identity_of(status)),
            )
