"""FollowUps: what follows once jobs have ended: what is made of results, and who is told; each in its own threads."""

from __future__ import annotations

import contextlib
import threading
from queue import SimpleQueue

from daemon.derive.client import Derivations
from daemon.derive.files import forget
from daemon.export.client import Exports
from daemon.export.files import forget as forget_exports
from daemon.export.files import owed_exports
from daemon.export_formats import FORMATS
from daemon.ingest.owner import home_id
from daemon.jobs import Job, JobStatus
from daemon.objects.result_store import ResultStore, owed_by
from daemon.search.updater import SearchUpdater
from daemon.settings import Settings
from daemon.stills.client import Stills
from daemon.stills.files import forget as forget_stills
from daemon.store.job_store import JobStore
from daemon.threads import join
from daemon.webhooks.notifications import Notifications, receivers_of
from daemon.worker.outbox import Outbox
from daemon.worker.outbox_exports import OutboxExports
from daemon.worker.owed_objects import OwedObjects


class FollowUps:
    """Derivations, search index, stills, exports, copies in object storage, notifications. Jobs do not wait for them.

    Args:
        settings: Of the home.
        store: Knows the jobs.
        outbox: Gets exports.
        completed: Brings the ids of jobs that complete from now on.
        owed: Brings those that owe the result store something.
    """

    def __init__(
        self, settings: Settings, store: JobStore, outbox: Outbox, completed: SimpleQueue[str], owed: OwedObjects
    ) -> None:
        self._data_dir, self._copies = settings.data_dir, bool(settings.result_store)
        self._store = store
        self.search = SearchUpdater(settings, store.find, self._completed)
        self.derivations = Derivations(settings, self._completed, derived=self.search.note)
        self.stills = Stills(settings)
        self.exports = Exports(settings, store.find, self._owed_exports)
        self.outbox_exports = OutboxExports(settings, store, outbox, completed)
        self.result_store = ResultStore(settings, store, outbox, owed)
        receivers = receivers_of(settings, store, _source(settings), lambda job: str(outbox.path(job)))
        self.notifications = Notifications(settings, store, receivers)
        self._parts = (
            self.derivations,
            self.search,
            self.stills,
            self.outbox_exports,
            self.exports,
            self.result_store,
            self.notifications,
        )

    def start(self) -> None:
        """Begin to keep up with the results."""
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        """End all of them, side by side; what was not finished is made after the next start."""
        stopping = [threading.Thread(target=part.stop, name="stopping", daemon=True) for part in self._parts]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            join(thread)

    def _completed(self) -> int:
        return self._store.counts()[JobStatus.COMPLETED]

    def _owed_exports(self, job: Job) -> set[str]:
        return {*owed_exports(job), *(owed_by(job) if self._copies else ())} & FORMATS.keys()

    def forget(self, job: Job) -> None:
        """Remove what was made of a deleted job's result. May be called again.

        Raises:
            OSError, ObjectStoreError: something cannot be removed just now.
        """
        forget(self._data_dir, job.job_id)
        forget_stills(self._data_dir, job.job_id)
        forget_exports(self._data_dir, job.job_id)
        self.search.note(job.job_id)
        self.result_store.forget(job)


def _source(settings: Settings) -> str:
    """Return what events are told from: a URI that tells this home from others."""
    with contextlib.suppress(OSError):  # of a disk that is full just now
        return f"urn:dropframe:{home_id(settings.data_dir)}" if settings.webhooks else ""
    return "urn:dropframe"
