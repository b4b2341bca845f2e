"""OwedObjects: what ended jobs still owe the result store (the setting ``result_store``).

It is in a job's record, in ``stored_objects``, noted in the commit that completes the job, or that says that its error
is in the outbox; so no kill loses it.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

PENDING = "pending"
RESULT, ERROR = "result", "error"
"""Names in ``stored_objects`` beside those of export formats."""


class OwedObjects:
    """Says what is to be noted, and tells whoever pays it.

    Args:
        wanted: Whether there is a result store.
    """

    def __init__(self, wanted: bool = False) -> None:
        self._wanted = wanted
        self.lock = threading.Lock()
        """Held while ``stored_objects`` of a record is read and written."""
        self.job_ids: SimpleQueue[str] = SimpleQueue()
        """Jobs that have come to owe something."""

    def note(self, name: str) -> dict[str, Any]:
        """Return the change of a job's record by which it owes its result or its error, and nothing else."""
        return {"stored_objects": {name: PENDING}} if self._wanted else {}

    def tell(self, job_id: str) -> None:
        """Say that a job's record has been changed like that."""
        if self._wanted:
            self.job_ids.put(job_id)
