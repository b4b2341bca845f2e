"""Debts: what ended jobs still owe a place that may be out of reach, paid in a thread of its own.

What a job owes is in its record, so that no kill loses it. Here is only who owes something, and when it is tried again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from daemon.errors import DropframeError, Interrupted, UnknownJob
from daemon.jobs import Job, JobStatus
from daemon.logs import LogOnce
from daemon.store.job_store import JobStore
from daemon.threads import join

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
RETRY_SECONDS = 10.0
"""Until it is tried again after the place could not be used."""


class Debts:
    """Knows who owes something, and has it paid: a place that does not answer holds up nothing else.

    Args:
        name: Of the thread.
        store: Has the records.
        arrived: Brings the ids of jobs that have come to owe something.
        owed_by: Returns the names of what a job owes.
        pay: Pays what has a name, given the job's id too, if it can be paid now. Raises UnknownJob if the job was
            deleted just now.
        perhaps_alone: Errors that may be about one thing alone, so that the rest is paid before one is raised.
        trouble: What is said before any other error.
    """

    def __init__(
        self,
        name: str,
        store: JobStore,
        arrived: SimpleQueue[str],
        owed_by: Callable[[Job], Sequence[str]],
        pay: Callable[[str, str], None],
        perhaps_alone: type[Exception],
        trouble: str,
    ) -> None:
        self._store, self._arrived, self._owed_by, self._pay = store, arrived, owed_by, pay
        self._perhaps_alone, self._trouble = perhaps_alone, trouble
        self._owing: dict[str, None] = {}
        """Ids of jobs."""
        self.problem: str | None = None
        """What is in the way; None if nothing is."""
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._log_once = LogOnce(log)

    def __len__(self) -> int:
        return len(self._owing)

    def start(self, *statuses: JobStatus) -> None:
        """Begin with what jobs of these statuses owed when the daemon ended."""
        for status in statuses:
            self._owing.update({job.job_id: None for job in self._store.jobs(status) if self._owed_by(job)})
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End what is under way, for which it gets so long; what is owed stays in the records."""
        self.stopping.set()
        join(self._thread, seconds)

    def step(self) -> None:
        """Pay what can be paid now.

        Raises:
            OSError, DropframeError: the place or the data folder cannot be used just now; nothing is lost.
            Interrupted: the daemon is stopping.
        """
        with contextlib.suppress(Empty):
            while True:
                self._owing[self._arrived.get_nowait()] = None
        failed: Exception | None = None
        for job_id in list(self._owing):
            for name in self._owed(job_id):
                if self.stopping.is_set():
                    return
                try:
                    self._pay(job_id, name)
                except UnknownJob:
                    continue
                except self._perhaps_alone as error:
                    failed = error
            if not self._owed(job_id):
                del self._owing[job_id]
        if failed is not None:
            raise failed

    def _owed(self, job_id: str) -> Sequence[str]:
        job = self._store.find(job_id)
        return () if job is None else self._owed_by(job)

    def _loop(self) -> None:
        wait = STEP_SECONDS
        while not self.stopping.wait(wait):
            wait = STEP_SECONDS
            try:
                self.step()
                self.problem = None
                self._log_once.solved()
            except Interrupted:
                return
            except (OSError, DropframeError) as error:
                self.problem = f"{self._trouble} {error}"
                self._log_once(self.problem)
                wait = RETRY_SECONDS
            except Exception:
                log.exception("%s goes on after an unexpected error", self._thread.name)
                wait = RETRY_SECONDS
