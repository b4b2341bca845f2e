"""JobIndex: which jobs there are, by id, by arrival and by status, kept up change by change."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Any

from daemon.errors import StoreDamaged
from daemon.jobs import JobStatus


class JobIndex:
    """The sequences of all jobs: by id, and in order, of all and of those in each status.

    An update costs what it changes, so a status call and a list page cost the same with ten jobs and with a
    hundred thousand.
    """

    def __init__(self) -> None:
        self.sequences: dict[str, int] = {}
        """By job id."""
        self.all: list[int] = []
        """Lowest first."""
        self.by_status: dict[JobStatus, list[int]] = {status: [] for status in JobStatus}
        """Lowest first."""
        self._known: dict[int, tuple[str, JobStatus]] = {}

    def rebuild(self, rows: Mapping[str, Any]) -> None:
        """Begin anew.

        Args:
            rows: Records by sequence as text.

        Raises:
            StoreDamaged: a record is not that of a job.
        """
        known = {int(doc_id): check_record(doc_id, record) for doc_id, record in rows.items()}
        self._known = known
        self.all = sorted(known)
        self.sequences = {job_id: sequence for sequence, (job_id, _) in known.items()}
        self.by_status = {status: [] for status in JobStatus}
        for sequence in self.all:
            self.by_status[known[sequence][1]].append(sequence)

    def update(self, changes: Mapping[str, Any]) -> None:
        """Take in changed records.

        Args:
            changes: Records by sequence as text; None for one that is gone.

        Raises:
            StoreDamaged: a record is not that of a job.
        """
        for doc_id, record in changes.items():
            sequence = int(doc_id)
            before = self._known.get(sequence)
            after = None if record is None else check_record(doc_id, record)
            if before == after:
                continue
            if before is not None:
                self.sequences.pop(before[0], None)
                _drop(self.by_status[before[1]], sequence)
            if after is not None:
                self._known[sequence] = after
                self.sequences[after[0]] = sequence
                insort(self.by_status[after[1]], sequence)
            if before is None:
                insort(self.all, sequence)
            elif after is None:
                del self._known[sequence]
                _drop(self.all, sequence)

    def ordered(self, status: JobStatus | None = None) -> list[int]:
        """Return the sequences of all jobs, or of those in one status, lowest first; not to be changed."""
        return self.all if status is None else self.by_status[status]

    def counts(self) -> dict[JobStatus, int]:
        """Return how many jobs are in each status."""
        return {status: len(ordered) for status, ordered in self.by_status.items()}


def check_record(doc_id: str, record: Mapping[str, Any]) -> tuple[str, JobStatus]:
    """Return a record's job id and status.

    Raises:
        StoreDamaged: it is not the record of a job with that sequence.
    """
    try:
        if type(record["sequence"]) is not int or str(record["sequence"]) != doc_id:
            raise ValueError("its sequence is another")
        return str(record["job_id"]), JobStatus(record["status"])
    except (KeyError, ValueError) as error:
        raise StoreDamaged(f"Record {doc_id} of the job file is not a job: {error!r}.") from error


def _drop(ordered: list[int], sequence: int) -> None:
    at = bisect_left(ordered, sequence)
    if at < len(ordered) and ordered[at] == sequence:
        del ordered[at]
