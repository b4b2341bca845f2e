"""Claims: the job record comes first and says which content at which path it is for; then the file is fetched.

So after a crash each record either has its video, or names the file to fetch, or names one that is not there
any more and is dropped: the next scan sees what is there.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.errors import DropframeError, Interrupted, SourceChanged, StoreError
from daemon.failpoints import failpoint
from daemon.fs.folders import Folders
from daemon.fs.identity import from_claim, identity_of, shown
from daemon.fs.mounts import is_on_share
from daemon.fs.moves import copy_file, move_file
from daemon.fs.storage import StorageService
from daemon.ingest.kept import KeptFiles
from daemon.ingest.left_behind import LeftBehind, claim_of, was_renamed
from daemon.ingest.model import Blocked, Dropped, Ignored, Outcome, Taken
from daemon.ingest.names import OPTIONS_SUFFIX
from daemon.ingest.options_file import fetch_options, return_options
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, utc_now
from daemon.queue import QueueService
from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""Until what could not be moved is tried again."""
STOPPING = "Dropframe is stopping; it is taken in after the next start."


class Claims:
    """The claims on the files of one folder. One thread uses it; another may carry out those on another folder.

    Args:
        root: The folder, which may be on a share that is away or hangs.
        dropped: Whether they are dropped files; else submissions, whose job ids were promised.
        store: Keeps the jobs, and with them the claims.
        queue: Gets each job whose video was fetched.
        storage: Keeps the videos.
        stopping: Asked again and again during a copy; True ends it.
        clock: Monotonic time in seconds.
        kept: Gets each claim on a file that stays where it is; none does if not given.
    """

    def __init__(
        self,
        root: Path,
        dropped: bool,
        store: JobStore,
        queue: QueueService,
        storage: StorageService,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        kept: KeptFiles | None = None,
    ) -> None:
        self._root = root
        self._dropped = dropped
        self._store = store
        self._queue = queue
        self._storage = storage
        self._stopping = stopping
        self._clock = clock
        self._left_behind = LeftBehind(root, store, storage)
        self._kept = kept or KeptFiles(root, store, storage, stopping, math.inf)
        self._unqueued: set[str] = set()
        self._unsure = True
        self._retry_at: float | None = None
        """When what could not be moved is tried again."""
        self._started = False
        self._held: dict[tuple[int, int, int], str] = {}
        """Contents whose claims stand although they could not be fetched: what was fetched with them has to go back."""

    def answer(self, dropped: Dropped) -> Blocked | Ignored | None:
        """Answer a file whose content is claimed already, or was taken in; None if it may be claimed."""
        reason = self._held.get(dropped.identity.lasting)
        if reason is not None:
            now = self._clock()
            due = self._retry_at or now  # it may have passed while intake is paused
            return Blocked(dropped, reason, due if due > now else now + RETRY_SECONDS)
        if dropped.identity in self._left_behind:
            return Ignored(dropped, "It was taken in; it is still here because it could not be removed.")
        return None

    def recover(self, fetching: bool = True) -> list[Outcome]:
        """Finish or undo what a crash, or a failed call of the store, interrupted.

        Args:
            fetching: Fetch what is claimed, which may take long; if not, ``recover_if_unsure`` will.

        Returns:
            What became of the claims that were not carried out yet; jobs whose video was fetched are in the queue.

        Raises:
            StoreError: the job store cannot be written.
        """
        outcomes: list[Outcome] = []
        self._unsure, self._retry_at = False, None
        self._held.clear()
        for job in self._store.deleted.left_behind() if self._dropped else ():
            self._left_behind.recall(job)
            self._kept.recall(job)
        try:
            for job in self._store.jobs():
                if job.claim is not None and (job.source is JobSource.INBOX) == self._dropped:
                    outcomes += self._recover_job(job, fetching)
        except Exception:
            self._unsure = True
            raise
        self._started = True
        return outcomes

    def recover_if_unsure(self) -> list[Outcome]:
        """Recover if a claim was not carried out as it should have been; call it before new ones are made."""
        if self._unsure or (self._retry_at is not None and self._clock() >= self._retry_at):
            return self.recover()
        return []

    def _recover_job(self, job: Job, fetching: bool) -> Iterable[Outcome]:
        self._left_behind.recall(job)
        self._kept.recall(job)
        if job.ended:
            return ()
        stored = self._storage.path(job.input_path).exists()
        if stored:
            self._left_behind.remove_source(job)
        if job.status is not JobStatus.PENDING:
            if not (stored or self._started) and job.source is JobSource.INBOX:
                # Put back, and killed before the old job was ended; or removed by somebody.
                log.warning(
                    "Job %s (%s) has no video any more; its record is dropped.", job.job_id, shown(job.source_name)
                )
                self._store.remove(job.job_id)
            return ()
        if stored or job.attempts or job.started_at:  # without its video the worker fails it, saying so
            # Once started, a job may stand in the queue already and wait for its next attempt.
            if not self._started or job.job_id in self._unqueued:
                self.enqueue(job)
            return ()
        if not fetching:
            self._unsure = True
            return ()
        return self.fetch_all([self._as_mounted_now(job)])

    def record(self, jobs: list[Job]) -> list[Job]:
        """Write the claims down, all or none.

        Raises:
            StoreError: the job store cannot be written.
        """
        if not jobs:
            return []
        self._unqueued |= {job.job_id for job in jobs if not job.ended}
        try:
            return self._store.create(jobs)
        except StoreError:
            self._unsure = True  # some may have been written all the same
            raise

    def fetch_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Move the claimed videos into the storage and queue their jobs; return what became of each.

        Raises:
            StoreError: the job store cannot be written.
            OSError: the video folder or the folder of the files cannot be used.
        """
        outcomes: list[Outcome] = []
        renamed: list[Job] = []
        if not jobs:
            return outcomes
        self._unqueued |= {job.job_id for job in jobs if not job.ended}
        videos_path = self._storage.path(jobs[0].input_path).parent
        on_share = is_on_share(self._root)
        with Folders(self._root) as sources, Folders(videos_path) as videos:
            try:
                videos_path.mkdir(parents=True, exist_ok=True)
                for job in jobs:
                    outcomes.append(self._fetch(job, sources, videos.get(""), on_share))
                    if not isinstance(outcomes[-1], Taken):
                        continue
                    stored = os.stat(stored_name(job), dir_fd=videos.get(""), follow_symlinks=False)
                    if was_renamed(claim_of(job), stored):
                        renamed.append(job)
                    else:  # the copy is durable, and the next one may take minutes
                        self.enqueue(job)
            except Exception:
                self._unsure = True  # recover() looks at the one that failed and at those after it
                raise
            finally:
                sync(videos)
                sync(sources)
                failpoint("intake.moved")
                for job in renamed:
                    self.enqueue(job)
        return outcomes

    def enqueue(self, job: Job) -> None:
        """Queue a job unless it has ended."""
        if not job.ended:
            self._queue.enqueue(job.job_id, job.sequence)
        self._unqueued.discard(job.job_id)

    def _fetch(self, job: Job, sources: Folders, videos: int, on_share: bool) -> Outcome:
        """Move one claimed video, its options file first, so that a stored video has nothing to fetch."""
        file = claimed_file(job)
        if self._stopping():
            self._unsure = True  # the claims stand; they are carried out at the next start
            return Blocked(file, STOPPING, self._clock())
        folder, _, name = file.path.rpartition("/")
        try:
            source = sources.get(folder)
            if file.options_path:
                fetch_options(file.options_path.rpartition("/")[2], source, job.job_id, videos)
            gone = fetch_video(name, source, job, videos, self._stopping, on_share)
        except (OSError, SourceChanged, Interrupted) as error:
            return self._give_up(job, file, sources, videos, error)
        if not gone:
            self._left_behind.remember_unremovable(job)
        self._kept.recall(job)
        failpoint("intake.one_moved")
        return Taken(file, job)

    def _give_up(self, job: Job, file: Dropped, sources: Folders, videos: int, error: Exception) -> Outcome:
        """Take back a claim that cannot be carried out, unless its job was promised."""
        if job.source is not JobSource.INBOX:
            return self._keep_promise(job, file, error)
        reason = f"It cannot be taken in: {text_of(error)}"
        if not self._options_returned(job, file, sources, videos):
            self._held[file.identity.lasting] = reason
            return self._later(file, reason)
        now = self._store.find(job.job_id)
        self._unqueued.discard(job.job_id)
        if now is None or now.ended:  # cancelled or deleted meanwhile: the file is not taken again
            self._left_behind.remember(job)
            log.info("%s was cancelled before it had come; it stays and is not taken again.", shown(file.path))
            return Ignored(file, "Its job was cancelled before it had been taken in; it is not taken again.")
        self._kept.drop(job)
        self._store.remove(job.job_id)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            return Blocked(file, reason, self._clock() + RETRY_SECONDS)
        return Blocked(file, reason, self._clock())

    def _keep_promise(self, job: Job, file: Dropped, error: Exception) -> Outcome:
        """Try a submission again whose ticket stays; end it with a reason if its video is gone."""
        if not isinstance(error, FileNotFoundError) or job.ended:
            return self._later(file, f"It cannot be moved: {text_of(error)}")
        problem = "Its video vanished before it could be taken in; submit it again."
        self._store.move(job.job_id, JobStatus.FAILED, **failure(problem))
        self._unqueued.discard(job.job_id)
        return Ignored(file, problem)

    def _later(self, file: Dropped, reason: str) -> Blocked:
        self._retry_at = self._clock() + RETRY_SECONDS
        return Blocked(file, reason, self._retry_at)

    def _options_returned(self, job: Job, file: Dropped, sources: Folders, videos: int) -> bool:
        """Return the options file of a claim that is taken back; False if that cannot be done yet."""
        try:
            return_options(options_place(job), sources, job.job_id, videos)
        except FileNotFoundError:  # its folder is gone, and the video with it; or the whole inbox is away
            return self._root.is_dir()
        except OSError:
            return False
        return True

    def _as_mounted_now(self, job: Job) -> Job:
        """Return a job with the device in its claim as it is numbered now, if the file is the claimed one."""
        claim = claim_of(job)
        folder, _, name = from_claim(claim.path).rpartition("/")
        with contextlib.suppress(OSError), Folders(self._root) as sources:
            now = identity_of(os.stat(name, dir_fd=sources.get(folder), follow_symlinks=False))
            if now.lasting == claim.identity.lasting:
                return replace(job, claim=replace(claim, identity=now))
        return job


def fetch_video(name: str, source: int, job: Job, videos: int, stopping: Callable[[], bool], on_share: bool) -> bool:
    """Move a video, or copy one that stays; return False if it was to go and is still there.

    Raises:
        SourceChanged, Interrupted, OSError: as ``move_file``.
    """
    claim, target = claim_of(job), stored_name(job)
    if claim.stays:
        copy_file(name, source, target, videos, claim.identity, stopping, on_share)
        failpoint("intake.copied")
        return True
    return move_file(name, source, target, videos, claim.identity, private=True, stopping=stopping, compare=on_share)


def claimed_file(job: Job) -> Dropped:
    """Return the file that a job is for, as the inbox handed it out."""
    claim = claim_of(job)
    path = from_claim(claim.path)
    return Dropped(path, claim.identity, options_place(job) if claim.companion else None)


def options_place(job: Job) -> str:
    """Return where the options file of a job's dropped video was, or would be, below the inbox."""
    claim = claim_of(job)
    path = from_claim(claim.path)
    if claim.options_name is None:
        return path + OPTIONS_SUFFIX
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{from_claim(claim.options_name)}"


def stored_name(job: Job) -> str:
    """Return the name of a job's video in the folder of stored videos."""
    return os.path.basename(job.input_path)


def sync(folders: Folders) -> None:
    """Make what was done in folders durable; a disk that refuses is only noted."""
    try:
        folders.fsync()
    except OSError as error:  # the moves are visible; after a power cut recover() finds them undone
        log.warning("A folder cannot be synced: %s", text_of(error))


def failure(problem: str) -> dict[str, Any]:
    """Return the fields of a job that has just failed for good."""
    return {"error_message": problem, "error_kind": ErrorKind.PERMANENT, "finished_at": utc_now()}


def text_of(error: Exception) -> str:
    """Return an error as the end of a sentence."""
    if isinstance(error, DropframeError):
        return str(error)
    return f"{getattr(error, 'strerror', None) or error}."
