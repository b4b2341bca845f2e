"""Claims: the job record comes first and says which content at which path it is for; then the file is fetched.

So after a crash each record either has its video, or names the file to fetch, or names one that is not there
any more and is dropped: the next scan sees what is there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.errors import DropframeError, Interrupted, SourceChanged, StoreError
from daemon.failpoints import failpoint
from daemon.fs.folders import Folders
from daemon.fs.identity import from_claim, identity_of, shown
from daemon.fs.moves import move_file, remove_file
from daemon.fs.storage import StorageService
from daemon.ingest.stability import OPTIONS_SUFFIX
from daemon.jobs import ErrorKind, Identity, Job, JobSource, JobStatus, timestamp
from daemon.queue import QueueService

if TYPE_CHECKING:
    from daemon.store.job_store import JobStore

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""Until a submission that could not be moved is tried again."""


class Claims:
    """The claims on the files of one folder. One thread uses it; another may carry out those on another folder.

    Args:
        root: The folder, which may be on a share that is away or hangs.
        dropped: Whether they are dropped files; else submissions, whose job ids were promised.
        store: Keeps the jobs, and with them the claims.
        queue: Gets each job whose video was fetched.
        storage: Keeps the videos.
        clock: Seconds since 1970.
        stopping: Asked again and again during a copy; True ends it.
    """

    def __init__(
        self,
        root: Path,
        dropped: bool,
        store: JobStore,
        queue: QueueService,
        storage: StorageService,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self._root = root
        self._dropped = dropped
        self._store = store
        self._queue = queue
        self._storage = storage
        self._clock = clock
        self._stopping = stopping
        self._left_behind: set[tuple[int, int, int]] = set()
        self._unqueued: set[str] = set()
        self._unsure = True
        self._again_at: float | None = None
        """When what could not be moved is tried again, monotonic."""
        self._started = False
        self.held: set[tuple[int, int, int]] = set()
        """Contents whose claims stand although they could not be fetched: what was fetched with them has to go back."""
        self._grumbled: set[str] = set()

    def was_left_behind(self, identity: Identity) -> bool:
        """Tell whether a content was taken in and only could not be removed from where it was dropped."""
        return identity.lasting in self._left_behind

    def recover(self, fetching: bool = True) -> list[Job]:
        """Finish or undo what a crash, or a failed call of the store, interrupted.

        Args:
            fetching: Fetch what is claimed, which may take long; if not, ``recover_if_unsure`` will.

        Returns:
            The jobs whose video was fetched now; they are in the queue.

        Raises:
            StoreError: the job store cannot be written.
        """
        fetched = []
        self._unsure, self._again_at = False, None
        self.held.clear()
        try:
            for job in self._store.jobs():
                if (job.source is JobSource.INBOX) == self._dropped:
                    fetched += self._recover_job(job, fetching)
        except Exception:
            self._unsure = True
            raise
        self._started = True
        return fetched

    def recover_if_unsure(self) -> list[Job]:
        """Recover if a claim was not carried out as it should have been; call it before new ones are made."""
        if self._unsure or (self._again_at is not None and time.monotonic() >= self._again_at):
            return self.recover()
        return []

    def _recover_job(self, job: Job, fetching: bool) -> list[Job]:
        if job.claim is None:
            return []
        if job.claim.left_behind:
            self._left_behind.add(job.claim.identity.lasting)
        if job.ended:
            if job.error_kind is ErrorKind.CANCELLED and not self._storage.path(job.input_path).exists():
                self._left_behind.add(job.claim.identity.lasting)  # cancelled before its video had come
            return []
        stored = self._storage.path(job.input_path).exists()
        if stored:
            self._remove_source(job)
        if job.status is not JobStatus.PENDING:
            if not (stored or self._started) and job.source is JobSource.INBOX:
                # Put back, and killed before the old job was ended; or removed by somebody.
                log.warning(
                    "Job %s (%s) has no video any more; its record is dropped.", job.job_id, shown(job.source_name)
                )
                self._store.remove(job.job_id)
            return []
        if stored or job.attempts or job.started_at:  # without its video the worker fails it, saying so
            # Once started, a job may stand in the queue already and wait for its next attempt.
            if not self._started or job.job_id in self._unqueued:
                self.enqueue(job)
            return []
        if not fetching:
            self._unsure = True
            return []
        return self.fetch_all([job])

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

    def fetch_all(self, jobs: Sequence[Job]) -> list[Job]:
        """Move the claimed videos into the storage and queue their jobs; return those that were moved.

        Raises:
            StoreError: the job store cannot be written.
            OSError: the video folder or the folder of the files cannot be used.
        """
        fetched: list[Job] = []
        renamed: list[Job] = []
        if not jobs:
            return fetched
        self._unqueued |= {job.job_id for job in jobs if not job.ended}
        videos_path = self._storage.path(jobs[0].input_path).parent
        with Folders(self._root) as sources, Folders(videos_path) as videos:
            try:
                videos_path.mkdir(parents=True, exist_ok=True)
                for job in jobs:
                    if self._stopping():
                        self._unsure = True  # the claims stand; they are carried out at the next start
                        break
                    if not self._fetch(job, sources, videos.get("")):
                        continue
                    fetched.append(job)
                    if self._was_renamed(job):
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
        return fetched

    def enqueue(self, job: Job) -> None:
        """Queue a job unless it has ended."""
        if not job.ended:
            self._queue.enqueue(job.job_id, job.sequence)
        self._unqueued.discard(job.job_id)

    def _fetch(self, job: Job, sources: Folders, videos: int) -> bool:
        """Move one claimed video, its options file first, so that a stored video has nothing to fetch."""
        assert job.claim is not None
        folder, _, name = from_claim(job.claim.path).rpartition("/")
        options = f"{job.job_id}{OPTIONS_SUFFIX}"
        try:
            source = sources.get(folder)
            if job.claim.companion:
                self._fetch_options(name + OPTIONS_SUFFIX, source, options, videos)
            gone = move_file(
                name,
                source,
                f"{job.job_id}.mp4",
                videos,
                _as_mounted_now(job.claim.identity, name, source),
                private=True,
                stopping=self._stopping,
            )
        except (OSError, SourceChanged, Interrupted) as error:
            self._give_up(job, sources, videos, error)
            return False
        if not gone:
            self._leave_behind(job)
        failpoint("intake.one_moved")
        return True

    def _fetch_options(self, name: str, source: int, target: str, videos: int) -> None:
        try:
            seen = identity_of(os.stat(name, dir_fd=source, follow_symlinks=False))
        except OSError:  # none, or none possible, its name being too long
            return
        try:
            move_file(name, source, target, videos, seen)
        except FileExistsError:  # copied before a crash that came before its removal
            kept = identity_of(os.stat(target, dir_fd=videos, follow_symlinks=False))
            if (kept.size, kept.mtime_ns) == (seen.size, seen.mtime_ns):
                remove_file(name, source, seen)
        except SourceChanged:
            return
        failpoint("intake.options")

    def _give_up(self, job: Job, sources: Folders, videos: int, error: Exception) -> None:
        """Take back a claim that cannot be carried out."""
        assert job.claim is not None
        path = from_claim(job.claim.path)
        if job.source is not JobSource.INBOX:
            if isinstance(error, FileNotFoundError) and not job.ended:  # promised, so it ends with a reason
                problem = "Its video vanished before it could be taken in; submit it again."
                self._store.move(job.job_id, JobStatus.FAILED, **failure(problem, self._clock()))
                self._unqueued.discard(job.job_id)
            else:
                self._again_at = time.monotonic() + AGAIN_SECONDS
                self.grumble(path, f"The submitted video {path} cannot be moved: {text_of(error)}")
            return  # its ticket stays
        if not self._put_options_back(job, sources, videos):
            self._again_at = time.monotonic() + AGAIN_SECONDS
            self.held.add(job.claim.identity.lasting)
            self.grumble(path, f"{shown(path)} cannot be taken in and is tried again: {text_of(error)}")
            return
        now = self._store.find(job.job_id)
        self._unqueued.discard(job.job_id)
        if now is not None and now.ended:  # cancelled meanwhile: the record stays, and the file is not taken again
            self._mark_left_behind(job)
            log.info("%s was cancelled before it had come; it stays and is not taken again.", shown(path))
            return
        self._store.remove(job.job_id)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            self.grumble(path, f"{shown(path)} cannot be taken in and stays: {text_of(error)}")

    def _put_options_back(self, job: Job, sources: Folders, videos: int) -> bool:
        """Return the options file of a claim that is taken back; False if that cannot be done yet."""
        assert job.claim is not None
        folder, _, name = from_claim(job.claim.path).rpartition("/")
        options = f"{job.job_id}{OPTIONS_SUFFIX}"
        try:
            seen = identity_of(os.stat(options, dir_fd=videos, follow_symlinks=False))
        except FileNotFoundError:
            return True
        try:
            move_file(options, videos, name + OPTIONS_SUFFIX, sources.get(folder), seen)
        except (FileExistsError, SourceChanged):  # there are newer ones
            return True
        except FileNotFoundError:  # its folder is gone, and the video with it; or the whole inbox is away
            return self._root.is_dir()
        except OSError:
            return False
        return True

    def _leave_behind(self, job: Job) -> None:
        assert job.claim is not None
        self._mark_left_behind(job)
        log.warning(
            "%s was taken in but cannot be removed from where it was dropped; it is not taken again.",
            shown(from_claim(job.claim.path)),
        )

    def _mark_left_behind(self, job: Job) -> None:
        """Remember, over restarts too, that a content stays where it was dropped and is not to be taken again."""
        assert job.claim is not None
        self._left_behind.add(job.claim.identity.lasting)
        self._store.note(job.job_id, claim=replace(job.claim, left_behind=True))

    def _remove_source(self, job: Job) -> None:
        """Remove a source that was copied, when a crash came before its removal."""
        if job.claim is None or job.claim.left_behind:
            return
        folder, _, name = from_claim(job.claim.path).rpartition("/")
        with Folders(self._root) as sources:
            try:
                source = sources.get(folder)
                now = identity_of(os.stat(name, dir_fd=source, follow_symlinks=False))
            except OSError as error:
                if job.source is JobSource.INBOX and not self._seen_gone(job, sources, error):
                    self._mark_left_behind(job)
                return
            if now.lasting == job.claim.identity.lasting and not remove_file(name, source, now):
                self._leave_behind(job)

    def _was_renamed(self, job: Job) -> bool:
        assert job.claim is not None
        stored = identity_of(os.stat(self._storage.path(job.input_path), follow_symlinks=False))
        return (stored.device, stored.inode) == (job.claim.identity.device, job.claim.identity.inode)

    def _seen_gone(self, job: Job, sources: Folders, error: OSError) -> bool:
        """Tell whether a source that cannot be found has left its place, and not that place its mount."""
        assert job.claim is not None
        with contextlib.suppress(OSError):
            if self._was_renamed(job):
                return True
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return os.fstat(sources.get("")).st_dev == job.claim.identity.device
        return False

    def grumble(self, about: str, sentence: str) -> None:
        """Log once about a thing, however often it is tried."""
        if about not in self._grumbled:
            self._grumbled.add(about)
            log.warning("%s", sentence)


def _as_mounted_now(claimed: Identity, name: str, folder: int) -> Identity:
    """Return a claimed identity with the device as it is numbered now, if the file is the claimed one.

    Raises:
        OSError: the file cannot be looked at.
    """
    now = identity_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    return now if now.lasting == claimed.lasting else claimed


def sync(folders: Folders) -> None:
    """Make what was done in folders durable; a disk that refuses is only noted."""
    try:
        folders.fsync()
    except OSError as error:  # the moves are visible; after a power cut recover() finds them undone
        log.warning("A folder cannot be synced: %s", text_of(error))


def failure(problem: str, now: float) -> dict[str, Any]:
    """Return the fields of a job that failed for good at a time, in seconds since 1970."""
    return {
        "error_message": problem,
        "error_kind": ErrorKind.PERMANENT,
        "finished_at": timestamp(datetime.fromtimestamp(now, UTC)),
    }


def text_of(error: Exception) -> str:
    """Return an error as the end of a sentence."""
    if isinstance(error, DropframeError):
        return str(error)
    return f"{getattr(error, 'strerror', None) or error}."
