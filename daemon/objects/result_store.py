"""ResultStore: copy results, errors and exports to object storage once they are in the outbox.

What a job owes is in its record (``worker/owed_objects.py``). The name below the prefix is the name below the outbox,
and as there the newest job of a name has it. Each object says whose it is and what it holds, so that a copy whose note
was cut off by a kill is not made twice, and nothing of another job is ever deleted.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

from daemon.errors import ObjectRefused, ObjectStoreError, StoredFileMissing
from daemon.export.files import ExportPlace, NotExported, NotExportedYet, ask_for
from daemon.export_formats import FORMATS, ExportRequest
from daemon.failpoints import failpoint
from daemon.fs.identity import shown
from daemon.fs.storage import LocalStorageService
from daemon.ipc.health import StoreBeat
from daemon.jobs import EXPORT_PENDING, Job, JobStatus, output_key
from daemon.objects.answers import key_problem
from daemon.objects.bucket import Bucket
from daemon.s3_address import S3Address
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker import outbox as names
from daemon.worker.debts import Debts
from daemon.worker.outbox import Outbox, error_document, sha256_of
from daemon.worker.owed_objects import ERROR, PENDING, RESULT, OwedObjects

log = logging.getLogger(__name__)

DOWN_SECONDS = 5.0
"""How long deletions are refused at once after the bucket did not answer one."""
LOCK_SECONDS = 1.0
"""How long a deletion waits for a copy that is going on, which may be long."""
JOIN_SECONDS = 0.2
"""Time that a copy gets to end at shutdown; it can be cut off anywhere."""
JOB_ID, SHA256 = "dropframe-job-id", "dropframe-sha256"
"""What is noted on each object: whose it is, and the checksum of what it holds."""
OUTDATED = "A newer job has its name."
JSON = "application/json"
TROUBLE = "Results cannot be copied to the result store and are tried again."


class ResultStore:
    """Pays what jobs owe, in a thread of its own: a bucket that does not answer holds up nothing else.

    Args:
        settings: Where the bucket is; without ``result_store`` nothing is done.
        store: Knows what jobs owe, and gets to know what was copied.
        outbox: Knows the names, and which job has each.
        owed: Brings the jobs that owe something from now on.

    Raises:
        MachineError: obstore is not installed.
    """

    def __init__(self, settings: Settings, store: JobStore, outbox: Outbox, owed: OwedObjects) -> None:
        self._data_dir, self._spool_dir = settings.data_dir, settings.spool_dir
        self._storage = LocalStorageService(settings.data_dir)
        self._store = store
        self._outbox = outbox
        self._owed = owed
        self._debts = Debts("result-store", store, owed.job_ids, owed_by, self._pay, ObjectRefused, TROUBLE)
        self.bucket = Bucket(S3Address.of(settings.result_store), settings) if settings.result_store else None
        self._paying = threading.Lock()
        self._down_until, self._down_reason = -math.inf, ""
        """Until when deletions are refused at once, so that many of them do not each wait for a bucket that is away."""

    def start(self) -> None:
        """Begin with what was owed when the daemon ended."""
        if self.bucket is not None:
            self._debts.start(JobStatus.COMPLETED, JobStatus.FAILED)

    def stop(self) -> None:
        """End; what is owed stays in the records."""
        self._debts.stop(JOIN_SECONDS)

    def step(self) -> None:
        """Copy what can be copied now.

        Raises:
            ObjectStoreError: the bucket cannot be used just now; nothing is lost.
            OSError, StoreError: the data folder cannot be used just now; nothing is lost.
        """
        self._debts.step()

    def beat(self) -> StoreBeat:
        """Return how it goes. Callable from any thread."""
        return StoreBeat(self._debts.problem, len(self._debts))

    def _pay(self, job_id: str, name: str) -> None:
        """Copy one thing if it is there and still owed."""
        assert self.bucket is not None
        with self._paying:
            job = self._store.get(job_id)
            if name not in owed_by(job) or job.exports.get(name, "").startswith(EXPORT_PENDING):
                return
            key = self._key(job, name)
            if self._outbox.is_outdated(job) or (name == ERROR and self._outbox.is_outdated(job, names.ERROR)):
                self._note(job, name, OUTDATED)
            elif problem := key_problem(self.bucket.address, key):
                self._note(job, name, problem)
            else:
                self._copy(self.bucket, job, name, key)

    def _copy(self, bucket: Bucket, job: Job, name: str, key: str) -> None:
        try:
            with self._open(job, name) as content:
                state = f"sha256:{sha256_of(content)}"
                content.seek(0)
                found = bucket.notes(key)
                if (found.get(JOB_ID), found.get(SHA256)) != (job.job_id, state):
                    media_type = FORMATS[name].media_type if name in FORMATS else JSON
                    bucket.put(key, content, media_type, {JOB_ID: job.job_id, SHA256: state})
                    failpoint("result_store.put")
                if name == RESULT and not self._outbox.is_outdated(job, names.ERROR):
                    self._delete_error(bucket, self._key(job, ERROR))
        except NotExportedYet:
            return
        except StoredFileMissing:
            self._note(job, name, "Its result has been deleted.")
        except NotExported as error:
            if error.final:
                self._note(job, name, str(error))
        else:
            self._note(job, name, state)

    def _delete_error(self, bucket: Bucket, key: str) -> None:
        """Delete the error that an earlier attempt, or an older job of the same name, left."""
        if JOB_ID in bucket.notes(key):
            self._delete(bucket, key)

    def _delete(self, bucket: Bucket, key: str) -> None:
        """Delete an object of ours; where Dropframe may only add objects it stays, and the log says so."""
        try:
            bucket.delete(key)
        except ObjectRefused as error:
            log.warning("%s stays: %s", shown(bucket.address.to(key)), error)

    @contextlib.contextmanager
    def _open(self, job: Job, name: str) -> Iterator[BinaryIO]:
        if name == ERROR:
            yield io.BytesIO(error_document(job))
        elif name == RESULT:
            with self._storage.load_file(output_key(job.job_id)) as document:
                yield document
        else:
            place = ExportPlace.of(self._data_dir, job.job_id, ExportRequest.of({"format": name}))
            try:
                export = place.open()
            except NotExportedYet:  # it is in the outbox, but not kept any more
                ask_for(self._spool_dir, place)
                raise
            with export:
                yield export

    def _note(self, job: Job, name: str, state: str) -> None:
        with self._owed.lock:
            latest = self._store.get(job.job_id)
            if latest.finished_at == job.finished_at:  # else it was run again meanwhile, and owes something new
                self._store.note(job.job_id, stored_objects={**latest.stored_objects, name: state})

    def _key(self, job: Job, name: str) -> str:
        endings = {RESULT: names.RESULT, ERROR: names.ERROR}
        return self._outbox.name_of(job, endings.get(name) or FORMATS[name].ending)

    def forget(self, job: Job) -> None:
        """Delete what a deleted job has copied, as far as it is still its own. May be called again.

        Raises:
            ObjectStoreError: the bucket cannot be used just now.
        """
        if self.bucket is None or not job.stored_objects:
            return
        if time.monotonic() < self._down_until:
            raise ObjectStoreError(self._down_reason)
        try:
            self._forget(self.bucket, job)
        except ObjectRefused:  # perhaps only this one
            raise
        except ObjectStoreError as error:
            self._down_until, self._down_reason = time.monotonic() + DOWN_SECONDS, str(error)
            raise

    def _forget(self, bucket: Bucket, job: Job) -> None:
        if not self._paying.acquire(timeout=LOCK_SECONDS):
            raise ObjectStoreError("Something is being copied to the result store just now; it is tried again.")
        try:
            # Not only what is noted: a kill may have come before, and an attempt before this one has left its error.
            for name in dict.fromkeys((RESULT, ERROR, *job.exports, *job.stored_objects)):
                if name not in (RESULT, ERROR, *FORMATS):
                    continue
                key = self._key(job, name)
                if key_problem(bucket.address, key) is None and bucket.notes(key).get(JOB_ID) == job.job_id:
                    self._delete(bucket, key)
        finally:
            self._paying.release()


def owed_by(job: Job) -> list[str]:
    """Return what a job owes now or once its exports are made: ``result``, ``error``, formats."""
    copied = job.stored_objects
    if job.status is JobStatus.FAILED:
        return [ERROR] if copied.get(ERROR) == PENDING and not job.unpublished_error else []
    if job.status is not JobStatus.COMPLETED or RESULT not in copied:
        return []
    exports = [name for name, state in job.exports.items() if name in FORMATS and name not in copied]
    waiting = [name for name in exports if job.exports[name].startswith((EXPORT_PENDING, "sha256:"))]
    return [RESULT, *waiting] if copied[RESULT] == PENDING else waiting
