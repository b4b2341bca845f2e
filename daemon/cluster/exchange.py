"""Exchange: the daemon's end of the object storage through which machines without a shared folder work for it.

Below ``cluster_store`` is a folder for each home, so that several may use the same address: ``jobs/<id>/`` has the
source of a job, its plan, and for a moment what a slot has made; ``models/`` has weights by their checksum. What a job
has is deleted once it has ended, or at the next start. A key only ever stands for one content: what a slot makes gets a
new key each time, so a result that comes too late is not taken for another.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from daemon.cluster.models_offered import ModelsOffered
from daemon.cluster.transfers import JOBS, MEDIA_TYPE, MODELS, ObjectRef, check_stop, content_of, keep_trying
from daemon.errors import DropframeError, ObjectChanged, ObjectMissing, ObjectStoreError
from daemon.fs.atomic import atomic_write
from daemon.jobs import Job, JobStatus
from daemon.logs import LogOnce
from daemon.objects.bucket import PART_BYTES, Bucket, RemoteObject
from daemon.objects.entries import Entry
from daemon.pipeline.pool_run import version_of
from daemon.s3_address import S3Address
from daemon.settings import Settings
from daemon.threads import NamedLocks, join

log = logging.getLogger(__name__)

MOST_PARTS = 9_000
"""Parts in which a source is sent, at most; services take 10,000."""
TIDY_SECONDS = 1.0
"""Time between two looks for jobs that have ended."""
AGAIN_SECONDS = 10.0
"""Until it is tried again after the bucket could not be used."""
JOIN_SECONDS = 1.0


class Exchange:
    """Puts what slots need, takes what they make, and deletes both. Safe to use from any thread.

    Args:
        settings: With ``cluster_store`` of this home.
        find_job: Returns a job by its id, if there is one.
        entry_of: Returns what is known of the object of ``inbox_store`` that became a job, if one did.

    Raises:
        MachineError: obstore is not installed.
    """

    def __init__(
        self, settings: Settings, find_job: Callable[[str], Job | None], entry_of: Callable[[str], Entry | None]
    ) -> None:
        assert settings.cluster_store is not None
        self._settings, self._find_job, self._entry_of = settings, find_job, entry_of
        self._bucket = Bucket(S3Address.of(settings.cluster_store), settings)
        stays = settings.inbox_store is not None and settings.inbox_store_after == "leave"
        self._inbox = Bucket(S3Address.of(str(settings.inbox_store)), settings) if stays else None
        self.models = ModelsOffered(settings, self._bucket)
        self._locks = NamedLocks()
        self._held: dict[str, float | None] = {}
        """Jobs that have objects, and when what they had was deleted, if it was."""
        self._is_listed = False
        self._closing = threading.Event()
        self._log_once = LogOnce(log)
        self._thread = threading.Thread(target=self._loop, name="cluster-store", daemon=True)

    def start(self) -> None:
        """Begin to delete what is not needed any more."""
        self._thread.start()

    def close(self) -> None:
        """Delete nothing any more; what is left is deleted after the next start."""
        self._closing.set()
        join(self._thread, JOIN_SECONDS)

    def source(self, video: Path, should_stop: Callable[[], bool]) -> ObjectRef:
        """Return where the source of a job is, and put it there if it is not.

        Args:
            video: Its file, which has the id of the job for a name.
            should_stop: Asked at every block; True ends it.

        Raises:
            ObjectStoreError: it cannot be put there just now.
            Interrupted: ``should_stop`` said so.
            OSError: the file cannot be read.
        """
        job_id, size = video.stem, video.stat().st_size
        key = f"{JOBS}/{job_id}/source-{version_of(video)}"
        with self._locks.of(job_id):
            self._held[job_id] = None
            if (ref := self._in_inbox(job_id, size)) is not None:
                return ref
            return keep_trying(lambda: self._put_once(key, size, lambda: content_of(video, should_stop)), should_stop)

    def plan(self, path: Path, job_id: str, should_stop: Callable[[], bool]) -> ObjectRef:
        """Return where a plan is, and put it there if it is not; raises as ``source``."""
        content = path.read_bytes()
        key = f"{JOBS}/{job_id}/plan-{hashlib.sha256(content).hexdigest()[:32]}"
        with self._locks.of(job_id):
            return keep_trying(lambda: self._put_once(key, len(content), lambda: content), should_stop)

    def new_key(self, job_id: str) -> str:
        """Return a key for what a slot is about to make."""
        return f"{JOBS}/{job_id}/made-{uuid.uuid4().hex}"

    def take(self, key: str, sha256: str, target: Path, should_stop: Callable[[], bool]) -> None:
        """Take what a slot has made; it appears whole, and its object is deleted.

        Args:
            key: Where the slot has put it.
            sha256: Of its content.
            target: Where it appears.
            should_stop: Asked at every block; True ends it.

        Raises:
            ObjectStoreError: it cannot be taken; it is to be made again.
            Interrupted: ``should_stop`` said so.
            OSError: the file cannot be written.
        """
        keep_trying(lambda: self._take(key, sha256, target, should_stop), should_stop)
        self.discard(key)

    def discard(self, key: str) -> None:
        """Delete what a slot has put, if it can be; else it is deleted with the others of its job, or at a start."""
        with suppress(ObjectStoreError):
            self._bucket.delete(key)

    def _take(self, key: str, sha256: str, target: Path, should_stop: Callable[[], bool]) -> None:
        found, digest = self._found(key), hashlib.sha256()
        with atomic_write(target) as file:
            for block in self._bucket.read(found):
                check_stop(should_stop)
                file.write(block)
                digest.update(block)
            if digest.hexdigest() != sha256:
                raise ObjectChanged(f"{self._bucket.address.to(key)} is not what was put there.")

    def _in_inbox(self, job_id: str, size: int) -> ObjectRef | None:
        """Return the object of ``inbox_store`` that a source came from, if it is still there, as it was."""
        entry = self._entry_of(job_id) if self._inbox is not None else None
        if self._inbox is None or entry is None:
            return None
        with suppress(ObjectStoreError):  # then it is put as others are
            found = self._inbox.find(entry.key)
            if found is not None and (found.etag, found.size) == (entry.etag, size):
                return ObjectRef.of(self._inbox, found)
        return None

    def _put_once(self, key: str, size: int, content: Callable[[], bytes | Iterator[bytes]]) -> ObjectRef:
        found = self._bucket.find(key)
        if found is None or found.size != size:
            part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
            self._bucket.put(key, content(), MEDIA_TYPE, part_bytes=part_bytes)
            found = self._found(key)
            if found.size != size:
                raise ObjectChanged(f"What was put to {self._bucket.address.to(key)} was written to meanwhile.")
        return ObjectRef.of(self._bucket, found)

    def _found(self, key: str) -> RemoteObject:
        found = self._bucket.find(key)
        if found is None:
            raise ObjectMissing(f"{self._bucket.address.to(key)} is gone again.")
        return found

    # What is not needed any more.

    def _loop(self) -> None:
        wait = 0.0
        while not self._closing.wait(wait):
            wait = TIDY_SECONDS
            try:
                self.tidy()
                self._log_once.solved()
            except (DropframeError, OSError) as error:
                self._log_once(f"What is not needed any more cannot be deleted from {self._bucket.address}: {error}")
                wait = AGAIN_SECONDS
            except Exception:
                log.exception("Tidying %s goes on after an unexpected error", self._bucket.address)
                wait = AGAIN_SECONDS

    def tidy(self) -> None:
        """Delete what jobs have that have ended, and once what an earlier process has left, unused weights included.

        Raises:
            ObjectStoreError, StoreError, OSError: it cannot be done just now.
        """
        if not self._is_listed:
            for key in self._keys(JOBS):
                self._held.setdefault(key.split("/")[1], None)
        for job_id in list(self._held):
            if self._closing.is_set():
                return
            if self._is_over(job_id):
                self._forget(job_id)
        if not self._is_listed:
            there = self._keys(MODELS)  # before it is asked which are needed, as more may come
            for key in set(there) - {model.ref.key for model in self.models.offered(check=False)}:
                self._bucket.delete(key)
            self._is_listed = True

    def _is_over(self, job_id: str) -> bool:
        job = self._find_job(job_id)
        return job is None or job.status not in (JobStatus.PENDING, JobStatus.RUNNING)

    def _forget(self, job_id: str) -> None:
        """Delete all that a job has, and once more when no slot can be alive that still puts something."""
        with self._locks.of(job_id):
            deleted = self._held[job_id]
            is_too_early = deleted is not None and time.monotonic() - deleted < self._settings.silent_seconds
            if is_too_early or not self._is_over(job_id):  # it may have been begun again just now
                return
            for key in self._keys(f"{JOBS}/{job_id}"):
                self._bucket.delete(key)
            if deleted is None:
                self._held[job_id] = time.monotonic()
            else:
                del self._held[job_id]

    def _keys(self, below: str) -> list[str]:
        return [found.key for found in self._bucket.objects(below) if isinstance(found, RemoteObject)]
