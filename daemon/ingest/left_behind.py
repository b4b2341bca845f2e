"""LeftBehind: what was taken in and could not be removed from where it was dropped."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace
from pathlib import Path

from daemon.fs.folders import Folders
from daemon.fs.identity import from_claim, identity_of, open_regular, shown
from daemon.fs.mounts import is_on_share
from daemon.fs.moves import remove_file
from daemon.fs.samples import same_blocks
from daemon.fs.storage import StorageService
from daemon.jobs import Claim, ErrorKind, Identity, Job, JobSource
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)


class LeftBehind:
    """The contents that were taken in and still are where they were dropped; they are not taken in again.

    Args:
        root: The folder that files are taken from.
        store: Keeps which they are, over restarts too.
        storage: Keeps the videos.
    """

    def __init__(self, root: Path, store: JobStore, storage: StorageService) -> None:
        self._root = root
        self._store = store
        self._storage = storage
        self._known: set[tuple[int, int, int]] = set()

    def __contains__(self, identity: Identity) -> bool:
        return identity.lasting in self._known

    def recall(self, job: Job) -> None:
        """Take note of what an earlier process has recorded of a job with a claim, deleted or not."""
        claim = claim_of(job)
        if claim.stays:
            return
        cancelled = job.ended and job.error_kind is ErrorKind.CANCELLED
        if claim.left_behind or (cancelled and not self._storage.path(job.input_path).exists()):
            self._known.add(claim.identity.lasting)

    def remember(self, job: Job) -> None:
        """Record that a job's file stays where it was dropped.

        Raises:
            StoreError: it cannot be recorded; this process remembers it all the same.
        """
        claim = claim_of(job)
        self._known.add(claim.identity.lasting)
        if self._store.find(job.job_id) is None:  # deleted meanwhile, with this claim
            return
        self._store.note(job.job_id, claim=replace(claim, left_behind=True))

    def remember_unremovable(self, job: Job) -> None:
        """The same of a file that was copied and cannot be removed, and say so.

        Raises:
            StoreError: as ``remember``.
        """
        self.remember(job)
        log.warning(
            "%s was taken in but cannot be removed from where it was dropped; it is not taken again.",
            shown(from_claim(claim_of(job).path)),
        )

    def remove_source(self, job: Job) -> None:
        """Remove a source that was copied, when a crash came before its removal.

        Raises:
            StoreError: as ``remember``.
        """
        claim = claim_of(job)
        if claim.left_behind:
            return
        folder, _, name = from_claim(claim.path).rpartition("/")
        with Folders(self._root) as sources:
            try:
                source = sources.get(folder)
                now = identity_of(os.stat(name, dir_fd=source, follow_symlinks=False))
            except OSError as error:
                if job.source is JobSource.INBOX and not self._seen_gone(job, sources, error):
                    self.remember(job)
                return
            if now.lasting != claim.identity.lasting or not self._is_what_was_copied(job, name, source):
                return
            if not remove_file(name, source, now):
                self.remember_unremovable(job)

    def _is_what_was_copied(self, job: Job, name: str, folder: int) -> bool:
        """Tell whether a source on a share still has the content of its copy; if not, it is taken in once more."""
        if not is_on_share(self._root):
            return True
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            source = open_regular(name, folder)
            stack.callback(os.close, source)
            copy = os.open(self._storage.path(job.input_path), os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, copy)
            return same_blocks(source, copy, claim_of(job).identity.size, lambda: False)
        return False

    def _seen_gone(self, job: Job, sources: Folders, error: OSError) -> bool:
        """Tell whether a source that cannot be found has left its place, and not that place its mount."""
        claim = claim_of(job)
        with contextlib.suppress(OSError):
            if was_renamed(claim, os.stat(self._storage.path(job.input_path), follow_symlinks=False)):
                return True
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return os.fstat(sources.get("")).st_dev == claim.identity.device
        return False


def claim_of(job: Job) -> Claim:
    """Return the claim of a job that has one."""
    assert job.claim is not None
    return job.claim


def was_renamed(claim: Claim, stored: os.stat_result) -> bool:
    """Tell whether a stored video is the claimed file itself and not a copy."""
    return (stored.st_dev, stored.st_ino) == (claim.identity.device, claim.identity.inode)
