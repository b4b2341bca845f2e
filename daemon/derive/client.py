"""Deriving in a child process, one at a time: what becomes of the child never touches a job.

``derive_now`` runs one child and waits; ``Derivations`` keeps up with the results of a home in a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable

from daemon.derive import files
from daemon.errors import DropframeError, Interrupted, StorageError, StoredFileMissing
from daemon.fs.atomic import sweep
from daemon.fs.space import DiskGuard
from daemon.ipc import background
from daemon.jobs import is_job_id
from daemon.logs import LogOnce
from daemon.settings import Settings
from daemon.threads import join

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
"""Time between two looks at what is asked for."""
SCAN_SECONDS = 60.0
"""Time between two looks at all results, when no job has completed meanwhile."""
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 3600.0
"""Wait after deriving has failed; it doubles each time, up to the second."""
LEFTOVER_SECONDS = 60.0
"""Age at which an unfinished file was left by a child that was killed; a younger one may be of a child of a command."""
JOIN_SECONDS = 2.0
"""Time that the thread gets to end its child at shutdown."""


class DerivationFailed(StorageError):
    """The child did not come to an end; trying again may help."""


def derive_now(settings: Settings, job_id: str, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Derive from a job's result in a child, and wait for it.

    Raises:
        NothingDerived: the document does not allow it.
        DerivationFailed: the child ended without having done it, or could not be started.
        StoredFileMissing: the document was deleted; nothing that was made of it is left.
        Interrupted: ``should_stop`` said so.
        OSError: what was made of a document that was deleted cannot be removed.
    """
    document = files.document_of(settings.data_dir, job_id)
    try:
        _run_child(settings, job_id, lambda: should_stop() or not document.exists())
    except DropframeError:
        if document.exists():
            raise
    if not document.exists():  # whoever deleted it may have looked before the child wrote
        files.forget(settings.data_dir, job_id)
        raise StoredFileMissing(f"The result of job {job_id} has been deleted.")


def _run_child(settings: Settings, job_id: str, should_stop: Callable[[], bool]) -> None:
    data_dir = settings.data_dir
    paths = files.document_of(data_dir, job_id), files.folder_of(data_dir, job_id)
    try:
        answer = background.run("daemon.derive.process", [str(path) for path in paths], should_stop)
    except background.BackgroundFailed as error:
        raise DerivationFailed(str(error)) from error
    if answer.kind == "refused":
        raise files.NothingDerived(answer.message)
    if answer.kind != "done":
        raise DerivationFailed(f"Nothing could be derived: {answer.message}")


class Derivations:
    """Keeps what is derived up to date with the results, one child at a time.

    Args:
        settings: Of the home.
        completed: Returns how many jobs have completed; when it changes there is something to do.
        clock: Monotonic time in seconds.
        derived: Is told the id of a job whose result has been derived from.
    """

    def __init__(
        self,
        settings: Settings,
        completed: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        derived: Callable[[str], None] = lambda job_id: None,
    ) -> None:
        self._derived = derived
        self._settings = settings
        self._completed = completed
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="derive", daemon=True)
        self._counted = -1
        self._scan_due = 0.0
        self._current: set[str] = set()
        self._waiting: dict[str, None] = {}
        self._failed: dict[str, tuple[float, float]] = {}
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._log_once = LogOnce(log)

    def start(self) -> None:
        """Begin to keep up."""
        self._thread.start()

    def stop(self) -> None:
        """End the child and the thread; what was not finished is made the next time."""
        self._stopping.set()
        join(self._thread, JOIN_SECONDS)

    def _loop(self) -> None:
        while not self._stopping.wait(STEP_SECONDS):
            try:
                self.step()
            except (OSError, DropframeError) as error:
                self._log_once(f"Deriving goes on after an error: {error}")
            except Exception:
                log.exception("Deriving goes on after an unexpected error")

    def step(self) -> None:
        """Do what is due: look for what is asked for, and for results; derive from one."""
        now = self._clock()
        requested = [job_id for job_id in self._requests() if not files.is_current(self._settings.data_dir, job_id)]
        if (counted := self._completed()) != self._counted or now >= self._scan_due:
            self._counted, self._scan_due = counted, now + SCAN_SECONDS
            self._scan()
        self._waiting = dict.fromkeys(requested) | self._waiting
        due = next((job_id for job_id in self._waiting if self._failed.get(job_id, (0.0, 0.0))[0] <= now), None)
        if due is None:
            return
        if problem := self._disk.shortage():
            self._log_once(f"Deriving waits: {problem}")
            return
        del self._waiting[due]
        self._derive(due)

    def _derive(self, job_id: str) -> None:
        try:
            derive_now(self._settings, job_id, self._stopping.is_set)
        except files.NothingDerived as error:
            log.info("Nothing is derived from the result of job %s: %s", job_id, error)
        except (Interrupted, StoredFileMissing):
            return
        except DerivationFailed as error:
            wait = min(LONGEST_RETRY_SECONDS, 2 * self._failed.get(job_id, (0.0, RETRY_SECONDS / 2))[1])
            self._failed[job_id] = self._clock() + wait, wait
            log.warning("Deriving from the result of job %s is tried again in %.0f s: %s", job_id, wait, error)
            return
        self._log_once.solved()
        self._failed.pop(job_id, None)
        self._current.add(job_id)
        self._derived(job_id)

    def _requests(self) -> list[str]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._settings.spool_dir):
                job_id = name.removesuffix(files.REQUEST_SUFFIX)
                if name.endswith(files.REQUEST_SUFFIX) and is_job_id(job_id):
                    (self._settings.spool_dir / name).unlink(missing_ok=True)
                    found.append(job_id)
        there = [job_id for job_id in found if files.document_of(self._settings.data_dir, job_id).is_file()]
        for job_id in there:
            self._failed.pop(job_id, None)
        return there

    def _scan(self) -> None:
        """Note the results that lack something, and remove what was derived from results that are gone."""
        data_dir = self._settings.data_dir
        results = files.result_ids(self._settings.videos_dir)
        derived = set(files.derived_ids(data_dir))
        self._current &= results & derived
        for job_id in derived - results:
            try:
                files.forget(data_dir, job_id)
            except OSError as error:
                self._log_once(f"What was derived from a deleted result cannot be removed: {error}")
        for job_id in derived & results - self._current:
            if self._stopping.is_set():
                return
            sweep(files.folder_of(data_dir, job_id), LEFTOVER_SECONDS)
            if files.is_current(data_dir, job_id):
                self._current.add(job_id)
        self._waiting = dict.fromkeys(sorted(results - self._current))
        self._failed = {job_id: wait for job_id, wait in self._failed.items() if job_id in results}
