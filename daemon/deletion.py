"""Deletion: remove what belongs to jobs that were deleted, to the end, over kills and outboxes that are away.

The record went first (``DeletedJobs``), so nobody sees the job any more; what is left of it is removed from here. Only
what is the job's own goes: its files in the data folder are named by its id, and in the outbox a newer result of the
same name stays.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daemon.errors import DropframeError, StoredFileMissing
from daemon.failpoints import failpoint
from daemon.fs.samples import sha256_of
from daemon.fs.storage import StorageService
from daemon.ingest.names import OPTIONS_SUFFIX
from daemon.ipc.ticket import video_name
from daemon.jobs import Job, output_key, timestamp
from daemon.logs import LogOnce
from daemon.pipeline.run_requests import PARTS
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.threads import join
from daemon.worker.job_files import PARTIAL_ENDINGS
from daemon.worker.outbox import Outbox
from daemon.worker.outbox_exports import withdraw_exports

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
"""Until what could not be removed is tried again."""
FORGET_SECONDS = 3600.0
"""Time between two looks for deleted jobs that need not be remembered any more."""
JOIN_SECONDS = 1.0
"""Time that a removal gets to end at shutdown; it can be cut off anywhere."""


class Deletion:
    """Removes the files of deleted jobs, in a thread of its own: a folder that does not answer holds up nothing else.

    Args:
        settings: Folders, and how long deleted jobs are remembered.
        store: Knows the deleted jobs.
        storage: Keeps the videos and results.
        outbox: Holds the copies of results, and the errors.
        forget: Is called with the job once its result is gone, and removes what was made of it elsewhere. It must not
            mind being called twice; when it raises OSError it is tried again.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        storage: StorageService,
        outbox: Outbox,
        forget: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._spool_dir = settings.spool_dir
        self._keep_days = settings.keep_deleted_days
        self._store = store
        self._storage = storage
        self._outbox = outbox
        self._forget = forget
        self._due = self._forget_due = 0.0
        self._seen: frozenset[str] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._not_removed: defaultdict[str, LogOnce] = defaultdict(lambda: LogOnce(log))

    def step(self, now: float) -> None:
        """Begin to remove what is left of deleted jobs, if there is something, and forget the oldest ones.

        Args:
            now: Monotonic time in seconds.

        Raises:
            StoreError: the job store cannot be used just now.
        """
        if now >= self._forget_due:
            self._forget_due = now + FORGET_SECONDS
            self._store.deleted.forget(timestamp(datetime.now(UTC) - timedelta(days=self._keep_days)))
        if self._thread is not None and self._thread.is_alive():
            return
        unfinished = frozenset(self._store.deleted.unfinished_ids())
        if not unfinished or (now < self._due and self._seen is not None and unfinished <= self._seen):
            return
        self._due, self._seen = now + RETRY_SECONDS, unfinished
        self._thread = threading.Thread(target=self.remove, name="deletion", daemon=True)
        self._thread.start()

    def shutdown(self) -> None:
        """End a removal that is going on."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def remove(self) -> None:
        """Remove what is left of each deleted job; what cannot be removed stays for the next time."""
        for job in self._store.deleted.unfinished():
            if self._stopping.is_set():
                return
            try:
                self._remove(job)
            except (OSError, DropframeError) as error:
                self._not_removed[job.job_id](f"Not all of the deleted job {job.job_id} can be removed yet: {error}")
            else:
                self._not_removed.pop(job.job_id, None)

    def _keep_checksum(self, job: Job) -> bool:
        """Note what a video holds whose file stays in the inbox, so that it is known there; False when stopping."""
        if job.claim is None or not job.claim.stays or job.sha256 is not None:
            return True
        try:
            descriptor = os.open(self._storage.path(job.input_path), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        with os.fdopen(descriptor, "rb"):
            sha256 = sha256_of(descriptor, self._stopping.is_set)
        if sha256 is not None:
            self._store.deleted.note(job.job_id, sha256=sha256)
        return sha256 is not None

    def _remove(self, job: Job) -> None:
        """Remove the files of a job. Its result goes after its copy in the outbox, which is known by it."""
        if not self._keep_checksum(job):
            return
        video, result = self._storage.path(job.input_path), self._storage.path(output_key(job.job_id))
        options_file = video.with_name(job.job_id + OPTIONS_SUFFIX)
        partial = [Path(f"{result}{ending}") for ending in PARTIAL_ENDINGS]
        for path in (video, options_file, *partial, self._spool_dir / video_name(job.job_id)):
            path.unlink(missing_ok=True)
            failpoint("deletion.removed")
        with suppress(FileNotFoundError):
            shutil.rmtree(f"{result}{PARTS}")
        with ExitStack() as stack:
            try:
                document = stack.enter_context(self._storage.load_file(output_key(job.job_id)))
            except StoredFileMissing:
                document = None
            self._outbox.withdraw_all(job, document)
        withdraw_exports(self._outbox, job)
        failpoint("deletion.withdrawn")
        result.unlink(missing_ok=True)
        failpoint("deletion.unlinked")
        self._forget(job)  # only now, or it would be made of the result again
        self._store.deleted.finish(job)
