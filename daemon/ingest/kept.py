"""KeptFiles: which files of the inbox are jobs already and stay where they are (``inbox_mode = "keep"``).

The memory is the claim in each job's record: it is written in the same commit as the job, before its video is copied,
so that no kill can come between. A file is known by its path, inode, size and mtime; where those have changed, by its
content. It is forgotten once it is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from daemon.errors import Interrupted, SourceChanged, UnknownJob
from daemon.failpoints import failpoint
from daemon.fs.folders import Folders
from daemon.fs.identity import from_claim, identity_of, open_regular, shown, to_claim
from daemon.fs.samples import sha256_of
from daemon.fs.storage import StorageService
from daemon.ingest.left_behind import claim_of
from daemon.ingest.model import Dropped, Kept
from daemon.jobs import Claim, Identity, Job
from daemon.store.job_store import JobStore

CHECKED_A_STEP = 1000
"""How many known files are looked for in one step."""


@dataclass
class _KnownFile:
    """A file that is a job."""

    path: str
    job_id: str
    sequence: int
    seen: Identity
    """Under which its content was seen last."""
    is_missing: bool = False
    """Whether it was not there the last time; a second time it is forgotten."""


class KeptFiles:
    """The memory of what was taken in and stays. One thread uses it.

    Args:
        root: The inbox.
        store: Keeps the claims.
        storage: Keeps the videos.
        stopping: Asked again and again while a file is read; True ends that.
        check_seconds: Time between two looks whether a file is still there.
    """

    def __init__(
        self,
        root: Path,
        store: JobStore,
        storage: StorageService,
        stopping: Callable[[], bool],
        check_seconds: float,
    ) -> None:
        self._root = root
        self._store = store
        self._storage = storage
        self._stopping = stopping
        self._check_seconds = check_seconds
        self._files: dict[str, _KnownFile] = {}
        self._paths: dict[tuple[int, int, int], str] = {}
        """By inode, size and mtime."""
        self._round: Iterator[str] = iter(())
        """The paths that are still to be looked for in this round."""
        self._round_due = 0.0

    def recall(self, job: Job) -> None:
        """Take note of a job whose source stays; the latest of a path counts.

        Raises:
            StoreError: what is to be forgotten of an earlier one cannot be recorded.
        """
        claim = claim_of(job)
        if not claim.stays or claim.seen is None:
            return
        path = from_claim(claim.path)
        before = self._files.get(path)
        if before is not None and before.sequence > job.sequence:
            self._record(job.job_id, replace(claim, seen=None))
            return
        if before is not None and before.job_id != job.job_id:
            self._forget(before)
        self._files[path] = _KnownFile(path, job.job_id, job.sequence, claim.seen)
        self._paths[claim.seen.lasting] = path

    def drop(self, job: Job) -> None:
        """Forget a job whose claim was taken back."""
        known = self._files.get(from_claim(claim_of(job).path))
        if known is not None and known.job_id == job.job_id:
            self._remove(known)

    def knows(self, path: str, identity: Identity) -> bool:
        """Tell whether a file need not be looked into. Callable from any thread."""
        known = self._files.get(path)
        return known is not None and known.seen.lasting == identity.lasting

    def answer(self, dropped: Dropped) -> Kept | None:
        """Answer a file that is a job already; None if its content is another, or was not here before.

        Raises:
            StoreError: what it looks like now cannot be recorded.
            SourceChanged: it is being written to.
            Interrupted: ``stopping`` said so.
            OSError: it cannot be read.
        """
        known = self._files.get(dropped.path)
        job = None if known is None else self._job(known.job_id)
        if known is None or job is None:
            return None
        known.is_missing = False
        if known.seen.lasting == dropped.identity.lasting:
            return Kept(dropped)
        if not self._has_content_of(job, dropped):
            return None
        self._note(known, job, dropped)
        return Kept(dropped)

    def answer_renamed(self, dropped: Dropped, pipeline_id: str) -> Kept | None:
        """Answer a file that is a job under a name that it has no more; None if it is not, or wants another pipeline.

        Raises:
            StoreError: its new name cannot be recorded.
        """
        known = self._files.get(self._paths.get(dropped.identity.lasting, ""))
        if known is None or not self._is_gone(known.path):
            return None
        job = self._job(known.job_id)
        if job is None or job.pipeline_id != pipeline_id:
            return None
        self._note(known, job, dropped)
        return Kept(dropped)

    def forget_gone(self, now: float) -> None:
        """Look whether some of the files are still there; forget one that is missing in two rounds.

        Between the two the inbox was found to be online, so that a share that went away has not lost its files.

        Args:
            now: Monotonic time in seconds.

        Raises:
            StoreError: it cannot be recorded.
        """
        paths = list(itertools.islice(self._round, CHECKED_A_STEP))
        if not paths and now >= self._round_due:
            self._round, self._round_due = iter(list(self._files)), now + self._check_seconds
        for path in paths:
            known = self._files.get(path)
            if known is None:
                continue
            if not self._is_gone(path):
                known.is_missing = False
            elif known.is_missing:
                self._forget(known)
            else:
                known.is_missing = True

    def _job(self, job_id: str) -> Job | None:
        """Return a job, also one that was deleted: its file is not to be run again either."""
        return self._store.find(job_id) or self._store.deleted.find(job_id)

    def _record(self, job_id: str, claim: Claim) -> Job:
        with contextlib.suppress(UnknownJob):
            return self._store.note(job_id, claim=claim)
        return self._store.deleted.note(job_id, claim=claim)

    def _note(self, known: _KnownFile, job: Job, dropped: Dropped) -> None:
        """Record under which name and identity a job's file is found now."""
        self._remove(known)
        claim = replace(claim_of(job), path=to_claim(dropped.path), seen=dropped.identity)
        self.recall(self._record(job.job_id, claim))
        failpoint("kept.noted")

    def _forget(self, known: _KnownFile) -> None:
        job = self._job(known.job_id)
        if job is not None and claim_of(job).seen is not None:
            self._record(job.job_id, replace(claim_of(job), seen=None))
            failpoint("kept.forgotten")
        self._remove(known)

    def _remove(self, known: _KnownFile) -> None:
        del self._files[known.path]
        if self._paths.get(known.seen.lasting) == known.path:
            del self._paths[known.seen.lasting]

    def _is_gone(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        with Folders(self._root) as folders:
            try:
                folders.get("")
            except OSError:
                return False
            try:
                os.stat(name, dir_fd=folders.get(folder), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return True
            except OSError:
                return False
        return False

    def _has_content_of(self, job: Job, dropped: Dropped) -> bool:
        """Compare what a file holds now with what its job was made of."""
        claim = claim_of(job)
        if dropped.identity.size != claim.identity.size:
            return False
        then = job.sha256 or self._sha256_of_stored(job)
        return then is not None and then == self._sha256_of(dropped)

    def _sha256_of_stored(self, job: Job) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self._storage.path(job.input_path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return self._digest(descriptor)
            finally:
                os.close(descriptor)
        return None

    def _sha256_of(self, dropped: Dropped) -> str:
        folder, _, name = dropped.path.rpartition("/")
        with Folders(self._root) as folders:
            descriptor = open_regular(name, folders.get(folder))
            try:
                digest = self._digest(descriptor)
                if identity_of(os.fstat(descriptor)) != dropped.identity:
                    raise SourceChanged(f"{shown(dropped.path)} was written to while it was read.")
                return digest
            finally:
                os.close(descriptor)

    def _digest(self, descriptor: int) -> str:
        digest = sha256_of(descriptor, self._stopping)
        if digest is None:
            raise Interrupted("Reading a file was ended because Dropframe is stopping.")
        return digest


def kept_claim(dropped: Dropped) -> Claim:
    """Return the claim on a file that stays. It reads as left behind, so that no release ever removes the file."""
    return Claim(to_claim(dropped.path), dropped.identity, left_behind=True, stays=True, seen=dropped.identity)
