"""RunControl: whether a running job is to end, because a person cancelled it or because Dropframe is stopping."""

from __future__ import annotations

import threading


class RunControl:
    """What others want of the job that runs; safe to use from any thread.

    A request to cancel that was granted is a promise: the job ends cancelled, whatever else happens to it. So there
    is a moment, just before its result is published, from which on a request is refused.

    Args:
        lock: As below, if it is shared with others.
        stopping: The same.
    """

    def __init__(self, lock: threading.RLock | None = None, stopping: threading.Event | None = None) -> None:
        self.lock = lock or threading.RLock()
        """Held while a job changes between waiting and running, so that a request meets it in one or the other."""
        self.stopping = stopping or threading.Event()
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

    def concerns(self, job_id: str) -> bool:
        """Tell whether a job is the one that requests are, or were last, taken for."""
        return job_id in (self._open_for, self._cancelled)


class RunControls:
    """Those of all jobs that may be under way at once.

    Args:
        count: How many that are.
    """

    def __init__(self, count: int) -> None:
        self.lock = threading.RLock()
        """As that of each."""
        self.stopping = threading.Event()
        """As that of each."""
        self.each = [RunControl(self.lock, self.stopping) for _ in range(count)]

    def begin(self, control: RunControl, job_id: str, *, may_cancel: bool) -> None:
        """Take requests for a job that is about to run, by one of them; what was asked of it before is over."""
        with self.lock:
            for other in self.each:
                if other.concerns(job_id):
                    other.begin(None)
            control.begin(job_id if may_cancel else None)

    def cancel(self, job_id: str) -> bool:
        """See ``RunControl.cancel``."""
        return any(control.cancel(job_id) for control in self.each)

    def close(self, job_id: str) -> bool:
        """See ``RunControl.close``."""
        with self.lock:
            return any(control.close(job_id) for control in self.each if control.concerns(job_id))
