"""OutboxExports: put exports beside results in the outbox (the setting ``exports``).

What a job still owes is in its record, noted in the commit that completes it, so that no kill loses an export. The
files are made as all exports are; a name that a newer job has taken is left to that one.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from dataclasses import dataclass
from queue import SimpleQueue

from daemon.errors import StoredFileMissing
from daemon.export.files import ExportPlace, NotExported, NotExportedYet, ask_for, owed_exports
from daemon.export_formats import FORMATS, ExportRequest
from daemon.failpoints import failpoint
from daemon.jobs import EXPORT_PENDING, Job, JobStatus
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.debts import Debts
from daemon.worker.outbox import Outbox, sha256_of

JOIN_SECONDS = 2.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30.0, 3600.0
"""Between two attempts at an export that could not be made; each time twice as long."""
TROUBLE = "Exports cannot be put into the outbox and are tried again:"
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass
class Failures:
    """How often an export could not be made, and when it is asked for again."""

    count: int = 0
    again: float = 0.0
    """On the monotonic clock."""

    @property
    def is_over(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() >= self.again

    def failed(self) -> None:
        """Count one; it is seen again and again until it is asked for anew."""
        if self.is_over:
            self.count += 1
            self.again = time.monotonic() + min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(self.count, 10))


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
        self._debts = Debts("outbox-exports", store, completed, owed_exports, self._pay, OSError, TROUBLE)
        self._drawn = ""
        """The name of the last request for a video to be drawn on. One is asked for at a time, as each takes long and
        few requests have room."""
        self._failures: defaultdict[tuple[str, str], Failures] = defaultdict(Failures)
        """By the job's id and the format."""

    def start(self) -> None:
        """Begin with what was owed when the daemon ended."""
        self._debts.start(JobStatus.COMPLETED)

    def stop(self) -> None:
        """End a copy that is under way; what is owed stays in the records."""
        self._debts.stop(JOIN_SECONDS)

    def step(self) -> None:
        """Publish what is there, and ask for the rest.

        Raises:
            OSError: the outbox or the spool cannot be written just now; nothing is lost.
            StoreError: the store cannot be written just now; nothing is lost.
            Interrupted: the daemon is stopping.
        """
        self._debts.step()

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
                published = self._outbox.publish_beside(job, request.kind.ending, file, self._debts.stopping.is_set)
        except NotExportedYet:
            if self._may_ask(job_id, place):
                ask_for(self._spool_dir, place)
        except StoredFileMissing:
            self._note(job_id, name, "Its result has been deleted.")
        except NotExported as error:
            if error.final:
                self._note(job_id, name, str(error))
            else:
                self._failures[job_id, name].failed()
        else:
            self._failures.pop((job_id, name), None)
            failpoint("outbox_exports.published")
            self._note(job_id, name, f"sha256:{sha256}" if published else "A newer job has its name.")

    def _may_ask(self, job_id: str, place: ExportPlace) -> bool:
        if not self._failures[job_id, place.request.kind.name].is_over:
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
