"""ClaimedSources: whether a stored video is still what was taken in, and the way back for one that is not."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

from daemon.failpoints import failpoint
from daemon.fs import mounts
from daemon.fs.folders import Folders
from daemon.fs.identity import from_claim, identity_of
from daemon.fs.moves import move_file, with_free_name
from daemon.fs.storage import StorageService
from daemon.ingest.claims import sync
from daemon.ingest.names import OPTIONS_SUFFIX
from daemon.jobs import Claim, Identity, Job, JobSource
from daemon.settings import Settings
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)


class ClaimedSources:
    """Watches over the stored videos of jobs that run. Callable from any thread.

    Args:
        settings: Where the inbox is.
        store: Keeps the jobs.
        storage: Keeps the videos.
    """

    def __init__(self, settings: Settings, store: JobStore, storage: StorageService) -> None:
        self._settings = settings
        self._store = store
        self._storage = storage

    def unchanged(self, job: Job) -> bool:
        """Tell whether a job's stored video is still what was taken in; the worker asks before it publishes.

        Raises:
            OSError: the stored video cannot be looked at.
        """
        if job.claim is None:
            return True
        now = os.stat(self._storage.path(job.input_path), follow_symlinks=False)
        then = job.claim.identity
        # A copy has another inode; size and mtime are the same.
        return (now.st_size, now.st_mtime_ns) == (then.size, then.mtime_ns)

    def put_back(self, job: Job, reason: str) -> Job | None:
        """Return a video that was written to after it was taken in, so that it is run again as it is now.

        Call it before the job's record is changed: should the process die in between, ``Intake.recover`` drops it.

        Returns:
            None if the file is in the inbox again, where it settles like any other and becomes a new job; the
            caller ends this one. For an upload or ``dropframe submit`` the same job with its claim renewed,
            because its id was promised: the caller makes it pending again.

        Raises:
            OSError: it cannot be moved; it stays stored.
            StoreError: the job store cannot be written.
        """
        stored = self._storage.path(job.input_path)
        identity = identity_of(os.stat(stored, follow_symlinks=False))
        log.info("Job %s: %s", job.job_id, reason)
        if job.source is not JobSource.INBOX or job.claim is None or job.claim.stays:
            path = job.claim.path if job.claim else stored.name
            stays = job.claim is not None and job.claim.stays
            claim = replace(job.claim, identity=identity) if job.claim and stays else Claim(path, identity)
            return self._store.note(job.job_id, claim=claim)
        if mounts.away(self._settings.data_dir, self._settings.inbox_dir):
            raise OSError(errno.ENODEV, "the inbox is offline")
        self._to_inbox(from_claim(job.claim.path), stored, identity, f"{job.job_id}{OPTIONS_SUFFIX}")
        return None

    def _to_inbox(self, path: str, stored: Path, identity: Identity, options: str) -> None:
        folder, _, name = path.rpartition("/")
        with Folders(self._settings.inbox_dir) as inbox, Folders(stored.parent) as videos:
            inbox.get("")  # if it is missing, it is not made anew: that would not be where people look
            target = inbox.get(folder, make=True)
            has_options = (stored.parent / options).exists()

            def place(free: str) -> None:
                if has_options:
                    _move(options, videos.get(""), free + OPTIONS_SUFFIX, target)
                failpoint("put_back.options")
                try:
                    move_file(stored.name, videos.get(""), free, target, identity)
                except FileExistsError:
                    if has_options:
                        _move(free + OPTIONS_SUFFIX, target, options, videos.get(""))
                    raise
                failpoint("put_back.moved")

            with_free_name(name, target, place, also=(OPTIONS_SUFFIX,) if has_options else ())
            sync(inbox)
            sync(videos)


def _move(name: str, folder: int, target: str, target_folder: int) -> None:
    """Move a file as it is now."""
    seen = identity_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    move_file(name, folder, target, target_folder, seen)
