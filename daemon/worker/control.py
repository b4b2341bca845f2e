"""RunControl: whether the running job is to end, because a person cancelled it or because Dropframe is stopping."""

from __future__ import annotations

import threading


class RunControl:
    """What others want of the job that runs; safe to use from any thread.

    A request to cancel that was granted is a promise: the job ends cancelled, whatever else happens to it. So there
    is a moment, just before its result is published, from which on a request is refused.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while a job changes between waiting and running, so that a request meets it in one or the other."""
        self.stopping = threading.Event()
        """Set when Dropframe is stopping."""
        self._open_for: str | None = None
        self._cancelled: str | None = None

    def should_stop(self) -> bool:
        """Tell whether the running job is to end."""
        return self.stopping.is_set() or self._cancelled is not None

    def begin(self, job_id: str | None) -> None:
        """Take requests for a job that is about to run; None if it is too late to cancel it."""
        with self.lock:
            self._open_for, self._cancelled = job_id, None

    def cancel(self, job_id: str) -> bool:
        """Cancel a job if it is the running one and can be cancelled; tell whether it is."""
        with self.lock:
            if self._open_for != job_id:
                return False
            self._cancelled = job_id
            return True

    def close(self, job_id: str) -> bool:
        """Refuse requests from now on; tell whether the job was cancelled before."""
        with self.lock:
            self._open_for = None
            return self._cancelled == job_id
