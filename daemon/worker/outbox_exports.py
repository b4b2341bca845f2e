"""OutboxExports: put exports beside results in the outbox (the setting ``exports``).

What a job still owes is in its record, noted in the commit that completes it, so that no kill loses an export. The
files are made as all exports are; a name that a newer job has taken is left to that one.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from queue import Empty, SimpleQueue

from daemon.errors import DropframeError, Interrupted, StoredFileMissing, UnknownJob
from daemon.export.files import ExportPlace, NotExported, NotExportedYet, ask_for, owed_exports
from daemon.export_formats import FORMATS, ExportRequest
from daemon.failpoints import failpoint
from daemon.jobs import EXPORT_PENDING, Job, JobStatus
from daemon.logs import LogOnce
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.threads import join
from daemon.worker.outbox import Outbox, sha256_of

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
RETRY_SECONDS = 10.0
"""Until it is tried again after the outbox could not be written."""
JOIN_SECONDS = 2.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30.0, 3600.0
"""Between two attempts at an export that could not be made; each time twice as long."""
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")


class OutboxExports:
    """Publishes exports in a thread of its own: an outbox that does not answer holds up nothing else.

    Args:
        settings: Folders.
        store: Knows what jobs owe, and gets to know what was published.
        outbox: Gets the files.
        completed: Brings the ids of jobs that complete from now on.
    """

    def __init__(self, settings: Settings, store: JobStore, outbox: Outbox, completed: SimpleQueue[str]) -> None:
        self._data_dir, self._spool_dir = settings.data_dir, settings.spool_dir
        self._store = store
        self._outbox = outbox
        self._completed = completed
        self._owing: dict[str, None] = {}
        """Ids of jobs."""
        self._drawn = ""
        """The name of the last request for a video to be drawn on. One is asked for at a time, as each takes long and
        few requests have room."""
        self._failures: dict[tuple[str, str], tuple[float, int]] = {}
        """Exports that could not be made: when one is asked for again (monotonic seconds), and how often it failed."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="outbox-exports", daemon=True)
        self._log_once = LogOnce(log)

    def start(self) -> None:
        """Begin with what was owed when the daemon ended."""
        for job in self._store.jobs(JobStatus.COMPLETED):
            if owed_exports(job):
                self._owing[job.job_id] = None
        self._thread.start()

    def stop(self) -> None:
        """End a copy that is under way, and the thread; what is owed stays in the records."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def _loop(self) -> None:
        wait = STEP_SECONDS
        while not self._stopping.wait(wait):
            wait = STEP_SECONDS
            try:
                self.step()
                self._log_once.solved()
            except Interrupted:
                return
            except (OSError, DropframeError) as error:
                self._log_once(f"Exports cannot be put into the outbox and are tried again: {error}")
                wait = RETRY_SECONDS
            except Exception:
                log.exception("Putting exports into the outbox goes on after an unexpected error")
                wait = RETRY_SECONDS

    def step(self) -> None:
        """Publish what is there, and ask for the rest.

        Raises:
            OSError: the outbox or the spool cannot be written just now; nothing is lost.
            StoreError: the store cannot be written just now; nothing is lost.
            Interrupted: the daemon is stopping.
        """
        with contextlib.suppress(Empty):
            while True:
                self._owing[self._completed.get_nowait()] = None
        failed: OSError | None = None
        for job_id in list(self._owing):
            for name in self._owed(job_id):
                try:
                    self._pay(job_id, name)
                except UnknownJob:  # deleted just now
                    continue
                except OSError as error:  # perhaps a folder is in the way of this one alone
                    failed = error
            if not self._owed(job_id):
                del self._owing[job_id]
        if failed is not None:
            raise failed

    def _owed(self, job_id: str) -> list[str]:
        job = self._store.find(job_id)
        return [] if job is None else owed_exports(job)

    def _pay(self, job_id: str, name: str) -> None:
        """Publish one export if it is there; ask for it if not."""
        try:
            request = ExportRequest.of({"format": name})
            place = ExportPlace.of(self._data_dir, job_id, request)
            with place.open() as file:
                sha256 = sha256_of(file)
                # Noted first, so that a file that a kill leaves unnoted is found again when the job is deleted.
                job = self._note(job_id, name, f"{EXPORT_PENDING} sha256:{sha256}")
                file.seek(0)
                published = self._outbox.publish_beside(job, request.kind.ending, file, self._stopping.is_set)
        except NotExportedYet:
            if self._may_ask(job_id, place):
                ask_for(self._spool_dir, place)
        except StoredFileMissing:
            self._note(job_id, name, "Its result has been deleted.")
        except NotExported as error:
            if error.final:
                self._note(job_id, name, str(error))
            elif time.monotonic() >= self._failures.get((job_id, name), (0.0, 0))[0]:
                failures = self._failures.get((job_id, name), (0.0, 0))[1] + 1
                wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(failures, 10))
                self._failures[job_id, name] = (time.monotonic() + wait, failures)
        else:
            self._failures.pop((job_id, name), None)
            failpoint("outbox_exports.published")
            self._note(job_id, name, f"sha256:{sha256}" if published else "A newer job has its name.")

    def _may_ask(self, job_id: str, place: ExportPlace) -> bool:
        if time.monotonic() < self._failures.get((job_id, place.request.kind.name), (0.0, 0))[0]:
            return False
        if place.request.kind.draws:
            if self._drawn not in ("", place.request_name) and (self._spool_dir / self._drawn).exists():
                return False
            self._drawn = place.request_name
        return True

    def _note(self, job_id: str, name: str, state: str) -> Job:
        return self._store.note(job_id, exports={**self._store.get(job_id).exports, name: state})


def withdraw_exports(outbox: Outbox, job: Job) -> None:
    """Remove the exports that a job has published, as far as they are still its own.

    Raises:
        OSError: the outbox cannot be reached or written.
    """
    for name, state in job.exports.items():
        if name in FORMATS and (found := _SHA256.search(state)):
            outbox.withdraw_beside(job, FORMATS[name].ending, found[1])
